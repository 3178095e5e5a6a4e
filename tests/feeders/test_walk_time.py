from collections.abc import Callable

import numpy as np
import pytest

from feeders.gait.walk_time import drawn_window, extents, middle_window, seen_frames, whole_walk
from feeders.store import Recording, Store, Track

SEEN = [np.arange(100), np.array([0, 1, 2, 50, 51, 52, 53]), np.arange(5)]
SEEDS = np.array([5, 6, 7])


def test_a_window_is_rising_inside_the_walk_and_starts_where_somebody_is_seen() -> None:
    for epoch in range(50):
        for gaps in ("keep", "close"):
            window = drawn_window(SEEN, 12, gaps, (0.8, 1.3), SEEDS + 10 * epoch)
            for walk, own in enumerate(SEEN):
                low, high = window.grid.low[walk], window.grid.high[walk]
                assert low[0] in own
                assert (np.diff(low) >= 0).all()
                assert (low <= high).all()
                assert high.max() <= own[-1]
                assert window.inside[walk, 0]
                if gaps == "close":
                    assert set(low) | set(high) <= set(own.tolist())


def test_what_lies_beyond_a_short_walk_is_outside() -> None:
    window = drawn_window(SEEN, 12, "keep", (1.0, 1.0), SEEDS)
    assert window.inside[2].tolist() == [True] * 5 + [False] * 7
    assert window.grid.low[2, :5].tolist() == [0, 1, 2, 3, 4]
    assert window.inside[0].all()


def test_a_closed_gap_is_cut_out_of_time_and_a_kept_one_is_not() -> None:
    closed = whole_walk(SEEN[1:2], 8, "close")
    assert closed.grid.low[0, :7].tolist() == SEEN[1].tolist()
    assert closed.inside[0].tolist() == [True] * 7 + [False]
    kept = whole_walk(SEEN[1:2], 60, "keep")
    assert kept.grid.low[0, :54].tolist() == list(range(54))
    assert kept.inside.sum() == 54


def test_a_faster_walk_takes_its_frames_from_further_on() -> None:
    window = drawn_window(SEEN[:1], 10, "keep", (2.0, 2.0), SEEDS[:1])
    assert (np.diff(window.grid.low[0]) == 2).all()


def test_every_start_that_leaves_a_whole_window_is_drawn() -> None:
    seeds = np.arange(400)
    starts = drawn_window([np.arange(10)] * 400, 8, "keep", (1.0, 1.0), seeds).grid.low[:, 0]
    assert sorted(set(starts.tolist())) == [0, 1, 2]


def test_the_middle_is_the_middle() -> None:
    window = middle_window(SEEN, 10, "keep")
    assert window.grid.low[0].tolist() == list(range(45, 55))
    assert window.grid.low[1, 0] == 2
    assert window.inside[2].sum() == 5


@pytest.mark.parametrize(("gaps", "expected"), [("keep", [7, 3]), ("close", [4, 3])])
def test_a_store_tells_what_is_seen(write_store: Callable[..., Store], gaps: str, expected: list[int]) -> None:
    def clip(name: str, frames: list[int]) -> Recording:
        return Recording(name, 0, frames[-1] + 1, (Track(np.array(frames), np.ones((len(frames), 25, 3))),))

    store = write_store([clip("a", [0, 1, 4, 6]), clip("b", [0, 1, 2])])
    assert seen_frames(store, 0).tolist() == [0, 1, 4, 6]
    assert seen_frames(store, 1).tolist() == [0, 1, 2]
    assert extents(store, np.array([0, 1]), gaps).tolist() == expected
