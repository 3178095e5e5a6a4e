"""Where the matches of every probe stand, without sorting a gallery: by counting who is nearer.

One rule for ties, everywhere: they count against. A match stands behind every non-match that is as near as it is, so
an embedding that is the same for everybody finds nobody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchlight.compiled import compiled_or_none
from torchlight.metrics.distance import Distances, EmbeddingDistances
from torchlight.metrics.protocol import Agreeing, RetrievalProtocol, Rows, SampleTable


@dataclass(frozen=True)
class Pairing:
    """The probes and the gallery of a protocol in the order in which they are compared.

    Shapes:
        probe: (P,) rows of the table; gallery: (G,) rows, those of one cell next to each other
        cell: (K,) the cells' values; bounds: (K + 1,) cell k is gallery[bounds[k]:bounds[k + 1]]
    """

    probe: Rows
    gallery: Rows
    cell: NDArray[np.int64]
    bounds: NDArray[np.intp]

    @classmethod
    def of(cls, table: SampleTable, protocol: RetrievalProtocol) -> "Pairing":
        """The pairing of a protocol; ValueError where it has no probe or no gallery."""
        if len(protocol.role) != len(table):
            raise ValueError(f"{protocol.name}: got {len(protocol.role)} roles, expected {len(table)}, one per sample")
        probe, gallery = protocol.probes, protocol.gallery
        if not len(probe) or not len(gallery):
            raise ValueError(
                f"{protocol.name}: got {len(probe)} probes and {len(gallery)} in the gallery, expected both"
            )
        value = table.column(protocol.cells) if protocol.cells else np.zeros(len(table), dtype=np.int64)
        gallery = gallery[np.argsort(value[gallery], kind="stable")]
        cell, first = np.unique(value[gallery], return_index=True)
        return cls(probe, gallery, cell, np.append(first, len(gallery)))

    def excluded(self, table: SampleTable, protocol: RetrievalProtocol) -> list[Agreeing]:
        """The pairs that the protocol does not compare."""
        return [Agreeing(table, columns, self.probe, self.gallery) for columns in protocol.exclusions()]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the matches stand in each trial: one probe held against one cell of the gallery.

    Shapes:
        probe: (T,) row of the table; cell: (T,) value of the cell, 0 where there are none
        candidates: (T,) how many of the cell it is compared with
        bounds: (T + 1,) the matches of trial t are ahead[bounds[t]:bounds[t + 1]]
        ahead: (n,) non-matches that are nearer, or as near; rising within a trial
    """

    probe: Rows
    cell: NDArray[np.int64]
    candidates: NDArray[np.int64]
    bounds: NDArray[np.intp]
    ahead: NDArray[np.int64]

    @property
    def matches(self) -> NDArray[np.intp]:
        """(T,) how many matches each trial has."""
        return np.diff(self.bounds)


def rank_matches(table: SampleTable, protocol: RetrievalProtocol, pairing: Pairing, distances: Distances) -> Ranking:
    """Rank every match of every probe.

    Exact: equal to sorting the whole gallery by distances taken in float64, ties against. What a chunk of rows cannot
    tell apart is taken pair by pair. Memory is a chunk of rows and the matches.
    """
    cells = len(pairing.cell)
    cell_of = np.repeat(np.arange(cells), np.diff(pairing.bounds))
    matching = Agreeing(table, ("identity",), pairing.probe, pairing.gallery)
    excluded = pairing.excluded(table, protocol)
    candidates = np.tile(np.diff(pairing.bounds).astype(np.int64), (len(pairing.probe), 1))
    trials: list[NDArray[np.intp]] = []
    ahead: list[NDArray[np.int64]] = []
    for start in range(0, len(pairing.probe), distances.chunk):
        stop = min(start + distances.chunk, len(pairing.probe))
        rows, error = distances.rows(start, stop)
        for agreeing in excluded:
            row, item = agreeing.pairs(start, stop)
            is_new = ~np.isnan(rows[row, item])
            np.subtract.at(candidates, (start + row[is_new], cell_of[item[is_new]]), 1)
            rows[row, item] = np.nan
        row, item = matching.pairs(start, stop)
        counts = ~np.isnan(rows[row, item])
        row, item = row[counts], item[counts]
        rows[row, item] = np.nan
        # Rising, as the pairs are by row and place, and places by cell.
        trial = (start + row) * cells + cell_of[item]
        trials.append(trial)
        ahead.append(_count_ahead(distances, pairing, Chunk(start, rows, error, trial, item)))
    return Ranking(
        probe=np.repeat(pairing.probe, cells),
        cell=np.tile(pairing.cell, len(pairing.probe)),
        candidates=candidates.reshape(-1),
        bounds=np.searchsorted(np.concatenate(trials), np.arange(len(pairing.probe) * cells + 1)),
        ahead=np.concatenate(ahead),
    )


