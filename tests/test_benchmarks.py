"""A benchmark of many hours must not stop at a typing error in its last run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks import bpmt_runs, gait_baselines, gait_runs, measure, runs, ucla_gpu
from benchmarks.ucla import Run, plan
from feeders.gait.protocols import one_walk
from feeders.loading import ActionDataConfig
from recipes.bpmt import BpmtRun
from recipes.clip_action import ClipRun
from recipes.gait_retrieval import GaitRun
from torchlight.command_line import parse_command
from torchlight.config import load_config
from torchlight.embeddings import read_embeddings, write_embeddings
from torchlight.yaml_tree import read_tree

ROOT = Path(__file__).parent.parent
PHASES = ("train", "validate", "test")
BASELINES = gait_runs.FOLDER


@pytest.mark.parametrize("run", [*plan(), *ucla_gpu.plan()], ids=lambda run: f"{run.work.name}-{run.name}")
def test_every_planned_run_has_a_valid_config(run: Run) -> None:
    command = parse_command(run.command()[1:], PHASES, "")
    config = load_config(ClipRun, [ROOT / path for path in command.configs], command.overrides)
    assert config.data.modality == run.stream
    assert config.seed == run.seed
    assert (config.text.tower != "none") == run.text
    assert ("test" in config.phases) == (run.stage == "final")
    assert bool(config.data.validation_subjects) == (run.stage == "choose")


@pytest.mark.parametrize("run", bpmt_runs.plan(), ids=lambda run: run.name)
def test_every_planned_run_of_a_transformer_has_a_valid_config(run: bpmt_runs.Run) -> None:
    command = parse_command(run.command()[1:], ("train", "test", "all"), "")
    config = load_config(BpmtRun, [ROOT / path for path in command.configs], command.overrides)
    assert (config.model.encoder.name, config.seed) == (run.encoder, run.seed)
    assert (config.data.dataset, config.data.split) == (run.data.partition("_")[0], bpmt_runs.SPLITS[run.data])
    assert config.data.validation_subjects == ()
    assert config.train.select.name == "last"
    assert (config.pretrain is None) == (run.change == "not_pretrained" or run.encoder in ("iip", "ctrgcn"))


GAIT = [run for run in gait_runs.plan() if isinstance(run, gait_runs.Run)]


def gait_config(run: gait_runs.Run) -> GaitRun:
    command = parse_command(run.command()[1:], ("pretrain", "train", "test"), "")
    return load_config(GaitRun, [ROOT / path for path in command.configs], command.overrides)


@pytest.mark.parametrize("run", GAIT, ids=lambda run: run.name)
def test_every_planned_run_of_gait_has_a_valid_config(run: gait_runs.Run) -> None:
    config = gait_config(run)
    assert (config.model.encoder.name, config.seed) == (run.encoder, run.seed)
    assert config.data.normalise_walk == {"with_size": "keep_size", "unit_size": "unit_size"}[run.size]
    assert (config.data.validation_subjects, config.train.evaluated_splits) == ((), ())
    assert config.train.select.name == "last"
    assert (config.pretrain is not None) == bool(gait_runs.PRETRAINED[run.encoder])
    if run.change:
        assert config != gait_config(gait_runs.Run(run.encoder, run.size, "", run.seed)).model_copy(
            update={"work_dir": config.work_dir}
        )


def test_gait_begins_with_the_encoder_that_the_action_run_trains() -> None:
    command = parse_command(gait_runs.ACTIONS.command()[1:], PHASES, "")
    actions = load_config(ClipRun, [ROOT / path for path in command.configs], command.overrides)
    begun = gait_config(gait_runs.Run("ctrgcn", "with_size", "from_actions", 0))
    assert begun.init_from == Path(actions.work_dir)
    assert actions.model.encoder == begun.model.encoder


@pytest.fixture
def lda_as_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gait_runs.Run:
    """The vectors of LDA kept as if a network had found them, in another order."""
    file = read_embeddings(gait_baselines.lda_file("with_size"))
    monkeypatch.setattr(gait_runs, "FOLDER", tmp_path)
    run = gait_runs.Run("ctrgcn", "with_size", "", 0)
    write_embeddings(run.scores, file.take(np.arange(len(file.table))[::-1]))
    return run


def test_numbers_of_gait_are_those_of_the_baselines_and_nobody_beats_himself(lda_as_a_run: gait_runs.Run) -> None:
    kept = json.loads((BASELINES / "baselines.json").read_text())["percent"]["test"]["LDA, with size"]
    numbers = lda_as_a_run.numbers()
    assert numbers["metrics"]["rank1"] == pytest.approx(kept["rank1"])
    assert numbers["metrics"]["rank5"] == pytest.approx(kept["rank5"])
    assert (numbers["metrics"]["probes"], numbers["metrics"]["leave_one_out/probes"]) == (254, 318)
    for protocol in ("first_walk", "leave_one_out"):
        assert {found["high"] for found in numbers["minus_lda"][protocol].values()} == {0.0}
    lines = gait_runs.table().splitlines()
    same = [line for line in lines if line.startswith(("| LDA, with size", "| CTR-GCN, with size, seed 0"))]
    assert ["91.3 [" in line for line in same] == [True, True, False, False]
    for title in ("| nothing", "| mean of these, each fused", "| ctrgcn, fused with LDA"):
        assert "+0.0 [+0.0, +0.0]" in next(line for line in lines if line.startswith(title))


def test_kept_walks_were_asked_as_walks_are_today() -> None:
    """Else no run of today can be fused with a kept one."""
    file = read_embeddings(BASELINES / "ctrgcn-with_size-plain-0.npz")
    for kept, today in zip(file.protocols, one_walk(file.table), strict=True):
        assert kept.rules() == today.rules()
        np.testing.assert_array_equal(kept.role, today.role)


def test_a_change_changes_something() -> None:
    for data in ("penn", "ucla"):
        files = [ROOT / file for file in bpmt_runs.Run(data, "tlca", "", 0).files]
        plain = load_config(BpmtRun, files, [])
        idle = {change for change, words in bpmt_runs.CHANGES.items() if load_config(BpmtRun, files, words) == plain}
        assert idle == {change for of_data, change in bpmt_runs.IDLE if of_data == data}


def test_what_is_not_pretrained_gets_as_many_passes_in_all() -> None:
    for data in bpmt_runs.SPLITS:
        epochs = []
        for change in ("", "not_pretrained"):
            command = parse_command(bpmt_runs.Run(data, "tlca", change, 0).command()[1:], ("all",), "")
            config = load_config(BpmtRun, [ROOT / path for path in command.configs], command.overrides)
            epochs.append(config.train.epochs + (config.pretrain.train.epochs if config.pretrain else 0))
        assert epochs[0] == epochs[1]


def test_planned_runs_have_names_of_their_own() -> None:
    for planned in (plan(), ucla_gpu.plan(), bpmt_runs.plan(), gait_runs.plan()):
        assert len({run.name for run in planned}) == len(planned)


# In a process of its own: the device is read once, when a plan is imported.
_PLANNED = """
import json
from benchmarks import bpmt_runs, gait_runs, ucla, ucla_gpu
runs = [run for plans in (bpmt_runs, gait_runs, ucla, ucla_gpu) for run in plans.plan()]
print(json.dumps([[run.command(), [str(run.result), str(run.scores), *map(str, run.folders)]] for run in runs]))
"""


def test_runs_on_a_gpu_have_folders_of_their_own() -> None:
    planned = {}
    for device in ("cpu", "0"):
        environment = {**os.environ, "BENCH_DEVICE": device}
        words = [sys.executable, "-c", _PLANNED]
        planned[device] = json.loads(subprocess.check_output(words, env=environment, cwd=ROOT))
    files = {device: {file for _, files in asked for file in files} for device, asked in planned.items()}
    assert not files["cpu"] & files["0"]
    assert len(files["cpu"]) == len(files["0"])
    for device, asked in planned.items():
        for command, folders in asked:
            assert command[command.index("--device") + 1] == device
            work = command[command.index("--work-dir") + 1]
            assert Path(work) in (Path(folders[-1]), Path(folders[-1]).parent)
            begun = [word.removeprefix("init_from=") for word in command if word.startswith("init_from=")]
            assert all(("_gpu/" in folder) == (device == "0") for folder in (work, *begun))


def test_a_device_that_could_be_either_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "DEVICE", "auto")
    with pytest.raises(ValueError, match="BENCH_DEVICE: got 'auto'"):
        _ = plan()[0].folder


def test_a_failed_run_shows_the_end_of_its_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "work", tmp_path)
    script = "import sys; print(*range(100), sep='\\n'); sys.exit(3)"
    monkeypatch.setattr(Run, "command", lambda run: ["-c", script])
    run = plan()[0]
    runs.train(run, threads=1)
    first, *rest = capsys.readouterr().out.split()
    assert first == f"{run.name}:"
    assert "code 3," in " ".join(rest)
    assert rest[-20:] == [str(number) for number in range(80, 100)]


def test_a_copy_without_its_history_says_the_commit_that_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert measure.environment()["commit"] == "unknown"
    monkeypatch.setenv("BENCH_COMMIT", "abc1234")
    assert measure.environment()["commit"] == "abc1234"


# Bases without data, and what main_gait.py opens with.
ELSEWHERE = ("transformers", "gait", "gait3d", "kinect_gait", "casia_b", "oumvlp_pose", "grew")
OVERLAYS = {
    "cpu.yaml": "lst_joint.yaml",
    "published_feeder.yaml": "lst_joint.yaml",
    "transformer_cpu.yaml": "tlca.yaml",
    "bpmt_cpu.yaml": "bpmt.yaml",
    "iip_cpu.yaml": "iip.yaml",
}
# A base names no work_dir: it is loaded by the runs that begin there.
CONFIGS = sorted(
    path
    for path in (ROOT / "config").glob("*/*.yaml")
    if path.parent.name not in ELSEWHERE and (path.name in OVERLAYS or "work_dir" in read_tree(path))
)


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_file_loads(path: Path) -> None:
    files = [path.parent / OVERLAYS[path.name], path] if path.name in OVERLAYS else [path]
    # A run of the other doors is one of these without a pretraining.
    assert load_config(BpmtRun, files, []).data.dataset in get_args(ActionDataConfig.model_fields["dataset"].annotation)
