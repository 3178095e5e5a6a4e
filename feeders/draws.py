"""Random numbers that are a pure function of a sample's seed: no generator, no state, no influence of batch mates.

Counter-based: the n-th number of a named stream is a hash of (seed, stream, n), by the finaliser of splitmix64
(Steele et al., OOPSLA 2014), for all samples at once.
"""

import zlib
from functools import cache

import numpy as np

from torchlight.seed import GAMMA, splitmix


def uniform(seeds: np.ndarray, stream: str, count: int = 1) -> np.ndarray:
    """(N, count) float64 in [0, 1) from (N,) integer seeds; another stream name gives independent numbers."""
    start = splitmix(seeds.astype(np.uint64) ^ _stream(stream))
    numbers = splitmix(start[:, None] + GAMMA * np.arange(1, count + 1, dtype=np.uint64)) >> np.uint64(11)
    fractions: np.ndarray = numbers.astype(np.float64) * 2.0**-53
    return fractions


def between(seeds: np.ndarray, stream: str, low: float, high: float, count: int = 1) -> np.ndarray:
    """(N, count) float64 in [low, high)."""
    return low + (high - low) * uniform(seeds, stream, count)


def normal(seeds: np.ndarray, stream: str, count: int) -> np.ndarray:
    """(N, count) float64, standard normal (Box and Muller, 1958)."""
    pairs = uniform(seeds, stream, 2 * ((count + 1) // 2)).reshape(len(seeds), 2, -1)
    radius, angle = np.sqrt(-2.0 * np.log1p(-pairs[:, 0])), 2.0 * np.pi * pairs[:, 1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]


def permutation(seed: int, count: int) -> np.ndarray:
    """(count,) int64, the numbers 0 to count - 1 in random order."""
    return np.argsort(uniform(np.array([seed]), "permutation", count)[0], kind="stable")


@cache
def _stream(name: str) -> np.ndarray:
    return splitmix(np.array([zlib.crc32(name.encode())], dtype=np.uint64))
