import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from feeders.exchange.__main__ import main
from feeders.exchange.pyskl import import_pyskl
from feeders.ntu import NTU60
from feeders.store import Store


def annotation(name: str, bodies: int = 1, frames: int = 12) -> dict[str, object]:
    draw = np.random.default_rng(int(name[5:8]) + frames)
    keypoint = (draw.normal(size=(bodies, frames, 25, 3)) + [0, 0, 3]).astype(np.float16)
    return {"frame_dir": name, "label": int(name[-3:]) - 1, "keypoint": keypoint, "total_frames": frames}


NAMES = [
    f"S001C{camera:03}P{subject:03}R001A{action:03}"
    for subject in (1, 2, 3, 6)
    for camera in (1, 2)
    for action in (1, 60)
]


def content() -> dict[str, object]:
    learned = [name for name in NAMES if int(name[9:12]) in (1, 2)]
    first, *others = [name for name in NAMES if name not in learned]
    view = {"xview_train": [n for n in NAMES if "C002" in n], "xview_val": [n for n in NAMES if "C001" in n]}
    split = {"xsub_train": [*learned, first], "xsub_val": [*others, "S001C001P006R002A001"], **view}
    return {"split": split, "annotations": [annotation(name, 1 + n % 2, 5 + n) for n, name in enumerate(NAMES)]}


def write(folder: Path, value: object) -> Path:
    path = folder / "ntu60_3danno.pkl"
    path.write_bytes(pickle.dumps(value))
    return path


def test_clips_keep_names_fields_and_poses_about_the_first_spine(tmp_path: Path) -> None:
    value = content()
    report = import_pyskl(write(tmp_path, value), tmp_path / "store")
    store = Store(tmp_path / "store")
    store.verify()
    assert (report.dataset, report.clips, report.left_out) == ("ntu60", len(NAMES), {})
    assert store.index.sample_id.tolist() == NAMES
    assert store.header.class_names == NTU60.class_names
    assert store.index.subject.tolist() == [int(name[9:12]) for name in NAMES]
    assert store.index.camera.tolist() == [int(name[5:8]) for name in NAMES]
    assert store.index.label.tolist() == [int(name[-3:]) - 1 for name in NAMES]
    for number, theirs in enumerate(value["annotations"]):
        raw = theirs["keypoint"].astype(np.float32)
        np.testing.assert_array_equal(store.clip(number).pose.transpose(3, 0, 1, 2), raw - raw[0, 0, 1])


def test_absent_bodies_stay_absent_and_empty_frames_are_closed_up(tmp_path: Path) -> None:
    value, one = content(), annotation(NAMES[0], 2, 8)
    one["keypoint"][0, [0, 4]] = 0
    one["keypoint"][1, [0, 1, 4, 7]] = 0
    value["annotations"][0] = one
    import_pyskl(write(tmp_path, value), tmp_path / "store")
    clip = Store(tmp_path / "store").clip(0)
    raw = one["keypoint"].astype(np.float32)
    assert clip.present.T.tolist() == [[True] * 6, [False, True, True, True, True, False]]
    np.testing.assert_array_equal(clip.pose[0, :, :, 0], raw[0, 1] - raw[0, 1, 1])
    np.testing.assert_array_equal(clip.pose[1, :, :, 1], raw[1, 2] - raw[0, 1, 1])


def test_the_files_own_lists_are_held_against_our_protocols(tmp_path: Path) -> None:
    report = import_pyskl(write(tmp_path, content()), tmp_path / "store")
    stranger = "S001C001P003R001A001"
    assert report.splits["xsub_train"].only_theirs == [stranger]
    assert report.splits["xsub_train"].only_ours == []
    assert report.splits["xsub_val"].only_ours == [stranger]
    assert report.splits["xsub_val"].only_theirs == ["S001C001P006R002A001"]
    for name in ("xview_train", "xview_val"):
        split = report.splits[name]
        assert split.theirs == split.ours == len(NAMES) // 2
        assert not split.only_theirs
        assert not split.only_ours
    assert "split xview_val: 8 clips, the same as ours" in report.summary()


def test_a_clip_that_cannot_be_kept_is_left_out_with_the_reason(tmp_path: Path) -> None:
    value = content()
    changes = {
        NAMES[0]: ({"keypoint": np.zeros((1, 4, 25, 3), np.float16)}, "empty"),
        NAMES[1]: ({"label": 3}, "got label 3, expected 59"),
        NAMES[2]: ({"keypoint": np.ones((1, 4, 17, 2), np.float16)}, "17"),
        NAMES[3]: ({"keypoint": np.full((1, 4, 25, 3), np.nan, np.float16)}, "NaN"),
        NAMES[4]: ({"keypoint": [[1.0]]}, "keypoint of shape None"),
    }
    for one in value["annotations"][:5]:
        one.update(changes[one["frame_dir"]][0])
    value["annotations"] += [annotation(NAMES[9]), {"label": 2}]
    report = import_pyskl(write(tmp_path, value), tmp_path / "store")
    assert report.clips == len(NAMES) - 5
    for name, (_, reason) in changes.items():
        assert reason in report.left_out[name]
    assert "twice" in report.left_out[NAMES[9]]
    assert len(report.left_out) == 7


def test_a_file_of_which_nothing_can_be_kept_says_why(tmp_path: Path) -> None:
    value = content()
    for one in value["annotations"]:
        one["keypoint"] = np.ones((1, 4, 17, 2), np.float16)
    with pytest.raises(ValueError, match=r"no clip that can be kept of \d+, .*keypoint of shape \(1, 4, 17, 2\)"):
        import_pyskl(write(tmp_path, value), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_set_up_lists_make_it_ntu_120(tmp_path: Path) -> None:
    value = content()
    value["split"] = {"xset_train": NAMES[:1]}
    report = import_pyskl(write(tmp_path, value), tmp_path / "store")
    assert report.dataset == Store(tmp_path / "store").header.dataset == "ntu120"
    assert report.splits["xset_train"].only_theirs == NAMES[:1]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"split": {}, "annotations": []},
        {"split": {}, "annotations": [{}, 3]},
        {"split": {1: []}, "annotations": [{}]},
        {"split": {"xsub_train": 3}, "annotations": [{}]},
    ],
)
def test_another_pickle_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pyskl's"):
        import_pyskl(write(tmp_path, value), tmp_path / "store")
    assert not (tmp_path / "store").exists()


class Bomb:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.proof),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value, proof = content(), tmp_path / "proof"
    value["annotations"][3]["keypoint"] = Bomb(proof)
    path = write(tmp_path, value)
    assert main(["import", str(path), "--out", str(tmp_path / "store")]) == 1
    assert "it was not run" in capsys.readouterr().err
    assert not proof.exists()
    assert not (tmp_path / "store").exists()
    pickle.loads(path.read_bytes())
    assert proof.exists(), "the bomb must be live for this test to mean anything"
