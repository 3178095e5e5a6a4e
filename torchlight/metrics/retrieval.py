"""Who is it? Rank-k, mAP and mINP of a gallery that is searched, under a protocol, with intervals over identities.

Of a probe with K matches, the j-th of them standing at rank r_j (ties count against, see `ranking`): Rank-k asks for
r_1 <= k, AP is the mean of j / r_j, and INP is K / r_K (Ye et al., TPAMI 2021). Means are over trials, a trial being
one probe held against one cell of the gallery; a protocol with cells takes the mean over cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchlight.arrays import matching_order
from torchlight.metrics.bootstrap import Interval, cluster_interval
from torchlight.metrics.distance import DistanceName, Distances, EmbeddingSpace, GivenDistances
from torchlight.metrics.protocol import RetrievalProtocol, Rows, SampleTable
from torchlight.metrics.ranking import Pairing, Ranking, rank_matches
from torchlight.metrics.reranking import KReciprocal
from torchlight.metrics.verification import verify

if TYPE_CHECKING:
    from torchlight.task import Prediction

RANKS = (1, 5, 10, 20)
METRICS = (*(f"rank{k}" for k in RANKS), "mAP", "mINP")


@dataclass(frozen=True, eq=False)
class Trials:
    """What came of every trial that counts, and how many did not.

    Shapes:
        probe: (T,) row of the table; group, probe_value, cell: (T,) value of the columns of the protocol
        values: metric -> (T,) percent; chance: (T,) Rank-1 of a blind guess, percent

    Args:
        probes: probes of the protocol; ``unmatched`` trials had candidates but no match among them, and were left out
            or counted as failures as the protocol says.
        gallery: samples that are searched.
    """

    table: SampleTable
    protocol: RetrievalProtocol
    probe: Rows
    group: NDArray[np.int64]
    probe_value: NDArray[np.int64]
    cell: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    chance: NDArray[np.float64]
    probes: int
    unmatched: int
    gallery: int

    @property
    def identity(self) -> NDArray[np.int64]:
        """(T,) whom the probe shows: what the bootstrap draws."""
        return self.table.identity[self.probe]

    @cached_property
    def mean_over(self) -> NDArray[np.int64]:
        """(T,) a number for each (group, probe value, cell): the mean of a metric is the mean of their means."""
        code = np.zeros(len(self.probe), dtype=np.int64)
        for key in (self.group, self.probe_value, self.cell):
            # Values begin at -1.
            code = code * (key.max(initial=0) + 2) + key + 1
        return code

    def within(self, group: int) -> "Trials":
        """The trials of one group of probes."""
        return self._take(np.flatnonzero(self.group == group))

    def groups(self) -> Mapping[str, int]:
        """Name -> value of each group; none where the protocol has none."""
        column = self.protocol.groups
        return {self.table.value_name(column, v): int(v) for v in np.unique(self.group)} if column else {}

    def interval(self, metric: str, *, draws: int = 2000, seed: int = 0) -> Interval:
        """A metric with its 95 % bootstrap interval over identities; the gallery stays as it is."""
        return cluster_interval(self.values[metric], self.identity, self.mean_over, draws=draws, seed=seed)

    def cell_table(self, metric: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(R,) probe values, (C,) gallery values and the (R, C) mean of a metric; NaN where nothing is compared."""
        row, row_of = np.unique(self.probe_value, return_inverse=True)
        column, column_of = np.unique(self.cell, return_inverse=True)
        total, count = np.zeros((len(row), len(column))), np.zeros((len(row), len(column)))
        np.add.at(total, (row_of, column_of), self.values[metric])
        np.add.at(count, (row_of, column_of), 1)
        return row, column, np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def _take(self, rows: Rows) -> "Trials":
        per_trial = ("probe", "group", "probe_value", "cell", "chance")
        values = {name: value[rows] for name, value in self.values.items()}
        return replace(self, values=values, **{name: getattr(self, name)[rows] for name in per_trial})


