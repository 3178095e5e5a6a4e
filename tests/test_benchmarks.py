"""A benchmark of many hours must not stop at a typing error in its last run."""

from pathlib import Path
from typing import get_args

import pytest

from benchmarks import bpmt_runs
from benchmarks.ucla import Run, plan
from feeders.loading import ActionDataConfig
from recipes.bpmt import BpmtRun
from recipes.clip_action import ClipRun
from torchlight.command_line import parse_command
from torchlight.config import load_config

ROOT = Path(__file__).parent.parent
PHASES = ("train", "validate", "test")


@pytest.mark.parametrize("run", plan(), ids=lambda run: run.name)
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


def test_a_change_changes_something() -> None:
    plain = load_config(BpmtRun, [ROOT / file for file in bpmt_runs.Run("penn", "tlca", "", 0).files], [])
    for change, overrides in bpmt_runs.CHANGES.items():
        files = bpmt_runs.Run("penn", "tlca", change, 0).files
        assert load_config(BpmtRun, [ROOT / file for file in files], overrides) != plain, change


def test_what_is_not_pretrained_gets_as_many_passes_in_all() -> None:
    for data in bpmt_runs.SPLITS:
        epochs = []
        for change in ("", "not_pretrained"):
            command = parse_command(bpmt_runs.Run(data, "tlca", change, 0).command()[1:], ("all",), "")
            config = load_config(BpmtRun, [ROOT / path for path in command.configs], command.overrides)
            epochs.append(config.train.epochs + (config.pretrain.train.epochs if config.pretrain else 0))
        assert epochs[0] == epochs[1]


def test_planned_runs_have_names_of_their_own() -> None:
    for planned in (plan(), bpmt_runs.plan()):
        assert len({run.name for run in planned}) == len(planned)


# Bases without data, and what main_gait.py opens with.
ELSEWHERE = ("transformers", "gait", "gait3d", "kinect_gait", "casia_b")
CONFIGS = sorted(path for path in (ROOT / "config").glob("*/*.yaml") if path.parent.name not in ELSEWHERE)


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_file_loads(path: Path) -> None:
    overlays = {
        "cpu.yaml": "base.yaml",
        "published_feeder.yaml": "base.yaml",
        "transformer_cpu.yaml": "tlca.yaml",
        "iip_cpu.yaml": "iip.yaml",
    }
    files = [path.parent / overlays[path.name], path] if path.name in overlays else [path]
    # A run of the other doors is one of these without a pretraining.
    assert load_config(BpmtRun, files, []).data.dataset in get_args(ActionDataConfig.model_fields["dataset"].annotation)
