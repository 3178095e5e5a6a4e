"""Every door, as a stranger walks it: simulated recordings, a narrow encoder, one epoch."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from torchlight.checkpoint import load_checkpoint
from torchlight.scores import read_scores

ROOT = Path(__file__).parent.parent
SMALL = (
    "model.encoder.width=8",
    "data.frames=16",
    "data.synthetic.people=5",
    "data.synthetic.repetitions=1",
    "data.validation_subjects=[2]",
    "text.tower=toy",
    "train.epochs=2",
    "train.schedule.warmup_epochs=0",
)
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def call(cache: Path, *words: str | Path, program: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PARTCLIP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *program, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def action(cache: Path, work_dir: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return call(cache, "main_clip_ntu.py", "--config", "config/demo/joint.yaml", "--work-dir", work_dir, *SMALL, *words)


@pytest.fixture(scope="module")
def runs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {stream: tmp_path_factory.mktemp("runs") / stream for stream in STREAMS}
    for stream, folder in folders.items():
        done = action(cache, folder, f"data.modality={stream}", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        assert "top1" in done.stdout
        assert "shake head" in done.stdout
    return folders


def outcome_of(folder: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next({key: value for key, value in row.items() if key.startswith("test/")} for row in rows[::-1])


@pytest.mark.parametrize("save", [("--save-score", "True"), ("--save-score",)])
def test_a_test_phase_repeats_the_numbers_of_training(
    cache: Path, runs: dict[str, Path], tmp_path: Path, save: tuple[str, ...]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(runs["joint"], folder)
    before, scores = outcome_of(folder), read_scores(folder / "scores" / "test.npz")
    (folder / "scores" / "test.npz").unlink()
    config, weights = folder / "config.yaml", folder / "last.pt"
    words = ("--config", config, "--work-dir", folder, "--phase", "test", "--weights", weights, "--device", "cpu")
    done = call(cache, "main_clip_ntu.py", *words, *save)
    assert done.returncode == 0, done.stderr
    assert outcome_of(folder) == before
    np.testing.assert_array_equal(read_scores(folder / "scores" / "test.npz").logits, scores.logits)


def test_four_streams_fuse(cache: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    words = [word for stream in STREAMS for word in (f"--{stream.replace('_', '-')}-dir", runs[stream])]
    done = call(cache, "ensemble.py", *words, "--datasets", "demo", "--out", tmp_path / "fused.npz")
    assert done.returncode == 0, done.stderr
    assert all(stream in done.stdout for stream in STREAMS)
    fused = read_scores(tmp_path / "fused.npz")
    assert set(fused.sample_id) == set(read_scores(runs["joint"] / "scores" / "test.npz").sample_id)


def test_killed_in_the_middle_of_an_epoch_and_resumed_the_weights_are_the_same(
    cache: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    environment = {**os.environ, "PARTCLIP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    words = ("--config", "config/demo/joint.yaml", "--work-dir", str(tmp_path / "killed"), "--device", "cpu", *SMALL)
    train = ("--phase", "train", "train.save_every_steps=1")
    victim = subprocess.Popen(
        [sys.executable, "main_clip_ntu.py", *words, *train], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    last = tmp_path / "killed" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    progress = load_checkpoint(last).progress
    assert progress.batch > 0 or progress.epoch < 2
    done = call(cache, "main_clip_ntu.py", *words, *train, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    whole, resumed = load_checkpoint(runs["joint"] / "last.pt"), load_checkpoint(last)
    assert whole.task.keys() == resumed.task.keys()
    assert all(bool((whole.task[name] == resumed.task[name]).all()) for name in whole.task)


def test_two_processes_under_torchrun_count_every_sample_once(
    cache: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "main_clip_ntu.py")
    config, weights = runs["joint"] / "config.yaml", runs["joint"] / "last.pt"
    test = ("--config", config, "--work-dir", tmp_path, "--phase", "test", "--weights", weights, "--device", "cpu")
    done = call(cache, *test, program=torchrun)
    assert done.returncode == 0, done.stderr
    assert outcome_of(tmp_path) == pytest.approx(outcome_of(runs["joint"]))
    alone, shared = (read_scores(folder / "scores" / "test.npz") for folder in (runs["joint"], tmp_path))
    assert sorted(alone.sample_id) == sorted(shared.sample_id)
    words = ("--config", "config/demo/joint.yaml", "--work-dir", tmp_path / "two", "--device", "cpu", *SMALL)
    done = call(cache, *words, program=torchrun)
    assert done.returncode == 0, done.stderr
    assert "test/top1" in outcome_of(tmp_path / "two")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("data.modalty=bone",), "did you mean 'modality'"),
        (("--device", "7"), "device"),
        (("data.dataset=ucla", "data.root=nowhere"), "nowhere"),
        (("text.prompts=ucla",), "wave"),
        (("model.parts=six_parts",), "torso_arms_legs"),
        (("--phase", "test", "--weights", "{malice}"), "malice.pt"),
        (("--config", "{broken}"), "broken.yaml"),
        (("train.optimiser.lr=fast",), "train.optimiser.lr"),
    ],
)
def test_bad_input_is_one_clear_line(cache: Path, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    malice, broken = tmp_path / "malice.pt", tmp_path / "broken.yaml"
    malice.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    broken.write_text("data: [unclosed")
    filled = [word.format(malice=malice, broken=broken) for word in words]
    done = action(cache, tmp_path / "run", *filled)
    assert done.returncode == 2
    *_, line = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run" / "last.pt").exists()


def test_texts_that_the_weights_have_not_learned_with_are_refused(cache: Path, runs: dict[str, Path]) -> None:
    words = ("--work-dir", runs["joint"], "--phase", "test", "--device", "cpu", "text.prompts=penn")
    done = call(cache, "main_clip_ntu.py", *words)
    assert done.returncode == 2
    assert "text.prompts: got 'penn' with weights that have learned with 'demo'" in done.stderr


def test_scores_that_do_not_join_are_named(cache: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = action(cache, other, "data.synthetic.repetitions=2", "data.modality=bone", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    done = call(cache, "ensemble.py", "--joint-dir", runs["joint"], "--bone-dir", other)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "S001C" in done.stderr
