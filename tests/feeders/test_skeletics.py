"""Skeletics-152 in the form that is assumed of it, simulated: archives of VIBE's output, a JSON file a clip."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from feeders.loading import ActionDataConfig, build_loaders
from feeders.prepare import prepare
from feeders.prepare.skeletics import KEPT, read
from feeders.prepare.source import NobodySeenError
from feeders.skeletics import CLASS_NAMES, fold
from feeders.skeleton import VIBE25
from feeders.store import Recording, Store

NAME = "train/tai chi/abc_1"


def person(frames: list[int], seed: int = 0) -> dict[str, object]:
    """VIBE's output for one person: more keys than are used."""
    joints = np.random.default_rng(seed).normal(size=(len(frames), 49, 3)).round(4)
    return {"frame_ids": frames, "joints3d": joints.tolist(), "bboxes": [[0.0, 0.0, 1.0, 1.0]] * len(frames)}


def clip(content: object, name: str = NAME) -> Recording:
    return read(name, json.dumps(content).encode()).recording


def test_kept_joints_are_vibes_by_name() -> None:
    # VIBE's joint list, where the kept ones stand in it.
    vibe = {38: "head_top", 43: "head", 44: "nose", 45: "left_eye", 46: "right_eye", 47: "left_ear", 48: "right_ear"}
    vibe |= {40: "thorax", 37: "neck", 33: "right_shoulder", 32: "right_elbow", 31: "right_wrist", 34: "left_shoulder"}
    vibe |= {35: "left_elbow", 36: "left_wrist", 41: "spine", 39: "pelvis", 27: "right_hip", 26: "right_knee"}
    vibe |= {25: "right_ankle", 28: "left_hip", 29: "left_knee", 30: "left_ankle", 22: "right_big_toe"}
    vibe |= {19: "left_big_toe"}
    assert tuple(vibe[place] for place in KEPT) == VIBE25.joints


def test_a_file_becomes_its_clip_with_y_up() -> None:
    one = person([0, 1, 2])
    recording = clip({"3": one})
    (body,) = recording.bodies
    raw = np.array(one["joints3d"])[:, KEPT]
    np.testing.assert_allclose(body.joints, raw * (-1, -1, 1), rtol=1e-6)
    assert (recording.frames, recording.setup, CLASS_NAMES[recording.label]) == (3, 1, "tai chi")
    assert recording.subject == fold(NAME)
    assert clip({"3": one}, "val/zumba/x").setup == 2


def test_a_clip_runs_from_the_first_frame_with_anybody_to_the_last_and_keeps_gaps() -> None:
    recording = clip({"1": person([7, 8, 11]), "2": person([5, 6, 7, 8], seed=1)})
    assert recording.frames == 7
    assert [body.frames.tolist() for body in recording.bodies] == [[0, 1, 2, 3], [2, 3, 6]]


def test_the_two_people_in_most_frames_are_kept() -> None:
    people = {str(n): person(list(range(count)), seed=n) for n, count in enumerate((2, 5, 0, 3))}
    made = read(NAME, json.dumps(people).encode())
    assert [len(body.frames) for body in made.recording.bodies] == [5, 3]
    assert made.notes == ("people beyond the two in most frames, left out",)


@pytest.mark.parametrize("people", [{}, {"1": person([])}])
def test_a_file_without_people_has_nobody_in_it(people: dict[str, object]) -> None:
    with pytest.raises(NobodySeenError, match="got no person"):
        clip(people)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "a list, expected a mapping"),
        ({"1": {"joints3d": []}}, "no frame_ids and joints3d"),
        ({"1": person([0, 1]) | {"frame_ids": [0]}}, r"frame_ids of shape \(1,\)"),
        ({"1": person([0]) | {"joints3d": [[[0.0] * 3] * 24]}}, r"and \(frames, 49, 3\)"),
        ({"1": person([0]) | {"joints3d": [[[0.0, "x", 1.0]] * 49]}}, "not three numbers"),
        ({"1": person([2, 1])}, "expected rising"),
        ({"1": person([0, 0])}, "expected rising"),
        ({"1": person([-1, 0])}, "expected rising"),
        ({"1": person([0]) | {"frame_ids": [0.5]}}, "expected rising"),
        ({"1": person([0]) | {"frame_ids": 0}}, "frame_ids"),
    ],
)
def test_another_form_is_one_line_that_names_the_file(content: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        clip(content)
    assert str(caught.value).startswith(NAME)


def test_an_unknown_class_and_a_truncated_file_are_named() -> None:
    with pytest.raises(ValueError, match="train/flying/x: got folder 'flying'"):
        clip({"1": person([0])}, "train/flying/x")
    with pytest.raises(ValueError, match="truncated or broken JSON"):
        read(NAME, json.dumps({"1": person([0])}).encode()[:-5])


def sample() -> dict[str, bytes]:
    """A simulated sample: path in its archive -> content; a class whose name holds "train" among them."""
    content = {}
    for seed, (side, action) in enumerate(
        (side, action) for side in ("train", "val") for action in ("training dog", "zumba") for _ in range(3)
    ):
        people = {"1": person(list(range(12)), seed), "4": person([3, 4, 8], seed + 99)}
        content[f"vibe_results_{side}/{action}/clip{seed}.json"] = json.dumps(people).encode()
    return content


def test_archives_and_folders_make_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "zips").mkdir()
    for path, content in sample().items():
        half, _, inside = path.partition("/")
        with zipfile.ZipFile(tmp_path / "zips" / f"{half}.zip", "a") as archive:
            archive.writestr(inside, content)
        file = tmp_path / "folders" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    reports = {kind: prepare("skeletics", tmp_path / kind, tmp_path / f"store-{kind}") for kind in ("zips", "folders")}
    halves = [tmp_path / "zips" / f"vibe_results_{side}.zip" for side in ("train", "val")]
    reports["halves"] = prepare("skeletics", halves, tmp_path / "store-halves")
    for other in ("gcn_train_data.npy", ".train-notes", ".val.zip"):
        (tmp_path / "folders" / other).write_text("no archive")
    both = (tmp_path / "folders").rename(tmp_path / "train_and_val")
    reports["named"] = prepare("skeletics", both, tmp_path / "store-named")
    interval = both.rename(tmp_path / "interval")
    reports["misnamed"] = prepare("skeletics", interval, tmp_path / "store-misnamed")
    poses = {Path(report.store, "poses.npy").read_bytes() for report in reports.values()}
    assert [report.clips for report in reports.values()] == [12] * 5
    assert len(poses) == 1
    names = Store(tmp_path / "store-zips").index.sample_id.tolist()
    assert names == sorted(path.removeprefix("vibe_results_").removesuffix(".json") for path in sample())


def test_a_run_opens_the_raw_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "cache"))
    for path, content in sample().items():
        file = tmp_path / "skeletics-152" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    data = ActionDataConfig(
        dataset="skeletics", root=tmp_path / "skeletics-152", frames=8, validation_subjects=(), normalise="body"
    )
    loaders = build_loaders(data, 2, 4, seed=0)
    assert loaders.extra["clips"] == {"train": 6, "val": 0, "test": 6}
    assert loaders.train is not None
    assert next(iter(loaders.train.epoch(0))).pose.shape == (2, 3, 8, 25, 2)


def test_folds_are_about_even() -> None:
    counts = np.bincount([fold(f"train/zumba/{number}") for number in range(4000)], minlength=21)
    assert counts[0] == 0
    assert counts[1:].min() > 140
    assert counts[1:].max() < 260
