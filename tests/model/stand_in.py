"""A small encoder behind the contract and random clips, for the tests of what stands above the encoder."""

import torch
from torch import Tensor, nn

from feeders.batch import SkeletonBatch
from feeders.skeleton import KINECT20, Skeleton
from model.encoders.contract import Encoder, Tokens


class PointEncoder(Encoder):
    """Every joint of every frame by itself; time stride 1; counts what the joint weights count."""

    def __init__(self, skeleton: Skeleton, channels: int = 16) -> None:
        super().__init__()
        self.out_channels = channels
        self.slots, self.slots_are_parts = skeleton.joints, False
        self.lift = nn.Linear(skeleton.coordinates, channels)

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        lifted = torch.tanh(self.lift(pose.movedim(1, -1))).movedim(-1, 1)
        return Tokens(lifted, joint_weight * body_mask[:, None, None, :] * frame_mask[:, :, None, None])


class PartEncoder(PointEncoder):
    """The same, with one slot per part of a scheme (the mean of its joints)."""

    def __init__(self, skeleton: Skeleton, scheme: str, channels: int = 16) -> None:
        super().__init__(skeleton, channels)
        self.slots, self.slots_are_parts = tuple(skeleton.parts(scheme)), True
        self.register_buffer("member", torch.from_numpy(skeleton.membership(scheme)))

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        tokens = super().forward(pose, joint_weight, body_mask, frame_mask)
        share = self.member / self.member.sum(dim=1, keepdim=True)
        features = torch.einsum("nctvm,pv->nctpm", tokens.features, share)
        return Tokens(features, torch.einsum("ntvm,pv->ntpm", tokens.weight, share))


def clips(count: int = 6, classes: int = 3, bodies: int = 2, frames: int = 5, seed: int = 0) -> SkeletonBatch:
    """Random KINECT20 clips; odd ones have one body."""
    generator = torch.Generator().manual_seed(seed)
    body_mask = torch.ones(count, bodies, dtype=torch.bool)
    body_mask[1::2, 1:] = False
    weight = body_mask[:, None, None, :].expand(-1, frames, len(KINECT20.joints), -1).float()
    pose = torch.randn(count, 3, frames, len(KINECT20.joints), bodies, generator=generator) * weight.unsqueeze(1)
    return SkeletonBatch(
        pose=pose,
        joint_weight=weight,
        body_mask=body_mask,
        frame_mask=torch.ones(count, frames, dtype=torch.bool),
        label=torch.arange(count) % classes,
        sample_id=tuple(f"clip{number}" for number in range(count)),
    )