@dataclass(frozen=True)
class RetrievalMetrics:
    """The metric object of embeddings under protocols; percent, each measured one with ``_low`` and ``_high`` (95 %).

    ``rank1``, ``rank5``, ``rank10``, ``rank20``, ``mAP``, ``mINP`` of the first protocol, the mean over its groups
    if it has some; ``<group>/rank1`` and so on of a group, ``<protocol>/rank1`` of a further protocol. Beside them
    ``chance_rank1``, the counts ``probes``, ``unmatched``, ``gallery``, and ``eer``, ``tpr@fpr=0.1`` ... of
    `verification`. With re-ranking every name has ``reranked/`` before it.

    Args:
        table: what is known of the samples; a prediction is joined to it by sample id.
        draws: bootstrap resamples.
        embedding, present: the prediction's outputs that hold (N, P, D) and (N, P).
    """

    table: SampleTable
    protocols: tuple[RetrievalProtocol, ...]
    distance: DistanceName = "parts/euclidean"
    verification: bool = True
    reranking: KReciprocal | None = None
    draws: int = 2000
    seed: int = 0
    embedding: str = "embedding"
    present: str = "present"

    def __call__(self, prediction: "Prediction") -> Mapping[str, float]:
        """Metric name -> percent."""
        order = matching_order(prediction.sample_ids, "prediction", self.table.sample_id, "table")
        embedding, present = (prediction.outputs[name].cpu().numpy()[order] for name in (self.embedding, self.present))
        return self.of_space(EmbeddingSpace.of(embedding.astype(np.float32), present, self.distance))

    def of_space(self, space: EmbeddingSpace) -> dict[str, float]:
        """The same of embeddings in the order of the table."""
        values: dict[str, float] = {}
        for number, protocol in enumerate(self.protocols):
            prefix = ("reranked/" if self.reranking else "") + (f"{protocol.name}/" if number else "")
            values |= {prefix + name: value for name, value in self._of_protocol(space, protocol).items()}
        return values

    def _of_protocol(self, space: EmbeddingSpace, protocol: RetrievalProtocol) -> dict[str, float]:
        pairing = Pairing.of(self.table, protocol)
        distances: Distances = space.between(pairing.probe, pairing.gallery)
        if self.reranking is not None:
            distances = GivenDistances(self.reranking(space, pairing.probe, pairing.gallery))
        trials = trials_of(self.table, protocol, pairing, distances)
        values = self._summary(trials)
        for name, group in trials.groups().items():
            values |= {f"{name}/{metric}": value for metric, value in self._summary(trials.within(group)).items()}
        values |= {"probes": trials.probes, "unmatched": trials.unmatched, "gallery": trials.gallery}
        if self.verification and self.reranking is None:
            verification = verify(self.table, protocol, pairing, space)
            values |= _named(verification.intervals(draws=self.draws, seed=self.seed))
        return values

    def _summary(self, trials: Trials) -> dict[str, float]:
        intervals = {metric: trials.interval(metric, draws=self.draws, seed=self.seed) for metric in METRICS}
        chance = cluster_interval(trials.chance, trials.identity, trials.mean_over, draws=1).estimate
        return _named(intervals) | {"chance_rank1": chance}


def trials_of(table: SampleTable, protocol: RetrievalProtocol, pairing: Pairing, distances: Distances) -> Trials:
    """Every trial of a protocol; ValueError where none has a match.

    Trials without any candidate, such as those of one view where identical views are excluded, are none where the
    protocol has cells; elsewhere a probe without a candidate is unmatched.
    """
    ranking = rank_matches(table, protocol, pairing, distances)
    is_matched = ranking.matches > 0
    counts = ranking.candidates > 0 if protocol.cells else np.ones(len(ranking.probe), dtype=np.bool_)
    if not is_matched.any():
        raise ValueError(f"{protocol.name}: got no probe that the gallery has a match for, expected at least one")
    kept = np.flatnonzero(counts & (is_matched | (protocol.unmatched == "missed")))
    probe = ranking.probe[kept]
    nothing = np.zeros(len(kept), dtype=np.int64)
    values, chance = _values(ranking)
    return Trials(
        table=table,
        protocol=protocol,
        probe=probe,
        group=table.column(protocol.groups)[probe] if protocol.groups else nothing,
        probe_value=table.column(protocol.cells)[probe] if protocol.cells else nothing,
        cell=ranking.cell[kept],
        values={name: value[kept] for name, value in values.items()},
        chance=chance[kept],
        probes=len(pairing.probe),
        unmatched=int((counts & ~is_matched).sum()),
        gallery=len(pairing.gallery),
    )


