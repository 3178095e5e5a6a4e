"""Both sides of the retrieval benchmark give the same numbers, on a gallery that is small."""

import numpy as np
import pytest

from benchmarks import retrieval


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PEOPLE": 40, "GALLERY": 400, "WIDTH": 16}.items():
        monkeypatch.setattr(retrieval, name, value)


def test_counting_and_sorting_give_the_same_numbers() -> None:
    vectors = retrieval.make_vectors()
    field, product = retrieval.field(vectors, 30), retrieval.product(vectors, 30)
    np.testing.assert_allclose(product, field, rtol=1e-12)
    assert 5 < product[1] < 95


def test_every_rank_is_that_of_a_list_sorted_in_float64() -> None:
    assert retrieval.ranks_that_differ(retrieval.make_vectors(), np.arange(40)) == 0
