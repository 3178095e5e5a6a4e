"""Laws of the simulator: its bodies are rigid, its actions differ where they say, its files are NTU's."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from feeders.skeleton import NTU25
from feeders.synthetic import (
    CAMERAS,
    CLASS_NAMES,
    TEST_CAMERAS,
    TEST_SUBJECTS,
    VALIDATION_SUBJECTS,
    SyntheticConfig,
    film,
    perform,
    skeleton_text,
    write_recordings,
)
from feeders.synthetic.actions import ACTIONS, draw_take
from feeders.synthetic.body import Array, Person, draw_person

SMALL = SyntheticConfig(people=2, cameras=2, repetitions=1)
HAND = ("hand", "hand_tip", "thumb")


def read_skeleton(text: str) -> tuple[list[list[str]], Array]:
    """An independent line reader: body ids of every frame, and (T, M, 25, 12) values."""
    lines = iter(text.split("\n"))
    ids, frames = [], []
    for _ in range(int(next(lines))):
        ids.append([])
        bodies = []
        for _ in range(int(next(lines))):
            head = next(lines).split(" ")
            assert len(head) == 10
            ids[-1].append(head[0])
            assert next(lines) == "25"
            bodies.append([[float(value) for value in next(lines).split(" ")] for _ in range(25)])
        frames.append(bodies)
    assert list(lines) == [""]
    return ids, np.array(frames)


def person(seed: int) -> Person:
    return draw_person(np.random.default_rng(seed))


def bones(world: Array) -> Array:
    return np.linalg.norm(world - world[:, :, list(NTU25.parents)], axis=-1)


def test_equal_seeds_write_equal_bytes_and_other_seeds_others(tmp_path: Path) -> None:
    write_recordings(tmp_path / "a", SMALL)
    write_recordings(tmp_path / "b", SMALL)
    write_recordings(tmp_path / "c", SMALL.model_copy(update={"seed": 1}))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 2 * 2 * len(CLASS_NAMES)
    for name in names:
        first, second, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert first == second != other


def test_a_larger_set_contains_the_smaller() -> None:
    larger = dict(film(SyntheticConfig(people=3, cameras=3, repetitions=2)))
    for name, bodies in film(SMALL):
        np.testing.assert_array_equal(larger[name], bodies)


def test_files_read_back_as_what_was_filmed(tmp_path: Path) -> None:
    write_recordings(tmp_path / "raw", SMALL)
    for name, bodies in film(SMALL):
        ids, values = read_skeleton((tmp_path / "raw" / f"{name}.skeleton").read_text())
        np.testing.assert_allclose(values[..., :3], bodies.transpose(1, 0, 2, 3), atol=0.51e-4)
        assert 30 <= len(ids) <= 120
        assert all(frame == ids[0] for frame in ids)
        takes_two = ACTIONS[CLASS_NAMES[int(name[-3:]) - 1]].respond is not None
        assert len(set(ids[0])) == len(ids[0]) == (2 if takes_two else 1)


@pytest.mark.parametrize("value", [0.0, 0.00004, 0.00006, -0.00004, -0.5, 9.99994, 10.0, -12.3456, 99.9999])
def test_positions_are_written_to_a_tenth_of_a_millimetre(value: float) -> None:
    bodies = np.full((1, 1, 25, 3), 2.0)
    bodies[..., 0] = value
    _, values = read_skeleton(skeleton_text(bodies).decode())
    np.testing.assert_allclose(values[..., 0], value, atol=0.51e-4)


def test_millimetres_are_refused() -> None:
    with pytest.raises(ValueError, match="check units"):
        skeleton_text(np.full((1, 1, 25, 3), 1500.0))


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        write_recordings(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_recording_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(bodies: Array) -> bytes:
        raise OSError("no space left on device")

    monkeypatch.setattr("feeders.synthetic.skeleton_text", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_recordings(tmp_path / "raw", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", CLASS_NAMES)
def test_bones_keep_their_length(action: str) -> None:
    for seed in range(3):
        lengths = bones(perform(action, person(seed), np.random.default_rng(seed)))
        np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:, :1], lengths.shape), atol=1e-9)


def test_a_person_keeps_their_bones_across_actions_and_differs_from_others() -> None:
    def lengths(seed: int, action: str) -> Array:
        return bones(perform(action, person(seed), np.random.default_rng(7)))[0, 0]

    np.testing.assert_allclose(lengths(0, "walk"), lengths(0, "push"), atol=1e-9)
    assert np.abs(lengths(0, "walk") - lengths(1, "walk")).max() > 0.01


def test_sensor_noise_moves_joints_by_centimetres() -> None:
    clean, noisy = (dict(film(SMALL.model_copy(update={"noise": noise}))) for noise in (0.0, 1.0))
    error = np.concatenate([(noisy[name] - clean[name]).ravel() for name in clean])
    assert 0.005 < error.std() < 0.03


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        ("nod", "shake head", ("neck", "head")),
        ("kick forward", "stamp foot", ("knee", "ankle", "foot")),
        ("point forward", "show stop", HAND),
        ("clap", "rub hands", ("elbow", "wrist", *HAND)),
    ],
)
def test_one_part_pairs_differ_in_that_part_only(first: str, second: str, kinds: tuple[str, ...]) -> None:
    may_differ = np.array([name.removeprefix("left_").removeprefix("right_") in kinds for name in NTU25.joints])
    for seed in range(5):
        one, other = (perform(action, person(seed), np.random.default_rng(seed)) for action in (first, second))
        apart = np.linalg.norm(one - other, axis=-1).max(axis=(0, 1))
        np.testing.assert_array_equal(apart[~may_differ], 0.0)
        assert apart[may_differ].max() > 0.05


@pytest.mark.parametrize("action", CLASS_NAMES)
def test_bodies_stand_upright_on_the_floor(action: str) -> None:
    joint = {name: index for index, name in enumerate(NTU25.joints)}
    for seed in range(3):
        world = perform(action, person(seed), np.random.default_rng(seed))
        ankles = world[:, :, [joint["left_ankle"], joint["right_ankle"]], 1]
        assert ankles.min() > 0.03
        assert ankles.min(axis=2).max() < 0.25
        assert (world[:, :, joint["spine_shoulder"], 1] > world[:, :, joint["spine_base"], 1] - 0.05).all()


def test_a_walking_stance_foot_stays_where_it_was_put() -> None:
    ankles = [NTU25.joints.index(f"{side}_ankle") for side in ("left", "right")]
    for seed in range(3):
        world = perform("walk", person(seed), np.random.default_rng(seed))[0]
        step = np.linalg.norm(np.diff(world[:, :, [0, 2]], axis=0), axis=-1)
        pelvis = step[:, NTU25.joints.index("spine_base")].mean()
        # One of the two feet stands at any time, but for the slip of a turning body.
        assert step[:, ankles].min(axis=1).mean() < 0.25 * pelvis


def test_left_is_left_in_the_camera_frame() -> None:
    """Seen from the front, the person's left lies on the sensor's right, which is negative x in Kinect's frame."""
    world = perform("nod", person(0), np.random.default_rng(0))
    front = CAMERAS[1].view(world)
    left, right = (front[..., NTU25.joints.index(f"{side}_shoulder"), 0].mean() for side in ("left", "right"))
    assert left < right
    assert 2.0 < front[..., 2].mean() < 5.0


