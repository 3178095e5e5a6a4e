"""A benchmark of many hours must not stop at a typing error in its last run."""

from pathlib import Path
from typing import get_args

import pytest

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


def test_planned_runs_have_names_of_their_own() -> None:
    assert len({run.name for run in plan()}) == len(plan())


CONFIGS = sorted(path for path in (ROOT / "config").glob("*/*.yaml") if path.parent.name != "transformers")


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_file_loads(path: Path) -> None:
    overlays = {"cpu.yaml": "base.yaml", "published_feeder.yaml": "base.yaml", "transformer_cpu.yaml": "tlca.yaml"}
    files = [path.parent / overlays[path.name], path] if path.name in overlays else [path]
    # A run of the other doors is one of these without a pretraining.
    assert load_config(BpmtRun, files, []).data.dataset in get_args(ActionDataConfig.model_fields["dataset"].annotation)
