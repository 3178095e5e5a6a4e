"""Move and disturb whole batches in space: pure, and each sample by its own seed alone (never the global generator).

Angles are drawn in degrees; y is up, z away from the camera, x across, in metres or in what ``data.normalise`` makes of
the store's units. Poses of an image have x and y alone, and turn about z. What is absent stays zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import assert_never

from feeders.batch import SkeletonBatch, hide
from feeders.draws import between, normal, uniform
from feeders.skeleton import Skeleton
from torchlight.config import StrictConfig

Centre = Literal["none", "first_frame", "clip", "every_frame"]
Align = Literal["none", "first_frame", "clip"]
Normalise = Literal["none", "image", "body", "min_max"]
Turns = Literal["xyz", "yxz"]


class AugmentConfig(StrictConfig):
    """What training does to a clip; one draw per clip, for all its frames and bodies. Nothing by default.

    Args:
        rotation: largest angle about x, y and z in degrees, either way; y at 180 is the full circle.
        turns: the axes in the order of turning about them; NW-UCLA's published feeder has y first, and so nothing leans
            sideways.
        scale: smallest and largest factor.
        shear: largest entry off the diagonal of the shear matrix.
        mirror: probability of a left-right mirror image (x turned round, left and right joints swapped).
        bones: standard deviation of each bone's length, as a share of it: a sensor's idea of a body differs by clip.
        noise: standard deviation added to each coordinate, in units of the pose.
        joint_mask: probability of each joint to be hidden for the whole clip.
        part_mask: probability that one body part, of ``part_scheme``, is hidden for the whole clip.
    """

    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turns: Turns = "xyz"
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = Field(default=0.0, ge=0.0)
    mirror: float = Field(default=0.0, ge=0.0, le=1.0)
    bones: float = Field(default=0.0, ge=0.0)
    noise: float = Field(default=0.0, ge=0.0)
    joint_mask: float = Field(default=0.0, ge=0.0, lt=1.0)
    part_mask: float = Field(default=0.0, ge=0.0, le=1.0)
    part_scheme: str = "five_parts_disjoint"

    @property
    def disturbs(self) -> bool:
        """Whether more is asked for than moving the clip as a whole."""
        return bool(self.bones or self.noise or self.joint_mask or self.part_mask)


def augment(
    batch: SkeletonBatch,
    settings: AugmentConfig,
    skeleton: Skeleton,
    seeds: np.ndarray,
    lengths: np.ndarray | None = None,
) -> SkeletonBatch:
    """Stretch bones, move, add noise, hide: each where asked, in this order.

    Shapes:
        seeds: (N,) int64
        lengths: (N,) frames of each clip, where they are padded to those of the longest in the batch
    """
    if skeleton.coordinates == 2 and any(settings.rotation[:2]):
        raise ValueError(
            f"data.augment.rotation: got {settings.rotation} for {skeleton.name}, expected 0 about x and y: "
            "an image turns about z alone"
        )
    if settings.bones:
        batch = stretch(batch, skeleton, _floats(settings.bones * normal(seeds, "bones", len(skeleton.joints))))
    batch = move(batch, skeleton, drawn_moves(settings, seeds))
    if settings.noise:
        drawn = _drawn_noise(batch.pose, seeds, lengths)
        batch = replace(batch, pose=batch.pose + settings.noise * drawn * _seen(batch))
    if settings.joint_mask:
        joints = batch.pose.shape[3]
        batch = hide_joints(batch, _flags(uniform(seeds, "joint mask", joints) < settings.joint_mask))
    if settings.part_mask:
        batch = hide_joints(batch, _drawn_part(settings, skeleton, seeds))
    return batch


def stretch(batch: SkeletonBatch, skeleton: Skeleton, share: Tensor) -> SkeletonBatch:
    """Make bones longer by a share of their length, (N, V); what hangs on a bone goes along, the root stays.

    A bone of which an end is not seen keeps its length.
    """
    parents = list(skeleton.parents)
    path_VV = torch.eye(len(parents))
    for _ in parents:
        path_VV = torch.maximum(path_VV, path_VV[parents])
    both = torch.minimum(batch.joint_weight, batch.joint_weight[:, :, parents]) > 0
    longer = (batch.pose - batch.pose[:, :, :, parents]) * (both * share[:, None, :, None])[:, None]
    return replace(batch, pose=(batch.pose + torch.einsum("vb,nctbm->nctvm", path_VV, longer)) * _seen(batch))


@dataclass(frozen=True)
class Moves:
    """What happens to each clip as a whole: one linear map, after a left-right mirror image where there is one.

    Shapes:
        matrix: (N, 3, 3) float32, for column vectors, the turning round of x in a mirror image included
        is_mirrored: (N,) bool, left and right joints change places
    """

    matrix: np.ndarray
    is_mirrored: np.ndarray

    @staticmethod
    def none(clips: int) -> "Moves":
        """Every clip stays as it is."""
        matrix = np.zeros((clips, 3, 3), dtype=np.float32)
        matrix[:, (0, 1, 2), (0, 1, 2)] = 1.0
        return Moves(matrix, np.zeros(clips, dtype=bool))


def drawn_moves(settings: AugmentConfig, seeds: np.ndarray) -> Moves:
    """Mirror, scale, shear, rotate: each where asked, in this order, as one map. ``seeds``: (N,) int64."""
    matrices, is_mirrored = [], np.zeros(len(seeds), dtype=bool)
    if settings.mirror:
        is_mirrored = uniform(seeds, "mirror")[:, 0] < settings.mirror
        matrices.append(np.where(is_mirrored[:, None, None], np.diag([-1.0, 1.0, 1.0]), np.eye(3)))
    if settings.scale != (1.0, 1.0):
        matrices.append(between(seeds, "scale", *settings.scale)[:, :, None] * np.eye(3))
    if settings.shear:
        matrices.append(shear_matrices(between(seeds, "shear", -settings.shear, settings.shear, 6)))
    if any(settings.rotation):
        angles = between(seeds, "rotation", -1.0, 1.0, 3) * np.deg2rad(settings.rotation)
        if settings.turns == "xyz":
            matrices.append(rotation_matrices(angles))
        else:
            matrices += [rotation_matrices(angles * ("xyz".index(axis) == np.arange(3))) for axis in settings.turns]
    if not matrices:
        return Moves.none(len(seeds))
    return Moves(reduce(lambda first, then: then @ first, matrices).astype(np.float32), is_mirrored)


def move(batch: SkeletonBatch, skeleton: Skeleton, moves: Moves) -> SkeletonBatch:
    """Every clip under its own map."""
    if moves.is_mirrored.any():
        partner = np.where(moves.is_mirrored[:, None], skeleton.mirror, np.arange(len(skeleton.joints)))
        joint_NV = torch.from_numpy(partner).to(batch.pose.device)
        batch = replace(
            batch,
            pose=batch.pose.take_along_dim(joint_NV[:, None, None, :, None], dim=3),
            joint_weight=batch.joint_weight.take_along_dim(joint_NV[:, None, :, None], dim=2),
        )
    # An image is the plane z = 0, and what leaves it is seen from the front.
    coordinates = batch.pose.shape[1]
    matrix = moves.matrix[:, :coordinates, :coordinates]
    if (matrix == np.eye(coordinates, dtype=np.float32)).all():
        return batch
    return transform(batch, torch.from_numpy(matrix).to(batch.pose.device))


def transform(batch: SkeletonBatch, matrix: Tensor) -> SkeletonBatch:
    """Apply one (N, C, C) matrix per sample to its column vectors."""
    return replace(batch, pose=torch.bmm(matrix, batch.pose.flatten(2)).reshape(batch.pose.shape))


def rotation_matrices(angles: np.ndarray) -> np.ndarray:
    """(N, 3) radians about x, y, z -> (N, 3, 3) R_z R_y R_x, with the signs of the published NTU feeders."""
    (cos_x, cos_y, cos_z), (sin_x, sin_y, sin_z) = np.cos(angles).T, np.sin(angles).T
    matrix = np.empty((len(angles), 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 0], matrix[:, 2, 0] = cos_z * cos_y, -sin_z * cos_y, sin_y
    matrix[:, 0, 1] = sin_z * cos_x + cos_z * sin_y * sin_x
    matrix[:, 1, 1] = cos_z * cos_x - sin_z * sin_y * sin_x
    matrix[:, 2, 1] = -cos_y * sin_x
    matrix[:, 0, 2] = sin_z * sin_x - cos_z * sin_y * cos_x
    matrix[:, 1, 2] = cos_z * sin_x + sin_z * sin_y * cos_x
    matrix[:, 2, 2] = cos_y * cos_x
    return matrix


def shear_matrices(entries: np.ndarray) -> np.ndarray:
    """(N, 6) entries off the diagonal, row by row -> (N, 3, 3)."""
    matrix = np.tile(np.eye(3), (len(entries), 1, 1))
    matrix[:, ~np.eye(3, dtype=bool)] = entries
    return matrix


def hide_joints(batch: SkeletonBatch, hidden: Tensor) -> SkeletonBatch:
    """Make (N, V) joints absent; a sample that would lose every joint keeps them all."""
    return hide(batch, (hidden & ~hidden.all(dim=1, keepdim=True))[:, None])


def centre(batch: SkeletonBatch, where: Sequence[Sequence[int]], when: Centre) -> SkeletonBatch:
    """Move the origin to the first body that is seen: in its first frame, on average over frames, or frame by frame.

    A body is ``where`` its `Skeleton.origin` is: at the mean of what is seen of the first group of which anything is.
    """
    place, is_seen = _places(batch, where)
    match when:
        case "none":
            return batch
        case "first_frame":
            origin = place.transpose(2, 3).flatten(2).gather(2, _first(is_seen.transpose(1, 2).flatten(1), place))
            origin = origin[..., None, None]
        case "clip" | "every_frame":
            first = is_seen.to(torch.int8).argmax(dim=2)
            origin = place.gather(3, first[:, None, :, None].expand(*place.shape[:3], 1))[..., None]
            if when == "clip":
                counts = is_seen.any(dim=2).to(place.dtype)[:, None, :, None, None]
                origin = (origin * counts).sum(dim=2, keepdim=True) / counts.sum(dim=2, keepdim=True).clamp(min=1.0)
        case _:
            assert_never(when)
    return replace(batch, pose=(batch.pose - origin) * _seen(batch))


def _places(batch: SkeletonBatch, where: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(N, C, T, M) where each body is in each frame, (N, T, M) whether it is seen at all; see `centre`."""
    first, *others = where
    place, is_seen = _mean_of(batch, first)
    for group in others:
        another, is_other_seen = _mean_of(batch, group)
        place, is_seen = torch.where(is_seen[:, None], place, another), is_seen | is_other_seen
    return place, is_seen


