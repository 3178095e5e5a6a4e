"""The compiled way to count who is nearer: one pass over each row of a chunk, without the arrays in between."""

import math

import numpy as np
from numba import njit

_BINS = 4096
# Instead of a count, in a bin whose entries are taken one by one.
_OPEN = -1


# "reassoc" lets the sum be a vector's; its order depends on the width alone, so equal pairs have equal numbers.
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _square(one: np.ndarray, other: np.ndarray, begin: int, end: int) -> float:
    total = 0.0
    for d in range(begin, end):
        apart = np.float64(one[d]) - np.float64(other[d])
        total += apart * apart
    return total


@njit(cache=True, nogil=True)
def _number(
    p: int, g: int, vectors: np.ndarray, present: np.ndarray, weight: np.ndarray, ends: np.ndarray, is_rooted: bool
) -> float:
    """A pair's number in float64, as `EmbeddingDistances.exact`."""
    total, mass, begin = 0.0, 0.0, 0
    for block in range(len(ends)):
        if present[p, block] and present[g, block]:
            square = _square(vectors[p], vectors[g], begin, ends[block])
            total += weight[block] * (math.sqrt(square) if is_rooted else square)
            mass += weight[block]
        begin = ends[block]
    return total / mass if mass > 0 else np.inf


@njit(cache=True, nogil=True)
def _bin(value: float, low: float, scale: float) -> int:
    """The bin of a value. It never falls as the value rises, rounding or not: what the counting rests on."""
    place = (value - low) * scale
    return 0 if place < 0 else int(min(place, _BINS - 2)) + 1


@njit(cache=True, nogil=True)
def count_ahead(
    rows: np.ndarray,
    error: np.ndarray,
    trial_row: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    bounds: np.ndarray,
    item: np.ndarray,
    probe: np.ndarray,
    gallery: np.ndarray,
    vectors: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray,
    ends: np.ndarray,
    is_rooted: bool,
    ahead: np.ndarray,
) -> None:
    """Fill ahead: for each match of each trial, how many entries stand before it or level with it; rising.

    Entries are sorted into bins along the span of a trial's matches. The bins that a match's number may be in, give or
    take the error, are taken apart by exact numbers; of every other bin it is known on which side of the match it is.

    Shapes:
        rows: (C, G) near the pairs' numbers, NaN where an entry does not count; error: (C,)
        trial_row, begin, end: (T,) the entries of a trial are rows[trial_row, begin:end]
        bounds, item: the matches of trial t are the places item[bounds[t]:bounds[t + 1]] of the gallery
        probe: (C,), gallery: (G,) rows of vectors; vectors, present, weight, ends: an `EmbeddingSpace`
        ahead: (n,) int64
    """
    count = np.empty(_BINS, np.int32)
    for trial in range(len(trial_row)):
        row, first, last = trial_row[trial], bounds[trial], bounds[trial + 1]
        p, e, entries = probe[row], error[row], rows[row]
        number = np.empty(last - first)
        for k in range(first, last):
            number[k - first] = _number(p, gallery[item[k]], vectors, present, weight, ends, is_rooted)
        number.sort()
        low, top = number[0] - e, number[-1] + e
        span = number[-1] - number[0] + 2 * e
        scale = (_BINS - 2) / span if 0 < span < np.inf else 1.0
        low = low if low < np.inf else 0.0
        count[:] = 0
        for k in range(len(number)):
            count[_bin(number[k] - e, low, scale) : _bin(number[k] + e, low, scale) + 1] = _OPEN
        fresh = np.zeros(len(number), np.int64)
        for j in range(begin[trial], end[trial]):
            # False for NaN too.
            if entries[j] <= top:
                place = _bin(entries[j], low, scale)
                if count[place] != _OPEN:
                    count[place] += 1
                else:
                    exact = _number(p, gallery[j], vectors, present, weight, ends, is_rooted)
                    if exact <= number[-1]:
                        fresh[np.searchsorted(number, exact)] += 1
        place, total = 0, 0
        for k in range(len(number)):
            while place < _bin(number[k] - e, low, scale):
                total += max(count[place], 0)
                place += 1
            total += fresh[k]
            ahead[first + k] = total
