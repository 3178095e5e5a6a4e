import json
from pathlib import Path

import numpy as np
import pytest

from feeders.prepare import prepare, report_path
from feeders.prepare.__main__ import main
from feeders.prepare.ucla import read
from feeders.store import Store

NAME = "a08_s02_e01_v03"


def write(folder: Path, name: str = NAME, frames: int = 3, seed: int = 0, **change: object) -> Path:
    folder.mkdir(exist_ok=True)
    label = {"a01": 1, "a02": 2, "a08": 7}[name[:3]]
    pose = np.random.default_rng(seed).normal(size=(frames, 20, 3)).round(6).tolist()
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"file_name": name, "skeletons": pose, "label": label, **change}))
    return path


def nan_pose() -> list:
    pose = np.zeros((4, 20, 3))
    pose[2, 5, 1] = np.nan
    return pose.tolist()


def test_a_file_becomes_its_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "raw")
    recording = read(path.stem, path.read_bytes()).recording
    assert (recording.sample_id, recording.label, recording.frames) == (NAME, 6, 3)
    assert (recording.subject, recording.replication, recording.camera) == (2, 1, 3)
    expected = np.random.default_rng(0).normal(size=(3, 20, 3)).round(6).astype(np.float32)
    np.testing.assert_array_equal(recording.bodies[0].joints, expected)


BROKEN = {
    "empty clip": {"skeletons": []},
    "NaN coordinates in frame 2": {"skeletons": nan_pose()},
    "joints, expected 20": {"skeletons": np.zeros((2, 19, 3)).tolist()},
    "not three numbers": {"skeletons": [[[0, 0, {}]] * 20]},
    "shape": {"skeletons": np.zeros((2, 20, 2)).tolist()},
    "no `skeletons` list": {"skeletons": "none"},
    "label 3 inside": {"label": 3},
    "file_name 'other'": {"file_name": "other"},
}


@pytest.mark.parametrize("reason", list(BROKEN))
def test_a_broken_file_ends_in_one_line_and_leaves_no_store(
    reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "raw", "a01_s01_e00_v01")
    write(tmp_path / "raw", **BROKEN[reason])
    status = main(["ucla", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert status == 1
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert reason in said.err
    assert NAME in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-report.json", "raw"]
    assert list(json.loads(report_path(tmp_path / "out").read_text())["broken"]) == [NAME]


def test_a_truncated_file_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "raw")
    path.write_text(path.read_text()[:-20])
    assert main(["ucla", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "truncated or broken JSON" in said
    assert not (tmp_path / "out").exists()


def test_broken_files_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "raw", "a01_s01_e00_v01")
    write(tmp_path / "raw", skeletons=[])
    arguments = ["ucla", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--skip-broken"]
    assert main(arguments) == 0
    assert "1 clips of 2 files" in capsys.readouterr().out
    assert Store(tmp_path / "out").index.sample_id.tolist() == ["a01_s01_e00_v01"]


def test_a_missing_raw_folder_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ucla", "--raw", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing at" in said
    assert "all_sqe" in said


def test_processes_write_the_same_store_and_copies_across_views_are_found(tmp_path: Path) -> None:
    for seed, view in enumerate("1123"):
        write(tmp_path / "raw", f"a02_s0{seed}_e00_v0{view}", seed=seed)
    write(tmp_path / "raw", "a02_s02_e00_v03", seed=2)
    one = prepare("ucla", tmp_path / "raw", tmp_path / "one")
    two = prepare("ucla", tmp_path / "raw", tmp_path / "two", jobs=2)
    assert one.copies["published"] == [("a02_s02_e00_v02", "a02_s02_e00_v03")]
    assert one.copies == two.copies
    assert (tmp_path / "one/poses.npy").read_bytes() == (tmp_path / "two/poses.npy").read_bytes()
    assert Store(tmp_path / "one").index.digest.tolist() == Store(tmp_path / "two").index.digest.tolist()
