"""Bootstrap intervals: equal to resampling indices by hand, and covering."""

import numpy as np
import pytest

from torchlight.metrics.bootstrap import cluster_counts, cluster_interval, mean_interval


def naive(values: np.ndarray, groups: np.ndarray | None, draws: int) -> tuple[float, float]:
    generator = np.random.default_rng(1)
    statistics = []
    for _ in range(draws):
        rows = generator.integers(0, len(values), len(values))
        drawn = [values[rows]] if groups is None else [values[rows][groups[rows] == g] for g in set(groups[rows])]
        statistics.append(np.mean([piece.mean() for piece in drawn]))
    low, high = np.percentile(statistics, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("kind", ["hits", "real"])
@pytest.mark.parametrize("grouped", [False, True])
def test_counts_are_drawn_as_indices_would_be(kind: str, grouped: bool) -> None:
    generator = np.random.default_rng(0)
    values = (generator.random(120) < 0.7).astype(float) if kind == "hits" else generator.normal(size=120)
    groups = generator.integers(0, 5, 120) if grouped else None
    interval = mean_interval(values, groups, draws=8000)
    low, high = naive(values, groups, draws=8000)
    width = high - low
    assert interval.low == pytest.approx(low, abs=0.08 * width)
    assert interval.high == pytest.approx(high, abs=0.08 * width)


def test_the_estimate_is_the_mean_and_the_mean_of_group_means() -> None:
    values, groups = np.array([1.0, 0, 0, 1]), np.array(["a", "b", "b", "b"])
    assert mean_interval(values).estimate == pytest.approx(0.5)
    assert mean_interval(values, groups).estimate == pytest.approx((1 + 1 / 3) / 2)


def test_95_percent_intervals_cover_about_95_percent_of_the_time() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        interval = mean_interval((generator.random(200) < 0.8).astype(float), draws=500, seed=trial)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.91 <= covered / 400 <= 0.98


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    generator = np.random.default_rng(0)
    first = generator.random(500) < 0.8
    second = first ^ (generator.random(500) < 0.02)
    difference = mean_interval(first.astype(float) - second)
    assert difference.estimate == pytest.approx(first.mean() - second.mean())
    single = mean_interval(first)
    assert difference.high - difference.low < (single.high - single.low) / 2
    same = mean_interval(first.astype(float) - first)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_the_seed_fixes_the_interval_and_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=50)
    whole = mean_interval(values, seed=3)
    assert whole == mean_interval(values, seed=3)
    assert whole != mean_interval(values, seed=4)
    monkeypatch.setattr("torchlight.metrics.bootstrap._BLOCK", 60)
    assert whole == mean_interval(values, seed=3)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2)), np.array([np.nan])])
def test_values_without_a_mean_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        mean_interval(values)
    with pytest.raises(ValueError, match="groups"):
        mean_interval(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="confidence"):
        mean_interval(np.ones(3), confidence=95)


def test_clusters_come_and_go_together() -> None:
    generator = np.random.default_rng(0)
    clusters, groups = generator.integers(0, 8, 90), generator.integers(0, 3, 90)
    values = generator.normal(size=90) + clusters
    drawn = []
    for times in np.concatenate(list(cluster_counts(8, 500, seed=0))):
        rows = np.concatenate([np.flatnonzero(clusters == c) for c in range(8) for _ in range(int(times[c]))])
        drawn.append(np.mean([values[rows][groups[rows] == g].mean() for g in np.unique(groups[rows])]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    interval = cluster_interval(values, clusters, groups, draws=500)
    assert interval.estimate == pytest.approx(np.mean([values[groups == g].mean() for g in range(3)]))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_a_cluster_each_is_the_plain_bootstrap_and_blocks_do_not_change_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=150)
    plain, each = mean_interval(values, draws=6000), cluster_interval(values, np.arange(150), draws=6000)
    width = plain.high - plain.low
    assert each.estimate == pytest.approx(plain.estimate)
    assert (each.low, each.high) == (
        pytest.approx(plain.low, abs=0.08 * width),
        pytest.approx(plain.high, abs=0.08 * width),
    )
    whole = np.concatenate(list(cluster_counts(6, 40, seed=1)))
    assert (whole.sum(axis=1) == 6).all()
    monkeypatch.setattr("torchlight.metrics.bootstrap._BLOCK", 60)
    np.testing.assert_array_equal(whole, np.concatenate(list(cluster_counts(6, 40, seed=1))))


def test_clusters_without_a_mean_are_refused() -> None:
    with pytest.raises(ValueError, match="clusters"):
        cluster_interval(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="at least one"):
        cluster_interval(np.ones(3), np.ones(3), draws=0)
