"""Frames of a store's clips as a batch, untouched: what every loader starts from."""

import numpy as np
import torch
from torch import Tensor

from feeders.batch import SkeletonBatch
from feeders.blended import Steps, read_blended
from feeders.crop import TimeGrid, resample
from feeders.skeleton import Skeleton
from feeders.store import FACTS, Store


def read_resampled(store: Store, skeleton: Skeleton, samples: np.ndarray, grid: TimeGrid, bodies: int) -> SkeletonBatch:
    """Clips (N,) on a time grid; compiled in one pass where it can be."""
    read = read_stepped(store, skeleton, samples, grid, bodies, None)
    if read is not None:
        return read
    frames, packed = grid.packed()
    return resample(read_frames(store, samples, frames, bodies), packed)


def read_stepped(
    store: Store, skeleton: Skeleton, samples: np.ndarray, grid: TimeGrid, bodies: int, steps: Steps | None
) -> SkeletonBatch | None:
    """Clips (N,) on a time grid after the steps, if any; None where `feeders.blended.read_blended` is."""
    read = read_blended(store, skeleton, samples, grid, bodies, steps)
    return None if read is None else _as_batch(store, samples, *read, torch.from_numpy(np.ones(grid.low.shape, bool)))


def read_frames(store: Store, samples: np.ndarray, frames: np.ndarray, bodies: int) -> SkeletonBatch:
    """Chosen frames (N, F) of clips (N,); a number outside its clip reads as absent."""
    read = store.gather(samples, frames, bodies)
    pose = torch.from_numpy(read.pose).permute(0, 4, 1, 3, 2).contiguous()
    weight = (
        torch.from_numpy(read.present)[..., None] if read.joint_weight is None else torch.from_numpy(read.joint_weight)
    )
    weight = weight.float().transpose(2, 3).expand(-1, -1, pose.shape[3], -1).contiguous()
    is_inside = torch.from_numpy(frames < store.index.frames[samples][:, None])
    return _as_batch(store, samples, pose, weight, (weight > 0).flatten(1, 2).any(dim=1), is_inside)


def _as_batch(
    store: Store, samples: np.ndarray, pose: Tensor, weight: Tensor, body_mask: Tensor, frame_mask: Tensor
) -> SkeletonBatch:
    label, *meta = map(torch.from_numpy, store.facts[:, samples])
    return SkeletonBatch(
        pose=pose,
        joint_weight=weight,
        body_mask=body_mask,
        frame_mask=frame_mask,
        label=label,
        sample_id=tuple(store.index.sample_id[samples].tolist()),
        meta=dict(zip(FACTS[1:], meta, strict=True)),
    )
