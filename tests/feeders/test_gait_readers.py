"""Every published gait layout, read from small samples in that format; and what happens where it is another format."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feeders import gait3d, grew
from feeders.gait.walk_files import store_of_files
from feeders.gait3d import GAIT3D
from feeders.grew import GREW, PROBE_LABEL
from feeders.oumvlp_pose import OUMVLP_POSE
from feeders.prepare import Report, prepare
from feeders.prepare.__main__ import main
from feeders.prepare.check import find_faults
from feeders.prepare.detections import CLIPPED, GAPS, SEVERAL
from feeders.prepare.kinect_gait import _JOINTS
from feeders.skeleton import COCO17, KINECT20, OPENPOSE18, SKELETONS, Skeleton
from feeders.store import Clip, Store
from tests.feeders.gait_files import (
    cells,
    person,
    write_casia_rows,
    write_crops,
    write_gait3d,
    write_kinect,
    write_openpose,
    write_partition,
    write_pickle,
)


def prepared(dataset: str, raw: Path) -> tuple[Store, Report]:
    report = prepare(dataset, raw, raw.parent / "store")
    store = Store(raw.parent / "store")
    assert not find_faults(store)
    return store, report


def row_of(store: Store, name: str) -> int:
    return store.index.sample_id.tolist().index(name)


def clip_of(store: Store, name: str) -> Clip:
    return store.clip(row_of(store, name))


def columns_of(store: Store, name: str) -> tuple[int, ...]:
    row, index = row_of(store, name), store.index
    columns = (index.label, index.subject, index.camera, index.setup, index.replication)
    return tuple(int(column[row]) for column in columns)


def test_flat_skeletons_are_trees_with_limbs_in_chains() -> None:
    for skeleton in (COCO17, OPENPOSE18):
        assert len(set(skeleton.joints)) == len(skeleton.joints)
        assert [joint for joint, parent in enumerate(skeleton.parents) if joint == parent] == [skeleton.root]
        for joint, mirrored in enumerate(skeleton.mirror):
            assert skeleton.mirror[mirrored] == joint
        for side in ("left", "right"):
            for kinds in (("wrist", "elbow", "shoulder"), ("ankle", "knee", "hip")):
                chain = skeleton.index(*(f"{side}_{kind}" for kind in kinds))
                assert [skeleton.parents[joint] for joint in chain[:2]] == list(chain[1:])
        assert skeleton.membership("five_parts_disjoint").sum(axis=0).tolist() == [1.0] * len(skeleton.joints)
    # FastPoseGait's map from OpenPose's joints to COCO's.
    of_openpose = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]
    assert COCO17.joints == tuple(OPENPOSE18.joints[joint] for joint in of_openpose)


# Gait3D


def test_gait3d_becomes_walks_with_their_official_roles(tmp_path: Path) -> None:
    store, report = prepared("gait3d", write_gait3d(tmp_path / "raw"))
    assert (report.clips, report.files, report.broken, report.left_out) == (4, 4, {}, {})
    assert store.header.units == "pixels"
    assert store.header.skeleton == "COCO17"
    assert columns_of(store, "0000/camid0_videoid2/seq0") == (0, 0, 0, gait3d.TRAIN, 2000)
    assert columns_of(store, "0001/camid7_videoid1/seq3") == (1, 1, 7, gait3d.TRAIN, 1003)
    assert columns_of(store, "0002/camid0_videoid0/seq0") == (2, 2, 0, gait3d.GALLERY, 0)
    assert columns_of(store, "0002/camid1_videoid0/seq1") == (2, 2, 1, gait3d.PROBE, 1)
    clip = clip_of(store, "0001/camid7_videoid1/seq3")
    expected = np.stack([person(frame) for frame in (3, 4, 5)])
    np.testing.assert_allclose(clip.pose[..., 0], expected[..., :2], rtol=1e-6)
    np.testing.assert_allclose(clip.joint_weight[..., 0], expected[..., 2], rtol=1e-6)
    protocol = GAIT3D.protocols["official"]
    assert set(protocol.train["setup"]) | set(protocol.test["setup"]) == {0, 1, 2}


def test_frames_are_ordered_by_number_and_gaps_stay_gaps(tmp_path: Path) -> None:
    store, report = prepared("gait3d", write_gait3d(tmp_path / "raw", frames=(9998, 9999, 10000, 10003)))
    clip = clip_of(store, "0000/camid0_videoid2/seq0")
    assert clip.present[:, 0].tolist() == [True, True, True, False, False, True]
    for place, frame in enumerate((9998, 9999, 10000, None, None, 10003)):
        if frame is not None:
            np.testing.assert_allclose(clip.pose[place, ..., 0], person(frame)[:, :2], rtol=1e-6)
    assert len(report.mended[GAPS]) == 4


def test_a_crop_of_another_size_is_the_same_walk(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    for file in (raw / "0001").rglob("*.txt"):
        rest = file.read_text().split(",")[2:]
        file.write_text(",".join(["999", "1", *rest]))
    changed, _ = prepared("gait3d", raw)
    plain, _ = prepared("gait3d", write_gait3d(tmp_path / "again" / "raw"))
    assert changed.index.digest.tolist() == plain.index.digest.tolist()


def test_confidence_above_one_is_clipped_and_reported(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    seen = person(3)
    seen[4, 2] = 1.083
    (raw / "0000/camid0_videoid2/seq0/human_crop_f3.txt").write_text("1,2," + cells(seen))
    store, report = prepared("gait3d", raw)
    assert report.mended[CLIPPED] == ["0000/camid0_videoid2/seq0"]
    assert clip_of(store, "0000/camid0_videoid2/seq0").joint_weight.max() == 1.0


def test_of_several_people_the_surest_is_taken_whatever_their_order(tmp_path: Path) -> None:
    walker, bystander = person(1), person(2) * [1, 1, 0.5]
    for name, people in (("first", (walker, bystander)), ("last", (bystander, walker))):
        raw = write_gait3d(tmp_path / name / "raw")
        lines = [f"1,2,{cells(one)}" for one in people]
        (raw / "0000/camid0_videoid2/seq0/human_crop_f4.txt").write_text("\n".join(lines))
        store, report = prepared("gait3d", raw)
        assert report.mended[SEVERAL] == ["0000/camid0_videoid2/seq0"]
        clip = clip_of(store, "0000/camid0_videoid2/seq0")
        np.testing.assert_allclose(clip.pose[1, ..., 0], walker[:, :2], rtol=1e-6)


def test_a_joint_without_confidence_is_missing(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    seen = person(4)
    seen[10] = [50, 60, 0]
    (raw / "0000/camid0_videoid2/seq0/human_crop_f4.txt").write_text("1,2," + cells(seen))
    clip = clip_of(prepared("gait3d", raw)[0], "0000/camid0_videoid2/seq0")
    assert clip.joint_weight[1, 10, 0] == 0
    assert (clip.pose[1, 10] == 0).all()
    assert (clip.joint_weight[[0, 2], 10, 0] > 0).all()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("human_crop_f4.txt", "1,2,3", "human_crop_f4.txt: got 3 values, expected 53"),
        (
            "human_crop_f4.txt",
            "1,2," + cells(person(0)[:, :2].repeat(3, 1)[:, :2]) + ",0.5" * 16 + ",nan",
            "NaN or infinite numbers in frame 4",
        ),
        ("human_crop_f4.txt", "1,2," + cells(person(0) * [1, 1, -1]), "confidence below 0 in frame 4"),
        ("human_crop_f4.txt", "w,h,x", "human_crop_f4.txt: got 'w,h,x', expected numbers"),
        ("notes.txt", "hello", "notes.txt: got a name without a frame number"),
        (f"f{10**20}.txt", "1,2," + cells(person(0)), "got a name without a frame number"),
    ],
)
def test_a_broken_walk_is_named_and_stops_no_other(tmp_path: Path, file: str, content: str, reason: str) -> None:
    raw = write_gait3d(tmp_path / "raw")
    (raw / "0001/camid7_videoid1/seq3" / file).write_text(content)
    (raw / "0001/.DS_Store").write_bytes(b"\0")
    store, report = prepared("gait3d", raw)
    assert list(report.broken) == ["0001/camid7_videoid1/seq3"]
    assert reason in report.broken["0001/camid7_videoid1/seq3"]
    assert len(store) == 3


def test_a_walk_without_anybody_is_left_out_and_reported(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    for file in (raw / "0001").rglob("*.txt"):
        file.write_text("1,2," + cells(person(0) * [1, 1, 0]))
    _, report = prepared("gait3d", raw)
    assert report.left_out == {"0001/camid7_videoid1/seq3": "without a body in any frame"}


def test_strangers_to_the_partition_and_odd_folders_are_broken(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    write_crops(raw / "0003/camid0_videoid0/seq0", [1])
    write_crops(raw / "0000/odd", [1])
    store, report = prepared("gait3d", raw)
    reasons = " ".join(report.broken.values())
    assert len(report.broken) == 2
    assert "on neither side of Gait3D.json" in reasons
    assert "odd" in reasons
    assert len(store) == 4


def test_without_its_partition_gait3d_says_where_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_gait3d(tmp_path / "raw")
    (raw / "Gait3D.json").unlink()
    assert main(["gait3d", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Gait3D.json" in said
    assert "OpenGait" in said


@pytest.mark.parametrize(
    "change",
    [{"TEST_SET": ["0000", "0002"]}, {"PROBE_SET": ["0001-camid7_videoid1-seq3"]}, {"PROBE_SET": 3}],
)
def test_a_partition_that_contradicts_itself_is_refused(tmp_path: Path, change: dict) -> None:
    raw = write_gait3d(tmp_path / "raw")
    write_partition(raw / "Gait3D.json", **change)
    with pytest.raises(ValueError, match="Gait3D.json"):
        prepare("gait3d", raw, tmp_path / "out")


def test_another_partition_is_another_preparation(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    first = prepare("gait3d", raw, tmp_path / "one")
    write_partition(raw / "Gait3D.json", PROBE_SET=["0002-camid0_videoid0-seq0"])
    assert prepare("gait3d", raw, tmp_path / "two").made_of != first.made_of


def test_listed_probes_that_are_not_there_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write_gait3d(tmp_path / "raw")
    prepare("gait3d", raw, tmp_path / "whole")
    assert not caplog.records
    write_partition(raw / "Gait3D.json", PROBE_SET=["0002-camid1_videoid0-seq1", "0002-camid9_videoid0-seq0"])
    prepare("gait3d", raw, tmp_path / "part")
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == f"{raw}: 1 of 2 listed probes found, without 0002/camid9_videoid0/seq0"
    caplog.clear()
    # Who is asked about one walk need not have the others.
    store_of_files("gait3d", [raw / "0002/camid0_videoid0/seq0"], tmp_path / "one")
    assert not caplog.records


# Pickles


def test_opengait_pickles_are_the_same_walks(tmp_path: Path) -> None:
    array = write_pickle(tmp_path / "raw/0000/camid0_videoid2/seq0/seq0.pkl", frames=5)
    write_partition(tmp_path / "raw/Gait3D.json")
    store, _ = prepared("gait3d", tmp_path / "raw")
    assert columns_of(store, "0000/camid0_videoid2/seq0") == (0, 0, 0, gait3d.TRAIN, 2000)
    np.testing.assert_array_equal(clip_of(store, "0000/camid0_videoid2/seq0").pose[..., 0], array[..., :2])


class _Evil:
    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(_Evil()), "it was not run"),
        (pickle.dumps(np.zeros((4, 18, 3), np.float32)), r"(4, 18, 3), expected an array of shape (frames, 17, 3)"),
        (pickle.dumps([1, 2]), "got list, expected an array"),
        (pickle.dumps(np.ones((4, 17, 3), np.float32))[:-30], "truncated"),
    ],
)
def test_a_wrong_pickle_is_named_and_never_run(tmp_path: Path, content: bytes, reason: str) -> None:
    write_pickle(tmp_path / "raw/0000/camid0_videoid2/seq0/seq0.pkl", frames=5)
    broken = tmp_path / "raw/0001/camid0_videoid2/seq0/seq0.pkl"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    write_partition(tmp_path / "raw/Gait3D.json")
    store, report = prepared("gait3d", tmp_path / "raw")
    assert reason in report.broken["0001/camid0_videoid2/seq0"]
    assert len(store) == 1


def test_a_walk_that_is_there_in_two_formats_is_not_read_twice(tmp_path: Path) -> None:
    raw = write_gait3d(tmp_path / "raw")
    write_pickle(raw / "0000/camid0_videoid2/seq0/seq0.pkl", frames=5)
    store, report = prepared("gait3d", raw)
    assert len(store) == 4
    assert "of the same name" in next(iter(report.broken.values()))


# CASIA-B


def test_casia_b_rows_become_walks_wherever_they_stand(tmp_path: Path) -> None:
    rows = [("075-nm-01-090", 12), ("001-cl-02-018", 3), ("075-nm-01-090", 9), ("001-cl-02-018", 5)]
    write_casia_rows(tmp_path / "raw/casia-b_pose_coco.csv", rows)
    store, report = prepared("casia_b", tmp_path / "raw")
    assert report.clips == 2
    assert columns_of(store, "075/nm-01/090") == (74, 75, 90, 0, 1)
    assert columns_of(store, "001/cl-02/018") == (0, 1, 18, 2, 2)
    clip = clip_of(store, "075/nm-01/090")
    assert clip.present[:, 0].tolist() == [True, False, False, True]
    np.testing.assert_allclose(clip.pose[[0, 3], ..., 0], [person(9)[:, :2], person(12)[:, :2]], rtol=1e-6)


def test_casia_b_files_that_overlap_are_read_once_and_pickles_too(tmp_path: Path) -> None:
    rows = [("075-nm-01-090", frame) for frame in range(3)]
    write_casia_rows(tmp_path / "raw/test.csv", rows)
    write_casia_rows(tmp_path / "raw/all.csv", [("001-bg-01-000", 1), *rows])
    write_pickle(tmp_path / "raw/002/nm-06/180/180.pkl", frames=4)
    store, report = prepared("casia_b", tmp_path / "raw")
    assert store.index.sample_id.tolist() == ["001/bg-01/000", "002/nm-06/180", "075/nm-01/090"]
    assert columns_of(store, "002/nm-06/180") == (1, 2, 180, 0, 6)
    assert len(report.left_out) == 1
    assert not report.broken


def test_casia_b_names_what_it_cannot_read(tmp_path: Path) -> None:
    rows = [("075-nm-01-090", 1), ("199-nm-01-090", 1), ("075-xx-01-090", 1), ("075-nm-01-091", 1), ("stray", 1)]
    write_casia_rows(tmp_path / "raw/poses.csv", rows)
    write_casia_rows(tmp_path / "raw/other.csv", rows, joints=18)
    with (tmp_path / "raw/poses.csv").open("a") as file:
        file.write("data/076-nm-01-090/00001.jpg,1,2,3\n")
    store, report = prepared("casia_b", tmp_path / "raw")
    assert len(store) == 1
    assert len(report.broken) == 6
    assert "got 3 values" in report.broken["076/nm-01/090"]
    assert any("other.csv" in reason for reason in report.broken.values())


# OUMVLP-Pose


def test_oumvlp_pose_takes_the_walker_not_the_first_of_the_people(tmp_path: Path) -> None:
    raw, walker = tmp_path / "raw", person(7, 18)
    noise = person(8, 18) * [1, 1, 0.3]
    write_openpose(raw / "00002/090_00", {1: [noise, walker], 2: [], 4: [walker]})
    write_openpose(raw / "00001/180_01", {1: [walker]}, pattern="frame{:03d}.json")
    write_openpose(raw / "00003/000_00", {1: [], 2: []})
    write_pickle(raw / "00005/01/270/270.pkl", frames=3, joints=18)
    store, report = prepared("oumvlp_pose", raw)
    assert columns_of(store, "00002/00/090") == (1, 2, 90, 0, 0)
    assert columns_of(store, "00001/01/180") == (0, 1, 180, 0, 1)
    assert columns_of(store, "00005/01/270") == (4, 5, 270, 0, 1)
    clip = clip_of(store, "00002/00/090")
    np.testing.assert_allclose(clip.pose[0, ..., 0], walker[:, :2], rtol=1e-6)
    assert clip.present[:, 0].tolist() == [True, False, False, True]
    assert list(report.left_out) == ["00003/00/000"]
    assert report.mended[SEVERAL] == ["00002/00/090"]
    protocol = OUMVLP_POSE.protocols["official"]
    assert (len(protocol.train["subject"]), len(protocol.test["subject"])) == (5153, 5154)


def test_oumvlp_pose_names_what_it_cannot_read(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_openpose(raw / "00002/090_00", {1: [person(1, 18)]})
    write_openpose(raw / "00004/090_00", {1: [person(1, 25)]})
    write_openpose(raw / "00006/091_00", {1: [person(1, 18)]})
    write_openpose(raw / "00008/090_00", {1: [person(1, 18)]})
    (raw / "00008/090_00/0002_keypoints.json").write_text("{")
    store, report = prepared("oumvlp_pose", raw)
    assert len(store) == 1
    assert set(report.broken) == {"00004/00/090", "00006/00/091", "00008/00/090"}
    assert "expected 54 numbers" in report.broken["00004/00/090"]


# GREW


def test_grew_as_published_and_as_rearranged_is_the_same(tmp_path: Path) -> None:
    published, rearranged = tmp_path / "one" / "raw", tmp_path / "two" / "raw"
    layouts = {
        published: ("train/00007/aa", "test/gallery/00003/bb", "test/gallery/00003/cc", "test/probe/dd"),
        rearranged: ("00007train/00/aa", "00003/01/bb", "00003/02/cc", "probe/03/dd"),
    }
    stores = []
    for raw, folders in layouts.items():
        for folder in folders:
            write_crops(raw / folder, [1, 2, 11], prefix="", suffix="_2d_pose.txt")
        stores.append(prepared("grew", raw)[0])
    for store in stores:
        assert columns_of(store, "00007train/00/aa") == (6, 7, -1, grew.TRAIN, 0)
        assert columns_of(store, "00003/01/bb") == (20002, 20003, -1, grew.GALLERY, 1)
        assert columns_of(store, "00003/02/cc")[-1] == 2
        assert columns_of(store, "probe/03/dd") == (PROBE_LABEL, 0, -1, grew.PROBE, 3)
    assert stores[0].index.digest.tolist() == stores[1].index.digest.tolist()
    assert GREW.class_names[20002] == "00003"
    assert len(GREW.class_names) == 26001


def test_grew_pickles_and_probes_without_a_type(tmp_path: Path) -> None:
    write_pickle(tmp_path / "raw/00001train/00/4XPn5Z28/4XPn5Z28.pkl", frames=3)
    write_pickle(tmp_path / "raw/probe/etaGVnWf/etaGVnWf.pkl", frames=3)
    store, report = prepared("grew", tmp_path / "raw")
    assert store.index.sample_id.tolist() == ["00001train/00/4XPn5Z28", "probe/03/etaGVnWf"]
    assert not report.broken


# KinectGait


def test_kinect_gait_is_put_into_our_order(tmp_path: Path) -> None:
    path = write_kinect(tmp_path / "raw", "Person064/3")
    store, _ = prepared("kinect_gait", tmp_path / "raw")
    assert columns_of(store, "Person064/3") == (63, 64, 0, 0, 3)
    assert store.header.frame_rate == 15
    lines = [line.split(";") for line in path.read_text().split()]
    raw = np.array([line[1:] for line in lines], dtype=float).reshape(4, 20, 3)
    clip = clip_of(store, "Person064/3")
    for joint, theirs in enumerate(_JOINTS.values()):
        np.testing.assert_allclose(clip.pose[:, KINECT20.joints.index(theirs), :, 0], raw[:, joint], atol=1e-6)
    assert set(_JOINTS.values()) == set(KINECT20.joints)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:-1], "79 lines"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "in line 1, expected Head;x;y;z"),
        (lambda lines: ["Head;1;2;here", *lines[1:]], "not numbers"),
        (lambda lines: ["Head;1;2;nan", *lines[1:]], "NaN"),
        (lambda lines: [], "0 lines"),
    ],
)
def test_a_broken_kinect_walk_is_named(tmp_path: Path, change: Callable, reason: str) -> None:
    write_kinect(tmp_path / "raw", "Person001/1")
    path = write_kinect(tmp_path / "raw", "Person001/2")
    path.write_text("\n".join(change(path.read_text().split())))
    store, report = prepared("kinect_gait", tmp_path / "raw")
    assert len(store) == 1
    assert reason in report.broken["Person001/2"]


# One's own


def write_own(path: Path, skeleton: Skeleton, frames: list[int], leave_out: tuple[str, ...] = ()) -> np.ndarray:
    axes = "xyz"[: skeleton.coordinates]
    joints = [joint for joint in skeleton.joints if joint not in leave_out]
    columns = [f"{joint}_{axis}" for joint in joints for axis in axes]
    table = np.random.default_rng(0).normal(size=(len(frames), len(columns))).round(3)
    # Columns in another order than the skeleton's.
    order = np.random.default_rng(1).permutation(len(columns))
    lines = [",".join(["frame", *(columns[column] for column in order)])]
    lines += [f"{frame}," + cells(row[order]) for frame, row in zip(frames, table, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return table.reshape(len(frames), len(joints), len(axes))


def test_own_walkers_are_told_by_their_folders(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    expected = write_own(raw / "bert/side/coat/walk_07.csv", KINECT20, [4, 6, 5])
    write_own(raw / "anna/front/plain/1.csv", KINECT20, [0, 1], leave_out=("head",))
    write_own(raw / "anna/2.csv", KINECT20, [0])
    store, report = prepared("walkers", raw)
    assert not report.broken
    assert store.header.class_names == ("anna", "bert")
    assert store.header.units == "metres"
    assert columns_of(store, "bert/side/coat/walk_07") == (1, 1, 2, 1, 7)
    assert columns_of(store, "anna/front/plain/1") == (0, 0, 1, 2, 1)
    assert columns_of(store, "anna/2") == (0, 0, 0, 0, 2)
    np.testing.assert_allclose(clip_of(store, "bert/side/coat/walk_07").pose[..., 0], expected[[0, 2, 1]], atol=1e-6)
    head = KINECT20.joints.index("head")
    assert clip_of(store, "anna/front/plain/1").joint_weight[:, :, 0].argmin(axis=1).tolist() == [head, head]


def test_own_flat_walkers_and_opengait_trees(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_own(raw / "anna/1.csv", COCO17, [0, 2])
    write_pickle(raw / "bert/nm-03/090/090.pkl", frames=4)
    store, report = prepared("walkers", raw)
    assert not report.broken
    assert (store.header.skeleton, store.header.units) == ("COCO17", "pixels")
    assert columns_of(store, "bert/nm-03/090") == (1, 1, 1, 1, 3)
    assert clip_of(store, "anna/1").present[:, 0].tolist() == [True, False, True]


def test_own_walkers_in_space_have_gaps_confidences_and_long_numbers_too(tmp_path: Path) -> None:
    raw, name = tmp_path / "raw", "anna/20231231235959123456789"
    (raw / "anna").mkdir(parents=True)
    rows = ("\ufeffframe,head_x,head_y,head_z,head_conf,hip_centre_x,hip_centre_y,hip_centre_z", "7,1,2,3,1.5,0,0,0")
    (raw / f"{name}.csv").write_text("\n".join([*rows, "9,1,2,3,0,0,0,0"]))
    store, report = prepared("walkers", raw)
    assert report.mended == {CLIPPED: [name], GAPS: [name]}
    clip = clip_of(store, name)
    assert clip.present[:, 0].tolist() == [True, False, True]
    assert clip.joint_weight[:, KINECT20.joints.index("head"), 0].tolist() == [1, 0, 0]
    assert columns_of(store, name)[-1] == 231235959123456789


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("frame,tail_x,tail_y\n0,1,2", "got column 'tail_x' and 1 more, expected _x, _y or _conf of a joint of COCO17"),
        ("frame,nosee_x,nose_y\n0,1,2", "got column 'nosee_x' (did you mean nose_x?), expected"),
        ("frame,nose_x,nose_z\n0,1,2", "got column 'nose_z'"),
        ("frame,nose_x,nose_x\n0,1,2", "got column 'nose_x' 2 times, expected each once"),
        ("frame;nose_x;nose_y\n0;1;2", "got one column 'frame;nose_x;nose_y', expected frame and joints with commas"),
        ("left_hip_x,frame\n1,2", "got 'left_hip_x' for the first column, expected frame"),
        ("frame,nose_x,nose_y\n0,1", "bert/1, line 2: got 2 cells, expected 3 numbers"),
        ("frame,nose_x,nose_y\n0,1,2\n1,a,2", "bert/1, line 3: got a cell that is no number"),
        ("frame,nose_x,nose_y\n,1,2", "line 2: got frame nan, expected a whole number"),
        ("frame,nose_x,nose_y\n0,1,2\n0.04,1,2", "line 3: got frame 0.04, expected a whole number"),
        ("frame,nose_x,nose_y\n0,1,2\n3600000,1,2", "got 3600001 frames from the first to the last"),
        ("frame,nose_x,nose_y,nose_conf\n0,1,2,-1", "below 0"),
        ("", "got one column ''"),
    ],
)
def test_broken_own_files_are_named(tmp_path: Path, content: str, reason: str) -> None:
    raw = tmp_path / "raw"
    write_own(raw / "anna/1.csv", COCO17, [0, 2])
    write_own(raw / "lost.csv", COCO17, [0])
    (raw / "bert").mkdir()
    (raw / "bert/1.csv").write_text(content)
    store, report = prepared("walkers", raw)
    assert reason in report.broken["bert/1"]
    assert "says no identity" in report.broken["lost"]
    assert len(store) == 1


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("frame,tail_x,tail_y", "got column 'tail_x' and 1 more, expected _x, _y or _conf of a joint of COCO17 or "),
        (
            "frame,nosee_x,nose_y",
            "got column 'nosee_x' (did you mean nose_x?), expected _x, _y or _conf of a joint of COCO17",
        ),
        ("frame;nose_x;nose_y", "got one column 'frame;nose_x;nose_y', expected frame and joints with commas between"),
    ],
)
def test_own_files_in_no_known_skeleton_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str, says: str
) -> None:
    for name in ("anna", "bert"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        (tmp_path / "raw" / name / "1.csv").write_text(f"{header}\n0,1,2\n")
    assert main(["walkers", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path}/raw/anna/1.csv: {says}" in said


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_own_walkers_have_the_smallest_skeleton_with_their_joints(tmp_path: Path, skeleton: Skeleton) -> None:
    write_own(tmp_path / "raw/anna/1.csv", skeleton, [0, 1])
    store, _ = prepared("walkers", tmp_path / "raw")
    assert store.header.skeleton == skeleton.name
    assert store.clip(0).joint_weight.all()


def test_own_walkers_have_the_skeleton_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    write_own(tmp_path / "raw/anna/1.csv", COCO17, [0, 1], leave_out=face)
    for name, words in {"PENN13": [], "COCO17": ["--skeleton", "COCO17"]}.items():
        command = ["walkers", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / name), "--jobs", "1", *words]
        assert main(command) == 0
        assert Store(tmp_path / name).header.skeleton == name
    # What was made of the same files otherwise is not passed off as what is asked for.
    assert main([*command[:-1], "OPENPOSE18"]) == 1
    assert "remove it, or name another --out" in capsys.readouterr().err
    assert main(["kinect_gait", "--raw", "nowhere", "--out", "nowhere", "--skeleton", "COCO17"]) == 1
    assert "skeleton: got 'COCO17', expected 'KINECT20'" in capsys.readouterr().err


def test_nobody_says_how_many_frames_a_second_own_walkers_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(tmp_path / "walkers/raw/anna/1.csv", COCO17, [0, 1])
    write_kinect(tmp_path / "kinect_gait/raw", "Person101/1")
    for dataset, is_said in (("walkers", False), ("kinect_gait", True)):
        store, _ = prepared(dataset, tmp_path / dataset / "raw")
        assert main(["info", str(store.folder)]) == 0
        said = capsys.readouterr().out
        assert ("frames a second" in said) == (" h)" in said) == is_said


def test_an_empty_place_says_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    for dataset, word in (
        ("gait3d", "human_crop_fN.txt"),
        ("casia_b", "GaitGraph"),
        ("oumvlp_pose", "keypoints.json"),
        ("grew", "_2d_pose.txt"),
        ("kinect_gait", "PersonNNN"),
        ("walkers", "own_walkers.md"),
    ):
        assert main([dataset, "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert word in said
