import errno
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feeders.skeleton import NTU25, Skeleton
from feeders.store import Recording, Store, StoreWriter, Track, encode


def clip(name: str, presence: list[list[bool]], seed: int = 0, weighted: bool = False) -> Recording:
    """A recording whose body m is seen in frame t where presence[m][t]."""
    draw = np.random.default_rng(seed)
    bodies = []
    for seen in presence:
        frames = np.flatnonzero(seen)
        joints = draw.normal(size=(len(frames), 25, 3)).astype(np.float32)
        weight = draw.uniform(0.1, 1.0, size=(len(frames), 25)).astype(np.float32) if weighted else None
        bodies.append(Track(frames, joints, weight))
    return Recording(sample_id=name, label=seed % 2, frames=len(presence[0]), bodies=tuple(bodies), subject=seed)


@st.composite
def clips(draw: st.DrawFn) -> list[Recording]:
    weighted = draw(st.booleans())
    made = []
    for number in range(draw(st.integers(1, 4))):
        frames = draw(st.integers(1, 9))
        bodies = draw(st.integers(1, 3))
        presence = [draw(st.lists(st.booleans(), min_size=frames, max_size=frames).filter(any)) for _ in range(bodies)]
        made.append(clip(f"clip{number}", presence, number, weighted))
    return made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recordings=clips())
def test_what_is_written_is_read(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store") / "out"
    with StoreWriter(
        folder, dataset="toy", skeleton="NTU25", joints=25, coordinates=3, class_names=("a", "b")
    ) as writer:
        for recording in recordings:
            writer.add(recording)
    store = Store(folder)
    store.verify()
    assert store.index.sample_id.tolist() == [recording.sample_id for recording in recordings]
    for number, recording in enumerate(recordings):
        read = store.clip(number)
        assert read.pose.shape == (recording.frames, 25, 3, len(recording.bodies))
        for body, track in enumerate(recording.bodies):
            assert np.flatnonzero(read.present[:, body]).tolist() == track.frames.tolist()
            np.testing.assert_array_equal(read.pose[track.frames, :, :, body], track.joints)
            weight = np.ones(track.joints.shape[:2]) if track.joint_weight is None else track.joint_weight
            np.testing.assert_array_equal(read.joint_weight[track.frames, :, body], weight)
        assert (read.pose.transpose(0, 3, 1, 2)[~read.present] == 0).all()
        assert (read.joint_weight.transpose(0, 2, 1)[~read.present] == 0).all()


def test_gathering_frames_equals_slicing_whole_clips(write_store) -> None:
    shapes = [[[1, 1, 0, 0, 1], [0, 0, 1, 0, 0]], [[0, 1, 1]], [[1], [1]]]
    store = write_store([clip(f"c{n}", presence, n) for n, presence in enumerate(shapes)])
    draw = np.random.default_rng(1)
    samples = draw.integers(0, 3, size=50)
    frames = draw.integers(0, 9, size=(50, 4))
    read = store.gather(samples, frames, bodies=2)
    for n, sample in enumerate(samples):
        whole = store.clip(int(sample))
        for k, frame in enumerate(frames[n]):
            for m in range(2):
                inside = frame < len(whole.pose) and m < whole.pose.shape[3] and whole.present[frame, m]
                assert read.present[n, k, m] == inside
                expected = whole.pose[frame, :, :, m] if inside else np.zeros((25, 3))
                np.testing.assert_array_equal(read.pose[n, k, m], expected)


def test_only_bit_identical_clips_share_a_digest(write_store) -> None:
    first = clip("a", [[1, 1, 1]], 3)
    nearly = replace(first, sample_id="c", bodies=(replace(first.bodies[0], joints=first.bodies[0].joints + 1e-6),))
    later = replace(first, sample_id="d", frames=4, bodies=(replace(first.bodies[0], frames=np.array([0, 1, 3])),))
    digest = write_store([first, replace(first, sample_id="b"), nearly, later]).index.digest
    assert digest[0] == digest[1]
    assert len(set(digest.tolist())) == 3


def test_a_store_travels_to_another_process_closed(write_store) -> None:
    store = write_store([clip("a", [[1, 1]])])
    expected = store.clip(0).pose
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).clip(0).pose, expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sample_id": "a"}, "twice"),
        ({"frames": 0}, "empty clip"),
        ({"bodies": ()}, "empty clip"),
        ({"bodies": Track(np.arange(2), np.zeros((2, 25, 3)))}, "b: got bodies of Track, expected a tuple of Track"),
        ({"bodies": (Track(np.arange(2), np.zeros((2, 20, 3))),)}, "shape"),
        ({"bodies": (Track(np.arange(2), np.full((2, 25, 3), np.nan)),)}, "NaN.*joint_weight 0"),
        ({"bodies": (Track(np.array([1, 0]), np.zeros((2, 25, 3))),)}, "rising"),
        ({"bodies": (Track(np.array([0, 7]), np.zeros((2, 25, 3))),)}, "rising"),
        ({"label": -1}, "label -1, expected 0 to 1"),
        ({"label": 2}, "label 2"),
        ({"label": 0.9}, "b: got label 0.9, expected a whole number"),
        ({"subject": "P01"}, "b: got subject 'P01', expected a whole number"),
        ({"sample_id": 7}, "sample_id: got 7, expected a name"),
        ({"bodies": (Track(np.array([0, 0.5]), np.zeros((2, 25, 3))),)}, "b: got frames of float64"),
        ({"bodies": (Track(np.arange(2), np.zeros((2, 25, 3), complex)),)}, "b: got joints of complex128"),
        ({"bodies": (Track([0, 1], np.zeros((2, 25, 3))),)}, "b: got frames of list, expected a numpy array of whole"),
        ({"bodies": (Track(np.arange(2), np.full((2, 25, 3), 1e39)),)}, "huge"),
        ({"bodies": (Track(np.arange(2), np.zeros((2, 25, 3)), np.full((2, 25), np.nan)),)}, "joint_weight nan"),
        ({"bodies": (Track(np.arange(2), np.zeros((2, 25, 3)), np.full((2, 25), 1.5)),)}, "joint_weight 1.5"),
        ({"bodies": (Track(np.arange(2), np.zeros((2, 25, 3)), np.full((2, 25), -0.1)),)}, "joint_weight -0.1"),
    ],
)
def test_a_bad_clip_never_enters(change: dict, reason: str, write_store) -> None:
    good = clip("a", [[1, 1]])
    with pytest.raises(ValueError, match=reason):
        write_store([good, replace(replace(good, sample_id="b"), **change)])


