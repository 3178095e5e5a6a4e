"""Fusing streams against loops, and the search for weights."""

import math

import numpy as np
import pytest

from torchlight.metrics.classification import rank_of_truth, top_k
from torchlight.metrics.fusion import Normalisation, fuse, normalised, search_weights


def naive(logits: np.ndarray, weights: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    streams, samples, classes = logits.shape
    fused = np.zeros((samples, classes))
    for stream in range(streams):
        for row in range(samples):
            values = logits[stream, row].astype(float)
            if normalisation == "softmax":
                values = np.array([1 / sum(math.exp(other - value) for other in values) for value in values])
            elif normalisation == "zscore":
                values = (values - values.mean()) / values.std()
            fused[row] += weights[stream] / weights.sum() * values
    return np.log(fused) if normalisation == "softmax" else fused


@pytest.mark.parametrize("normalisation", ["softmax", "none", "zscore"])
def test_fusing_equals_adding_by_hand(normalisation: Normalisation) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    weights = np.array([1.0, 0.5, 2.0])
    np.testing.assert_allclose(
        fuse(logits, weights, normalisation), naive(logits, weights, normalisation), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        fuse(logits, 9 * weights, normalisation), fuse(logits, weights, normalisation), atol=1e-6
    )


@pytest.mark.parametrize("normalisation", ["softmax", "none", "zscore"])
def test_one_stream_keeps_its_ranks_at_the_scale_of_clip(normalisation: Normalisation) -> None:
    logits = np.random.default_rng(0).uniform(-100, 100, size=(1, 50, 20)).astype(np.float32)
    labels = np.arange(50) % 20
    fused = fuse(logits, np.ones(1), normalisation)
    np.testing.assert_array_equal(rank_of_truth(labels, fused), rank_of_truth(labels, logits[0]))


@pytest.mark.parametrize("normalisation", ["softmax", "none", "zscore"])
def test_a_sample_does_not_depend_on_the_others(normalisation: Normalisation) -> None:
    logits = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    np.testing.assert_array_equal(normalised(logits, normalisation)[3:4], normalised(logits[3:4], normalisation))
    assert np.isfinite(normalised(np.zeros((2, 3), np.float32), normalisation)).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan]])
def test_weights_that_mean_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        fuse(np.zeros((2, 3, 4), np.float32), np.array(weights), "softmax")


def test_the_search_is_no_worse_than_equal_weights_or_any_stream() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 300)
    strength = np.array([2.0, 1.0, 0.3])[:, None, None]
    logits = (generator.normal(size=(3, 300, 5)) + strength * np.eye(5)[labels]).astype(np.float32)
    weights = search_weights(logits, labels, "softmax")
    assert weights.sum() == pytest.approx(1)
    found = top_k(labels, fuse(logits, weights, "softmax"), 1)
    for other in (np.ones(3), *np.eye(3)):
        assert found >= top_k(labels, fuse(logits, other, "softmax"), 1)
    assert weights[0] > weights[2]


def test_equally_good_weights_give_way_to_equal_ones() -> None:
    logits = np.repeat(np.eye(4, dtype=np.float32)[None], 3, axis=0)
    np.testing.assert_allclose(search_weights(logits, np.arange(4), "none"), 1 / 3)


def test_too_many_streams_to_search_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 6"):
        search_weights(np.zeros((7, 2, 3), np.float32), np.zeros(2, np.int64), "softmax")
