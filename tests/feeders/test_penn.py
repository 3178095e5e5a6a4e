"""Penn Action: every kind of file that may come, and the facts of the real ones."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

import feeders.prepare.penn
import feeders.prepare.shards
from feeders.loading import ActionDataConfig, build_loaders
from feeders.penn import CLASS_NAMES, PENN, fold
from feeders.prepare import Report, prepare, report_path
from feeders.prepare.__main__ import main
from feeders.prepare.penn import read
from feeders.prepare.source import NobodySeenError, Reading
from feeders.store import Store
from tests.feeders.penn_files import HEIGHT, WIDTH, mat, variables

RAW = Path(os.environ.get("PARTCLIP_DATA", "data")) / "penn_action" / "labels"


def reading(name: str = "2150", **change: object) -> Reading:
    return read(name, mat(variables(**change)))


def changed(name: str, **places: float) -> np.ndarray:
    """An array of the file with a value at ``fFjJ``."""
    array = np.array(variables()[name], dtype=np.float64)
    for place, value in places.items():
        frame, joint = place[1:].split("j")
        array[int(frame), int(joint)] = value
    return array


def test_a_file_becomes_its_clip_with_y_up_from_the_middle_of_the_image() -> None:
    recording = reading(train=-1).recording
    assert (recording.sample_id, recording.frames, recording.width, recording.height) == ("2150", 6, WIDTH, HEIGHT)
    assert CLASS_NAMES[recording.label] == "tennis serve"
    assert (recording.setup, recording.camera, recording.subject) == (2, 3, fold(14, 2150))
    raw, (body,) = variables(), recording.bodies
    np.testing.assert_allclose(body.joints[..., 0], raw["x"] - (WIDTH + 1) / 2, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(body.joints[..., 1], (HEIGHT + 1) / 2 - raw["y"], rtol=1e-5, atol=1e-4)
    assert (body.joint_weight == 1).all()


def test_a_mirror_image_of_the_pixels_turns_x_round() -> None:
    raw = variables()
    first, second = reading().recording, reading(x=WIDTH + 1 - raw["x"]).recording
    np.testing.assert_allclose(second.bodies[0].joints, first.bodies[0].joints * (-1, 1), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_coordinates_are_real_numbers(dtype: type) -> None:
    x = np.tile(np.array([3, 200] * 6 + [9]), (6, 1)).astype(dtype)
    integers, reals = (reading(x=values, y=values).recording.bodies[0] for values in (x, x.astype(np.float64)))
    assert integers.joints.dtype == np.float32
    np.testing.assert_array_equal(integers.joints, reals.joints)
    assert integers.joints.min() < 0


HIDDEN = {
    "invisible": {"visibility": changed("visibility", f1j4=0)},
    "at the placeholder": {"x": changed("x", f1j4=1.0), "y": changed("y", f1j4=0.0)},
    "at the placeholder, invisible": {
        **{"x": changed("x", f1j4=1), "y": changed("y", f1j4=1)},
        "visibility": changed("visibility", f1j4=0),
    },
    "no number": {"y": changed("y", f1j4=np.nan)},
    "infinite": {"x": changed("x", f1j4=np.inf)},
}


@pytest.mark.parametrize("how", list(HIDDEN))
def test_a_hidden_joint_has_no_weight_and_no_place(how: str) -> None:
    made = reading(**HIDDEN[how])
    (body,) = made.recording.bodies
    expected = np.ones((6, 13))
    expected[1, 4] = 0
    np.testing.assert_array_equal(body.joint_weight, expected)
    assert (body.joints[1, 4] == 0).all()
    is_told = how in ("no number", "infinite")
    assert made.notes == (("coordinates that are no numbers, taken as hidden",) if is_told else ())


def test_what_is_hidden_leaves_no_trace_of_the_annotators_guess() -> None:
    visibility = changed("visibility", f1j4=0, f3j0=0)
    one = reading(visibility=visibility)
    other = reading(visibility=visibility, x=changed("x", f1j4=77, f3j0=9))
    np.testing.assert_array_equal(one.recording.bodies[0].joints, other.recording.bodies[0].joints)


def test_a_frame_that_shows_nothing_is_one_without_the_body() -> None:
    visibility = np.ones((6, 13))
    visibility[[0, 3]] = 0
    made = reading(visibility=visibility)
    assert made.recording.frames == 6
    assert made.recording.bodies[0].frames.tolist() == [1, 2, 4, 5]
    assert made.notes == ("frames without a visible joint, taken as without a body",)


def test_nobody_is_in_a_file_that_shows_no_joint() -> None:
    with pytest.raises(NobodySeenError, match="2150: got no visible joint in 6 frames"):
        reading(visibility=np.zeros((6, 13)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_ends_its_reader_is_narrowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """As scipy's reader may by a segmentation fault."""
    monkeypatch.setattr(feeders.prepare.shards, "_FILES", 2)
    raw, here = tmp_path / "raw", os.getpid()
    raw.mkdir()
    for number in range(1, 7):
        (raw / f"{number:04}.mat").write_bytes(mat(variables(seed=number, action="baseball_pitch")))
    bad = (raw / "0003.mat").read_bytes()

    def ends(stream: io.BytesIO) -> dict[str, np.ndarray]:
        if stream.getvalue() == bad:
            assert os.getpid() != here
            os._exit(139)
        return loadmat(stream)

    monkeypatch.setattr(feeders.prepare.penn, "loadmat", ends)
    with pytest.raises(OSError, match=r"died over one of .*0003\.mat to .*0004\.mat.*; a file there is damaged"):
        prepare("penn", raw, tmp_path / "store", jobs=jobs)


