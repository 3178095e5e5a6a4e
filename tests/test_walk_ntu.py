"""The documented commands for NTU RGB+D, as written bar the device, the text tower and the sizes: simulated recordings.

Files are named so that both sides of every protocol have some, of classes below and above A060.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feeders.synthetic import CAMERAS, CLASS_NAMES, perform, skeleton_text
from feeders.synthetic.body import draw_person
from torchlight.scores import read_scores

ROOT = Path(__file__).parent.parent
SMALL = ("text.tower=toy", "model.encoder.width=8", "data.frames=8", "train.epochs=1", "train.batch_size=8")
STREAMS = {"joint": "joint", "bone": "bone", "joint_vel": "joint-motion", "bone_vel": "bone-motion"}
# Simulated action -> A number; the last takes two people and is unseen in the zero-shot split 110/10.
ACTIONS = {"wave": 23, "sit down": 8, "clap": 10, "kick forward": 102, "push": 107}
# Set-up and performer of each visit: 1, 38 and 45 learn across subjects, 3 and 44 test; NTU 60 has set-ups 1 to 17.
VISITS = ((1, 1), (2, 3), (2, 38), (18, 45), (19, 44))


def recordings() -> Iterator[tuple[str, bytes]]:
    for setup, subject in VISITS:
        person = draw_person(np.random.default_rng(subject))
        for name, action in ACTIONS.items():
            if action > 60 and setup < 18:
                continue
            world = perform(name, person, np.random.default_rng([subject, CLASS_NAMES.index(name)]))
            for camera in (1, 2, 3):
                sample = f"S{setup:03}C{camera:03}P{subject:03}R001A{action:03}"
                yield sample, skeleton_text(CAMERAS[camera - 1].view(world))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the raw files in their usual place below ``data``, and once more those of NTU 60 alone."""
    folder = tmp_path_factory.mktemp("ntu")
    for place, last_setup in (("nturgbd_raw", 32), ("nturgbd60_raw", 17)):
        raw = folder / "data" / place
        raw.mkdir(parents=True)
        for name, text in recordings():
            if int(name[1:4]) <= last_setup:
                (raw / f"{name}.skeleton").write_bytes(text)
    return folder


def call(world: Path, *words: str | Path, config: str = "") -> str:
    """Run a command from the project's folder with the data and the cache elsewhere; what it printed."""
    paths = {"PARTCLIP_DATA": str(world / "data"), "PARTCLIP_CACHE": str(world / "cache")}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1"}
    start = ("main_clip_ntu.py", "--config", f"config/{config}.yaml") if config else ()
    end = ("--device", "cpu", *SMALL) if config else ()
    command = [sys.executable, *map(str, (*start, *words, *end))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ntu_120_across_subjects_from_raw_files_to_four_streams(world: Path) -> None:
    raw, store = world / "data" / "nturgbd_raw", world / "data" / "ntu120"
    call(world, "-m", "feeders.prepare", "ntu120", "--raw", raw, "--out", store)
    for stream in STREAMS:
        folder, config = world / stream, f"nturgbd120-cross-subject/lst_{stream}"
        if stream in ("joint", "bone"):
            call(world, "--work-dir", folder, "--phase", "train", config=config)
            test = ("--phase", "test", "--save-score", "True", "--weights", folder / "last.pt")
            said = call(world, "--work-dir", folder, *test, config=config)
        else:
            said = call(world, "--work-dir", folder, config=config)
        assert "top1" in said
    assert not (world / "cache" / "stores").exists()

    joint = read_scores(world / "joint" / "scores" / "test.npz")
    assert joint.dataset == "ntu120/cross_subject"
    assert joint.logits.shape[1] == 120
    assert {name[8:12] for name in joint.sample_id} == {"P003", "P044"}
    assert len(joint.sample_id) == 3 * (3 + 5)

    folders = [word for name, flag in STREAMS.items() for word in (f"--{flag}-dir", world / name)]
    fused = call(world, "ensemble.py", "--datasets", "ntu120/xsub", *folders, "--out", world / "fused.npz")
    assert "ntu120/cross_subject, split test: 24 samples, 120 classes" in fused
    refused = [sys.executable, "ensemble.py", "--datasets", "ntu120/xset", "--joint-dir", str(world / "joint")]
    done = subprocess.run(refused, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "got data set 'ntu120/cross_subject', expected 'ntu120/cross_setup'" in done.stderr


@pytest.mark.parametrize(
    ("config", "raw", "test_side"),
    [
        ("nturgbd-cross-subject", "nturgbd60_raw", ("P003",)),
        ("nturgbd-cross-view", "nturgbd60_raw", ("C001",)),
        ("nturgbd120-cross-set", "nturgbd_raw", ("S001", "S019")),
    ],
)
def test_the_other_protocols_prepare_on_first_use_and_test_their_own_side(
    world: Path, config: str, raw: str, test_side: tuple[str, ...]
) -> None:
    call(world, "--work-dir", world / config, f"data.root={raw}", config=f"{config}/lst_joint")
    dataset = "ntu120" if "120" in config else "ntu60"
    assert len(list((world / "cache" / "stores").glob(f"{dataset}-*/header.json"))) == 1
    tested = read_scores(world / config / "scores" / "test.npz").sample_id
    assert {side for side in test_side for name in tested if side in name} == set(test_side)
    assert all(any(side in name for side in test_side) for name in tested)


def test_zero_shot_learns_from_seen_classes_and_scores_the_unseen(world: Path) -> None:
    split = ("--phase", "train", "zeroshot", "data.zero_shot=ntu120_110_10", "data.root=nturgbd_raw")
    said = call(world, "--work-dir", world / "zero_shot", *split, config="nturgbd120-cross-subject/lst_joint")
    for expected in ("zsl_top1", "zsl_chance", "harmonic", "wield knife towards other person"):
        assert expected in said
    log = (world / "zero_shot" / "log.txt").read_text()
    assert "ntu120/cross_subject: train 30, val 0, test 24" in log
