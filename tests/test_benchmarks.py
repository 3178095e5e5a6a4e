"""A benchmark of many hours must not stop at a typing error in its last run."""

from pathlib import Path

import pytest

from benchmarks.ucla import Run, plan
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


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*/*.yaml")), ids=str)
def test_every_config_file_loads(path: Path) -> None:
    overlays = {"cpu.yaml", "published_feeder.yaml"}
    files = [path.parent / "base.yaml", path] if path.name in overlays else [path]
    assert load_config(ClipRun, files, []).data.dataset in ("ucla", "ntu60", "ntu120", "demo")
