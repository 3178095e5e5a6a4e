"""Which detections of an NTU file are the people, in which order, and where they stand.

Source of the steps: the published NTU preparation (CTR-GCN's ``data/ntu``, after HCN and SGN). What it does that harms
a clip is named in `FAULTS`: ``denoise="published"`` keeps all of that, the default mends all of it, and says what would
have changed the clip.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from feeders.prepare.ntu_parse import RawClip
from feeders.prepare.source import NobodySeenError
from feeders.skeleton import NTU25
from feeders.store import Track

Denoise = Literal["default", "published"]
FAULTS = (
    # It counts as two frames of that body.
    "id twice in a frame",
    # With several bodies, all of 11 frames or fewer, none is left and the clip is lost.
    "every body short",
    # The frames without it are closed up: it moves earlier than it was seen.
    "body returned after a gap",
    # Two bodies that share one frame are taken for one, and there the second overwrites the first.
    "one-frame overlap",
    # The second place counts as taken from frame 0 on, so that a third body is discarded that left before it was.
    "third body discarded",
    # A body is taken for absent where its coordinates sum to zero, and so is a frame.
    "coordinates sum to zero",
    # A body that is alone in its file is taken to stand where its coordinates are all zero.
    "all-zero frame",
    # In NTU 120 alone: where one body is left, a copy of it becomes the second.
    "body 1 copied",
)

_SPINE = NTU25.joints.index("spine_middle")
# Published: of several bodies, one seen in 11 frames or fewer is taken for a false detection, and so is one that is
# wider than 0.8 of its height in 69.754 % of its frames.
_SHORTEST, _WIDEST, _MOST_WIDE = 11, 0.8, 0.69754


@dataclass(frozen=True)
class Cleaned:
    """At most two bodies, the one that moves most first, about the spine of the first in its first frame.

    Args:
        frames: how many frames show one of them; the others are closed up.
        notes: the faults that were mended and would have changed the clip.
    """

    frames: int
    bodies: tuple[Track, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Body:
    """One id: its frames (F,), which of these rows is the first of its frame, joints (F, 25, 3), how much it moves."""

    frames: np.ndarray
    is_first: np.ndarray
    joints: np.ndarray
    motion: float = 0.0


@dataclass(frozen=True)
class _People:
    """The bodies of a clip that are no false detections, by falling motion.

    Args:
        frames: how many frames show any body.
        found: how many ids there were.
        is_every_short: whether all of several bodies are so short that they are taken for false detections.
        has_repeats: whether an id is there twice in a frame.
    """

    frames: int
    bodies: Sequence[_Body]
    found: int
    is_every_short: bool
    has_repeats: bool


@dataclass(frozen=True)
class _Placed:
    """Both places of a clip: pose (F, 2, 25, 3), zero where nobody is, and present (F, 2)."""

    pose: np.ndarray
    present: np.ndarray


def clean(name: str, clip: RawClip, denoise: Denoise = "default", *, copies_body: bool = False) -> Cleaned:
    """The people of a raw clip.

    Args:
        name: the sample's, for errors.
        clip: its file as it is.
        denoise: "default" mends what "published" keeps.
        copies_body: whether the published procedure has its last fault for this data set.

    Raises:
        NobodySeenError: no frame shows a body.
        ValueError: the coordinates show nothing, or the published procedure fails on the clip.
    """
    if not len(clip.joints):
        raise NobodySeenError(f"{name}: got an empty clip ({clip.frames} frames, no body), expected at least one body")
    with np.errstate(over="ignore", invalid="ignore"):
        if _is_one_body_throughout(clip):
            track = Track(np.arange(len(clip.joints)), clip.joints - clip.joints[0, _SPINE])
            if denoise == "published":
                return Cleaned(len(clip.joints), (track, track) if copies_body else (track,))
            return Cleaned(len(clip.joints), (track,), (FAULTS[-1],) if copies_body else ())
        published = frozenset(FAULTS if copies_body else FAULTS[:-1])
        if denoise == "published":
            return _cleaned(_place(name, _people(clip, keeps_repeats=True), published))
        mended = _people(clip, keeps_repeats=False)
        placed = _place(name, mended, frozenset())
        if _is_without_faults(mended):
            return _cleaned(placed)
        return _cleaned(placed, _faults_that_act(name, clip, mended, placed, published))


def _is_one_body_throughout(clip: RawClip) -> bool:
    """Whether there is nothing to choose and nothing to mend, as in most clips."""
    is_alone, is_once = (clip.body_id == clip.body_id[0]).all(), (clip.frame_of[1:] > clip.frame_of[:-1]).all()
    return bool(is_alone and is_once and clip.joints.any(axis=(1, 2)).all())


def _cleaned(placed: _Placed, notes: tuple[str, ...] = ()) -> Cleaned:
    tracks = tuple(
        Track(np.flatnonzero(is_there), placed.pose[is_there, place])
        for place, is_there in enumerate(placed.present.T)
        if is_there.any()
    )
    return Cleaned(len(placed.pose), tracks, notes)


def _is_without_faults(people: _People) -> bool:
    """Whether it is plain that no fault can act, as in most clips of two people: not all is then done twice."""
    if people.has_repeats or people.is_every_short or len(people.bodies) != 2:
        return False
    (first, last), (other_first, other_last) = ((body.frames[0], body.frames[-1]) for body in people.bodies)
    is_throughout = all(body.frames[-1] - body.frames[0] + 1 == len(body.frames) for body in people.bodies)
    if not is_throughout or min(last, other_last) - max(first, other_first) < 1:
        return False
    sums = np.zeros((3, people.frames))
    for body, own in zip(people.bodies, sums, strict=False):
        own[body.frames] = body.joints.sum(axis=(1, 2))
    sums[2] = sums[0] + sums[1]
    shown = [body.frames for body in people.bodies] + [np.flatnonzero(sums[:2].any(axis=0))]
    # So far from zero that no order of adding up ends there.
    return all(bool((np.abs(own[frames]) > 1e-3).all()) for own, frames in zip(sums, shown, strict=True))


def _faults_that_act(
    name: str, clip: RawClip, people: _People, mended: _Placed, published: frozenset[str]
) -> tuple[str, ...]:
    """Each fault whose mending alone changes the published clip, or, if only several do, whose presence alone does."""
    with_repeats = _people(clip, keeps_repeats=True) if people.has_repeats else people

    def placed_with(faults: frozenset[str]) -> np.ndarray | None:
        try:
            return _place(name, with_repeats if "id twice in a frame" in faults else people, faults).pose
        except ValueError:
            return None

    def named(acts: Iterable[bool]) -> tuple[str, ...]:
        return tuple(fault for fault, is_acting in zip(FAULTS, acts, strict=True) if is_acting and fault in published)

    faulty = placed_with(published)
    if _is_same(faulty, mended.pose):
        return ()
    return (
        named(not _is_same(placed_with(published - {fault}), faulty) for fault in FAULTS)
        or named(not _is_same(placed_with(frozenset({fault})), mended.pose) for fault in FAULTS)
        or named(True for _ in FAULTS)
    )


def _is_same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=True)


def _people(clip: RawClip, *, keeps_repeats: bool) -> _People:
    """Who is in a clip; ``keeps_repeats`` where an id that is there twice in a frame counts twice."""
    frame_of = np.cumsum(np.diff(clip.frame_of, prepend=clip.frame_of[0]) > 0)
    bodies, has_repeats = [], False
    for body_id in dict.fromkeys(clip.body_id.tolist()):
        rows = np.flatnonzero(clip.body_id == body_id)
        is_first = np.diff(frame_of[rows], prepend=-1) > 0
        has_repeats |= not is_first.all()
        if not keeps_repeats:
            rows, is_first = rows[is_first], is_first[is_first]
        bodies.append(_Body(frame_of[rows], is_first, clip.joints[rows]))
    long_enough = [body for body in bodies if len(body.frames) > _SHORTEST]
    return _People(
        frames=int(frame_of[-1]) + 1,
        bodies=bodies if len(bodies) == 1 else _upright(long_enough or bodies),
        found=len(bodies),
        is_every_short=len(bodies) > 1 and not long_enough,
        has_repeats=has_repeats,
    )


def _upright(bodies: Sequence[_Body]) -> Sequence[_Body]:
    """The bodies that are not too often too wide, by falling motion; one at least."""
    kept: list[_Body] = []
    for done, body in enumerate(bodies):
        if len(kept) + len(bodies) - done == 1:
            return [body]
        is_wide = _is_wide(body.joints)
        wide = int(is_wide.sum())
        if wide / len(is_wide) < _MOST_WIDE:
            motion = _motion(body.joints)
            kept.append(replace(body, motion=min(motion, _motion(body.joints[~is_wide])) if wide else motion))
    return sorted(kept, key=lambda body: body.motion, reverse=True)


def _is_wide(joints: np.ndarray) -> np.ndarray:
    width, height = (np.ptp(np.ascontiguousarray(joints[:, :, axis]), axis=1) for axis in (0, 1))
    # In float64, as Python's own numbers are.
    is_wide: np.ndarray = np.logical_not(width <= _WIDEST * height.astype(np.float64))
    return is_wide


def _motion(joints: np.ndarray) -> float:
    """The variance of x, y and z over all frames and joints, summed."""
    # Axis by axis in memory: numpy is several times faster along long rows.
    return float(np.ascontiguousarray(joints.reshape(-1, 3).T).var(axis=1).sum())


def _place(name: str, people: _People, faults: frozenset[str]) -> _Placed:
    """Both places filled, with the faults asked for."""
    if people.is_every_short and "every body short" in faults:
        raise ValueError(
            f"{name}: got {people.found} bodies of {_SHORTEST} frames or fewer, of which the published procedure keeps "
            "none; prepare with --denoise default"
        )
    pose = np.zeros((people.frames, 2, len(NTU25.joints), 3), dtype=np.float32)
    bodies = [replace(body, frames=_frames(body, faults)) for body in people.bodies]
    for place, members in enumerate(_assigned(bodies, faults)):
        for body in members:
            if body.frames[-1] >= len(pose):
                raise ValueError(
                    f"{name}: got a body {len(body.frames)} times in {len(pose)} frames, where the published procedure "
                    "fails; prepare with --denoise default"
                )
            pose[body.frames, place] = body.joints
    is_pair = len(bodies) > 1
    shown, present = _presence(pose, faults, is_alone=people.found == 1, is_pair=is_pair)
    pose, present = pose[shown], present[shown]
    first_is_there = pose[:, 0].any(axis=(1, 2))
    if not first_is_there.any():
        raise ValueError(f"{name}: got a body whose coordinates are all zero, expected positions")
    pose -= pose[np.argmax(first_is_there), 0, _SPINE].copy()
    pose[~present] = 0.0
    if "body 1 copied" in faults and not is_pair:
        pose[:, 1], present[:, 1] = pose[:, 0], present[:, 0]
    return _Placed(pose, present)


def _frames(body: _Body, faults: frozenset[str]) -> np.ndarray:
    """The frames that a body is taken to be in."""
    frames = body.frames
    if "body returned after a gap" in faults:
        frames = frames[0] - 1 + np.cumsum(body.is_first)
    counted: np.ndarray = frames + np.cumsum(~body.is_first)
    return counted


def _assigned(bodies: Sequence[_Body], faults: frozenset[str]) -> tuple[list[_Body], list[_Body]]:
    """Each body to the first place that is free from its first frame to its last; without a free one it is left out."""
    places: tuple[list[_Body], list[_Body]] = ([], [])
    taken: list[tuple[int, int] | None] = [None, None]
    most_shared = 1 if "one-frame overlap" in faults else 0
    for body in bodies:
        first, last = int(body.frames[0]), int(body.frames[-1])
        for place, span in enumerate(taken):
            if span is None:
                start, end = (0 if place == 1 and "third body discarded" in faults else first), last
            elif min(span[1], last) - max(span[0], first) + 1 <= most_shared:
                start, end = min(span[0], first), max(span[1], last)
            else:
                continue
            places[place].append(body)
            taken[place] = (start, end)
            break
    return places


def _presence(
    pose: np.ndarray, faults: frozenset[str], *, is_alone: bool, is_pair: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which frames (F,) show a body, and in which frames each place (F, 2) does."""
    flat = pose.reshape(len(pose), 2, -1)
    present: np.ndarray = np.any(flat, axis=2)
    if is_alone:
        present[:, 0] |= "all-zero frame" in faults
    elif "coordinates sum to zero" in faults:
        present = flat.sum(axis=2) != 0
        if is_pair:
            return np.not_equal(flat.reshape(len(pose), -1).sum(axis=1), 0), present
    return np.any(present, axis=1), present
