"""Is it the same person, and is it anybody at all: ROC and EER over pairs, and open-set identification.

A threshold accepts the pairs that are as near as it says, or nearer. The share of matching pairs that are accepted
(TPR) changes at their own distances only, so the rates at those distances, for which the other pairs are counted as
they stream by, say everything about the ROC: EER and TPR at any FPR are exact, and no other pair is kept. "Exact" is in
float64: a pair that is level with a matching one, up to rounding (1e-7 of the longest vector), counts as accepted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchlight.metrics.bootstrap import Interval, cluster_counts, cluster_interval, interval_of
from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import Agreeing, RetrievalProtocol, SampleTable
from torchlight.metrics.ranking import Pairing

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
# Intervals of the ROC look at so many thresholds at most, at even steps of TPR; estimates look at all.
_GRID = 1000


@dataclass(frozen=True, eq=False)
class Verification:
    """The error rates of a protocol's pairs, and who is nearest to each probe.

    Shapes:
        threshold: (n,) rising distances of matching pairs, each once
        true_positive, false_positive: (n,) share of the matching, and of the other pairs, that each threshold accepts
        of_identity: (I, 2, g) matching and other pairs that each of up to `_GRID` thresholds accepts, by identity of
            the probe; pairs_of_identity: (I, 2) how many there are
        identity: (P,) of each probe; nearest_match, nearest_other: (P,) distances, infinite where there is none
    """

    threshold: NDArray[np.float64]
    true_positive: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    of_identity: NDArray[np.float64]
    pairs_of_identity: NDArray[np.float64]
    identity: NDArray[np.int64]
    nearest_match: NDArray[np.float64]
    nearest_other: NDArray[np.float64]

    @property
    def equal_error(self) -> float:
        """The smallest rate that one threshold can keep both errors to: min over thresholds of max(FPR, 1 - TPR)."""
        return float(_equal_error(self.true_positive, self.false_positive))

    def true_positive_at(self, false_positive: float) -> float:
        """The highest TPR of the thresholds that accept no more than this share of other pairs; 0 where none does."""
        return float(_true_positive_at(self.true_positive, self.false_positive, false_positive))

    def intervals(
        self, rates: Sequence[float] = FALSE_POSITIVE_RATES, *, draws: int = 2000, seed: int = 0
    ) -> dict[str, Interval]:
        """``eer`` and ``tpr@fpr=<rate>`` in percent, each with its 95 % bootstrap interval over probes' identities."""
        estimates = [self.equal_error, *(self.true_positive_at(rate) for rate in rates)]
        ends = np.concatenate([self._resampled(rates, times) for times in self._counts(draws, seed)], axis=1)
        names = ("eer", *(f"tpr@fpr={rate:g}" for rate in rates))
        return {n: interval_of(100 * e, 100 * d) for n, e, d in zip(names, estimates, ends, strict=True)}

    def equal_error_difference(self, other: "Verification", *, draws: int = 2000, seed: int = 0) -> Interval:
        """The paired bootstrap of this EER minus another's on the same probes, percent."""
        if not np.array_equal(self.identity, other.identity):
            raise ValueError("difference: got two verifications of other probes, expected the same, in the same order")
        resampled = [
            np.concatenate([system._resampled((), times)[0] for times in self._counts(draws, seed)])
            for system in (self, other)
        ]
        return interval_of(100 * (self.equal_error - other.equal_error), 100 * (resampled[0] - resampled[1]))

    def unknown_threshold(self, false_alarms: float) -> float:
        """The largest distance at which at most this share of strangers is taken for somebody (FPIR).

        To be called on validation data. A stranger is a probe whose own people are not in the gallery: every probe is
        one, once, against the others alone.
        """
        allowed, nearest = int(false_alarms * len(self.nearest_other)), np.sort(self.nearest_other)
        return float(np.nextafter(nearest[allowed], -np.inf)) if allowed < len(nearest) else float("inf")

    def identification(self, threshold: float, *, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
        """Open-set identification under a threshold, percent with 95 % bootstrap intervals over identities.

        ``detected`` (DIR, 1 - FNIR): of the probes that have a match, those whose nearest is one, within the threshold;
        a tie counts against. ``false_alarms`` (FPIR): of all probes as strangers, those with somebody within it.
        """
        has_match = np.isfinite(self.nearest_match)
        is_right = (self.nearest_match < self.nearest_other) & (self.nearest_match <= threshold)
        alarms = 100.0 * (self.nearest_other <= threshold)
        return {
            "detected": cluster_interval(100.0 * is_right[has_match], self.identity[has_match], draws=draws, seed=seed),
            "false_alarms": cluster_interval(alarms, self.identity, draws=draws, seed=seed),
        }

    def _counts(self, draws: int, seed: int) -> list[NDArray[np.float64]]:
        identities, _, grid = self.of_identity.shape
        step = max(1, (1 << 22) // max(identities, grid))
        blocks = cluster_counts(identities, draws, seed)
        return [times[start : start + step] for times in blocks for start in range(0, len(times), step)]

    def _resampled(self, rates: Sequence[float], times: NDArray[np.float64]) -> NDArray[np.float64]:
        """(1 + rates, draws) EER and TPR at each rate, where each identity counts so many times."""
        pairs = times @ self.pairs_of_identity
        # A resample without a matching pair has no TPR; it is one that fails.
        true, false = (times @ self.of_identity[:, k] / np.maximum(pairs[:, k, None], 1) for k in (0, 1))
        return np.stack([_equal_error(true, false), *(_true_positive_at(true, false, rate) for rate in rates)])


def verify(table: SampleTable, protocol: RetrievalProtocol, pairing: Pairing, space: EmbeddingSpace) -> Verification:
    """Stream over all pairs that a protocol compares; memory is a chunk of rows and the matching pairs.

    Raises:
        ValueError: no pair matches, or every pair does.
    """
    distances = space.between(pairing.probe, pairing.gallery, is_double=True)
    matching = Agreeing(table, ("identity",), pairing.probe, pairing.gallery)
    excluded = [Agreeing(table, columns, pairing.probe, pairing.gallery) for columns in protocol.exclusions()]
    row, item = matching.pairs(0, len(pairing.probe))
    counts = ~protocol.is_excluded(table, pairing.probe[row], pairing.gallery[item])
    row, item = row[counts], item[counts]
    number = distances.exact(row, item)
    threshold, accepted = np.unique(number, return_counts=True)
    if not len(threshold):
        raise ValueError(f"{protocol.name}: got no pair that matches, expected at least one")
    grid = threshold[np.unique(np.linspace(0, len(threshold) - 1, _GRID).round().astype(np.intp))]
    identity = table.identity[pairing.probe]
    people, who = np.unique(identity, return_inverse=True)
    of_identity = np.zeros((len(people), 2, len(grid)))
    pairs_of_identity = np.zeros((len(people), 2))
    np.add.at(of_identity[:, 0], (who[row], np.searchsorted(grid, number)), 1)
    of_identity[:, 0] = of_identity[:, 0].cumsum(axis=1)
    np.add.at(pairs_of_identity[:, 0], who[row], 1)
    nearest_match, nearest_other = np.full(len(identity), np.inf), np.full(len(identity), np.inf)
    np.minimum.at(nearest_match, row, number)
    others = np.zeros(len(threshold), dtype=np.int64)
    for start in range(0, len(pairing.probe), distances.chunk):
        stop = min(start + distances.chunk, len(pairing.probe))
        rows, error = distances.rows(start, stop)
        for agreeing in (*excluded, matching):
            rows[agreeing.pairs(start, stop)] = np.nan
        rows -= error[:, None]
        rows.sort(axis=1)
        for r, other in enumerate(np.count_nonzero(~np.isnan(rows), axis=1)):
            of_identity[who[start + r], 1] += np.searchsorted(rows[r, :other], grid, side="right")
            pairs_of_identity[who[start + r], 1] += other
            if other:
                nearest_other[start + r] = rows[r, 0] + error[r]
        if len(grid) < len(threshold):
            others += np.searchsorted(np.sort(rows[~np.isnan(rows)]), threshold, side="right")
    if not pairs_of_identity[:, 1].any():
        raise ValueError(f"{protocol.name}: got no pair that does not match, expected at least one")
    others = others if len(grid) < len(threshold) else of_identity[:, 1].sum(axis=0)
    return Verification(
        threshold=space.distance(threshold),
        true_positive=accepted.cumsum() / accepted.sum(),
        false_positive=others / pairs_of_identity[:, 1].sum(),
        of_identity=of_identity,
        pairs_of_identity=pairs_of_identity,
        identity=identity,
        nearest_match=space.distance(nearest_match),
        nearest_other=space.distance(np.maximum(nearest_other, 0)),
    )


def _equal_error(true_positive: NDArray[np.float64], false_positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis, thresholds; a threshold that rejects every pair has errors 1 and 0."""
    return np.asarray(np.maximum(false_positive, 1 - true_positive).min(axis=-1))


def _true_positive_at(
    true_positive: NDArray[np.float64], false_positive: NDArray[np.float64], rate: float
) -> NDArray[np.float64]:
    return np.asarray(np.where(false_positive <= rate, true_positive, 0.0).max(axis=-1))
