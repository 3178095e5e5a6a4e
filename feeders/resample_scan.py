"""The compiled way from a store's body-frames to what the network sees: one pass, without the arrays in between.

The same numbers, to rounding, as `feeders.store.Store.gather`, `feeders.crop.resample`, `feeders.transforms.centre` and
`move`, and `feeders.modality.to_modality`, one after another, for stores without joint weights.
"""

import numpy as np
from numba import njit

NEVER, FIRST_FRAME, CLIP, EVERY_FRAME = range(4)
"""When the origin is taken; the values of ``centre``."""


# With "contract" a product and a sum are rounded once, as in torch's lerp.
@njit(cache=True, nogil=True, fastmath={"contract"})
def blend(
    poses: np.ndarray,
    segments: np.ndarray,
    first_row: np.ndarray,
    segment_end: np.ndarray,
    samples: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    fraction: np.ndarray,
    centre: int,
    centre_joint: int,
    matrix: np.ndarray,
    is_mirrored: np.ndarray,
    partner: np.ndarray,
    ancestor: np.ndarray,
    is_motion: bool,
    pose: np.ndarray,
    weight: np.ndarray,
    is_seen: np.ndarray,
) -> None:
    """Fill pose, weight and is_seen.

    Shapes:
        poses: (rows, V, 3); segments: (S, 3) and first_row: (S,) as in a store
        segment_end: as in a store's index; samples: (N,) clip numbers
        low, high, fraction: (N, T) as in a `TimeGrid`
        centre, centre_joint: when the origin is taken, and at which joint
        matrix: (N, 3, 3) of each clip; is_mirrored: (N,) whether each joint is read in the place of its partner, (V,)
        ancestor: (V,) the joint that each joint is taken relative to; -1 for nothing
        pose: (N, 3, T, V, M); weight: (N, T, M), 1 where a body is there; is_seen: (N, M) bool
    """
    clips, _, frames, joints, bodies = pose.shape
    flat_poses = poses.reshape(-1, 3 * joints)
    # One body's clip at a time: it stays near the processor through all steps.
    shown = np.empty((frames, 3 * joints), np.float32)
    base, other = np.empty((bodies, frames), np.int64), np.empty((bodies, frames), np.int64)
    origin = np.empty((frames, 3), np.float32)
    # An origin that stands still is nowhere in a bone or a motion.
    is_placed = (ancestor < 0).any() and (centre == EVERY_FRAME or (centre != NEVER and not is_motion))
    for clip in range(clips):
        at, stop = segment_end[samples[clip] - 1] if samples[clip] else 0, segment_end[samples[clip]]
        for body in range(bodies):
            rows = base[body], other[body]
            at = _find_rows(segments, first_row, at, stop, body, low[clip], high[clip], fraction[clip], rows)
            is_seen[clip, body] = _mark(base[body], weight[clip], body)
        if is_placed:
            _find_origin(poses, base, other, fraction[clip], centre, centre_joint, origin)
        out = pose[clip].reshape(3, -1, bodies)
        absent = _absent(is_seen[clip], out)
        for body in range(bodies):
            if not is_seen[clip, body]:
                continue
            _read(flat_poses, base[body], other[body], fraction[clip], shown)
            if is_placed:
                _subtract(origin, base[body], shown)
            if is_mirrored[clip]:
                _swap(partner, shown)
            _compare(ancestor, shown)
            if is_motion:
                _move(base[body], shown)
            _turn(shown.reshape(-1, 3), matrix[clip], out, body, body if absent < 0 else absent)


@njit(cache=True, nogil=True)
def _mark(base: np.ndarray, weight: np.ndarray, body: int) -> bool:
    """Put a body's (T,) presence into (T, M); whether it is ever there."""
    is_seen = False
    for frame in range(len(base)):
        weight[frame, body] = base[frame] >= 0
        is_seen |= base[frame] >= 0
    return is_seen


@njit(cache=True, nogil=True)
def _absent(is_seen: np.ndarray, out: np.ndarray) -> int:
    """A body that is never there, -1 for none; zeros for all bodies where one number cannot name those it takes."""
    absent, count = -1, 0
    for body in range(len(is_seen)):
        if not is_seen[body]:
            absent, count = body, count + 1
    if count > 1 or count == len(is_seen):
        out[:] = 0.0
    return absent


@njit(cache=True, nogil=True, fastmath={"contract"})
def _read(poses: np.ndarray, base: np.ndarray, other: np.ndarray, step: np.ndarray, shown: np.ndarray) -> None:
    """(T, 3V) coordinates a step of the way from one row to another; zero where the body is absent."""
    for frame in range(len(shown)):
        first, second, share = base[frame], other[frame], step[frame]
        if first < 0:
            shown[frame] = 0.0
            continue
        for at in range(shown.shape[1]):
            place = poses[first, at]
            shown[frame, at] = place + share * (poses[second, at] - place)


@njit(cache=True, nogil=True)
def _subtract(origin: np.ndarray, base: np.ndarray, shown: np.ndarray) -> None:
    """Positions from the origin on, where the body is there."""
    for frame in range(len(shown)):
        if base[frame] >= 0:
            x, y, z = origin[frame]
            for at in range(0, shown.shape[1], 3):
                shown[frame, at] -= x
                shown[frame, at + 1] -= y
                shown[frame, at + 2] -= z


