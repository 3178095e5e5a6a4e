"""Clips that nobody has labelled: whatever a file is called, its clip is what it would be in a store."""

import io
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feeders.clip_files import clip_reader, recording_of, stores_of
from feeders.prepare import raw_source
from feeders.prepare.source import NobodySeenError
from feeders.skeleton import COCO17, KINECT20, NTU25, PENN13, VIBE25, Skeleton
from feeders.store import Recording, Store, Track, encode
from tests.feeders.ntu_files import ANNA, BERT, clip_of, skeleton_file
from tests.feeders.penn_files import HEIGHT, WIDTH, mat, variables


def vibe(seed: int) -> bytes:
    joints = np.random.default_rng(seed).normal(size=(3, 49, 3))
    return json.dumps({"1": {"frame_ids": [4, 5, 7], "joints3d": joints.tolist()}}).encode()


def ucla(seed: int) -> bytes:
    joints = np.random.default_rng(seed).normal(size=(5, 20, 3))
    return json.dumps({"file_name": "a08_s02_e01_v03", "skeletons": joints.tolist(), "label": 7}).encode()


# Data set -> a name that it knows, what is in the file, its skeleton.
RAW: dict[str, tuple[str, bytes, Skeleton]] = {
    "ntu60": ("S001C001P001R001A002", skeleton_file(clip_of({ANNA: "1" * 20, BERT: "0" * 5 + "1" * 15})), NTU25),
    "ntu120": ("S018C001P001R001A061", skeleton_file(clip_of({ANNA: "1" * 20})), NTU25),
    "demo": ("S001C001P001R001A002", skeleton_file(clip_of({ANNA: "1" * 20})), NTU25),
    "ucla": ("a08_s02_e01_v03", ucla(0), KINECT20),
    "penn": ("0341", mat(variables(action="bench_press", visibility=np.eye(6, 13))), PENN13),
    "skeletics": ("train/tai chi/abc_1", vibe(0), VIBE25),
}


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


def joints_of(skeleton: Skeleton, frames: int = 6, people: int | None = None) -> np.ndarray:
    extra = () if people is None else (people,)
    shape = (frames, *extra, len(skeleton.joints), skeleton.coordinates)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def csv(skeleton: Skeleton, joints: np.ndarray) -> bytes:
    axes = "xyz"[: skeleton.coordinates]
    lines = [",".join(["frame", *(f"{joint}_{axis}" for joint in skeleton.joints for axis in axes)])]
    lines += [",".join(map(repr, [number, *row.ravel().tolist()])) for number, row in enumerate(joints)]
    return "\n".join(lines).encode()


def digest(clip: Recording) -> bytes:
    return bytes(encode([clip]).index.digest[0])


@pytest.mark.parametrize("dataset", RAW)
def test_a_raw_file_of_any_name_shows_what_it_shows_under_its_own(tmp_path: Path, dataset: str) -> None:
    name, content, skeleton = RAW[dataset]
    source = raw_source(dataset)
    path = tmp_path / f"my clip{source.suffix}"
    path.write_bytes(content)
    (clip,) = clip_reader(dataset, skeleton).read([path])
    known = source.read(name, content).recording
    assert digest(clip) == digest(known)
    assert (clip.frames, clip.width, clip.height) == (known.frames, known.width, known.height)
    assert (clip.sample_id, clip.label, clip.subject) == (str(path), 0, -1)


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20, VIBE25, COCO17])
def test_an_array_and_a_table_of_the_same_joints_are_the_same_clip(tmp_path: Path, skeleton: Skeleton) -> None:
    joints = joints_of(skeleton)
    (tmp_path / "clip.npy").write_bytes(npy(joints))
    (tmp_path / "clip.csv").write_bytes(csv(skeleton, joints))
    table, array = clip_reader("store", skeleton).read([tmp_path / "clip.csv", tmp_path / "clip.npy"])
    np.testing.assert_array_equal(table.bodies[0].joints, array.bodies[0].joints)
    np.testing.assert_array_equal(array.bodies[0].joints, joints)


def test_what_is_nan_is_not_seen_and_who_is_nan_or_zero_is_not_there() -> None:
    joints = joints_of(NTU25, frames=4, people=3)
    joints[:, 0, 3] = np.nan
    joints[1, 0] = np.nan
    joints[:, 1] = 0
    joints[0, 2] = 0
    first, second = recording_of("clip", joints, NTU25).bodies
    assert first.frames.tolist() == [0, 2, 3]
    assert second.frames.tolist() == [1, 2, 3]
    assert first.joint_weight is not None
    np.testing.assert_array_equal(first.joint_weight[:, 3], 0)
    assert first.joint_weight.sum() == 3 * 24
    np.testing.assert_array_equal(second.joints, joints[1:, 2])
    with pytest.raises(NobodySeenError, match="nobody in any of 4 frames"):
        recording_of("clip", joints[:, 1], NTU25)


def test_a_padded_second_person_makes_no_difference() -> None:
    joints = joints_of(NTU25)
    padded = np.stack([joints, np.zeros_like(joints)], axis=1)
    assert digest(recording_of("one", joints, NTU25)) == digest(recording_of("two", padded, NTU25))
    assert recording_of("one", joints, NTU25).bodies[0].joint_weight is None


@pytest.mark.parametrize("array", [np.zeros((4, 20, 3)), np.ones((3, 4, 25)), np.ones(5), np.ones((4, 25, 3), bool)])
def test_an_array_of_another_skeleton_is_told_what_was_expected_and_in_which_order(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"clip.npy: got .* expected .*\(frames, 25, 3\).*NTU25: spine_base.*thumb"):
        recording_of("clip.npy", array, NTU25)


