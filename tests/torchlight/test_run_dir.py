from pathlib import Path

import pytest

from torchlight.run_dir import RunDir


def test_rows_come_back_as_they_went_in_and_a_half_written_one_is_passed_over(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.add_row({"epoch": 1, "val/top1": 0.1 + 0.2})
    run_dir.add_row({"epoch": 2})
    with run_dir.metrics.open("a") as file:
        file.write('{"epoch": 3, "val')
    assert run_dir.rows() == [{"epoch": 1, "val/top1": 0.1 + 0.2}, {"epoch": 2}]
    run_dir.keep_rows(lambda row: row["epoch"] <= 1)
    run_dir.add_row({"epoch": 2, "again": True})
    assert run_dir.rows() == [{"epoch": 1, "val/top1": 0.1 + 0.2}, {"epoch": 2, "again": True}]


def test_replacing_a_row_keeps_those_with_another_key(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for split, value in (("val", 1), ("test", 2), ("val", 3)):
        run_dir.replace_row({"split": split, "value": value}, key=("split",))
    assert run_dir.rows() == [{"split": "test", "value": 2}, {"split": "val", "value": 3}]


def test_a_trained_run_is_only_replaced_when_asked_and_then_only_our_files(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.refuse_a_run()
    for path in (run_dir.last, run_dir.best, run_dir.best_of_epoch(3), run_dir.metrics, tmp_path / "notes.md"):
        path.write_text("{}")
    with pytest.raises(ValueError, match=r"\(last\.pt\).*--resume auto"):
        run_dir.refuse_a_run()
    run_dir.last.unlink()
    with pytest.raises(ValueError, match=r"\(best\.pt\)"):
        run_dir.refuse_a_run()
    run_dir.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]
