"""Read a store straight into what the network sees, where the compiled way is there; `feeders.resample_scan` is it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from feeders.crop import TimeGrid
from feeders.skeleton import Skeleton
from feeders.store import Store
from feeders.transforms import Centre, Moves
from torchlight.compiled import compiled_or_none

_CENTRE: dict[Centre, int] = {"none": 0, "first_frame": 1, "clip": 2, "every_frame": 3}


@dataclass(frozen=True)
class Steps:
    """What follows resampling: `feeders.transforms.centre` and `move`, then `feeders.modality.to_modality`.

    Args:
        centre_joint: the joint that ``centre`` looks at.
        ancestor: (V,) as `feeders.modality.ancestors` gives it; all -1 for joints as they are.
        is_motion: the motion of all that, in the end.
    """

    centre: Centre
    centre_joint: int
    moves: Moves
    ancestor: np.ndarray
    is_motion: bool


def read_blended(
    store: Store, skeleton: Skeleton, samples: np.ndarray, grid: TimeGrid, bodies: int, steps: Steps | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The pose, joint weight and body mask of these clips after `feeders.crop.resample` and, where given, the steps.

    None where they have to be read the plain way: the store has joint weights, is not in space, or numba is missing.
    """
    blend = _compiled()
    poses, weights = store.arrays()
    if blend is None or weights is not None or poses.shape[2] != 3:
        return None
    index, (clips, frames) = store.index, grid.low.shape
    if steps is None:
        steps = Steps("none", 0, Moves.none(clips), np.full(poses.shape[1], -1), is_motion=False)
    pose = torch.empty(clips, 3, frames, poses.shape[1], bodies)
    weight = torch.empty(clips, frames, bodies)
    is_seen = torch.empty(clips, bodies, dtype=torch.bool)
    blend(
        poses,
        index.segments,
        store.first_row,
        index.segment_end,
        samples,
        grid.low,
        grid.high,
        grid.fraction,
        _CENTRE[steps.centre],
        steps.centre_joint,
        steps.moves.matrix,
        steps.moves.is_mirrored,
        np.array(skeleton.mirror),
        steps.ancestor,
        steps.is_motion,
        pose.numpy(),
        weight.numpy(),
        is_seen.numpy(),
    )
    # A body is there whole or not at all, so one number serves all its joints.
    return pose, weight[:, :, None].expand(-1, -1, poses.shape[1], -1), is_seen


@cache
def _compiled() -> Callable[..., None] | None:
    def load() -> Callable[..., None]:
        from feeders.resample_scan import blend

        return blend

    return compiled_or_none(load, "clips are read and moved in steps")