@njit(cache=True, nogil=True)
def _swap(partner: np.ndarray, shown: np.ndarray) -> None:
    """Each joint's partner in its place."""
    for frame in range(len(shown)):
        for joint in range(len(partner)):
            # Each pair once.
            if partner[joint] > joint:
                for axis in range(3):
                    here, there = 3 * joint + axis, 3 * partner[joint] + axis
                    shown[frame, here], shown[frame, there] = shown[frame, there], shown[frame, here]


@njit(cache=True, nogil=True)
def _compare(ancestor: np.ndarray, shown: np.ndarray) -> None:
    """Each joint from its ancestor on, where it has one."""
    if (ancestor < 0).all():
        return
    # The place after the last stays zero: the ancestor of joints without one.
    kept, above = np.zeros(shown.shape[1] + 3, np.float32), np.where(ancestor < 0, len(ancestor), ancestor)
    for frame in range(len(shown)):
        for at in range(shown.shape[1]):
            kept[at] = shown[frame, at]
        for joint in range(len(above)):
            for axis in range(3):
                shown[frame, 3 * joint + axis] -= kept[3 * above[joint] + axis]


@njit(cache=True, nogil=True)
def _move(base: np.ndarray, shown: np.ndarray) -> None:
    """The next frame minus this one; zero where one of them is absent, and in the last."""
    last = len(shown) - 1
    for frame in range(last):
        is_moving = np.float32(base[frame] >= 0 and base[frame + 1] >= 0)
        for at in range(shown.shape[1]):
            shown[frame, at] = is_moving * (shown[frame + 1, at] - shown[frame, at])
    shown[last] = 0.0


@njit(cache=True, nogil=True, fastmath={"contract"})
def _turn(places: np.ndarray, matrix: np.ndarray, out: np.ndarray, body: int, absent: int) -> None:
    """(T * V, 3) vectors under a (3, 3) matrix, a body's share of (3, T * V, M); zeros for an absent one beside it."""
    for axis in range(3):
        a, b, c = matrix[axis, 0], matrix[axis, 1], matrix[axis, 2]
        for at in range(len(places)):
            out[axis, at, absent] = 0.0
            out[axis, at, body] = a * places[at, 0] + b * places[at, 1] + c * places[at, 2]


@njit(cache=True, nogil=True)
def _find_rows(
    segments: np.ndarray,
    first_row: np.ndarray,
    at: int,
    stop: int,
    body: int,
    low: np.ndarray,
    high: np.ndarray,
    fraction: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
) -> int:
    """The two rows that each frame of a body lies between; -1 where it is absent.

    A clip's segments end before ``stop``; ``at`` is its first of this body, or one before. Returns the next body's.
    """
    base, other = rows
    while at < stop and segments[at, 0] < body:
        at += 1
    end = at
    while end < stop and segments[end, 0] == body:
        end += 1
    if at == end:
        base[:] = -1
        return at
    first, count, row = segments[at, 1], segments[at, 2], first_row[at]
    for frame in range(len(base)):
        start_frame, stop_frame, share = low[frame], high[frame], fraction[frame]
        # Low frames rise, so the search goes on where it was; the high one is in the same segment or begins the next.
        while at + 1 < end and segments[at + 1, 1] <= start_frame:
            at += 1
            first, count, row = segments[at, 1], segments[at, 2], first_row[at]
        start = row + start_frame - first if first <= start_frame < first + count else -1
        stopped = row + stop_frame - first if first <= stop_frame < first + count else -1
        if stopped < 0 and at + 1 < end and segments[at + 1, 1] <= stop_frame:
            stopped = first_row[at + 1] + stop_frame - segments[at + 1, 1]
        if start < 0 or stopped < 0:
            # Never between a body and its absence: the nearer frame alone.
            start = stopped = stopped if share > 0.5 else start
        base[frame], other[frame] = start, stopped
    return end


@njit(cache=True, nogil=True, fastmath={"contract"})
def _find_origin(
    poses: np.ndarray,
    base: np.ndarray,
    other: np.ndarray,
    step: np.ndarray,
    centre: int,
    joint: int,
    origin: np.ndarray,
) -> None:
    """(T, 3) the place of a joint: each frame's of its first body, their mean, or the first body's first."""
    bodies, frames = base.shape
    origin[:] = 0.0
    mean, count = np.zeros(3, np.float64), 0
    for turn in range(frames * bodies):
        # Frame by frame; or body by body, where only the first place is looked for.
        body, frame = (turn // frames, turn % frames) if centre == FIRST_FRAME else (turn % bodies, turn // bodies)
        first, second = base[body, frame], other[body, frame]
        if first < 0 or (centre != FIRST_FRAME and _is_any_before(base, body, frame)):
            continue
        for axis in range(3):
            place = poses[first, joint, axis]
            origin[frame, axis] = place + step[frame] * (poses[second, joint, axis] - place)
            mean[axis] += origin[frame, axis]
        count += 1
        if centre == FIRST_FRAME:
            break
    if centre != EVERY_FRAME:
        for axis in range(3):
            origin[:, axis] = np.float32(mean[axis] / max(count, 1))


@njit(cache=True, nogil=True)
def _is_any_before(base: np.ndarray, body: int, frame: int) -> bool:
    """Whether a body of a smaller number is there."""
    return bool((base[:body, frame] >= 0).any())
