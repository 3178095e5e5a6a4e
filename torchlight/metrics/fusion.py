"""Fusing streams: the scores of several models on the same samples, on one scale, weighted and added."""

import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

Normalisation = Literal["softmax", "none", "zscore"]

MOST_SEARCHED = 6
_BLOCK = 1 << 22


def normalised(logits: NDArray[np.float32], normalisation: Normalisation) -> NDArray[np.float64]:
    """Scores of different models on one scale; a sample's values depend on that sample alone.

    Args:
        logits: (..., K) raw.
        normalisation: ``softmax`` probabilities; ``zscore`` zero mean and unit variance over a sample's classes;
            ``none`` the raw logits, as the predecessors add them.
    """
    # Doubles: with a logit scale of 100, float32 probabilities underflow to ties.
    wide = logits.astype(np.float64)
    match normalisation:
        case "softmax":
            wide -= wide.max(axis=-1, keepdims=True)
            np.exp(wide, out=wide)
            wide /= wide.sum(axis=-1, keepdims=True)
        case "zscore":
            wide -= wide.mean(axis=-1, keepdims=True)
            spread = wide.std(axis=-1, keepdims=True)
            wide /= np.where(spread > 0, spread, 1.0)
        case "none":
            pass
        case _:
            assert_never(normalisation)
    return wide


def shares(weights: NDArray[np.float64], streams: int) -> NDArray[np.float64]:
    """(S,) weights that sum to one; ValueError where they are not one per stream, not negative, not all zero."""
    if weights.shape != (streams,) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        got = " ".join(f"{weight:g}" for weight in weights)
        raise ValueError(f"weights: got {got}, expected {streams} finite numbers >= 0, not all zero")
    return np.asarray(weights / weights.sum())


def fuse(
    logits: NDArray[np.float32], weights: NDArray[np.float64], normalisation: Normalisation
) -> NDArray[np.float32]:
    """The weighted mean of the streams, as logits: for ``softmax``, the logarithm of the mean probability.

    Shapes:
        logits: (S, N, K) raw
        weights: (S,) not negative, not all zero; their scale does not matter
        returns: (N, K)
    """
    mean = np.zeros(logits.shape[1:])
    for weight, stream in zip(shares(weights, len(logits)), logits, strict=True):
        mean += weight * normalised(stream, normalisation)
    if normalisation == "softmax":
        mean = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
    return mean.astype(np.float32)


def search_weights(
    logits: NDArray[np.float32], labels: NDArray[np.int64], normalisation: Normalisation, steps: int = 10
) -> NDArray[np.float64]:
    """The weights of best top-1, multiples of 1 / ``steps`` that sum to one, or equal; of equals, the nearest to equal.

    Shapes:
        logits: (S, N, K) raw, of validation samples
        labels: (N,)
        returns: (S,)
    """
    streams, samples, classes = logits.shape
    if streams > MOST_SEARCHED:
        raise ValueError(f"search: got {streams} streams, expected at most {MOST_SEARCHED}; give the weights")
    grid = [shares for shares in itertools.product(range(steps + 1), repeat=streams) if sum(shares) == steps]
    candidates = np.array([[steps / streams] * streams, *grid]) / steps
    hits = np.zeros(len(candidates), dtype=np.int64)
    block = max(1, _BLOCK // (len(candidates) * classes))
    for start in range(0, samples, block):
        score = normalised(logits[:, start : start + block], normalisation)
        truth = np.broadcast_to(labels[None, start : start + block, None], (*score.shape[:2], 1))
        margin = score - np.take_along_axis(score, truth, axis=2)
        # Only the true class itself may reach a margin of zero: ties count against, as in the metrics.
        hits += ((np.tensordot(candidates, margin, axes=1) >= 0).sum(axis=2) == 1).sum(axis=1)
    best = candidates[hits == hits.max()]
    return np.asarray(best[np.square(best - 1 / streams).sum(axis=1).argmin()])
