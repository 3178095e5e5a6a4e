from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from benchmarks.reference.ntu_prepare import prepare_plain
from feeders.prepare.ntu_bodies import FAULTS, Cleaned, clean
from feeders.prepare.ntu_parse import RawClip, read_skeleton
from feeders.prepare.source import NobodySeenError
from tests.feeders.ntu_files import ANNA, BERT, CARL, clip_of, poses, random_clip, skeleton_file

SEEDS = range(300)


def raw(frames) -> RawClip:
    return read_skeleton("clip", skeleton_file(frames))


def table(cleaned: Cleaned) -> np.ndarray:
    """(frames, 150) as the published arrays have it."""
    pose = np.zeros((cleaned.frames, 2, 75), np.float32)
    for place, track in enumerate(cleaned.bodies):
        pose[track.frames, place] = track.joints.reshape(-1, 75)
    return pose.reshape(-1, 150)


def published(frames, *, copies_body: bool = False) -> np.ndarray | None:
    """What the reference makes of a clip, None where it fails; the same must hold of the way by that name."""
    content = skeleton_file(frames)
    try:
        expected = prepare_plain(content.decode(), copies_body=copies_body)
    except ValueError:
        with pytest.raises(ValueError, match="clip: got "):
            clean("clip", read_skeleton("clip", content), "published", copies_body=copies_body)
        return None
    cleaned = clean("clip", read_skeleton("clip", content), "published", copies_body=copies_body)
    np.testing.assert_array_equal(table(cleaned), expected, strict=True)
    assert cleaned.notes == ()
    return expected


@pytest.mark.parametrize("copies_body", [False, True])
def test_published_equals_the_reference_and_the_default_differs_just_where_it_says_so(copies_body: bool) -> None:
    noted: Counter[str] = Counter()
    for seed in SEEDS:
        frames = random_clip(seed)
        expected = published(frames, copies_body=copies_body)
        try:
            cleaned = clean("clip", raw(frames), copies_body=copies_body)
        except ValueError:
            assert expected is None
            continue
        is_equal = expected is not None and np.array_equal(table(cleaned), expected)
        assert bool(cleaned.notes) != is_equal, f"seed {seed}: {cleaned.notes}"
        noted.update(cleaned.notes or ["none"])
    assert set(noted) == {"none", *(FAULTS if copies_body else FAULTS[:-1])}


@pytest.mark.parametrize("length", [12, 20])
def test_of_two_bodies_a_fault_is_noted_just_where_it_acts_however_they_overlap(length: int) -> None:
    noted = Counter[bool]()
    for start in range(-length, 15):
        clip = clip_of({ANNA: "0" * max(-start, 0) + "1" * 14, BERT: "0" * max(start, 0) + "1" * length})
        expected, cleaned = published(clip), clean("clip", raw(clip))
        is_equal = expected is not None and np.array_equal(table(cleaned), expected)
        assert bool(cleaned.notes) != is_equal, f"from {start}: {cleaned.notes}"
        noted[is_equal] += 1
    assert min(noted[True], noted[False]) > 0


def test_the_default_shows_bodies_together_just_where_they_were_seen_together_and_in_order() -> None:
    for seed in SEEDS:
        frames = random_clip(seed)
        try:
            cleaned = clean("clip", raw(frames))
        except ValueError:
            continue
        shown: list[list[np.ndarray]] = [[] for _ in range(cleaned.frames)]
        for track in cleaned.bodies:
            for frame, joints in zip(track.frames, track.joints, strict=True):
                shown[frame].append(joints)
        raw_frames = iter(frames)
        for bodies in shown:
            assert bodies
            assert any(all(_is_seen(joints, seen) for joints in bodies) for seen in raw_frames)


def _is_seen(joints: np.ndarray, seen: Sequence[tuple[int, np.ndarray]]) -> bool:
    """Whether a frame shows this pose, wherever it stands."""
    return any(np.abs((joints - joints[0]) - (other - other[0])).max() < 1e-4 for _, other in seen)


def _with(frames, change: Callable[[int, np.ndarray], np.ndarray], who: int, at: slice):
    """The clip with a body changed in some frames."""
    for frame in range(len(frames))[at]:
        frames[frame] = [(body, change(frame, joints) if body == who else joints) for body, joints in frames[frame]]
    return frames


def _cancelled(_: int, joints: np.ndarray) -> np.ndarray:
    half = np.arange(1, 38)
    return np.array([*half, *-half, 0], np.float32).reshape(joints.shape)


