import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchlight.seed import sample_seed, seed_all

numbers = st.integers(min_value=0, max_value=2**62)


def naive(seed: int, epoch: int, index: int) -> int:
    state = 0
    for word in (seed, epoch, index):
        state = (state + word + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state >> 1


@given(numbers, numbers, st.lists(numbers, min_size=1, max_size=5))
def test_seeds_are_splitmix64_one_by_one_and_in_arrays(seed: int, epoch: int, indices: list[int]) -> None:
    expected = [naive(seed, epoch, index) for index in indices]
    assert [sample_seed(seed, epoch, index) for index in indices] == expected
    assert sample_seed(seed, epoch, np.array(indices)).tolist() == expected


def test_seeds_of_neighbouring_seeds_epochs_and_samples_differ() -> None:
    seeds = [sample_seed(seed, epoch, np.arange(500)) for seed in range(5) for epoch in range(20)]
    assert len(np.unique(np.concatenate(seeds))) == 5 * 20 * 500


def test_the_same_seed_draws_the_same_numbers_everywhere() -> None:
    draws = []
    for _ in range(2):
        seed_all(2**63 - 1)
        draws.append((torch.rand(3).tolist(), np.random.rand(3).tolist()))  # noqa: NPY002
    assert draws[0] == draws[1]
