"""What a network is not shown of a clip: drawn for each sample from its own seed, never from the global generator."""

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import assert_never

from feeders.batch import SkeletonBatch
from feeders.draws import uniform
from torchlight.config import StrictConfig


class MaskConfig(StrictConfig):
    """What is hidden of a clip.

    Args:
        what: ``frames``, ``joints`` (each in all frames), ``cells`` (a joint in a frame), or ``none``.
        share: of those that are there; of two or more, at least one is hidden and one is shown.
    """

    what: Literal["frames", "joints", "cells", "none"] = "frames"
    share: float = Field(default=0.3, ge=0, lt=1)

    @property
    def hides(self) -> bool:
        """Anything is hidden at all."""
        return self.what != "none" and self.share > 0


def draw_seeds(batch: SkeletonBatch) -> np.ndarray:
    """(N,) seeds to draw with: a training loader's for this pass, else, in evaluation, of the samples' names alone."""
    if "seed" in batch.meta:
        return batch.meta["seed"].numpy()
    return np.array([zlib.crc32(name.encode()) for name in batch.sample_id], dtype=np.uint64)


def hidden(
    batch: SkeletonBatch, mask: MaskConfig, seeds: np.ndarray, groups: Sequence[Sequence[int]] | None = None
) -> Tensor:
    """(N, T, V) bool, True where a joint of both bodies is hidden in a frame.

    Of each of some disjoint groups of joints its own share is drawn, whatever is hidden of the others; None is one.
    """
    is_seen_NTV = (batch.joint_weight > 0).any(dim=3)
    hidden_NTV = torch.zeros_like(is_seen_NTV)
    if mask.hides:
        for number, group in enumerate(groups or [range(is_seen_NTV.shape[2])]):
            joints, name = list(group), f"hidden {mask.what}" + f" {number}" * (number > 0)
            hidden_NTV[:, :, joints] = _some_of_group(is_seen_NTV[:, :, joints], mask, seeds, name)
    return hidden_NTV


def _some_of_group(is_seen_NTV: Tensor, mask: MaskConfig, seeds: np.ndarray, stream: str) -> Tensor:
    match mask.what:
        case "frames":
            return some_of(is_seen_NTV.any(dim=2), mask.share, seeds, stream)[:, :, None].expand_as(is_seen_NTV)
        case "joints":
            return some_of(is_seen_NTV.any(dim=1), mask.share, seeds, stream)[:, None].expand_as(is_seen_NTV)
        case "cells":
            return some_of(is_seen_NTV.flatten(1), mask.share, seeds, stream).view_as(is_seen_NTV)
        case "none":
            return torch.zeros_like(is_seen_NTV)
        case _:
            assert_never(mask.what)


def some_of(candidates: Tensor, share: float, seeds: np.ndarray, stream: str) -> Tensor:
    """A share of each row's candidates, by number; at least one, never all, so none where there is but one.

    Shapes:
        candidates, returns: (N, F) bool; seeds: (N,)
    """
    count = candidates.sum(dim=1, keepdim=True)
    taken = (share * count).round().clamp(min=1).minimum(count - 1)
    return shuffled(candidates, seeds, stream).argsort(dim=1) < taken


def shuffled(candidates: Tensor, seeds: np.ndarray, stream: str) -> Tensor:
    """(N, F) places of each row: its candidates in random order, then the others.

    Shapes:
        candidates: (N, F) bool; seeds: (N,)
    """
    draws = torch.from_numpy(uniform(seeds, stream, candidates.shape[1]).astype(np.float32)).to(candidates.device)
    return draws.masked_fill(~candidates, torch.inf).argsort(dim=1, stable=True)
