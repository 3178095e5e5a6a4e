"""Positions in units that do not depend on the camera: of the image's size, or of the body's. Pure, clip by clip."""

from dataclasses import replace

import torch
from torch import Tensor

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from feeders.transforms import centre


def by_image(batch: SkeletonBatch, size: Tensor) -> SkeletonBatch:
    """Positions from the image's middle in halves of its sides: the image is [-1, 1] both ways, whatever its shape.

    Shapes:
        size: (N, 2) width and height in pixels; ValueError where a clip's is not known
    """
    if batch.pose.shape[1] != 2 or not bool((size > 0).all()):
        raise ValueError(
            f"data.normalise: got image with poses of {batch.pose.shape[1]} coordinates and sizes down to "
            f"{int(size.min())} pixels, expected positions in images whose size the store tells; body needs no size"
        )
    half = size.to(batch.pose.dtype)[:, :, None, None, None] / 2.0
    return replace(batch, pose=batch.pose / half)


def by_body(batch: SkeletonBatch, skeleton: Skeleton) -> SkeletonBatch:
    """Positions from where the clip's first body is on average, in units of `body_size`.

    Where no bone is seen the unit is the mean distance of what is seen from there; one point alone becomes zero.
    """
    moved = centre(batch, skeleton.origin, "clip")
    is_seen = (batch.joint_weight > 0).to(moved.pose.dtype)
    apart = _length(moved.pose).sum(dim=(1, 2, 3)) / is_seen.sum(dim=(1, 2, 3)).clamp(min=1.0)
    size = body_size(batch, skeleton)
    size = torch.where(size > 0, size, apart)
    return replace(batch, pose=moved.pose / torch.where(size > 0, size, 1.0)[:, None, None, None, None])


def body_size(batch: SkeletonBatch, skeleton: Skeleton) -> Tensor:
    """The length of a clip's median bone, of those seen at all; zero where none is.

    A bone's length is the upper quartile over frames and bodies: an image shows a bone shortened that points at the
    camera, and a wrong joint now and then lengthens one.

    Shapes:
        returns: (N,)
    """
    child = [joint for joint, parent in enumerate(skeleton.parents) if joint != parent]
    parent = [skeleton.parents[joint] for joint in child]
    length = _length(batch.pose[:, :, :, child] - batch.pose[:, :, :, parent])
    both = (batch.joint_weight[:, :, child] > 0) & (batch.joint_weight[:, :, parent] > 0)
    of_frames = length.masked_fill(~both, torch.nan).transpose(1, 2).flatten(2)
    size: Tensor = of_frames.nanquantile(0.75, dim=2).nanquantile(0.5, dim=1).nan_to_num(0.0)
    return size


def _length(vectors: Tensor) -> Tensor:
    """(N, C, ...) -> (N, ...); torch's own norm takes several times as long over so short an axis."""
    return vectors.square().sum(dim=1).sqrt()
