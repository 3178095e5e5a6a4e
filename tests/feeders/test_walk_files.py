from pathlib import Path

import numpy as np
import pytest

from feeders.prepare import prepare
from feeders.prepare.kinect_gait import _JOINTS
from feeders.store import Store
from feeders.walk_files import store_of_files


def write_walk(path: Path, frames: int, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{joint};" + ";".join(f"{v:.3f}" for v in rng.normal(size=3)) for _ in range(frames) for joint in _JOINTS]
    path.write_text("\n".join(lines))
    return path


def test_a_file_alone_is_read_as_it_is_among_all(tmp_path: Path) -> None:
    for person in (3, 101):
        for walk in (1, 2):
            write_walk(tmp_path / f"raw/Person{person:03d}/{walk}.txt", 5 + walk, seed=person + walk)
    prepare("kinect_gait", tmp_path / "raw", tmp_path / "store")
    whole = Store(tmp_path / "store")
    alone = store_of_files("kinect_gait", [tmp_path / "raw/Person101/2.txt"], tmp_path / "alone")
    row = whole.index.sample_id.tolist().index("Person101/2")
    assert alone.index.sample_id.tolist() == ["Person101/2"]
    assert alone.index.label.tolist() == [100]
    np.testing.assert_array_equal(alone.clip(0).pose, whole.clip(row).pose)
    assert len(store_of_files("kinect_gait", [tmp_path / "raw/Person003"], tmp_path / "folder")) == 2
    assert len(store_of_files("kinect_gait", [tmp_path / "store"], tmp_path / "itself")) == 4


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
