"""Bring walks into a frame of the walker's own: place, size and heading taken out frame by frame; and their inputs.

Pure functions of the batch, in which no sample looks at another one; what is absent stays zero.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from feeders.batch import SkeletonBatch
from feeders.modality import Modality, relative, to_modality
from feeders.skeleton import Skeleton

NormaliseWalk = Literal["none", "keep_size", "unit_size"]
Heading = Literal["none", "walk", "every_frame"]
Input = Literal["joint", "bone", "joint_motion", "bone_motion", "bone_angle"]


def normalise_walk(batch: SkeletonBatch, skeleton: Skeleton, how: NormaliseWalk) -> SkeletonBatch:
    """Put the middle of the hips of every frame into the origin; with ``unit_size`` bring the body to size 1.

    Size is the root mean square distance of the seen joints from the origin. In images it is taken out of every frame,
    as a crop or a nearing walker changes it (independent of position and size of the crop, frame by frame); in space
    it is the walker's own, one number for the walk. Without a hip the mean of the seen joints is the origin.
    """
    if how == "none":
        return batch
    seen = (batch.joint_weight > 0).to(batch.pose.dtype)[:, None]
    hips = list(skeleton.index("left_hip", "right_hip"))
    middle, has_hip = _mean(batch.pose[:, :, :, hips], seen[:, :, :, hips])
    anywhere, _ = _mean(batch.pose, seen)
    pose = (batch.pose - torch.where(has_hip, middle, anywhere)) * seen
    if how == "unit_size":
        axes = (1, 3, 4) if skeleton.coordinates == 2 else (1, 2, 3, 4)
        joints = tuple(axis for axis in axes if axis > 1)
        count = seen.sum(dim=(1, *joints), keepdim=True)
        size = (pose.square().sum(dim=axes, keepdim=True) / count.clamp(min=1.0)).sqrt()
        pose = torch.where(size > 0, pose / size.clamp(min=1e-12), torch.zeros_like(pose))
    return replace(batch, pose=pose)


def face_ahead(batch: SkeletonBatch, skeleton: Skeleton, when: Heading, window: int) -> SkeletonBatch:
    """Turn walks about the vertical until the line from left hip to right hip runs along +x.

    ``walk`` turns a walk as a whole; ``every_frame`` follows a walker who turns, by the mean over ``window`` frames
    around, an odd number and about a stride, so that the twist of the pelvis in each step stays.

    Raises:
        ValueError: the skeleton is not in space.
    """
    if when == "none":
        return batch
    if skeleton.coordinates != 3:
        raise ValueError(f"data.heading: got {when!r} for {skeleton.name}, expected none: an image cannot be turned")
    left, right = skeleton.index("left_hip", "right_hip")
    both = (batch.joint_weight[:, :, [left, right]] > 0).all(dim=2).to(batch.pose.dtype)[:, None]
    across = (batch.pose[:, [0, 2], :, right] - batch.pose[:, [0, 2], :, left]) * both
    if when == "walk":
        across = across.sum(dim=2, keepdim=True).expand_as(across)
    else:
        # The sum over a window has the mean's direction, also at the ends, where there is less to sum.
        kernel = across.new_ones(1, 1, 1, window)
        flat = across.permute(0, 1, 3, 2).flatten(0, 1)[:, None]
        summed = F.conv2d(flat, kernel, padding=(0, window // 2))[:, 0]
        across = summed.unflatten(0, across.shape[:2]).permute(0, 1, 3, 2)
    length = across.norm(dim=1)
    is_flat = length < 1e-6
    cos = torch.where(is_flat, torch.ones_like(length), across[:, 0] / length.clamp(min=1e-6))[:, :, None]
    sin = torch.where(is_flat, torch.zeros_like(length), across[:, 1] / length.clamp(min=1e-6))[:, :, None]
    x, y, z = batch.pose.unbind(dim=1)
    return replace(batch, pose=torch.stack([cos * x + sin * z, y, cos * z - sin * x], dim=1))


def gait_inputs(batch: SkeletonBatch, skeleton: Skeleton, inputs: Sequence[Input]) -> SkeletonBatch:
    """The named inputs as channels one after the other; a joint weighs what it does in the input that shows it best."""
    shown = [_input(batch, skeleton, name) for name in inputs]
    weight = torch.stack([each.joint_weight for each in shown]).amax(dim=0)
    return replace(batch, pose=torch.cat([each.pose for each in shown], dim=1), joint_weight=weight)


def bone_angle(batch: SkeletonBatch, skeleton: Skeleton) -> SkeletonBatch:
    """The angle in radians between each bone and the plane (in 2D: line) that an axis is perpendicular to, by axis.

    GaitGraph2's angles (Teepe et al., CVPRW 2022) without their offset of a quarter turn, so that a missing bone is
    zero and a mirror image changes the sign of x alone. Independent of any size.
    """
    bone = relative(batch, skeleton, hops=1, root="zero")
    length = bone.pose.norm(dim=1, keepdim=True)
    cosine = torch.where(length > 0, bone.pose / length.clamp(min=1e-12), torch.zeros_like(bone.pose))
    return replace(bone, pose=torch.arcsin(cosine.clamp(-1.0, 1.0)))


def _input(batch: SkeletonBatch, skeleton: Skeleton, name: Input) -> SkeletonBatch:
    if name == "bone_angle":
        return bone_angle(batch, skeleton)
    modality: Modality = name
    return to_modality(batch, skeleton, modality)


def _mean(pose: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the seen joints and bodies of each frame, and whether there is any."""
    count = seen.sum(dim=(3, 4), keepdim=True)
    return (pose * seen).sum(dim=(3, 4), keepdim=True) / count.clamp(min=1.0), count > 0
