"""A small encoder that is pretrained in two stages, behind the contract."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from feeders.batch import SkeletonBatch
from feeders.skeleton import KINECT20, Skeleton
from model.encoders.contract import StagedEncoder, Tokens
from tests.model.stand_in import PointEncoder, clips


class TwoStages(StagedEncoder):
    """Stage ``frames`` trains the lift, ``pairs`` what is on top of it; every joint's guess is the clip's mean."""

    stages = ("frames", "pairs")

    def __init__(self, skeleton: Skeleton = KINECT20, channels: int = 16) -> None:
        super().__init__()
        self.first = PointEncoder(skeleton, channels)
        self.second = nn.Sequential(nn.BatchNorm1d(channels), nn.Linear(channels, channels), nn.Dropout(0.1))
        self.head = nn.Linear(channels, skeleton.coordinates)
        self.out_channels = channels
        self.slots, self.slots_are_parts = skeleton.joints, False
        self.joint_groups = (tuple(range(len(skeleton.joints))),)
        self.begun: list[str | None] = []

    def begin(self, stage: str | None) -> None:
        self.begun.append(stage)
        self.requires_grad_(True)
        if stage == "pairs":
            self.first.requires_grad_(False)

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        tokens = self.first(pose, joint_weight, body_mask, frame_mask)
        moved = tokens.features.movedim(1, -1)
        mixed = self.second(moved.flatten(0, -2)).view(moved.shape).movedim(-1, 1)
        return Tokens(mixed, tokens.weight)

    def reconstruct(
        self, stage: str, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor
    ) -> Tensor:
        tokens = self(pose, joint_weight, body_mask, frame_mask)
        weight = tokens.weight.unsqueeze(1)
        mean = (tokens.features * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1)
        guess = self.head(mean.transpose(1, 2)).transpose(1, 2)[:, :, None, None].expand(pose.shape)
        return torch.stack([guess, 2 * guess])


def gappy_clips(count: int = 6, frames: int = 12, seed: int = 0) -> SkeletonBatch:
    """Clips of which joints, whole frames and the tail of odd ones are missing."""
    batch = clips(count=count, frames=frames, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    is_there = torch.rand(batch.joint_weight.shape, generator=generator) > 0.2
    is_there[:, 3] = False
    is_there[1::2, frames - 4 :] = False
    frame_mask = batch.frame_mask.clone()
    frame_mask[1::2, frames - 4 :] = False
    weight = batch.joint_weight * is_there
    return replace(batch, pose=batch.pose * is_there[:, None], joint_weight=weight, frame_mask=frame_mask)


def taken(batch: SkeletonBatch, rows: list[int]) -> SkeletonBatch:
    """Some clips of a batch, in some order."""
    tensors = (batch.pose, batch.joint_weight, batch.body_mask, batch.frame_mask, batch.label)
    names = tuple(batch.sample_id[row] for row in rows)
    return SkeletonBatch(*(value[rows] for value in tensors), names, {k: v[rows] for k, v in batch.meta.items()})


def seeded(batch: SkeletonBatch, first: int = 0) -> SkeletonBatch:
    """As a training loader gives it: with a seed for each clip."""
    return replace(batch, meta={**batch.meta, "seed": torch.arange(first, first + len(batch))})
