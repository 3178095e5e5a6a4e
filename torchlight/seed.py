"""Randomness as a function of where in a run we are, so that a resumed run draws what an uninterrupted one would."""

import os
import random  # noqa: TID251 seeded here for third parties; our own code draws from generators of its own
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

# splitmix64 (Steele, Lea and Flood, OOPSLA 2014): increment and the two multipliers of its finaliser.
GAMMA, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@overload
def sample_seed(seed: int, epoch: int, index: int) -> int: ...
@overload
def sample_seed(seed: int, epoch: int, index: NDArray[np.integer]) -> NDArray[np.int64]: ...
def sample_seed(seed: int, epoch: int, index: int | NDArray[np.integer]) -> int | NDArray[np.int64]:
    """A well mixed seed for one sample in one epoch, in [0, 2**63): stateless, the same on every machine.

    Shapes:
        index: a number, or any array of numbers; the result has its shape
    """
    mixed = np.zeros((1,), dtype=np.uint64)
    for word in (seed, epoch, index):
        # Arrays, as unsigned array arithmetic wraps silently.
        words = np.atleast_1d(np.asarray(word)).astype(np.uint64)
        mixed = splitmix(mixed + words + GAMMA)
    positive = (mixed >> np.uint64(1)).astype(np.int64)
    return positive if isinstance(index, np.ndarray) else int(positive[0])


def splitmix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, of any array: neighbouring numbers come out as if drawn."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    mixed: NDArray[np.uint64] = word ^ (word >> np.uint64(31))
    return mixed


def seed_all(seed: int) -> None:
    """Set the global generators of torch (all devices), NumPy and Python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 the global generator is the point
    torch.manual_seed(seed)


def make_deterministic() -> None:
    """Ask torch for deterministic kernels; those that have none warn."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # Their gradients add up in any order.
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