def test_a_camera_keeps_distances_and_handedness() -> None:
    points = np.random.default_rng(0).normal(size=(6, 3))
    for camera in CAMERAS:
        seen = camera.view(points)
        np.testing.assert_allclose(
            np.linalg.norm(seen[1:] - seen[0], axis=1), np.linalg.norm(points[1:] - points[0], axis=1)
        )
        turn, seen_turn = (np.linalg.det(np.diff(frame[:4], axis=0)) for frame in (points, seen))
        np.testing.assert_allclose(turn, seen_turn)


def test_two_people_face_each_other_within_reach() -> None:
    tips = [NTU25.joints.index("right_hand_tip")]
    for action in ("shake hands", "high five"):
        for seed in range(5):
            world = perform(action, person(seed), np.random.default_rng(seed))
            apart = np.linalg.norm(world[0, :, tips] - world[1, :, tips], axis=-1)
            assert apart.min() < 0.45
            assert apart.max() > 0.6


def test_a_take_starts_and_ends_at_rest() -> None:
    gate = draw_take(person(0), 60, np.random.default_rng(0)).gate
    assert gate[[0, -1]].max() < 0.05
    assert gate.max() == pytest.approx(1.0)


def test_unseen_people_and_cameras_exist_and_are_apart() -> None:
    config = SyntheticConfig()
    assert not set(TEST_SUBJECTS) & set(VALIDATION_SUBJECTS)
    assert max(TEST_SUBJECTS + VALIDATION_SUBJECTS) <= config.people
    assert max(TEST_CAMERAS) <= config.cameras
    with pytest.raises(ValidationError):
        SyntheticConfig(cameras=len(CAMERAS) + 1)
