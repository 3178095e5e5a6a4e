"""k-reciprocal re-ranking (Zhong et al., CVPR 2017): who is near the same people as the probe is nearer to it.

It looks at all probes at once, so a probe's answer depends on the other probes, and its memory is (probes + gallery)²:
a number to print beside the others, with its name on it, never in their place.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.protocol import Rows

MOST_SAMPLES = 20_000


@dataclass(frozen=True)
class KReciprocal:
    """The re-ranking with its published settings.

    Args:
        neighbours: k1 of the paper, whose sets are compared.
        averaged: k2, over how many nearest each set is averaged.
        share: lambda, the share of the original distance.
    """

    neighbours: int = 20
    averaged: int = 6
    share: float = 0.3

    def __call__(self, space: EmbeddingSpace, probe: Rows, gallery: Rows) -> NDArray[np.float32]:
        """(P, G) re-ranked distances.

        Raises:
            ValueError: there are more samples than memory is good for, or two of them have no common part.
        """
        rows, place = np.unique(np.concatenate([probe, gallery]), return_inverse=True)
        if len(rows) > MOST_SAMPLES:
            raise ValueError(
                f"re-ranking: got {len(rows)} samples, expected at most {MOST_SAMPLES}; it compares them all"
            )
        distance = _squared_distances(space, rows)
        order = np.argsort(distance, axis=1, kind="stable")[:, : max(self.neighbours + 1, self.averaged)]
        membership = np.zeros_like(distance)
        near, half = (self._reciprocal(order, k) for k in (self.neighbours, round(self.neighbours / 2)))
        for row in range(len(rows)):
            members = near[row]
            for member in near[row]:
                if len(np.intersect1d(half[member], near[row])) > 2 / 3 * len(half[member]):
                    members = np.union1d(members, half[member])
            weight = np.exp(-distance[row, members])
            membership[row, members] = weight / weight.sum()
        if self.averaged > 1:
            membership = membership[order[:, : self.averaged]].mean(axis=1)
        probes, others = place[: len(probe)], place[len(probe) :]
        searched, result = membership[others], np.empty((len(probe), len(gallery)), dtype=np.float32)
        for number, row in enumerate(probes):
            members = np.flatnonzero(membership[row])
            common = np.minimum(membership[row, members], searched[:, members]).sum(axis=1)
            jaccard = 1 - common / (2 - common)
            result[number] = (1 - self.share) * jaccard + self.share * distance[row, others]
        return result

    @staticmethod
    def _reciprocal(order: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
        """Of each sample the nearest so many, itself among them, that have it among theirs."""
        nearest = order[:, : count + 1]
        return [row[(nearest[row] == sample).any(axis=1)] for sample, row in enumerate(nearest)]


def _squared_distances(space: EmbeddingSpace, rows: Rows) -> NDArray[np.float32]:
    """(N, N) squared distances, each row divided by its largest, as published."""
    between = space.between(rows, rows, is_double=True)
    result = np.empty((len(rows), len(rows)), dtype=np.float32)
    for start in range(0, len(rows), between.chunk):
        stop = min(start + between.chunk, len(rows))
        number = np.maximum(between.rows(start, stop)[0], 0)
        number[np.arange(stop - start), np.arange(start, stop)] = 0
        if not np.isfinite(number).all():
            raise ValueError("re-ranking: got samples without a common part, expected one for every pair")
        square = np.square(number) if space.is_rooted else number
        result[start:stop] = square / np.maximum(square.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return result
