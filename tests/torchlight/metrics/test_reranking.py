"""k-reciprocal re-ranking against the sets of the paper."""

import numpy as np
import pytest

from benchmarks.reference import retrieval as reference
from torchlight.metrics import reranking
from torchlight.metrics.distance import DistanceName, EmbeddingSpace
from torchlight.metrics.reranking import KReciprocal


@pytest.mark.parametrize("name", ["vector/euclidean", "parts/euclidean", "parts/cosine"])
@pytest.mark.parametrize(("k1", "k2"), [(4, 1), (6, 3)])
def test_it_is_what_the_sets_say(name: DistanceName, k1: int, k2: int) -> None:
    draw = np.random.default_rng(0)
    embedding = (draw.normal(size=(26, 2, 3)) + draw.normal(size=(5, 1, 3))[np.arange(26) % 5]).astype(np.float32)
    space = EmbeddingSpace.of(embedding, np.ones((26, 2), dtype=bool), name)
    rows = np.arange(26)
    exact = space.between(rows, rows).exact(np.repeat(rows, 26), np.tile(rows, 26)).reshape(26, 26)
    expected = reference.k_reciprocal(np.square(exact) if space.is_rooted else exact, 8, k1, k2, 0.3)
    found = KReciprocal(k1, k2, 0.3)(space, rows[:8], rows[8:])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_sample_that_asks_and_is_searched_is_there_once() -> None:
    embedding = np.random.default_rng(0).normal(size=(12, 1, 3)).astype(np.float32)
    space = EmbeddingSpace.of(embedding, np.ones((12, 1), dtype=bool), "vector/euclidean")
    both = KReciprocal(4, 2)(space, np.arange(12), np.arange(12))
    np.testing.assert_allclose(both[:5, 5:], KReciprocal(4, 2)(space, np.arange(5), np.arange(5, 12)), atol=1e-6)


def test_what_is_too_large_or_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    space = EmbeddingSpace.of(np.ones((4, 2, 3), np.float32), np.eye(4, 2, dtype=bool), "parts/euclidean")
    with pytest.raises(ValueError, match="common part"):
        KReciprocal()(space, np.arange(2), np.arange(2, 4))
    monkeypatch.setattr(reranking, "MOST_SAMPLES", 3)
    with pytest.raises(ValueError, match="at most 3"):
        KReciprocal()(space, np.arange(2), np.arange(2, 4))
