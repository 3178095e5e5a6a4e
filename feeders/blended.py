"""Read a store straight into resampled clips, where the compiled way is there; `feeders.resample_scan` is that way."""

import logging
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from feeders.crop import TimeGrid
from feeders.store import Store

logger = logging.getLogger(__name__)


def read_blended(
    store: Store, samples: np.ndarray, grid: TimeGrid, bodies: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The pose, joint weight and body mask that `feeders.crop.resample` gives for these clips and this grid.

    None where they have to be read the plain way: the store has joint weights, is not in space, or numba is missing.
    """
    blend = _compiled()
    poses, weights = store.arrays()
    if blend is None or weights is not None or poses.shape[2] != 3:
        return None
    index, (clips, frames) = store.index, grid.low.shape
    pose = torch.empty(clips, 3, frames, poses.shape[1], bodies)
    weight = torch.empty(clips, frames, poses.shape[1], bodies)
    is_seen = torch.empty(clips, bodies, dtype=torch.bool)
    ends = index.segment_end[samples]
    begins = np.where(samples > 0, index.segment_end[samples - 1], 0)
    blend(
        poses,
        index.segments,
        store.first_row,
        np.stack([begins, ends], axis=1),
        grid.low,
        grid.high,
        grid.fraction,
        pose.numpy(),
        weight.numpy(),
        is_seen.numpy(),
    )
    return pose, weight, is_seen


@cache
def _compiled() -> Callable[..., None] | None:
    """The compiled way where numba is installed; imported on first use, as it takes long."""
    try:
        from feeders.resample_scan import blend
    except ImportError as error:
        logger.debug("clips are read and resampled in steps: %s; pip install numba does it in one", error)
        return None
    compiled: Callable[..., None] = blend
    return compiled
