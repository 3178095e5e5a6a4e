import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feeders.dataset import Protocol, split_index
from feeders.exchange.__main__ import main
from feeders.exchange.padded import export_padded, import_padded
from feeders.ntu import NTU60
from feeders.own import own_data
from feeders.store import Recording, Store, StoreWriter, Track
from feeders.synthetic import skeleton_text

SIDES = Protocol(train={"subject": frozenset({1, 2})}, test={"subject": frozenset({3})})


def recordings(seed: int = 0) -> list[Recording]:
    """Names that do not stand in the published order, bodies that come and go."""
    draw, found = np.random.default_rng(seed), []
    for number in range(24):
        frames, subject, action = int(draw.integers(1, 40)), 3 - number % 3, number % 5 + 1
        presence = [np.arange(frames)]
        if number % 4 == 0 and frames > 3:
            presence.append(np.array([0, 1, frames - 1]))
        bodies = tuple(Track(seen, draw.normal(size=(len(seen), 25, 3)).astype(np.float32)) for seen in presence)
        name = f"S001C{number % 2 + 1:03}P{subject:03}R{number:03}A{action:03}"
        found.append(Recording(name, action - 1, frames, bodies, subject, number % 2 + 1, 1, number))
    return found


@pytest.fixture
def ntu_store(tmp_path: Path) -> Callable[..., Store]:
    def write(clips: list[Recording], dataset: str = "ntu60", name: str = "ntu") -> Store:
        facts = {"dataset": dataset, "skeleton": "NTU25", "class_names": NTU60.class_names}
        with StoreWriter(tmp_path / name, joints=25, coordinates=3, **facts) as writer:
            for clip in clips:
                writer.add(clip)
        return Store(tmp_path / name)

    return write


def test_a_store_comes_back_bit_for_bit_from_its_export(ntu_store: Callable[..., Store], tmp_path: Path) -> None:
    store = ntu_store(recordings())
    export_padded(store, tmp_path / "out.npz", SIDES)
    report = import_padded(tmp_path / "out.npz", tmp_path / "back")
    back = Store(tmp_path / "back")
    assert report.clips == len(back) == len(store)
    assert not report.left_out
    assert back.header.class_names == NTU60.class_names
    ours = own_data(back, {"setup": [1]}).protocol(None)
    for side in ("train", "test"):
        mine, theirs = (split_index(s.index, p, ())[side] for s, p in ((store, SIDES), (back, ours)))
        mine = sorted(mine, key=lambda n: (store.index.subject[n], store.index.sample_id[n]))
        assert back.index.sample_id[theirs].tolist() == [f"{side}_{n}" for n in range(len(mine))]
        for a, b in zip(mine, theirs, strict=True):
            assert store.index.label[a] == back.index.label[b]
            assert store.index.frames[a] == back.index.frames[b]
            assert store.clip(a).pose.tobytes() == back.clip(b).pose.tobytes()
            assert store.index.digest[a] == back.index.digest[b]


def test_the_file_is_what_the_published_script_saves(ntu_store: Callable[..., Store], tmp_path: Path) -> None:
    store = ntu_store(recordings())
    export_padded(store, tmp_path / "out.npz", SIDES)
    with np.load(tmp_path / "out.npz") as content:
        assert content.files == ["x_train", "y_train", "x_test", "y_test"]
        arrays = {name: content[name] for name in content.files}
    expected: dict[str, list[np.ndarray]] = {name: [] for name in arrays}
    by_name = sorted(range(len(store)), key=lambda n: store.index.sample_id[n])
    for side, subjects in (("train", (1, 2)), ("test", (3,))):
        for subject in subjects:
            for number in by_name:
                if store.index.subject[number] != subject:
                    continue
                row, clip = np.zeros((300, 150), np.float32), store.clip(number).pose
                for body in range(clip.shape[3]):
                    row[: len(clip), 75 * body : 75 * (body + 1)] = clip[..., body].reshape(len(clip), 75)
                expected[f"x_{side}"].append(row)
                expected[f"y_{side}"].append(np.eye(60)[store.index.label[number]])
    for name, rows in expected.items():
        assert arrays[name].dtype == (np.float32 if name[0] == "x" else np.float64)
        np.testing.assert_array_equal(arrays[name], np.array(rows))
    with zipfile.ZipFile(tmp_path / "out.npz") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_exporting_an_import_gives_the_same_bytes_also_from_a_compressed_file(
    ntu_store: Callable[..., Store], tmp_path: Path
) -> None:
    export_padded(ntu_store(recordings() + [r for r in more_of_one_subject()]), tmp_path / "first.npz", SIDES)
    with np.load(tmp_path / "first.npz") as content:
        np.savez_compressed(tmp_path / "small.npz", **content)
    import_padded(tmp_path / "small.npz", tmp_path / "back")
    store = Store(tmp_path / "back")
    export_padded(store, tmp_path / "second.npz", own_data(store, {"setup": [1]}).protocol(None))
    with np.load(tmp_path / "first.npz") as first, np.load(tmp_path / "second.npz") as second:
        for name in first.files:
            assert first[name].tobytes() == second[name].tobytes()


