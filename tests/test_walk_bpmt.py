"""The door to the transformers, as a stranger walks it: simulated recordings, narrow encoders, short stages."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from main_bpmt import CHAIN
from recipes.bpmt import BpmtRun
from recipes.clip_action import ClipRun, refuse_early
from torchlight.chain import run_chain
from torchlight.checkpoint import load_checkpoint
from torchlight.config import load_config
from torchlight.scores import read_scores

ROOT = Path(__file__).parent.parent
SMALL = (
    "model.encoder.width=8",
    "model.encoder.heads=2",
    "model.encoder.layers=1",
    "model.heads=2",
    "data.frames=8",
    "data.bodies=1",
    "data.synthetic.people=5",
    "data.synthetic.repetitions=1",
    "data.validation_subjects=[2]",
    "text.tower=toy",
    "train.epochs=2",
    "train.schedule.warmup_epochs=0",
)
PRETRAIN = ("pretrain.train.epochs=2", "pretrain.train.schedule.warmup_epochs=0")
STAGES = {"tlca": ("frames", "finetune"), "bpmt": ("parts", "pairs", "finetune"), "iip": ("finetune",)}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "PARTCLIP_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}


def call(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "main_bpmt.py", *map(str, words), "--device", "cpu"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def small(encoder: str, work_dir: Path) -> tuple[str | Path, ...]:
    pretrain = PRETRAIN if encoder != "iip" else ()
    return ("--config", f"config/demo/{encoder}.yaml", "--work-dir", work_dir, *SMALL, *pretrain)


@pytest.fixture(scope="module")
def runs(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {encoder: tmp_path_factory.mktemp("runs") / encoder for encoder in STAGES}
    for encoder, folder in folders.items():
        done = call(environment, *small(encoder, folder), "--phase", "all")
        assert done.returncode == 0, done.stderr
        assert "shake head" in done.stdout
    return folders


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = load_checkpoint(one).task, load_checkpoint(other).task
    assert left.keys() == right.keys()
    assert all(bool((left[name] == right[name]).all()) for name in left)


@pytest.mark.parametrize("encoder", list(STAGES))
def test_all_runs_every_stage_of_the_encoder_in_a_folder_of_its_own(runs: dict[str, Path], encoder: str) -> None:
    folder = runs[encoder]
    assert {path.parent.name for path in folder.glob("*/last.pt")} == set(STAGES[encoder])
    assert load_config(BpmtRun, [folder / "config.yaml"], []).model.encoder.name == encoder
    for stage in STAGES[encoder][:-1]:
        rows = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
        last = [row for row in rows if row["split"] == "val"][-1]
        assert {"val/mse", "val/mean_pose_mse", "val/interpolation_mse"} <= last.keys()
    extra = load_checkpoint(folder / STAGES[encoder][0] / "last.pt").extra
    assert extra.get("stage", "finetune") == STAGES[encoder][0]


def test_what_a_stage_freezes_it_hands_on_as_it_was(runs: dict[str, Path]) -> None:
    parts, pairs = (load_checkpoint(runs["bpmt"] / stage / "last.pt").task for stage in ("parts", "pairs"))
    assert parts.keys() == pairs.keys()
    first = [name for name in parts if name.startswith("network.encoder.frame_encoder.")]
    assert all(bool((parts[name] == pairs[name]).all()) for name in first)
    assert any(not bool((parts[name] == pairs[name]).all()) for name in parts)


@pytest.mark.parametrize("encoder", list(STAGES))
def test_a_test_repeats_itself_from_the_folder_alone(
    environment: dict[str, str], runs: dict[str, Path], encoder: str
) -> None:
    scores = runs[encoder] / "finetune" / "scores" / "test.npz"
    before = read_scores(scores)
    scores.unlink()
    done = call(environment, "--work-dir", runs[encoder], "--phase", "test")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_scores(scores).logits, before.logits)


def test_killed_and_resumed_the_weights_are_the_same(
    environment: dict[str, str], runs: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    words = ("--config", "config/demo/tlca.yaml", "--work-dir", str(folder), *SMALL, *PRETRAIN, "--phase", "all")
    saving = ("train.save_every_steps=1", "pretrain.train.save_every_steps=1")
    command = [sys.executable, "main_bpmt.py", *words, *saving, "--device", "cpu"]
    for stage in STAGES["tlca"]:
        victim = subprocess.Popen([*command, "--resume", "auto"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (folder / stage / "last.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    done = call(environment, *words, *saving, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    for stage in STAGES["tlca"]:
        assert_same_weights(runs["tlca"] / stage / "last.pt", folder / stage / "last.pt")


def test_a_missing_former_stage_names_the_command_that_makes_it(environment: dict[str, str], tmp_path: Path) -> None:
    words = (*small("bpmt", tmp_path / "run"), "pretrain.train.epochs=1")
    done = call(environment, *words, "--phase", "finetune")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "got no stage 'pairs'" in done.stderr
    python, door, *rest = shlex.split(done.stderr.partition("make it with: ")[2])
    assert (python, door) == ("python", "main_bpmt.py")
    done = call(environment, *rest)
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in (tmp_path / "run").glob("*/last.pt")} == {"parts", "pairs"}


def test_fine_tuning_begins_with_another_runs_encoder(
    environment: dict[str, str], runs: dict[str, Path], tmp_path: Path
) -> None:
    still = ("train.optimiser={name: adam, lr: 1e-12}", "train.epochs=1", "model.encoder.t1=frozen")
    source = ("--phase", "all", f"init_from={runs['tlca'] / 'frames'}")
    done = call(environment, *small("tlca", tmp_path / "run"), *source, *still)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / "frames").exists()
    given = load_checkpoint(runs["tlca"] / "frames" / "last.pt").task
    tuned = load_checkpoint(tmp_path / "run" / "finetune" / "last.pt").task
    first = [name for name in given if name.startswith("network.encoder.frame_encoder.")]
    assert first
    assert all(bool((given[name] == tuned[name]).all()) for name in first)


def test_what_fine_tuning_does_with_t1_is_tried_on_one_pretraining(
    environment: dict[str, str], runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", environment["PARTCLIP_CACHE"])
    shutil.copytree(runs["tlca"] / "frames", tmp_path / "frames")
    words = (*map(str, small("tlca", tmp_path)), "--phase", "finetune", "--device", "cpu", "train.epochs=1")
    assert run_chain(CHAIN, [*words, "model.encoder.t1=frozen"]) == 0


@pytest.mark.parametrize(
    ("encoder", "words", "says"),
    [
        ("tlca", ("pretrain.mask.shar=0.3",), "did you mean 'share'"),
        ("tlca", ("model.encoder.name=tcla",), "'tlca'"),
        ("tlca", ("data.inputs=[joint]",), "data.inputs: unknown key here; it is one of main_gait.py"),
        ("tlca", ("pretrain=null", "model.encoder.t1=frozen"), "main_bpmt.py --phase all"),
        ("tlca", ("init_from=nowhere",), "init_from: nowhere: no checkpoint there"),
        ("iip", ("--phase", "pretrain"), "no stage to pretrain"),
        ("bpmt", ("model.parts=six_parts",), "six_parts"),
    ],
)
def test_bad_input_is_one_clear_line(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    encoder: str,
    words: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", environment["PARTCLIP_CACHE"])
    assert run_chain(CHAIN, [*map(str, small(encoder, tmp_path / "run")), "--device", "cpu", *words]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model.parts=six_parts",), "six_parts"),
        (("model.parts=five_parts",), "model.parts"),
        (("text.prompts=nowhere",), "prompts: got 'nowhere'"),
        (("text.prompts=penn",), "penn"),
        (("text.tower=none", "inference.text_weight=0.5"), "inference.text_weight: got 0.5"),
        (("data.zero_shot=demo_12_4",), "data.zero_shot=demo_12_4, expected phase zeroshot in its place"),
        (("loss.dtcr={kmeans: 0.1}", "train.batch_size=16"), "loss.dtcr.clusters: got 16 for batches of 16 clips"),
        (("train.optimiser.groups={txt: 0.1}",), "train.optimiser.groups: got 'txt'"),
        (("train.evaluate=[val]", "data.validation_subjects=[]"), "expected data.validation_subjects to name some"),
        (("inference.text_weight=validation", "data.validation_subjects=[]"), "inference.text_weight: got validation"),
    ],
)
def test_what_fine_tuning_refuses_is_refused_before_the_pretraining(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", environment["PARTCLIP_CACHE"])
    assert run_chain(CHAIN, [*map(str, small("tlca", tmp_path / "run")), "--device", "cpu", *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("encoder", "parts"), [("iip", "five_parts_disjoint"), ("bpmt", "five_parts_disjoint"), ("tlca", "whole")]
)
def test_each_stands_in_any_config_of_the_main_job(encoder: str, parts: str) -> None:
    for folder in ("demo", "penn-action", "ucla"):
        file = next((ROOT / "config" / folder).glob("*joint.yaml"))
        words = (f"model.encoder={{name: {encoder}}}", "text.tower=none")
        with pytest.raises(ValueError, match=f"the encoder's slots are .*, expected .*{parts}"):
            refuse_early(load_config(ClipRun, [file], words), ("train",))
        refuse_early(load_config(ClipRun, [file], (*words, f"model.parts={parts}")), ("train",))


def test_a_pretrained_transformer_is_asked_for_classes_that_it_never_saw(
    runs: dict[str, Path],
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", environment["PARTCLIP_CACHE"])
    words = (*map(str, small("tlca", tmp_path)), "data.zero_shot=demo_12_4", "--device", "cpu")
    seen = f"init_from={runs['tlca'] / 'frames'}"
    assert run_chain(CHAIN, [*words, seen, "--phase", "finetune", "zeroshot"]) == 2
    assert "init_from: got an encoder that has seen clap" in capsys.readouterr().err
    assert run_chain(CHAIN, [*words, "--phase", "pretrain", "finetune", "zeroshot"]) == 0
    *_, row = (tmp_path / "finetune" / "metrics.jsonl").read_text().splitlines()
    assert "test/zsl" in row


@pytest.mark.parametrize("encoder", list(STAGES))
def test_the_options_of_fine_tuning_train_on_every_encoder(
    runs: dict[str, Path], environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", environment["PARTCLIP_CACHE"])
    begun = () if encoder == "iip" else (f"init_from={runs[encoder] / STAGES[encoder][-2]}",)
    options = (
        "loss.depict={}",
        "loss.dtcr={kmeans: 0.1, clusters: 2}",
        "model.head=mlp",
        "text.tower=none",
        "train.epochs=1",
    )
    words = (*map(str, small(encoder, tmp_path)), *begun, *options, "--phase", "all", "--device", "cpu")
    assert run_chain(CHAIN, words) == 0
    row = json.loads((tmp_path / "finetune" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"train/classification", "train/depict", "train/dtcr", "train/kmeans"} <= row.keys()
