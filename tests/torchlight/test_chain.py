import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.torchlight.test_launch import ROOT, assert_same_state
from tests.torchlight.toy_chain import CHAIN
from torchlight.chain import run_chain
from torchlight.checkpoint import load_checkpoint
from torchlight.digest import file_sha256
from torchlight.run_dir import RunDir


def door(work_dir: Path, *arguments: str) -> int:
    return run_chain(CHAIN, ["--work-dir", str(work_dir), "--device", "cpu", *arguments])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def shas(work_dir: Path) -> list[str]:
    return [file_sha256(work_dir / stage / "last.pt") for stage in ("first", "second")]


@pytest.mark.parametrize(("kill_at", "stage"), [("1/2", "first"), ("2/3", "second")])
def test_killed_in_any_stage_and_resumed_equals_never_having_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: str, stage: str
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    monkeypatch.setenv("KILLED", str(tmp_path / "killed.marker"))
    words = (f"data.kill_at={kill_at}", "train.save_every_steps=1")
    program = [sys.executable, "-m", "tests.torchlight.toy_chain", "--work-dir", str(killed), "--device", "cpu"]
    assert subprocess.run([*program, *words], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert (killed / "second").exists() == (stage == "second")
    before = file_sha256(killed / "first" / "last.pt") if stage == "second" else None
    assert door(killed, *words, "--resume", "auto") == 0
    if before is not None:
        assert file_sha256(killed / "first" / "last.pt") == before
    assert door(whole, *words) == 0
    for name in ("first", "second"):
        assert_same_state(load_checkpoint(killed / name / "last.pt"), load_checkpoint(whole / name / "last.pt"))


def test_a_stage_starts_from_the_former_ones_weights(tmp_path: Path) -> None:
    still = ("train.optimiser={name: sgd, lr: 1e-12}", "model.batch_norm=false")
    assert door(tmp_path, *still, "--phase", "all") == 0
    first, second = (load_checkpoint(tmp_path / name / "last.pt").task for name in ("first", "second"))
    torch.testing.assert_close(first["hidden.weight"], second["hidden.weight"])


def test_phase_by_phase_is_the_same_as_all_at_once_and_a_test_needs_the_folder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door(tmp_path / "whole", "model.dropout=0.1") == 0
    printed = capsys.readouterr().out
    for phase in ("prepare", "finish"):
        assert door(tmp_path / "pieces", "model.dropout=0.1", "--phase", phase) == 0
    for name in ("first", "second"):
        assert_same_state(*(load_checkpoint(tmp_path / run / name / "last.pt") for run in ("whole", "pieces")))
    capsys.readouterr()
    assert run_chain(CHAIN, ["--work-dir", str(tmp_path / "whole"), "--phase", "test", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == printed
    assert "dropout: 0.1" in RunDir(tmp_path / "whole").config.read_text()


def test_a_finished_chain_rests_and_says_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door(tmp_path) == 0
    before, printed = shas(tmp_path), capsys.readouterr().out
    assert door(tmp_path, "--resume", "auto") == 0
    assert (shas(tmp_path), capsys.readouterr().out) == (before, printed)
    assert door(tmp_path) == 2
    assert "--resume auto" in error_of(capsys)


@pytest.mark.parametrize("words", [("train.epochs=9", "--resume", "auto"), ("first.epochs=9",)])
def test_a_refused_run_leaves_the_config_of_what_is_trained(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert door(tmp_path) == 0
    before = RunDir(tmp_path).config.read_text()
    assert door(tmp_path, *words) == 2
    assert RunDir(tmp_path).config.read_text() == before
    assert door(tmp_path, "--phase", "finish", "--overwrite", "train.epochs=1") == 0
    assert RunDir(tmp_path).config.read_text() != before


def test_a_missing_former_stage_names_the_command_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/toy_chain.py"])
    work_dir = tmp_path / "a b"
    assert door(work_dir, "model.dropout=0.1", "--phase", "finish") == 2
    line = error_of(capsys)
    assert "got no stage 'first'" in line
    assert door(work_dir, "--phase", "test") == 2
    assert error_of(capsys).endswith("--phase all")
    python, program, *words = shlex.split(line.partition("make it with: ")[2])
    assert (python, program) == ("python", "toy_chain.py")
    assert run_chain(CHAIN, [*words, "--device", "cpu"]) == 0
    assert door(work_dir, "model.dropout=0.1", "--phase", "test") == 2
    assert "got no stage 'second'" in error_of(capsys)
    assert door(work_dir, "model.dropout=0.1", "--phase", "finish") == 0


def test_an_unfinished_former_stage_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door(tmp_path, "--phase", "prepare", "data.nan_at=1/3") == 2
    capsys.readouterr()
    assert door(tmp_path, "--phase", "finish") == 2
    assert re.search(r"after 1 of 2 epochs.*--phase prepare --resume auto", error_of(capsys))


def test_a_former_stage_of_another_config_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door(tmp_path, "--phase", "prepare") == 0
    capsys.readouterr()
    assert door(tmp_path, "--phase", "finish", "data.clips=20") == 2
    assert "data.clips: 20 now, 24 then" in error_of(capsys)
    # What concerns a later stage alone is no reason to make the former one again.
    assert door(tmp_path, "--phase", "finish", "train.epochs=1") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first=null", "--phase", "prepare"], "this config has no stage to prepare"),
        (["phases=[dance]"], "phases: got 'dance'"),
        (["--weights", "some.pt"], "expected it with a test alone"),
        (["--resume", "some.pt"], "--resume: got some.pt, expected auto"),
        (["first.epochs=no"], "first.epochs"),
    ],
)
def test_bad_input_ends_in_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert door(tmp_path, *arguments) == 2
    assert message in error_of(capsys)


def test_a_chain_of_one_stage_has_no_former_to_wait_for(tmp_path: Path) -> None:
    assert door(tmp_path, "first=null", "--phase", "all") == 0
    assert not (tmp_path / "first").exists()


def test_weights_are_tested_without_a_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door(tmp_path / "a") == 0
    printed = capsys.readouterr().out
    weights = str(tmp_path / "a" / "second" / "last.pt")
    assert door(tmp_path / "b", "--phase", "test", "--weights", weights) == 0
    assert capsys.readouterr().out == printed


def test_two_processes_go_through_all_stages_together(tmp_path: Path) -> None:
    pair = ["--work-dir", str(tmp_path), "--device", "cpu", "cpu", "train.batch_size=2", "first.batch_size=2"]
    assert run_chain(CHAIN, pair) == 0
    assert [load_checkpoint(tmp_path / name / "last.pt").processes for name in ("first", "second")] == [2, 2]