@dataclass(frozen=True, eq=False)
class Chunk:
    """The distances of some probes, NaN where a pair does not count or is a match, and the matches.

    Shapes:
        rows: (C, G) of probes start to start + C; error: (C,)
        trial: (n,) rising number of each match's trial; item: (n,) its place in the gallery
    """

    start: int
    rows: NDArray[Any]
    error: NDArray[np.float64]
    trial: NDArray[np.intp]
    item: Rows


def nearest(
    distances: Distances, probes: int, gallery: Rows, count: int, excluded: Sequence[Agreeing] = ()
) -> tuple[Rows, NDArray[np.float64]]:
    """The nearest of a gallery to each of so many probes, nearest first; of equally near ones, the lowest row.

    ``gallery`` are (G,) rows in the order of the distances' items; pairs of ``excluded`` are not compared.

    Returns:
        (P, k) rows of the gallery and (P, k) their numbers, where k is ``count`` or the size of the gallery; where a
        probe is compared with fewer, -1 and infinity.
    """
    count = min(count, len(gallery))
    found = np.full((probes, count), -1, dtype=np.intp)
    number = np.full(found.shape, np.inf)
    for start in range(0, probes, distances.chunk):
        stop = min(start + distances.chunk, probes)
        rows, error = distances.rows(start, stop)
        for agreeing in excluded:
            rows[agreeing.pairs(start, stop)] = np.nan
        last = np.partition(rows, count - 1, axis=1)[:, count - 1]
        for row, limit in enumerate(np.where(np.isnan(last), np.inf, last + 2 * error)):
            item = np.flatnonzero(rows[row] <= np.nextafter(limit, np.inf).astype(rows.dtype))
            exact = distances.exact(np.full(len(item), start + row), item)
            best = np.lexsort((gallery[item], exact))[:count]
            found[start + row, : len(best)] = gallery[item[best]]
            number[start + row, : len(best)] = exact[best]
    return found, number


def _count_ahead(distances: Distances, pairing: Pairing, chunk: Chunk) -> NDArray[np.int64]:
    """(n,) how many entries of its trial stand before each match or level with it; rising within a trial."""
    trial, first = np.unique(chunk.trial, return_index=True)
    bounds = np.append(first, len(chunk.trial))
    row, cell = trial // len(pairing.cell) - chunk.start, trial % len(pairing.cell)
    begin, end = pairing.bounds[cell], pairing.bounds[cell + 1]
    ahead = np.empty(len(chunk.trial), dtype=np.int64)
    compiled = _compiled()
    if compiled is not None and isinstance(distances, EmbeddingDistances):
        space, probe = distances.space, pairing.probe[chunk.start : chunk.start + len(chunk.rows)]
        where = (row, begin, end, bounds, chunk.item, probe, pairing.gallery)
        how = (space.vectors, space.present, space.weight, space.ends, space.is_rooted)
        compiled(chunk.rows, chunk.error, *where, *how, ahead)
        return ahead
    for t, r in enumerate(row):
        matches = chunk.item[bounds[t] : bounds[t + 1]]
        number = np.sort(distances.exact(np.full(len(matches), chunk.start + r), matches))
        entries = chunk.rows[r, begin[t] : end[t]]
        low, high = ((number + side * chunk.error[r]).astype(entries.dtype) for side in (-1, 1))
        for k in range(len(number)):
            level = begin[t] + np.flatnonzero((entries >= low[k]) & (entries <= high[k]))
            exact = distances.exact(np.full(len(level), chunk.start + r), level)
            ahead[bounds[t] + k] = np.count_nonzero(entries < low[k]) + np.count_nonzero(exact <= number[k])
    return ahead


@cache
def _compiled() -> Callable[..., None] | None:
    def load() -> Callable[..., None]:
        from torchlight.metrics.ranking_scan import count_ahead

        return count_ahead

    return compiled_or_none(load, "galleries are counted in steps")