def test_a_refused_clip_leaves_no_trace(tmp_path: Path, write_store) -> None:
    good = [clip("a", [[1, 1]], 0), clip("b", [[1, 0, 1]], 1)]
    bad = [clip("c", [[1, 1]], weighted=True), good[0], replace(good[1], sample_id="d", frames=0)]
    facts = {"dataset": "toy", "skeleton": "NTU25", "class_names": ("a", "b")}
    with StoreWriter(tmp_path / "out", joints=25, coordinates=3, **facts) as writer:
        writer.add(good[0])
        for recording in bad:
            with pytest.raises(ValueError, match=rf"^{recording.sample_id}: got"):
                writer.add(recording)
        writer.add(good[1])
    for name in ("poses.npy", "index.npz", "header.json"):
        assert (tmp_path / "out" / name).read_bytes() == (write_store(good, name=name).folder / name).read_bytes()


def test_clips_may_come_one_by_one_or_in_blocks_in_any_memory_order(tmp_path: Path, write_store) -> None:
    clips = [clip(f"c{n}", [[1, 0, 1, 1], [0, 1, 1, 0]], n, weighted=True) for n in range(5)]
    alone = write_store(clips)
    facts = {"dataset": "toy", "skeleton": "NTU25", "class_names": ("a", "b")}
    turned = [
        replace(one, bodies=tuple(replace(body, joints=np.asfortranarray(body.joints)) for body in one.bodies))
        for one in clips
    ]
    with StoreWriter(tmp_path / "blocks", joints=25, coordinates=3, **facts) as writer:
        for part in (turned[:2], turned[2:]):
            writer.append(encode(part))
    for path in alone.folder.iterdir():
        assert (tmp_path / "blocks" / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    facts = {"dataset": "toy", "skeleton": "NTU25", "class_names": ("a",)}
    with (
        pytest.raises(OSError, match="No space"),
        StoreWriter(tmp_path / "out", joints=25, coordinates=3, **facts) as writer,
    ):
        writer.add(clip("a", [[1, 1]]))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(write_store) -> None:
    store = write_store([clip("a", [[1, 1]])])
    with pytest.raises(ValueError, match="exists"):
        write_store([clip("a", [[1, 1]])])
    store.verify()


def test_a_damaged_file_is_named(write_store) -> None:
    store = write_store([clip("a", [[1, 1]])])
    poses = store.folder / "poses.npy"
    content = bytearray(poses.read_bytes())
    content[-1] ^= 1
    poses.write_bytes(content)
    with pytest.raises(ValueError, match=r"poses\.npy"):
        Store(store.folder).verify()
    poses.write_bytes(content[:-4])
    with pytest.raises(ValueError, match=r"poses\.npy: got \d+ bytes, expected"):
        Store(store.folder).clip(0)
    poses.unlink()
    with pytest.raises(ValueError, match=r"poses\.npy: got no file"):
        len(Store(store.folder))


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"version": 99}), json.dumps({"version": 1})])
def test_a_broken_header_is_named(content: str, write_store) -> None:
    store = write_store([clip("a", [[1, 1]])])
    (store.folder / "header.json").write_text(content)
    with pytest.raises(ValueError, match=r"header\.json"):
        len(Store(store.folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", []),
        ("files", {"poses.npy": {}, "index.npz": 5}),
        ("files", {"poses.npy": {"bytes": 1}, "index.npz": {"bytes": 1}}),
        ("skeleton", ["NTU25"]),
        ("frame_rate", "x"),
        ("frame_rate", 0),
        ("frame_rate", float("nan")),
        ("class_names", "ab"),
        ("class_names", [1, 2]),
        ("dataset", None),
        ("something", "else"),
    ],
)
def test_a_header_of_other_things_is_one_line(key: str, value: object, write_store) -> None:
    path = write_store([clip("a", [[1, 1]])]).folder / "header.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=rf"header\.json: got {key}.*expected the header of a store") as refusal:
        len(Store(path.parent))
    assert "\n" not in str(refusal.value)


