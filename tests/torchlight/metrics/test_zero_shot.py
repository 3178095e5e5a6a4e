"""Zero-shot metrics, held against loops."""

import numpy as np
import pytest
import torch

from torchlight.metrics.bootstrap import harmonic_interval, mean_interval
from torchlight.metrics.zero_shot import ZeroShotMetrics
from torchlight.task import Prediction


def drawn(seed: int = 0, classes: int = 7, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    return labels, generator.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]


def best_of(row: np.ndarray, among: set[int]) -> int:
    return max(among, key=lambda number: row[number])


def test_the_metrics_are_what_loops_count() -> None:
    labels, text = drawn()
    unseen, every = {2, 5}, set(range(7))
    logits = text - 0.4 * np.array([number not in unseen for number in range(7)])
    values = ZeroShotMetrics((2, 5)).of_arrays(labels, logits, text)

    def share(scores: np.ndarray, of: set[int], among: set[int]) -> float:
        rows = [row for row in range(len(labels)) if labels[row] in of]
        return 100 * sum(best_of(scores[row], among) == labels[row] for row in rows) / len(rows)

    seen = every - unseen
    assert values["zsl_top1"] == pytest.approx(share(text, unseen, unseen))
    assert values["seen_top1"] == pytest.approx(share(text, seen, seen))
    for prefix, scores in (("", logits), ("plain_", text)):
        one, other = share(scores, seen, every), share(scores, unseen, every)
        assert values[prefix + "gzsl_seen"] == pytest.approx(one)
        assert values[prefix + "gzsl_unseen"] == pytest.approx(other)
        assert values[prefix + "harmonic"] == pytest.approx(2 * one * other / (one + other))
    assert (values["zsl_chance"], values["gzsl_chance"]) == (50, pytest.approx(100 / 7))
    assert all(values[f"{name}_low"] <= values[name] <= values[f"{name}_high"] for name in ("zsl_top1", "harmonic"))


def test_a_penalty_moves_nothing_within_a_kind() -> None:
    labels, text = drawn()
    is_seen = np.array([number not in (2, 5) for number in range(7)])
    plain, paid = (ZeroShotMetrics((2, 5)).of_arrays(labels, text - p * is_seen, text) for p in (0.0, 9.0))
    assert (plain["zsl_top1"], plain["seen_top1"]) == (paid["zsl_top1"], paid["seen_top1"])
    assert paid["gzsl_seen"] == 0
    assert paid["gzsl_unseen"] == pytest.approx(paid["zsl_top1"])
    assert (paid["harmonic"], paid["harmonic_low"], paid["harmonic_high"]) == (0, 0, 0)


def test_equal_scores_are_never_right() -> None:
    labels, _ = drawn()
    values = ZeroShotMetrics((2, 5)).of_arrays(labels, np.zeros((200, 7)), np.zeros((200, 7)))
    assert values["zsl_top1"] == values["gzsl_seen"] == values["harmonic"] == 0


def test_a_split_without_unseen_clips_has_only_the_seen_metrics() -> None:
    labels, text = drawn()
    scores = torch.from_numpy(text[labels != 2])
    outputs = {"logits": scores, "text": scores}
    prediction = Prediction(tuple(map(str, range(len(scores)))), torch.from_numpy(labels[labels != 2]), outputs)
    values = ZeroShotMetrics((2,))(prediction)
    points = {name for name in values if not name.endswith(("_low", "_high"))}
    assert points == {"seen_top1", "gzsl_seen", "plain_gzsl_seen", "gzsl_chance"}


def test_the_harmonic_interval_is_that_of_resampled_indices() -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.random(count) < share for count, share in ((80, 0.8), (50, 0.4)))
    interval = harmonic_interval(first, second, draws=8000)

    def harmonic(one: float, other: float) -> float:
        return 2 * one * other / (one + other)

    draws = [
        harmonic(*(group[generator.integers(0, len(group), len(group))].mean() for group in (first, second)))
        for _ in range(8000)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert interval.estimate == pytest.approx(harmonic(first.mean(), second.mean()))
    assert interval.low == pytest.approx(low, abs=0.08 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.08 * (high - low))
    equal = harmonic_interval(first, first, draws=100)
    assert equal.estimate == pytest.approx(mean_interval(first).estimate)
