"""Percentile bootstrap intervals over samples, or over clusters of samples such as the walks of one person.

A resample of N from N samples is known by how often it drew each distinct value, and those counts are multinomial:
drawing them is the same distribution as drawing N indices, at the cost of the distinct values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 1 << 21

ENDS = ("_low", "_high")
"""What the names of an interval's ends have behind the metric's."""


@dataclass(frozen=True)
class Interval:
    """A statistic of the samples and the central percentiles of its bootstrap distribution."""

    estimate: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """As a metric and its two ends."""
        return dict(zip((name, *(name + end for end in ENDS)), (self.estimate, self.low, self.high), strict=True))

    def __str__(self) -> str:
        return f"{self.estimate:6.2f} [{self.low:6.2f}, {self.high:6.2f}]"


def mean_interval(
    values: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of a value per sample, resampled over samples.

    The interval of a paired difference of two models is this of ``first - second``.

    Args:
        values: (N,) such as 1.0 where a sample is right.
        groups: (N,) such as the class of each sample; the statistic is then the mean of the groups' means, and a
            resample that misses a group is averaged over the others.
        draws: resamples.
        confidence: of the central interval.
        seed: the same seed gives the same interval.
    """
    estimate, statistic = _resampled(values, groups, draws, confidence, np.random.default_rng(seed))
    return interval_of(estimate, statistic, confidence)


def harmonic_interval(
    first: ArrayLike, second: ArrayLike, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The harmonic mean of two groups' means, 0 where one of them is 0; each group is resampled by itself.

    Shapes:
        first: (N,), second: (N',), not negative, such as 1.0 where a sample is right; the rest as in `mean_interval`
    """
    generator = np.random.default_rng(seed)
    one, ones = _resampled(first, None, draws, confidence, generator)
    other, others = _resampled(second, None, draws, confidence, generator)
    estimate = _harmonic(np.array([one]), np.array([other]))[0]
    return interval_of(estimate, _harmonic(ones, others), confidence)


def cluster_interval(
    values: ArrayLike,
    clusters: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of a value per sample, where samples of one cluster come and go together.

    ``clusters`` (N,) is such as the person that each walk shows; I of them are drawn out of the I there are. The rest
    is as in `mean_interval`.
    """
    value_N = np.asarray(values, dtype=np.float64)
    cluster_N, group_N = (
        np.unique(np.zeros(len(value_N)) if of is None else np.asarray(of), return_inverse=True)[1]
        for of in (clusters, groups)
    )
    if not value_N.shape == cluster_N.shape == group_N.shape or not len(value_N) or not np.isfinite(value_N).all():
        raise ValueError(
            f"bootstrap: got values {value_N.shape}, clusters {cluster_N.shape}, groups {group_N.shape}, "
            "expected (N,) each with N >= 1, and finite values"
        )
    shape = (cluster_N.max() + 1, group_N.max() + 1)
    cell = cluster_N * shape[1] + group_N
    size = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    total = np.bincount(cell, value_N, minlength=shape[0] * shape[1]).reshape(shape)

    def statistic(times: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = times @ size
        means = times @ total / np.where(drawn > 0, drawn, 1)
        return np.asarray(means.sum(axis=1) / (drawn > 0).sum(axis=1))

    statistics = np.concatenate([statistic(times) for times in cluster_counts(shape[0], draws, seed)])
    return interval_of(statistic(np.ones((1, shape[0])))[0], statistics, confidence)


def cluster_counts(clusters: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks (draws of them, I) of how often each resample draws each of I clusters; the same for the same seed."""
    if draws < 1 or clusters < 1:
        raise ValueError(f"bootstrap: got {draws} draws of {clusters} clusters, expected at least one of each")
    generator, block = np.random.default_rng(seed), max(1, _BLOCK // clusters)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = generator.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def _harmonic(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    total = first + second
    return np.asarray(2 * first * second / np.where(total > 0, total, 1))


def interval_of(estimate: float, statistic: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """An estimate with the central percentiles of its values in resamples (draws,)."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(statistic, [tail, 100 - tail])
    return Interval(float(estimate), float(low), float(high))


def _resampled(
    values: ArrayLike, groups: ArrayLike | None, draws: int, confidence: float, generator: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    """The mean, or the mean of the groups' means, and (draws,) its value in each resample."""
    value_N = np.asarray(values, dtype=np.float64)
    if value_N.ndim != 1 or not len(value_N) or not np.isfinite(value_N).all():
        raise ValueError(f"bootstrap: got values of shape {value_N.shape}, expected (N,) finite numbers with N >= 1")
    if not 0 < confidence < 1 or draws < 1:
        raise ValueError(f"bootstrap: got confidence {confidence} and {draws} draws, expected 0..1 and at least 1")
    group_N = np.zeros(len(value_N), dtype=np.int64) if groups is None else np.asarray(groups)
    if group_N.shape != value_N.shape:
        raise ValueError(f"bootstrap: got groups of shape {group_N.shape}, expected {value_N.shape}")

    distinct, value_code = np.unique(value_N, return_inverse=True)
    group_code = np.unique(group_N, return_inverse=True)[1]
    cells, count = np.unique(group_code * len(distinct) + value_code, return_counts=True)
    value, group = distinct[cells % len(distinct)], cells // len(distinct)
    starts = np.flatnonzero(np.diff(group, prepend=-1))

    block = max(1, _BLOCK // len(cells))
    sizes = [min(block, draws - done) for done in range(0, draws, block)]
    statistic = np.concatenate(
        [_group_mean(generator.multinomial(len(value_N), count / len(value_N), size), value, starts) for size in sizes]
    )
    return float(_group_mean(count[None], value, starts)[0]), statistic


def _group_mean(count: NDArray[np.int64], value: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """(draws, cells) counts -> (draws,) mean over the groups drawn of their mean values."""
    size = np.add.reduceat(count, starts, axis=1)
    total = np.add.reduceat(count * value, starts, axis=1)
    drawn = size > 0
    return np.asarray((total / np.where(drawn, size, 1)).sum(axis=1) / drawn.sum(axis=1))
