"""Raw files that are nearly right, and what carries a reader to another process."""

import pickle
from pathlib import Path

import pytest

from feeders.prepare import DATASETS, discover, prepare, raw_source
from feeders.prepare.detections import openpose_frames
from tests.feeders.gait_files import write_casia_rows


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_reader_can_be_sent_to_another_process(dataset: str) -> None:
    read = raw_source(dataset).read
    sent = pickle.loads(pickle.dumps(read))
    assert getattr(sent, "func", sent) is getattr(read, "func", read)


def write_walk(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["frame,nose_x,nose_y,nose_conf", *rows]) + "\n")


def test_a_reader_of_own_walks_can_be_sent_to_another_process(tmp_path: Path) -> None:
    write_walk(tmp_path / "ann/1.csv", "0,1,2,1")
    source, found = discover(raw_source("walkers"), [tmp_path])
    sent = pickle.loads(pickle.dumps(source.read))
    assert sent(found.files[0].name, found.files[0].content()).recording.frames == 1


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (("0,1,2,1,1,1,2,1", "2,1,2,1,3,1,2,1"), "ann/2, line 2: got 8 cells, expected 4 numbers"),
        (("0,1", "2,1"), "ann/2, line 2: got 2 cells, expected 4 numbers"),
        (("0,1,2,1", "", "1,1,2"), "ann/2, line 4: got 3 cells, expected 4 numbers"),
    ],
)
def test_rows_of_another_number_of_cells_are_not_cut_anew(rows: tuple[str, ...], says: str, tmp_path: Path) -> None:
    write_walk(tmp_path / "raw/ann/1.csv", "0,1,2,1")
    write_walk(tmp_path / "raw/ann/2.csv", *rows)
    report = prepare("walkers", tmp_path / "raw", tmp_path / "store", skip_broken=True)
    assert report.broken["ann/2"] == says


def test_a_row_without_a_name_is_one_broken_walk(tmp_path: Path) -> None:
    table = tmp_path / "raw/rows.csv"
    write_casia_rows(table, [("001-nm-01-000", 1), ("001-nm-01-000", 2)])
    header, *rows = table.read_text().splitlines()
    nameless = "," + rows[0].partition(",")[2]
    table.write_text("\n".join([header, nameless, *rows]) + "\n")
    report = prepare("casia_b", tmp_path / "raw", tmp_path / "store", skip_broken=True)
    assert (report.clips, len(report.broken)) == (1, 1)


def test_a_number_beyond_all_floats_is_one_broken_file() -> None:
    content = ('{"people": [{"pose_keypoints_2d": [' + "9" * 400 + ", 1, 1]}]}").encode()
    with pytest.raises(ValueError, match=r"walk/0001\.json: got OverflowError"):
        openpose_frames("walk", {"0001.json": content}, 1)
