"""Front door: what every encoder eats. One batch of clips, with everything masked that is not there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from feeders.skeleton import Skeleton


@dataclass(frozen=True)
class SkeletonBatch:
    """N clips on one time grid.

    Shapes:
        pose: (N, C, T, V, M) float32, metres (or the source's normalised units); 0 where absent
        joint_weight: (N, T, V, M) float32 confidence in [0, 1]; 0 where a joint, frame or body is absent
        body_mask: (N, M) bool, the body appears in the clip at all
        frame_mask: (N, T) bool, the frame is part of the clip (False = padding)
        label: (N,) int64 class index
        sample_id: N names, unique in the data set
        meta: name -> (N,) int64 (subject, camera, ...), for samplers and protocols; in training also ``seed``, of what
            is drawn for the sample in this pass
    """

    pose: Tensor
    joint_weight: Tensor
    body_mask: Tensor
    frame_mask: Tensor
    label: Tensor
    sample_id: tuple[str, ...]
    meta: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sample_id)

    def to(self, device: torch.device) -> "SkeletonBatch":
        """The same batch with all that a network eats on a device; ``meta`` stays on the CPU, where it is used."""
        # CUDA takes a copy of memory that is not pinned before it goes on; MPS may read it when it is gone.
        names = ("pose", "joint_weight", "body_mask", "frame_mask", "label")
        moved = {name: getattr(self, name).to(device, non_blocking=device.type == "cuda") for name in names}
        return replace(self, **moved)


def hide(batch: SkeletonBatch, hidden: Tensor) -> SkeletonBatch:
    """The batch with what is hidden made absent: position and weight 0.

    Shapes:
        hidden: bool, broadcast to (N, T, V)
    """
    shown = (~hidden).to(batch.pose.dtype)[..., None]
    return replace(batch, pose=batch.pose * shown[:, None], joint_weight=batch.joint_weight * shown)


def mirrored(batch: SkeletonBatch, skeleton: Skeleton) -> SkeletonBatch:
    """The mirror image of every clip, in any modality: x turned round, left joints in the places of right ones."""
    partner = list(skeleton.mirror)
    sign_C = torch.ones(batch.pose.shape[1], device=batch.pose.device)
    sign_C[0] = -1.0
    return replace(
        batch,
        pose=batch.pose[:, :, :, partner] * sign_C[:, None, None, None],
        joint_weight=batch.joint_weight[:, :, partner],
    )