NOTED = {
    "bounding boxes of fewer frames": {"bbox": np.ones((5, 4))},
    "another number of frames told": {"nframes": 7},
    "another number of frames": {"dimensions": np.array([HEIGHT, WIDTH, 5])},
}


@pytest.mark.parametrize("note", list(NOTED))
def test_what_can_be_mended_is_noted(note: str) -> None:
    made = reading(**NOTED[note])
    assert len(made.notes) == 1
    assert note in made.notes[0]
    np.testing.assert_array_equal(made.recording.bodies[0].joints, reading().recording.bodies[0].joints)


@pytest.mark.parametrize("name", ["bbox", "nframes", "pose"])
def test_what_is_not_used_may_be_missing(name: str) -> None:
    made = reading(**{name: None})
    assert made.notes == ()
    assert (made.recording.camera == -1) == (name == "pose")


BROKEN: dict[str, dict[str, object]] = {
    "no visibility": {"visibility": None},
    "no x, y": {"x": None, "y": None},
    "no train": {"train": None},
    "no dimensions": {"dimensions": None},
    "shapes (6, 13), (5, 13), (6, 13)": {"y": np.ones((5, 13))},
    "shapes (6, 14)": {"x": np.ones((6, 14)), "y": np.ones((6, 14)), "visibility": np.ones((6, 14))},
    "no x": {"x": np.zeros((0, 13))},
    "an image of 0 x 270": {"dimensions": np.array([HEIGHT, 0, 6])},
    "an image of -1 x 270": {"dimensions": np.array([HEIGHT])},
    "action 'cartwheel'": {"action": "cartwheel"},
    "train 0": {"train": 0},
    "train yes": {"train": "yes"},
    "not numbers": {"x": np.full((6, 13), "a", dtype=object)},
}


