"""The compiled way from a store's body-frames to resampled clips: one pass, without the arrays in between.

The same numbers, to the last bit where the processor has fused multiply-add, as `feeders.store.Store.gather` followed
by `feeders.crop.resample`, for stores without joint weights.
"""

import numpy as np
from numba import njit


# With "contract" a product and a sum are rounded once, as in torch's lerp.
@njit(cache=True, nogil=True, fastmath={"contract"})
def blend(
    poses: np.ndarray,
    segments: np.ndarray,
    first_row: np.ndarray,
    segment_range: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    fraction: np.ndarray,
    pose: np.ndarray,
    weight: np.ndarray,
    is_seen: np.ndarray,
) -> None:
    """Fill pose, weight and is_seen.

    Shapes:
        poses: (rows, V, 3); segments: (S, 3) and first_row: (S,) as in a store
        segment_range: (N, 2) first and last + 1 of each clip's segments
        low, high, fraction: (N, T) as in a `TimeGrid`
        pose: (N, 3, T, V, M); weight: (N, T, V, M); is_seen: (N, M) bool
    """
    clips, _, frames, joints, bodies = pose.shape
    for clip in range(clips):
        for body in range(bodies):
            at, end = _of_body(segments, segment_range[clip], body)
            is_seen[clip, body] = False
            for frame in range(frames):
                # Low frames rise, so the search goes on where it was.
                at = _last_segment(segments, at, end, low[clip, frame])
                after = _last_segment(segments, at, end, high[clip, frame])
                start = _row(segments, first_row, at, end, low[clip, frame])
                stopped = _row(segments, first_row, after, end, high[clip, frame])
                share = fraction[clip, frame]
                if start < 0 or stopped < 0:
                    # Never between a body and its absence: the nearer frame alone.
                    start = stopped = stopped if share > 0.5 else start
                if start < 0:
                    for joint in range(joints):
                        weight[clip, frame, joint, body] = 0.0
                        pose[clip, 0, frame, joint, body] = 0.0
                        pose[clip, 1, frame, joint, body] = 0.0
                        pose[clip, 2, frame, joint, body] = 0.0
                    continue
                is_seen[clip, body] = True
                base, other, step = stopped, start, np.float32(1.0) - share
                if share < 0.5:
                    base, other, step = start, stopped, share
                for joint in range(joints):
                    x, y, z = poses[base, joint, 0], poses[base, joint, 1], poses[base, joint, 2]
                    weight[clip, frame, joint, body] = 1.0
                    pose[clip, 0, frame, joint, body] = x + step * (poses[other, joint, 0] - x)
                    pose[clip, 1, frame, joint, body] = y + step * (poses[other, joint, 1] - y)
                    pose[clip, 2, frame, joint, body] = z + step * (poses[other, joint, 2] - z)


@njit(cache=True, nogil=True)
def _of_body(segments: np.ndarray, of_clip: np.ndarray, body: int) -> tuple[int, int]:
    """The first and last + 1 of a body's segments among a clip's."""
    begin, stop = of_clip
    while begin < stop and segments[begin, 0] < body:
        begin += 1
    end = begin
    while end < stop and segments[end, 0] == body:
        end += 1
    return begin, end


@njit(cache=True, nogil=True)
def _last_segment(segments: np.ndarray, at: int, end: int, frame: int) -> int:
    """The last segment of a body, from one on, that starts at a frame or before."""
    while at + 1 < end and segments[at + 1, 1] <= frame:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _row(segments: np.ndarray, first_row: np.ndarray, at: int, end: int, frame: int) -> int:
    """The row of a frame in a segment; -1 where the body is absent."""
    if at >= end:
        return -1
    depth = frame - segments[at, 1]
    return first_row[at] + depth if 0 <= depth < segments[at, 2] else -1