def test_a_writer_refuses_what_no_reader_would_take(tmp_path: Path) -> None:
    facts = {"dataset": "mine", "skeleton": "NTU25", "joints": 25, "coordinates": 3}
    for change in ({"class_names": ("a", 2)}, {"class_names": ("a",), "frame_rate": float("inf")}):
        with pytest.raises(ValueError, match=f"store: got {[*change][-1]} "):
            StoreWriter(tmp_path / "s", **facts, **change)
    for wrong, says in ((("wave", "clap", "wave"), r"\['wave'\] twice"), ("ab", "'ab', expected a tuple of names")):
        with pytest.raises(ValueError, match=f"store: got class_names.*{says}"):
            StoreWriter(tmp_path / "s", **facts, class_names=wrong)
    with pytest.raises(ValueError, match=r"skeleton: got 'UPPER9', expected one of .* or your own.*docs/own_data\.md"):
        StoreWriter(tmp_path / "s", dataset="mine", skeleton="UPPER9", class_names=("a",))
    with pytest.raises(ValueError, match="another skeleton than ours by the name NTU25"):
        StoreWriter(tmp_path / "s", dataset="mine", skeleton=replace(NTU25, origin=((0,),)), class_names=("a",))


def test_a_writer_that_is_not_open_says_so(tmp_path: Path) -> None:
    writer = StoreWriter(str(tmp_path / "s"), dataset="mine", skeleton="NTU25", class_names=("a", "b"))
    with pytest.raises(ValueError, match="which is not open, expected it within `with`"):
        writer.add(clip("a", [[1, 1]]))
    with writer:
        writer.add(clip("a", [[1, 1]]))
    with pytest.raises(ValueError, match="which is not open"):
        writer.add(clip("b", [[1, 1]]))
    assert len(Store(tmp_path / "s")) == 1


def test_a_store_carries_a_skeleton_that_nobody_else_knows(tmp_path: Path, upper: Skeleton) -> None:
    with StoreWriter(tmp_path / "s", dataset="mine", skeleton=upper, class_names=("a",)) as writer:
        writer.add(Recording("one", 0, 1, (Track(np.arange(1), np.zeros((1, 9, 3))),)))
        with pytest.raises(ValueError, match=r"got joints of shape \(1, 25, 3\), expected \(frames, 9, 3\)"):
            writer.add(clip("b", [[1]]))
    store, path = Store(tmp_path / "s"), tmp_path / "s/header.json"
    assert store.skeleton == upper
    assert store.header.skeleton_name == "UPPER9"
    header = json.loads(path.read_text())
    assert header["skeleton"]["joints"] == list(upper.joints)
    path.write_text(json.dumps(header | {"skeleton": dict(reversed(header["skeleton"].items()))}))
    assert Store(tmp_path / "s").header.skeleton == upper.written
    path.write_text(json.dumps(header | {"skeleton": header["skeleton"] | {"parents": [77] * 9}}))
    with pytest.raises(ValueError, match=r"header\.json: got skeleton that is none .*do not fit 9 joints"):
        len(Store(tmp_path / "s"))
    path.write_text(json.dumps(header | {"skeleton": "UPPER9"}))
    with pytest.raises(ValueError, match=r"header\.json: skeleton: got 'UPPER9', expected one of"):
        _ = Store(tmp_path / "s").skeleton


