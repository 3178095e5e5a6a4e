"""Bring clips of any length to T frames: which source frames, and how two neighbours become one.

A body is never interpolated through frames it is absent from: a position belongs to a body when the nearer source frame
shows it, and lies between two frames only where both show it.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from typing_extensions import assert_never

from feeders.batch import SkeletonBatch
from feeders.draws import uniform
from torchlight.config import StrictConfig

Sampling = Literal["linear", "published_ucla"]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class CropConfig(StrictConfig):
    """How much of a clip is kept before it is resampled.

    Args:
        training: share of the clip, drawn between these; the start is drawn too.
        evaluation: share of the clip, from its middle.
        shortest: a training crop keeps at least so many frames, or the whole clip (published NTU feeders: 64).
    """

    training: tuple[Share, Share] = (0.5, 1.0)
    evaluation: Share = 0.95
    shortest: int = Field(default=16, ge=1)


@dataclass(frozen=True)
class TimeGrid:
    """Where T frames come from: ``(1 - fraction) * low + fraction * high``.

    Args:
        is_packed: the source is just these frames, the T low ones before the T high ones.

    Shapes:
        low, high: (N, T) int64 source frames, rising; fraction: (N, T) float32 in [0, 1)
    """

    low: np.ndarray
    high: np.ndarray
    fraction: np.ndarray
    is_packed: bool = False

    def packed(self) -> tuple[np.ndarray, "TimeGrid"]:
        """The 2T frames to read, and the same grid on just those."""
        count = self.low.shape[1]
        at = np.broadcast_to(np.arange(count), self.low.shape)
        return np.concatenate([self.low, self.high], axis=1), TimeGrid(at, at + count, self.fraction, is_packed=True)


def time_grid(
    lengths: np.ndarray, frames: int, sampling: Sampling, crop: CropConfig, seeds: np.ndarray | None
) -> TimeGrid:
    """Choose T source positions in each clip; without seeds, in evaluation, nothing is drawn.

    Shapes:
        lengths: (N,) frames of each clip; seeds: (N,)
    """
    match sampling:
        case "linear":
            start, length = _training_crop(lengths, crop, seeds) if seeds is not None else _middle(lengths, crop)
            return resampled(start, length, frames)
        case "published_ucla":
            at = _drawn_frames(lengths, frames, seeds) if seeds is not None else _spread_frames(lengths, frames)
            return TimeGrid(at, at, np.zeros(at.shape, dtype=np.float32))
        case _:
            assert_never(sampling)


def resampled(start: np.ndarray, length: np.ndarray, frames: int) -> TimeGrid:
    """Linear resampling of windows to T frames on half-pixel centres, clamped to the first and last frame (CTR-GCN)."""
    last = length[:, None] - 1
    at = np.multiply.outer(length / frames, np.arange(frames) + 0.5)
    at -= 0.5
    np.maximum(at, 0.0, out=at)
    np.minimum(at, last, out=at)
    low = at.astype(np.int64)
    at -= low
    high = np.minimum(low + 1, last)
    low += start[:, None]
    high += start[:, None]
    return TimeGrid(low, high, at.astype(np.float32))


def resample(batch: SkeletonBatch, grid: TimeGrid) -> SkeletonBatch:
    """Put a batch on another time grid; the grid's frames are places on the batch's frame axis."""

    def at(frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        place = torch.from_numpy(np.array(frames))[:, None, :, None, None]
        pose = batch.pose.take_along_dim(place, dim=2)
        return pose, batch.joint_weight.take_along_dim(place[:, 0], dim=1)

    if grid.is_packed:
        (low, high), (low_weight, high_weight) = batch.pose.chunk(2, dim=2), batch.joint_weight.chunk(2, dim=1)
    else:
        (low, low_weight), (high, high_weight) = at(grid.low), at(grid.high)
    fraction = torch.from_numpy(grid.fraction)[:, :, None, None]
    both = (low_weight > 0) & (high_weight > 0)
    share = torch.where(both, fraction, (fraction > 0.5).to(low.dtype))
    weight = torch.lerp(low_weight, high_weight, share)
    return replace(
        batch,
        pose=torch.lerp(low, high, share[:, None]),
        joint_weight=weight,
        body_mask=(weight > 0).flatten(1, 2).any(dim=1),
        frame_mask=torch.ones(fraction.shape[:2], dtype=torch.bool),
    )


def _training_crop(lengths: np.ndarray, crop: CropConfig, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    draws, (least, most) = uniform(seeds, "crop", 2), crop.training
    share = least + (most - least) * draws[:, 0]
    kept = np.minimum(np.maximum(np.floor(share * lengths).astype(np.int64), crop.shortest), lengths)
    start = np.floor(draws[:, 1] * (lengths - kept + 1)).astype(np.int64)
    return start, kept


def _middle(lengths: np.ndarray, crop: CropConfig) -> tuple[np.ndarray, np.ndarray]:
    cut = ((1.0 - crop.evaluation) * lengths / 2.0).astype(np.int64)
    return cut, lengths - 2 * cut


def _drawn_frames(lengths: np.ndarray, frames: int, seeds: np.ndarray) -> np.ndarray:
    """T frames drawn without replacement from 100 copies of the frame list, sorted (CTR-GCN's NW-UCLA feeder).

    By Floyd's algorithm (Bentley and Floyd, CACM 1987): T steps, whatever the clips' lengths.
    """
    draws = uniform(seeds, "published frames", frames)
    cards = 100 * lengths
    if cards.min() < frames:
        raise ValueError(f"data.frames: got {frames}, expected at most 100 times the shortest clip's frames")
    chosen = np.full(draws.shape, -1, dtype=np.int64)
    for step in range(frames):
        last = cards - frames + step
        card = np.floor(draws[:, step] * (last + 1)).astype(np.int64)
        is_taken = (chosen[:, :step] == card[:, None]).any(axis=1)
        chosen[:, step] = np.where(is_taken, last, card)
    return np.sort(chosen % lengths[:, None], axis=1)


def _spread_frames(lengths: np.ndarray, frames: int) -> np.ndarray:
    """T frames from the first to the last, as numpy's linspace of each clip alone has them, whatever its batch mates.

    Of an array of ends linspace rounds otherwise as soon as one of them is 0.
    """
    spread = np.arange(frames) * ((lengths - 1.0) / max(frames - 1, 1))[:, None]
    spread[:, -1] = lengths - 1.0 if frames > 1 else 0.0
    return spread.astype(np.int64)