def difference(first: Trials, second: Trials, *, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """The paired bootstrap of first minus second, metric by metric, over identities.

    Raises:
        ValueError: the two did not have the same trials.
    """
    names = [
        [f"{t.table.sample_id[p]} in cell {c}" for p, c in zip(t.probe, t.cell, strict=True)] for t in (first, second)
    ]
    order = matching_order(names[1], "second", names[0], "first")
    return {
        metric: cluster_interval(
            first.values[metric] - second.values[metric][order],
            first.identity,
            first.mean_over,
            draws=draws,
            seed=seed,
        )
        for metric in METRICS
    }


def comparison(
    table: SampleTable, protocol: RetrievalProtocol, spaces: Mapping[str, EmbeddingSpace], weights: Mapping[str, float]
) -> str:
    """A text table of several systems under one protocol, and by how much the last differs from each of the others."""
    pairing = Pairing.of(table, protocol)
    trials = {
        name: trials_of(table, protocol, pairing, space.between(pairing.probe, pairing.gallery))
        for name, space in spaces.items()
    }
    verified = {name: verify(table, protocol, pairing, space) for name, space in spaces.items()}
    *others, last = spaces
    some = trials[last]
    lines = [
        f"protocol {protocol.name}: {some.probes} probes, {some.gallery} in the gallery; trials without a match: "
        f"{some.unmatched}, {protocol.unmatched.replace('_', ' ')}"
    ]
    width = max(6, *(len(name) for name in spaces)) + 1
    shown = ("rank1", "rank5", "mAP", "mINP")
    for group, code in {"": None, **some.groups()}.items():
        header = (*shown, "eer") if code is None else shown
        lines.append((f"{group or 'system':<{width}} weight" + "".join(f"  {name:<23}" for name in header)).rstrip())
        for name, whole in trials.items():
            part = whole if code is None else whole.within(code)
            cells = [str(part.interval(metric)) for metric in shown]
            cells += [str(verified[name].intervals(())["eer"])] if code is None else []
            weight = f"{weights[name]:.3f}" if name in weights else ""
            lines.append(f"{name:<{width}} {weight:>6}  {'  '.join(cells)}")
    for name in others:
        found = difference(some, trials[name])
        cells = [str(found[metric]) for metric in shown]
        cells.append(str(verified[last].equal_error_difference(verified[name])))
        lines.append(f"{last} - {name}".ljust(width + 7) + f"  {'  '.join(cells)}")
    return "\n".join(lines)


def _values(ranking: Ranking) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Metric -> (T,) percent, 0 without a match, and (T,) the chance of a blind guess to be a match."""
    matches = ranking.matches
    is_matched = matches > 0
    first, last = ranking.bounds[:-1][is_matched], ranking.bounds[1:][is_matched] - 1
    trial = np.repeat(np.arange(len(matches)), matches)
    place = 1 + np.arange(len(ranking.ahead)) - ranking.bounds[trial]
    precision = place / (ranking.ahead + place)
    values = {name: np.zeros(len(matches)) for name in METRICS}
    for k in RANKS:
        values[f"rank{k}"][is_matched] = 100.0 * (ranking.ahead[first] < k)
    values["mAP"] = 100 * np.bincount(trial, precision, minlength=len(matches)) / np.maximum(matches, 1)
    values["mINP"][is_matched] = 100 * precision[last]
    return values, 100 * matches / np.maximum(ranking.candidates, 1)


def _named(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Each estimate and its ends."""
    return {key: value for name, interval in intervals.items() for key, value in interval.named(name).items()}