@pytest.mark.parametrize("reason", list(BROKEN))
def test_a_broken_file_ends_in_one_line_that_names_it(
    reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/0001.mat").write_bytes(mat(variables()))
    (tmp_path / "raw/2150.mat").write_bytes(mat(variables(**BROKEN[reason])))
    assert main(["penn", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    assert reason in said
    assert "first 2150: got" in said
    assert list(json.loads(report_path(tmp_path / "out").read_text())["broken"]) == ["2150"]


def complaint(content: bytes) -> str:
    try:
        read("2150", content)
    except ValueError as error:
        return str(error)
    return ""


def test_any_damage_is_a_value_error_in_one_line() -> None:
    whole, draw = mat(variables()), np.random.default_rng(0)
    for turn in range(300):
        damaged = bytearray(whole[: draw.integers(0, len(whole))] if turn % 2 else whole)
        for place in draw.integers(0, max(len(damaged), 1), size=4 * (turn % 2 == 0)):
            damaged[place] ^= 1 << draw.integers(0, 8)
        said = complaint(bytes(damaged))
        assert said.startswith("2150: got") or not said
        assert "\n" not in said


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    """Two training clips, one test clip and one of a validation fold, of three classes; another file beside them."""
    folder = tmp_path / "penn_action/labels"
    folder.mkdir(parents=True)
    for number, (action, side) in {
        1: ("baseball_pitch", 1),
        170: ("baseball_swing", 1),
        380: ("bench_press", -1),
        390: ("bench_press", 1),
    }.items():
        path = folder / f"{number:04}.mat"
        path.write_bytes(mat(variables(20 + number % 7, seed=number, action=action, train=side)))
    (folder / "notes.mat").write_bytes(b"mine")
    return folder


@pytest.mark.parametrize("normalise", ["none", "image", "body", "min_max"])
@pytest.mark.parametrize("modality", ["joint", "bone", "bone_motion"])
def test_raw_files_become_batches_of_two_dimensions(
    normalise: str,
    modality: str,
    simulated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "cache"))
    data = ActionDataConfig(
        dataset="penn",
        root=simulated,
        normalise=normalise,
        modality=modality,
        frames=8,
        augment={"rotation": (0, 0, 10), "mirror": 0.5, "scale": (0.9, 1.1), "noise": 0.01},
    )
    loaders = build_loaders(data, 2, 4, seed=0)
    assert loaders.extra["clips"] == {"train": 2, "val": 1, "test": 1}
    assert loaders.train is not None
    for batch in (*loaders.train.epoch(0), *loaders.evaluation["val"].epoch(0), *loaders.evaluation["test"].epoch(0)):
        assert batch.pose.shape[1:] == (2, 8, 13, 1)
        assert np.isfinite(batch.pose.numpy()).all()


def test_units_of_image_and_body_do_not_depend_on_how_the_clip_was_filmed(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "cache"))
    larger = tmp_path / "larger"
    larger.mkdir()
    for path in simulated.glob("[0-9]*.mat"):
        clip = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
        size = np.array([2 * HEIGHT + 1, 2 * WIDTH + 1, len(clip["x"])])  # pixels count from 1: the middle stays it
        (larger / path.name).write_bytes(mat({**clip, "x": clip["x"] * 2, "y": clip["y"] * 2, "dimensions": size}))
    for normalise, tolerance in (("image", 0.01), ("body", 1e-4)):
        first, second = (
            next(
                iter(
                    build_loaders(
                        ActionDataConfig(dataset="penn", root=root, normalise=normalise, centre="none"), 1, 9, seed=0
                    )
                    .evaluation["test"]
                    .epoch(0)
                )
            ).pose
            for root in (simulated, larger)
        )
        np.testing.assert_allclose(first, second, atol=tolerance)
        assert first.abs().max() > 0.5


def test_folds_are_ten_of_each_class() -> None:
    for label in range(len(CLASS_NAMES)):
        assert {fold(label, number) for number in range(1, 2327)} == set(range(1, 11))
    assert fold(2, 341) == fold(2, 1) == 1
    assert fold(2, 385) == 4
    assert fold(2, 384) == 3


needs_recordings = pytest.mark.skipif(not RAW.is_dir(), reason=f"no Penn Action at {RAW}; set PARTCLIP_DATA")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return prepare("penn", RAW, tmp_path_factory.mktemp("stores") / "penn")


@pytest.mark.realdata
@needs_recordings
def test_every_video_is_read_and_every_known_fault_reported_by_name(report: Report) -> None:
    assert report.files == 2326
    assert report.left_out == {"1516": "without a body in any frame"}
    assert not report.broken
    assert (report.clips, report.frames + 68, report.body_frames) == (2325, 163841, 163841 - 177)
    assert set(report.mended) == {
        "bounding boxes of fewer frames than joints, not used",
        "frames without a visible joint, taken as without a body",
    }
    assert report.mended["bounding boxes of fewer frames than joints, not used"] == ["1154", "1865"]
    assert report.copies == {"official": []}


@pytest.mark.realdata
@needs_recordings
def test_the_official_split_has_its_sizes_and_hidden_joints_their_share(report: Report) -> None:
    loaders = build_loaders(ActionDataConfig(dataset="penn", root=Path(report.store).resolve()), 32, 64, seed=0)
    clips = loaders.extra["clips"]
    # 1,258 in the files; 1516 shows nobody.
    assert (clips["train"] + clips["val"], clips["test"]) == (1257, 1068)
    store = Store(Path(report.store))
    held_out = np.isin(store.index.subject, PENN.validation_subjects) & (store.index.setup == 1)
    per_class = np.bincount(store.index.label[held_out], minlength=15) / np.bincount(
        store.index.label[store.index.setup == 1]
    )
    assert (per_class > 0.07).all()
    assert (per_class < 0.14).all()
    _, weights = store.arrays()
    assert weights is not None
    hidden = weights.size - int(weights.sum())
    assert hidden + 177 * 13 == 469501
    assert int(weights.sum()) == 1660432


@pytest.mark.realdata
@needs_recordings
def test_the_svm_is_the_published_one_but_for_the_guesses_of_hidden_joints(report: Report) -> None:
    reached = pytest.importorskip("benchmarks.penn_baselines").top1(Store(Path(report.store)))
    assert reached["RBF-SVM"] == pytest.approx(96.2, abs=0.2)


@pytest.fixture(scope="module")
def facts() -> list[tuple[str, int, tuple[int, int]]]:
    """Action, side and image size of every file, in order."""
    found = (loadmat(path, variable_names=["action", "train", "dimensions"]) for path in sorted(RAW.glob("*.mat")))
    return [(str(one["action"][0]), int(one["train"].item()), tuple(one["dimensions"].ravel()[:2])) for one in found]


@pytest.mark.realdata
@needs_recordings
def test_no_fold_cuts_a_run_of_one_size_and_side(facts: list[tuple[str, int, tuple[int, int]]]) -> None:
    for number, (before, here) in enumerate(zip(facts, facts[1:], strict=False), start=2):
        if before == here:
            label = CLASS_NAMES.index(here[0].replace("_", " "))
            assert fold(label, number) == fold(label, number - 1)


@pytest.mark.realdata
@needs_recordings
def test_neighbours_of_one_rare_size_are_on_one_side(facts: list[tuple[str, int, tuple[int, int]]]) -> None:
    sizes = [size for _, _, size in facts]
    pairs = [(a, b) for a, b in zip(facts, facts[1:], strict=False) if a[0] == b[0]]
    one_size = [a[1] == b[1] for a, b in pairs if a[2] == b[2] and sizes.count(a[2]) < 60]
    two_sizes = [a[1] == b[1] for a, b in pairs if a[2] != b[2]]
    assert np.mean(one_size) > 0.94
    assert 0.45 < np.mean(two_sizes) < 0.55