def _mean_of(batch: SkeletonBatch, joints: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(N, C, T, M) the mean of some joints, of those seen; (N, T, M) whether any is."""
    if len(joints) == 1:
        return batch.pose[:, :, :, joints[0]], batch.joint_weight[:, :, joints[0]] > 0
    is_seen = batch.joint_weight[:, :, list(joints)] > 0
    count = is_seen.sum(dim=2).clamp(min=1).to(batch.pose.dtype)
    total = (batch.pose[:, :, :, list(joints)] * is_seen[:, None].to(batch.pose.dtype)).sum(dim=3)
    return total / count[:, None], is_seen.any(dim=2)


def align(batch: SkeletonBatch, skeleton: Skeleton, how: Align) -> SkeletonBatch:
    """Turn each clip about the vertical until the first body's line from left hip to right hip runs along +x.

    ``first_frame`` looks at the first frame that shows both hips, ``clip`` at the mean over all that do; a clip whose
    hips lie on one vertical line, or are never seen, is left as it is.
    """
    if how == "none":
        return batch
    if skeleton.coordinates != 3:
        raise ValueError(f"data.align: got {how!r} for {skeleton.name}, expected none: an image has no vertical axis")
    if "left_hip" not in skeleton.joints:
        raise ValueError(f"data.align: got {how!r} for {skeleton.name}, expected none: it has no hips")
    left, right = skeleton.index("left_hip", "right_hip")
    both = (batch.joint_weight[:, :, [left, right]] > 0).all(dim=2)
    across = (batch.pose[:, :, :, right] - batch.pose[:, :, :, left]) * both[:, None].to(batch.pose.dtype)
    first_body = both.any(dim=1).to(torch.int8).argmax(dim=1)
    across = across.gather(3, first_body[:, None, None, None].expand(*across.shape[:3], 1))[..., 0]
    if how == "first_frame":
        seen = both.gather(2, first_body[:, None, None].expand(*both.shape[:2], 1))[..., 0]
        axis = across.gather(2, _first(seen, across))[..., 0]
    else:
        axis = across.sum(dim=2)
    length = (axis[:, 0] ** 2 + axis[:, 2] ** 2).sqrt()
    is_flat = length < 1e-6
    cos = torch.where(is_flat, torch.ones_like(length), axis[:, 0] / length.clamp(min=1e-6))
    sin = torch.where(is_flat, torch.zeros_like(length), axis[:, 2] / length.clamp(min=1e-6))
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    matrix = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], dim=1).reshape(-1, 3, 3)
    return transform(batch, matrix)


def min_max(batch: SkeletonBatch) -> SkeletonBatch:
    """Stretch each axis of a clip to [-1, 1] over its frames, joints and bodies (CTR-GCN's NW-UCLA feeder).

    An axis without extent becomes zero (the original divides by zero).
    """
    is_seen = (batch.joint_weight > 0)[:, None]
    low = batch.pose.masked_fill(~is_seen, torch.inf).amin(dim=(2, 3, 4), keepdim=True)
    high = batch.pose.masked_fill(~is_seen, -torch.inf).amax(dim=(2, 3, 4), keepdim=True)
    extent = high - low
    is_flat = ~(extent > 0)
    pose = (batch.pose - low) / extent.masked_fill(is_flat, 1.0) * 2.0 - 1.0
    return replace(batch, pose=pose.masked_fill(is_flat | ~is_seen, 0.0))


def _drawn_noise(pose: Tensor, seeds: np.ndarray, lengths: np.ndarray | None) -> Tensor:
    """Standard normal numbers, as many for a clip as it has frames of its own: padding draws nothing."""
    if lengths is None:
        return _floats(normal(seeds, "noise", pose[0].numel())).reshape(pose.shape)
    drawn = torch.zeros_like(pose)
    for length in np.unique(lengths).tolist():
        rows = _flags(lengths == length)
        own = pose[rows, :, :length]
        drawn[rows, :, :length] = _floats(normal(seeds[lengths == length], "noise", own[0].numel())).reshape(own.shape)
    return drawn


def _drawn_part(settings: AugmentConfig, skeleton: Skeleton, seeds: np.ndarray) -> Tensor:
    member_PV = skeleton.membership(settings.part_scheme, "data.augment.part_scheme") > 0
    if not len(member_PV):
        raise ValueError(f"data.augment.part_scheme: got {settings.part_scheme!r}, expected a scheme with parts")
    draws = uniform(seeds, "part mask", 2)
    part = (draws[:, 1] * len(member_PV)).astype(np.int64)
    return _flags(member_PV[part] & (draws[:, :1] < settings.part_mask))


def _first(is_seen: Tensor, like: Tensor) -> Tensor:
    """(N, F) flags -> (N, C, 1) place of the first True, to gather with."""
    first = is_seen.to(torch.int8).argmax(dim=1)
    return first[:, None, None].expand(like.shape[0], like.shape[1], 1)


def _seen(batch: SkeletonBatch) -> Tensor:
    return (batch.joint_weight > 0).to(batch.pose.dtype)[:, None]


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _flags(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
