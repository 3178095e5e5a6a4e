"""What of a pose the network sees: joints, bones, their motion, or positions relative to an ancestor. Pure and linear.

Every value stays in its joint's slot (a bone in its child's), so parts by joint name hold for all modalities.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import assert_never

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton

Modality = Literal["joint", "bone", "joint_motion", "bone_motion", "relative"]
Root = Literal["zero", "absolute"]
_PUBLISHED_ROOT = {"NTU25": "spine_middle"}  # the root of InfoGCN's, GAP's and BPI's A


def to_modality(
    batch: SkeletonBatch, skeleton: Skeleton, modality: Modality, hops: int = 1, root: Root = "zero"
) -> SkeletonBatch:
    """The batch in another modality; what is absent stays zero.

    A bone of which an end is absent is absent; a joint that is absent in the next frame has not moved, see `motion`.
    """
    match modality:
        case "joint":
            return batch
        case "bone":
            return relative(batch, skeleton, hops=1, root=root)
        case "relative":
            return relative(batch, skeleton, hops=hops, root=root)
        case "joint_motion":
            return motion(batch)
        case "bone_motion":
            return motion(relative(batch, skeleton, hops=1, root=root))
        case _:
            assert_never(modality)


def relative(batch: SkeletonBatch, skeleton: Skeleton, hops: int, root: Root) -> SkeletonBatch:
    """Each joint minus its ancestor ``hops`` bones up: x - A^k x (InfoGCN, Chi et al., CVPR 2022); one hop is a bone.

    A joint whose chain is shorter is compared with the root, which itself becomes zero (``root="zero"``), or with
    nothing, so that it keeps its position (``"absolute"``: the published networks of NTU RGB+D, where A^k has an empty
    row there, and A is of the tree that hangs from the spine's middle).
    """
    ancestor = ancestors(skeleton, hops, root)
    base, base_weight = (
        _of_joints(batch.pose, ancestor.clip(min=0)),
        _of_joints(batch.joint_weight, ancestor.clip(min=0)),
    )
    if ancestor.min() < 0:
        alone = torch.from_numpy(ancestor < 0).to(base.device)
        base = base.masked_fill(alone[:, None], 0.0)
        base_weight = torch.where(alone[:, None], batch.joint_weight, base_weight)
    pose = torch.sub(batch.pose, base, out=base)
    # Bodies that are there whole or not at all, as most sources have them, leave nothing to mask.
    if torch.equal(batch.joint_weight, base_weight):
        return replace(batch, pose=pose)
    weight = torch.minimum(batch.joint_weight, base_weight)
    return replace(batch, pose=pose * _seen(weight), joint_weight=weight)


def ancestors(skeleton: Skeleton, hops: int, root: Root) -> np.ndarray:
    """(V,) the joint that each joint is compared with by `relative`; -1 for nothing, as everywhere without hops."""
    if not hops:
        return np.full(len(skeleton.joints), -1)
    ancestor = np.arange(len(skeleton.joints))
    if root == "zero":
        for _ in range(hops):
            ancestor = np.array(skeleton.parents)[ancestor]
        return ancestor
    top = skeleton.index(_PUBLISHED_ROOT[skeleton.name])[0] if skeleton.name in _PUBLISHED_ROOT else skeleton.root
    # The root's parent is -1, which is also the place of the last element: -1 stays -1.
    parents = np.array([*_hung_from(skeleton.parents, top), -1])
    for _ in range(hops):
        ancestor = parents[ancestor]
    return ancestor


def _hung_from(parents: Sequence[int], joint: int) -> list[int]:
    """Parents in the same tree with another root, which has the parent -1."""
    hung, child = list(parents), -1
    while hung[joint] != joint:
        child, hung[joint], joint = joint, child, hung[joint]
    hung[joint] = child
    return hung


def motion(batch: SkeletonBatch) -> SkeletonBatch:
    """Next frame minus this one; zero in a joint's last frame, which stays a frame like the others."""
    moved = torch.empty_like(batch.pose)
    torch.sub(batch.pose[:, :, 1:], batch.pose[:, :, :-1], out=moved[:, :, :-1])
    moved[:, :, -1] = 0.0
    weight = batch.joint_weight
    if not torch.equal(weight, weight[:, :1].expand_as(weight)):
        moved[:, :, :-1] *= _seen(torch.minimum(weight[:, 1:], weight[:, :-1]))
    return replace(batch, pose=moved)


def _of_joints(values: Tensor, joints: np.ndarray) -> Tensor:
    """A copy of (..., V, M) at other joints; on a CPU by numpy, which is ten times faster at this than torch."""
    if values.device.type != "cpu":
        return values[..., joints.tolist(), :]
    return torch.from_numpy(np.take(values.numpy(), joints, axis=-2))


def _seen(weight: Tensor) -> Tensor:
    """(N, T, V, M) weight -> (N, 1, T, V, M) factor, 1 where anything is seen."""
    return (weight > 0).to(weight.dtype).unsqueeze(1)