def more_of_one_subject() -> list[Recording]:
    """So many that train_10 and train_9 sort differently as text, and an array has several chunks."""
    draw = np.random.default_rng(1)
    return [
        Recording(f"S002C001P001R{n:03}A001", 0, 2, (Track(np.arange(2), draw.normal(size=(2, 25, 3))),), 1, 1, 2, n)
        for n in range(70)
    ]


def test_ntu_120_says_nobody_by_a_copy_which_is_dropped_and_counted(
    ntu_store: Callable[..., Store], tmp_path: Path
) -> None:
    store = ntu_store(recordings(), dataset="ntu120")
    export_padded(store, tmp_path / "out.npz", SIDES)
    with np.load(tmp_path / "out.npz") as content:
        rows = np.concatenate([content["x_train"], content["x_test"]])
    is_copied = (rows[..., :75] == rows[..., 75:]).all(axis=(1, 2))
    assert is_copied.sum() == (store.index.bodies == 1).sum() > 0
    report = import_padded(tmp_path / "out.npz", tmp_path / "back")
    assert report.copied_bodies == is_copied.sum()
    assert sorted(Store(tmp_path / "back").index.digest) == sorted(store.index.digest)


def test_empty_frames_inside_stay_and_broken_clips_are_reported(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = np.zeros((4, 300, 150), np.float32)
    x[0, :9, :75] = draw.normal(size=(9, 75))
    x[0, 3:5] = 0
    x[0, 6, 75 + 12] = 0.5
    x[1, :4, :75] = 1.0
    x[1, 2, 3] = np.nan
    x[3, :2, :75] = 1.0
    np.savez(tmp_path / "in.npz", x_train=x, y_train=np.eye(60)[:4], x_test=x[:1], y_test=np.eye(60)[:1])
    report = import_padded(tmp_path / "in.npz", tmp_path / "store")
    store = Store(tmp_path / "store")
    assert store.index.sample_id.tolist() == ["train_0", "train_3", "test_0"]
    assert list(report.left_out) == ["train_1", "train_2"]
    assert "NaN" in report.left_out["train_1"]
    clip = store.clip(0)
    assert clip.present.tolist() == [[t not in (3, 4), t == 6] for t in range(9)]
    np.testing.assert_array_equal(clip.pose.transpose(0, 3, 1, 2).reshape(9, 150), x[0, :9])
    assert store.index.label.tolist() == [0, 3, 0]
    assert (store.index.subject == -1).all()


NOBODY = np.zeros((2, 300, 150), np.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_test": None}, r"x_test\.npy among them"),
        ({"x_train": np.zeros((2, 300, 149), np.float32)}, "149 columns"),
        ({"x_train": np.zeros((3, 300, 150), np.float32)}, "3 clips in x_train"),
        ({"x_train": np.zeros((1, 300, 150), np.float32)}, "1 clips in x_train"),
        ({"x_train": np.asfortranarray(np.zeros((2, 300, 150), np.float32))}, "Fortran order"),
        ({"y_train": np.zeros((2, 60))}, "one-hot"),
        ({"y_train": np.full((2, 60), 1.0)}, "one-hot"),
        ({"y_train": np.zeros(2)}, "axes of floats"),
        ({"y_train": np.array([[{}] * 60] * 2)}, "object"),
        ({"y_test": np.eye(61)[:1]}, "as many in both"),
        ({"x_train": NOBODY[:2], "x_test": NOBODY[:1]}, "no clip that can be kept of 3, .*empty clip"),
        ({"y_train": np.eye(7)[:2], "y_test": np.eye(7)[:1]}, "--class-names"),
    ],
)
def test_another_layout_is_named_and_leaves_no_store(change: dict, says: str, tmp_path: Path) -> None:
    x = np.ones((2, 300, 150), np.float32)
    arrays = {"x_train": x, "y_train": np.eye(60)[:2], "x_test": x[:1], "y_test": np.eye(60)[:1], **change}
    np.savez(tmp_path / "in.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=says):
        import_padded(tmp_path / "in.npz", tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 300, 150)).astype(np.float32)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "in.npz", x_train=x, y_train=np.eye(60)[:2], x_test=x[:1], y_test=np.eye(60)[:1])
        content = (tmp_path / "in.npz").read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 3] ^= 255
        for damaged in (content[: len(content) // 2], bytes(flipped), b"", b"PK"):
            (tmp_path / "broken.npz").write_bytes(damaged)
            with pytest.raises(ValueError, match=r"broken\.npz"):
                import_padded(tmp_path / "broken.npz", tmp_path / "store")
            assert not (tmp_path / "store").exists()


def test_what_does_not_fit_is_refused_or_cut_as_asked(ntu_store: Callable[..., Store], tmp_path: Path) -> None:
    clips = recordings()
    body = Track(np.arange(310), np.ones((310, 25, 3), np.float32))
    long = Recording("S001C001P001R999A001", 0, 310, (body, body, body), 1, 1, 1, 999)
    store = ntu_store([*clips, long])
    with pytest.raises(ValueError, match=r"1 clips of more than 300 frames.*R999.*--cut"):
        export_padded(store, tmp_path / "out.npz", SIDES)
    assert not list(tmp_path.glob("*out.npz*"))
    assert export_padded(store, tmp_path / "out.npz", SIDES, too_much="cut").cut == 1
    with pytest.raises(ValueError, match="got no test clips"):
        export_padded(store, tmp_path / "none.npz", Protocol(SIDES.train, {"subject": frozenset({9})}))


def test_a_clip_without_a_class_is_not_exported(ntu_store: Callable[..., Store], tmp_path: Path) -> None:
    store = ntu_store(recordings())
    label = store.index.label.copy()
    label[3] = -1
    np.savez(store.folder / "index.npz", **{**vars(store.index), "label": label})
    with pytest.raises(ValueError, match="a label outside 0 to 59 in 1 clips"):
        export_padded(Store(store.folder), tmp_path / "out.npz", SIDES)
    assert not (tmp_path / "out.npz").exists()


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """Recordings of one's own in NTU's raw layout, of two actions."""
    (tmp_path / "raw").mkdir()
    for action in (1, 2):
        walk = np.random.default_rng(action).normal(scale=0.3, size=(1, 30, 25, 3)).clip(-0.5, 0.5) + [0.0, 0.0, 3.0]
        walk[..., 1] += np.linspace(-1, 1, 25)
        (tmp_path / f"raw/S001C001P001R001A00{action}.skeleton").write_bytes(skeleton_text(walk))
    return tmp_path / "raw"


def test_own_files_with_other_class_names_are_another_import(
    own_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, out = tmp_path / "names.txt", tmp_path / "mine"
    command = ["import", str(own_files), "--out", str(out), "--class-names", str(names)]
    names.write_text("sitting\nstanding\n", encoding="utf-8-sig")
    for _ in range(2):
        assert main(command) == 0
        assert Store(out).header.class_names == ("sitting", "standing")
    names.write_text("standing\nsitting\n", encoding="utf-8")
    assert main(command) == 1
    assert "class names" in capsys.readouterr().err
    assert Store(out).header.class_names == ("sitting", "standing")


def test_a_killed_or_failing_export_leaves_the_old_file(
    ntu_store: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ntu_store(recordings())
    export_padded(store, tmp_path / "out.npz", SIDES)
    before = (tmp_path / "out.npz").read_bytes()
    monkeypatch.setattr(Store, "gather", lambda *_, **__: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        export_padded(store, tmp_path / "out.npz", SIDES)
    assert (tmp_path / "out.npz").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ntu", "out.npz"]


def test_the_door_goes_there_and_back(
    ntu_store: Callable[..., Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ntu_store(recordings())
    out, back = str(tmp_path / "NTU60_CV.npz"), str(tmp_path / "back")
    assert main(["export", str(store.folder), "--out", out, "--protocol", "cross_view"]) == 0
    assert main(["import", out, "--out", back]) == 0
    assert main(["export", back, "--out", out, "--test-on", "setup=1"]) == 0
    assert "train 12, test 12" in capsys.readouterr().out
    assert (tmp_path / "back-report.json").is_file()
    for words, says in (
        (["export", back, "--out", out, "--protocol", "cross_view"], "use --test-on"),
        (["export", back, "--out", out, "--test-on", "subjects=1"], "FIELD=N,N"),
        (["export", back, "--out", out, "--test-on", "setup=7"], r"[0, 1]"),
        (["import", str(tmp_path / "nothing.npz"), "--out", out], "got nothing there"),
        (["import", out, "--out", back], "which exists"),
    ):
        assert main(words) == 1
        assert says in capsys.readouterr().err
