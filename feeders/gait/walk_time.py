"""Which moments of a walk are shown: windows in real time, at a speed, with what lies beyond the walk masked.

A walk is never stretched to a length, as its pace is part of who walks. Frames in which nobody was detected are gaps
of the walk, or, with ``gaps="close"``, are cut out of its time: published feeders read only the files there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from feeders.crop import TimeGrid
from feeders.draws import between, uniform
from feeders.store import Store

Gaps = Literal["keep", "close"]


@dataclass(frozen=True)
class Window:
    """T moments of N walks.

    Shapes:
        grid: the source frames, clamped to the walk; inside: (N, T) bool, the moment is one of the walk
    """

    grid: TimeGrid
    inside: np.ndarray


def seen_frames(store: Store, sample: int) -> np.ndarray:
    """The frames in which a clip shows its first body, rising."""
    index = store.index
    begin = index.segment_end[sample - 1] if sample else 0
    segments = index.segments[begin : index.segment_end[sample]]
    return np.concatenate([np.arange(first, first + count) for body, first, count in segments if body == 0])


def drawn_window(
    seen: Sequence[np.ndarray], frames: int, gaps: Gaps, speed: tuple[float, float], seeds: np.ndarray
) -> Window:
    """A window of T moments from a drawn start on, where somebody is seen, at a drawn speed.

    A walk that is shorter starts at its beginning.

    Args:
        seen: of each walk, the frames with somebody in them.
        frames: T.
        gaps: whether frames without anybody are part of the walk.
        speed: source frames from one moment to the next, between these; above 1 the walker hurries.
        seeds: (N,)
    """
    pace = between(seeds, "walk speed", *speed)[:, 0]
    draw = uniform(seeds, "walk start")[:, 0]
    starts = np.empty(len(seen))
    for walk, own in enumerate(seen):
        places = np.arange(len(own)) if gaps == "close" else own
        last = _extent(own, gaps) - 1 - pace[walk] * (frames - 1)
        possible = max(int(np.searchsorted(places, last, side="right")), 1)
        starts[walk] = places[int(draw[walk] * possible)]
    return _window(seen, starts, pace, frames, gaps)


def middle_window(seen: Sequence[np.ndarray], frames: int, gaps: Gaps) -> Window:
    """The middle T frames of each walk; from the last one before where somebody is seen."""
    starts = np.empty(len(seen))
    for walk, own in enumerate(seen):
        places = np.arange(len(own)) if gaps == "close" else own
        start = max((_extent(own, gaps) - frames) // 2, places[0])
        starts[walk] = places[np.searchsorted(places, start, side="right") - 1]
    return _window(seen, starts, np.ones(len(seen)), frames, gaps)


def whole_walk(seen: Sequence[np.ndarray], frames: int, gaps: Gaps) -> Window:
    """Every frame from the first on; ``frames`` is at least the longest walk's extent."""
    return _window(seen, np.zeros(len(seen)), np.ones(len(seen)), frames, gaps)


def extents(store: Store, samples: np.ndarray, gaps: Gaps) -> np.ndarray:
    """(N,) how many frames each walk takes."""
    if gaps == "keep":
        return np.asarray(store.index.frames[samples])
    return np.array([len(seen_frames(store, sample)) for sample in samples], dtype=np.int64)


def _extent(seen: np.ndarray, gaps: Gaps) -> int:
    return len(seen) if gaps == "close" else int(seen[-1]) + 1


def _window(seen: Sequence[np.ndarray], starts: np.ndarray, pace: np.ndarray, frames: int, gaps: Gaps) -> Window:
    last = np.array([_extent(own, gaps) for own in seen])[:, None] - 1
    at = starts[:, None] + pace[:, None] * np.arange(frames)
    inside = at <= last
    at = np.minimum(at, last)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, last)
    fraction = (at - low).astype(np.float32)
    if gaps == "close":
        low = np.stack([own[places] for own, places in zip(seen, low, strict=True)])
        high = np.stack([own[places] for own, places in zip(seen, high, strict=True)])
    return Window(TimeGrid(low, high, fraction), inside)
