from pathlib import Path

import numpy as np
import pytest

from feeders.gait.walk_files import store_of_files
from feeders.gait3d import PROBE
from feeders.prepare import prepare
from feeders.skeleton import OPENPOSE18
from feeders.store import Store
from tests.feeders.gait_files import write_gait3d, write_kinect


def test_a_file_alone_is_read_as_it_is_among_all(tmp_path: Path) -> None:
    for person in (3, 101):
        for walk in (1, 2):
            write_kinect(tmp_path / "raw", f"Person{person:03d}/{walk}", 5 + walk, seed=person + walk)
    prepare("kinect_gait", tmp_path / "raw", tmp_path / "store")
    whole = Store(tmp_path / "store")
    alone = store_of_files("kinect_gait", [tmp_path / "raw/Person101/2.txt"], tmp_path / "alone")
    row = whole.index.sample_id.tolist().index("Person101/2")
    assert alone.index.sample_id.tolist() == ["Person101/2"]
    assert alone.index.label.tolist() == [100]
    np.testing.assert_array_equal(alone.clip(0).pose, whole.clip(row).pose)
    assert len(store_of_files("kinect_gait", [tmp_path / "raw/Person003"], tmp_path / "folder")) == 2
    assert len(store_of_files("kinect_gait", [tmp_path / "store"], tmp_path / "itself")) == 4


def test_what_is_named_twice_is_read_once_and_two_walks_of_one_name_are_refused(tmp_path: Path) -> None:
    file = write_kinect(tmp_path / "raw", "Person101/2", 5)
    other = write_kinect(tmp_path / "other", "Person101/2", 6, seed=1)
    assert len(store_of_files("kinect_gait", [file, file.parent], tmp_path / "once")) == 1
    with pytest.raises(ValueError, match="of the same name"):
        store_of_files("kinect_gait", [file, other], tmp_path / "both")


def test_gait3ds_partition_is_found_above_the_files(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    for number, place in enumerate((raw, raw / "0002", raw / "0002/camid1_videoid0/seq1")):
        walks = store_of_files("gait3d", [place], tmp_path / f"new{number}")
        row = walks.index.sample_id.tolist().index("0002/camid1_videoid0/seq1")
        assert (walks.index.label[row], walks.index.setup[row]) == (2, PROBE)


@pytest.mark.parametrize("name", ["ann/3", "ann/side/3", "ann/side/coat/3"])
def test_own_files_are_named_as_deep_as_those_of_their_store(tmp_path: Path, name: str) -> None:
    file = tmp_path / "my/walks" / f"{name}.csv"
    file.parent.mkdir(parents=True)
    file.write_text("frame,nose_x,nose_y\n0,1,2\n1,2,3\n")
    prepare("walkers", tmp_path / "my/walks", tmp_path / "store")
    walks = store_of_files("walkers", [file.parent], tmp_path / "new", Store(tmp_path / "store"))
    assert (walks.index.sample_id.tolist(), walks.header.class_names) == ([name], ("ann",))


def test_own_files_are_of_their_person_however_little_of_the_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "raw/ann/side/3.csv"
    file.parent.mkdir(parents=True)
    file.write_text("frame,nose_x,nose_y\n0,1,2\n")
    prepare("walkers", tmp_path / "raw", tmp_path / "store")
    monkeypatch.chdir(tmp_path / "raw/ann")
    for number, written in enumerate(("side", "side/3.csv", "../ann/side", ".")):
        walks = store_of_files("walkers", [Path(written)], tmp_path / f"new{number}", Store(tmp_path / "store"))
        assert (walks.index.sample_id.tolist(), walks.header.class_names) == (["ann/side/3"], ("ann",))


def test_a_file_without_a_folder_is_in_the_one_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/3.csv").write_text("frame,nose_x,nose_y\n0,1,2\n")
    monkeypatch.chdir(tmp_path / "ann")
    walks = store_of_files("walkers", [Path("3.csv")], tmp_path / "new")
    assert walks.index.sample_id[0].endswith("/ann/3")


def test_a_walk_without_anybody_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, line in {"ann/1": "0,1,2", "ann/2": "0,,"}.items():
        file = tmp_path / f"{name}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"frame,nose_x,nose_y\n{line}\n")
    walks = store_of_files("walkers", [tmp_path / "ann"], tmp_path / "new")
    assert (len(walks), walks.index.sample_id[0].endswith("ann/1")) == (1, True)
    assert "ann/2" in caplog.text
    with pytest.raises(ValueError, match=r"ann/2.csv: got no walk that can be read: .*ann/2: nobody is"):
        store_of_files("walkers", [tmp_path / "ann/2.csv"], tmp_path / "none")


def test_a_broken_file_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = {"ann/1": "0,1,2", "ann/2": "0,1,2\n1,2", "bob/1": "0,a,2"}
    for name, line in lines.items():
        file = tmp_path / "walks" / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"frame,nose_x,nose_y\n{line}\n")
    prepare("walkers", tmp_path / "walks", tmp_path / "store")
    like = Store(tmp_path / "store")
    walks = store_of_files("walkers", [tmp_path / "walks"], tmp_path / "new", like)
    assert walks.index.sample_id.tolist() == ["ann/1"]
    assert "left out, ann/2, line 3: got 2 cells, expected 3 numbers" in caplog.text
    assert "left out, bob/1, line 2: got a cell that is no number" in caplog.text
    with pytest.raises(ValueError, match=r"bob: got no walk that can be read: bob/1, line 2"):
        store_of_files("walkers", [tmp_path / "walks/bob"], tmp_path / "none", like)


def test_columns_that_fit_two_skeletons_are_those_of_the_store(tmp_path: Path) -> None:
    joints = [joint for joint in OPENPOSE18.joints if joint != "neck"]
    for person, named in {"ann": OPENPOSE18.joints, "bob": joints}.items():
        file = tmp_path / "raw" / person / "1.csv"
        file.parent.mkdir(parents=True)
        columns = [f"{joint}_{axis}" for joint in named for axis in "xy"]
        file.write_text("\n".join([",".join(["frame", *columns]), ",".join(map(str, range(len(columns) + 1)))]))
    prepare("walkers", tmp_path / "raw", tmp_path / "store")
    like = Store(tmp_path / "store")
    assert like.header.skeleton == "OPENPOSE18"
    walks = store_of_files("walkers", [tmp_path / "raw/bob"], tmp_path / "new", like)
    assert walks.header.skeleton == "OPENPOSE18"


@pytest.mark.parametrize(
    ("name", "text", "error", "says"),
    [
        ("Person101/1.txt", None, FileNotFoundError, "Person101/1.txt: no such file"),
        ("notes/1.csv", "", ValueError, "notes/1.csv: got no walk of kinect_gait"),
        ("Person101/1.txt", "Head;1;2;3", ValueError, "Person101/1: got 1 lines"),
    ],
)
def test_what_is_no_walk_is_named(
    tmp_path: Path, name: str, text: str | None, error: type[Exception], says: str
) -> None:
    if text is not None:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=says):
        store_of_files("kinect_gait", [tmp_path / name], tmp_path / "new")