def test_a_store_of_the_first_format_opens_without_image_sizes(write_store) -> None:
    store = write_store([clip("a", [[1, 1]]), replace(clip("b", [[1]]), width=480, height=270)])
    assert store.index.width.tolist() == [-1, 480]
    assert store.index.height.tolist() == [-1, 270]
    index = store.folder / "index.npz"
    with np.load(index) as content:
        np.savez(index, **{name: content[name] for name in content if name not in ("width", "height")})
    header = json.loads((store.folder / "header.json").read_text())
    header |= {"version": 1}
    header["files"]["index.npz"]["bytes"] = index.stat().st_size
    (store.folder / "header.json").write_text(json.dumps(header))
    old = Store(store.folder)
    assert old.index.width.tolist() == old.index.height.tolist() == [-1, -1]
    np.testing.assert_array_equal(old.clip(1).pose, store.clip(1).pose)


def with_files(store: Store, **content: bytes) -> Store:
    """A store with other files of a whole size, as somebody would leave it who also mends the header."""
    header = json.loads((store.folder / "header.json").read_text())
    for name, data in content.items():
        (store.folder / name).write_bytes(data)
        header["files"][name]["bytes"] = len(data)
    (store.folder / "header.json").write_text(json.dumps(header))
    return Store(store.folder)


def as_file(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


def test_poses_of_another_skeleton_are_neither_written_nor_read(tmp_path: Path, write_store) -> None:
    with pytest.raises(ValueError, match=r"poses of shape \(20, 3\), expected \(25, 3\) for NTU25"):
        write_store([], joints=20)
    store = write_store([clip("a", [[1, 1]])])
    header = store.folder / "header.json"
    whole = header.read_text()
    header.write_text(whole.replace("NTU25", "KINECT20"))
    for read in (lambda damaged: damaged.index, Store.arrays, lambda damaged: damaged.clip(0)):
        with pytest.raises(ValueError, match=r"poses\.npy: got poses of shape \(25, 3\), expected \(20, 3\)"):
            read(Store(store.folder))
    header.write_text(whole)
    for poses in (store.arrays()[0].astype(np.float64), store.arrays()[0].reshape(-1, 3)):
        damaged = with_files(store, **{"poses.npy": as_file(np.save, poses)})
        with pytest.raises(ValueError, match=r"poses\.npy: got float.*, expected float32 \(rows, V, C\)"):
            damaged.arrays()


@pytest.mark.parametrize(
    ("column", "place", "value", "fault"),
    [
        ("segments", (1, 1), 1 << 40, "segments outside its frames in 1 clips, as b"),
        ("segments", (1, 1), -1, "segments outside its frames"),
        ("segments", (1, 1), 2**63 - 1, "segments outside its frames"),
        ("segments", (1, 0), 1, "segments out of order"),
        ("segment_end", 0, 0, "segment_end that does not cut"),
        ("segment_end", 1, 1 << 40, "segment_end that does not cut"),
        ("label", 0, -1, "a label outside 0 to 1 in 1 clips, as a"),
    ],
)
def test_an_index_that_leads_nowhere_is_not_opened(
    column: str, place: object, value: int, fault: str, write_store
) -> None:
    store = write_store([clip("a", [[1, 1]]), clip("b", [[0, 1, 1]])])
    columns = {name: array.copy() for name, array in vars(store.index).items()}
    columns[column][place] = value
    damaged = with_files(store, **{"index.npz": as_file(np.savez, **columns)})
    with pytest.raises(ValueError, match=rf"index\.npz: got .*{fault}") as refusal:
        _ = damaged.index
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("name", "step", "most"), [("index.npz", 5, None), ("poses.npy", 1, 128)])
def test_a_flipped_byte_of_the_index_or_a_header_is_one_line(
    name: str, step: int, most: int | None, write_store
) -> None:
    store = write_store([clip("a", [[1, 1]])])
    path = store.folder / name
    whole, said = path.read_bytes(), list[str]()
    for place in range(0, len(whole[:most]), step):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
        try:
            _ = Store(store.folder).index
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 100
    assert all(line.startswith(f"{path}: got ") for line in said)


def test_a_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m feeders\.prepare"):
        Store(tmp_path)