def example(fault: str):
    """A clip on which one fault alone acts."""
    both = {ANNA: "1" * 30, BERT: "1" * 30}
    match fault:
        case "id twice in a frame":
            frames = clip_of({ANNA: "1" * 30, BERT: "1" * 20})
            return [bodies + bodies[1:] if frame == 3 else bodies for frame, bodies in enumerate(frames)]
        case "every body short":
            return clip_of({ANNA: "1" * 11, BERT: "0" * 5 + "1" * 8})
        case "body returned after a gap":
            return clip_of({ANNA: "1" * 30, BERT: "1" * 10 + "0" * 5 + "1" * 10})
        case "one-frame overlap":
            return clip_of({ANNA: "1" * 20, BERT: "0" * 19 + "1" * 20})
        case "third body discarded":
            return clip_of({ANNA: "1" * 40, BERT: "0" * 20 + "1" * 20, CARL: "1" * 15})
        case "coordinates sum to zero":
            return _with(clip_of(both), _cancelled, BERT, slice(7, 9))
        case "all-zero frame":
            return _with(clip_of({ANNA: "1" * 9}), lambda _, joints: 0 * joints, ANNA, slice(2, 5))
        case _:
            return clip_of({ANNA: "1" * 30})


# Of each fault's example: the frames of both bodies by default, and as published where it keeps the clip.
SEEN = {
    "id twice in a frame": ([[*range(30)], [*range(20)]], [[*range(30)], [*range(21)]]),
    "every body short": ([[*range(11)], [*range(5, 13)]], None),
    "body returned after a gap": ([[*range(30)], [*range(10), *range(15, 25)]], [[*range(30)], [*range(20)]]),
    "one-frame overlap": ([[*range(20)], [*range(19, 39)]], [[*range(39)]]),
    "third body discarded": ([[*range(40)], [*range(15), *range(20, 40)]], [[*range(40)], [*range(20, 40)]]),
    "coordinates sum to zero": ([[*range(30)], [*range(30)]], [[*range(30)], [*range(7), *range(9, 30)]]),
    "all-zero frame": ([[*range(6)]], [[*range(9)]]),
    "body 1 copied": ([[*range(30)]], [[*range(30)], [*range(30)]]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_mended_and_noted_by_its_name(fault: str) -> None:
    frames, copies_body = example(fault), fault == "body 1 copied"
    by_default, as_published = SEEN[fault]
    cleaned = clean("clip", raw(frames), copies_body=copies_body)
    assert cleaned.notes == (fault,)
    assert [track.frames.tolist() for track in cleaned.bodies] == by_default
    assert (published(frames, copies_body=copies_body) is None) == (as_published is None)
    if as_published is not None:
        kept = clean("clip", raw(frames), "published", copies_body=copies_body)
        assert [track.frames.tolist() for track in kept.bodies] == as_published


def test_a_gap_that_shows_nobody_is_closed_without_a_fault() -> None:
    cleaned = clean("clip", raw(clip_of({ANNA: "0" + "1" * 12 + "000" + "1" * 12, BERT: "0" * 20 + "1111"})))
    assert (cleaned.frames, cleaned.notes) == (24, ())
    assert [track.frames.tolist() for track in cleaned.bodies] == [[*range(24)]]
    assert (cleaned.bodies[0].joints[0, 1] == 0).all()


def test_a_wide_body_is_a_false_detection_and_the_one_that_moves_most_comes_first() -> None:
    frames = clip_of({ANNA: "1" * 20, BERT: "1" * 20, CARL: "1" * 20}, motion={ANNA: 0.1, BERT: 3.0, CARL: 0.5})

    def wider(_: int, joints: np.ndarray) -> np.ndarray:
        return joints * np.array([9, 1, 1], np.float32)

    thirteen = clean("clip", raw(_with(frames, wider, BERT, slice(13))))
    assert _who(thirteen, frames) == [BERT, CARL]
    fourteen = clean("clip", raw(_with(frames, wider, BERT, slice(13, 14))))
    assert _who(fourteen, frames) == [CARL, ANNA]
    assert thirteen.notes == fourteen.notes == ()
    # 30 of 43 frames are 69.77 %: more than the published 69.754, less than 70.
    longer = clip_of({body: "1" * 43 for body in (ANNA, BERT, CARL)}, motion={ANNA: 0.1, BERT: 3.0, CARL: 0.5})
    assert BERT in _who(clean("clip", raw(_with(longer, wider, BERT, slice(29)))), longer)
    assert BERT not in _who(clean("clip", raw(_with(longer, wider, BERT, slice(30)))), longer)


def _who(cleaned: Cleaned, frames) -> list[int]:
    return [
        body for track in cleaned.bodies for body, joints in frames[0] if _is_seen(track.joints[0], [(body, joints)])
    ]


def test_one_frame_is_a_clip_and_no_body_is_none() -> None:
    one = clean("clip", raw(clip_of({ANNA: "1"})))
    assert (one.frames, len(one.bodies), one.notes) == (1, 1, ())
    with pytest.raises(NobodySeenError, match="no body"):
        clean("clip", raw([[], [], []]))
    with pytest.raises(ValueError, match="all zero"):
        clean("clip", raw([[(ANNA, 0 * poses(0, 1)[0])]]))