def test_positions_in_an_image_are_as_the_files_of_penn_action(tmp_path: Path) -> None:
    content = variables(frames=6)
    (tmp_path / "clip.mat").write_bytes(mat(content))
    (tmp_path / "clip.npy").write_bytes(npy(np.stack([content["x"], content["y"]], axis=2)))
    one, other = clip_reader("penn", PENN13, (WIDTH, HEIGHT)).read([tmp_path / "clip.mat", tmp_path / "clip.npy"])
    np.testing.assert_allclose(other.bodies[0].joints, one.bodies[0].joints, rtol=1e-6)
    assert (other.width, other.height) == (one.width, one.height) == (WIDTH, HEIGHT)


def test_an_image_whose_size_nobody_said_is_not_guessed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "clip.npy").write_bytes(npy(joints_of(PENN13)))
    assert clip_reader("penn", PENN13).read([tmp_path / "clip.npy"]) == []
    assert "expected --image-size WIDTH HEIGHT" in caplog.text
    with pytest.raises(ValueError, match="--image-size: got it for NTU25"):
        clip_reader("demo", NTU25, (WIDTH, HEIGHT))


def test_folders_zips_and_stores_are_all_their_clips(tmp_path: Path, write_store: Callable[..., Store]) -> None:
    joints = joints_of(NTU25, frames=5, people=2)
    joints[2, 1] = np.nan
    known = recording_of("a/b", joints, NTU25)
    bodies = tuple(replace(body, joint_weight=None) for body in known.bodies)
    store = write_store([replace(known, bodies=bodies), Recording("c", 1, 9, (Track(np.array([3]), joints[:1, 0]),))])
    folder = tmp_path / "clips"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/x.npy").write_bytes(npy(joints))
    (folder / "notes.txt").write_text("not a clip")
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.writestr("in/y.skeleton", RAW["ntu60"][1])
    reader = clip_reader("store", NTU25)
    clips = reader.read([folder, store.folder, tmp_path / "clips.zip", folder / "deep/x.npy"])
    assert [clip.sample_id for clip in clips] == [
        str(folder / "deep/x.npy"),
        f"{store.folder}/a/b",
        f"{store.folder}/c",
        str(tmp_path / "clips.zip/in/y.skeleton"),
    ]
    assert [digest(clip) for clip in clips[1:3]] == store.index.digest.tolist()


GARBAGE = {
    "empty.npy": b"",
    "text.npy": b"not an array",
    "cut.npy": npy(joints_of(NTU25))[:-40],
    "pickle.npy": b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    + b" " * 60
    + b"\n.",
    "huge.npy": npy(np.zeros(1)).replace(b"(1,)", b"(1" + b"0" * 12 + b", 25, 3)"),
    "header.npy": npy(np.zeros(1)).replace(b"'descr'", b"'des(r'"),
    "words.npy": npy([["a", "b"]]),
    "infinite.npy": npy(np.full((4, 25, 3), np.inf)),
    "no_frames.npy": npy(np.zeros((0, 25, 3))),
    "crowd.npy": npy(np.ones((2, 17, 25, 3))),
    "joints.npy": npy(np.ones((4, 24, 3))),
    "empty.csv": b"",
    "bytes.csv": bytes(range(256)),
    "columns.csv": b"frame,antenna_x,antenna_y,antenna_z\n0,1,2,3\n",
    "cells.csv": csv(NTU25, joints_of(NTU25)).replace(b",", b";", 90),
    "nobody.csv": csv(NTU25, np.full((2, 25, 3), np.nan)).replace(b"nan", b""),
    "empty.skeleton": b"",
    "bytes.skeleton": bytes(range(256)) * 9,
    "cut.skeleton": RAW["ntu60"][1][:-200],
    "nobody.skeleton": b"2\n0\n0\n",
    "joints.skeleton": RAW["ntu60"][1].replace(b"\r\n25\r\n", b"\r\n20\r\n"),
    "clip.txt": b"a file of another kind",
    "clip.zip": b"no zip",
}


def test_what_is_no_clip_is_left_out_with_its_name_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in GARBAGE.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "whole.npy").write_bytes(npy(joints_of(NTU25)))
    names = [*GARBAGE, "empty", "nowhere.npy", "whole.npy"]
    with caplog.at_level(logging.WARNING):
        (clip,) = clip_reader("ntu60", NTU25).read([tmp_path / name for name in names])
    assert clip.sample_id.endswith("whole.npy")
    assert len(caplog.messages) == len(names) - 1
    for name, message in zip(names, caplog.messages, strict=False):
        assert str(tmp_path / name) in message, message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("dataset", "content"),
    [
        ("penn", b""),
        ("penn", RAW["penn"][1][:300]),
        ("penn", bytes(range(256)) * 4),
        ("ucla", b"{"),
        ("ucla", RAW["ucla"][1].replace(b"[[[", b"[[[[")),
        ("skeletics", b"[]"),
        ("skeletics", b"{}"),
    ],
)
def test_broken_files_of_every_data_set_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dataset: str, content: bytes
) -> None:
    path = tmp_path / f"broken{raw_source(dataset).suffix}"
    path.write_bytes(content)
    assert clip_reader(dataset, RAW[dataset][2]).read([path]) == []
    assert f"left out, {path}" in caplog.text


def test_clips_with_weights_and_clips_without_stay_apart() -> None:
    joints = joints_of(NTU25)
    hidden = joints.copy()
    hidden[2, 4] = np.nan
    clips = [recording_of(name, each, NTU25) for name, each in (("a", joints), ("b", hidden), ("c", joints))]
    with stores_of(clips, NTU25) as (plain, weighted):
        assert plain.index.sample_id.tolist() == ["a", "c"]
        assert weighted.index.sample_id.tolist() == ["b"]
        assert plain.arrays()[1] is None
        folder = plain.folder
    assert not folder.exists()
