from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.torchlight.toy_recipe import RECIPE, ToyRun
from torchlight.command_line import parse_command
from torchlight.digest import file_sha256
from torchlight.launch import Trained, run


class NamingRun(ToyRun):
    after_training: ClassVar[tuple[str, ...]] = ("names",)

    names: tuple[str, ...] = ()


def name_them(trained: Trained[NamingRun]) -> None:
    assert trained.sha == file_sha256(trained.path)
    text = f"{trained.checkpoint.progress.epoch} epochs, {', '.join(trained.config.names)}"
    (trained.run_dir.root / "names.txt").write_text(text)


NAMING = replace(RECIPE, schema=NamingRun, own_phases={"name": name_them}, files_of={"name": "names"})


def door(work_dir: Path, *arguments: str) -> int:
    return run(NAMING, ["--work-dir", str(work_dir), "--device", "cpu", *arguments])


def test_a_phase_of_the_recipes_own_gets_the_trained_task_and_the_files_named_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door(tmp_path, "--phase", "train", "name", "train.epochs=1") == 0
    assert (tmp_path / "names.txt").read_text() == "1 epochs, "
    assert door(tmp_path, "--phase", "test", "name", "ann.txt", "bob.txt", "train.epochs=1") == 0
    assert (tmp_path / "names.txt").read_text() == "1 epochs, ann.txt, bob.txt"
    assert "another config" not in capsys.readouterr().err


def test_what_only_acts_after_training_does_not_make_another_run(tmp_path: Path) -> None:
    assert door(tmp_path, "--phase", "train", "train.epochs=1") == 0
    assert door(tmp_path, "--phase", "train", "--resume", "train.epochs=1", "names=[ann]") == 0
    assert door(tmp_path, "--phase", "train", "--resume", "train.epochs=1", "seed=3") == 2


@pytest.mark.parametrize("words", [["nmae"], ["test", "nmae"], ["name", "train", "nmae"]])
def test_a_phase_that_there_is_not_is_named(words: list[str]) -> None:
    with pytest.raises(ValueError, match="--phase: got 'nmae', expected some of train, test, name"):
        parse_command(["--phase", *words], ("train", "test", "name"), "", {"name": "names"})
