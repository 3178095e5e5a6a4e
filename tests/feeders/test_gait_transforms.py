from dataclasses import replace

import numpy as np
import pytest
import torch

from feeders.batch import SkeletonBatch, mirrored
from feeders.gait.transforms import bone_angle, face_ahead, gait_inputs, normalise_walk
from feeders.modality import to_modality
from feeders.skeleton import COCO17, KINECT20, OPENPOSE18, Skeleton
from feeders.transforms import rotation_matrices, transform


def walks(skeleton: Skeleton) -> SkeletonBatch:
    """Random bodies; some joints of the second are missing, the third leaves after 8 frames."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.rand(3, 12, len(skeleton.joints), 1, generator=draw) * 0.5 + 0.5
    weight[1, :, 3] = 0
    weight[1, 2:4, list(skeleton.index("left_hip"))] = 0
    weight[1, 5, list(skeleton.index("left_hip", "right_hip"))] = 0
    weight[2, 8:] = 0
    pose = torch.randn(3, skeleton.coordinates, 12, len(skeleton.joints), 1, generator=draw)
    return SkeletonBatch(
        pose=pose * (weight > 0)[:, None],
        joint_weight=weight,
        body_mask=torch.ones(3, 1, dtype=torch.bool),
        frame_mask=(weight > 0).flatten(2).any(dim=2),
        label=torch.arange(3),
        sample_id=("a", "b", "c"),
    )


def moved(batch: SkeletonBatch, scale: torch.Tensor, shift: torch.Tensor) -> SkeletonBatch:
    seen = (batch.joint_weight > 0)[:, None]
    return replace(batch, pose=(batch.pose * scale + shift) * seen)


@pytest.mark.parametrize("skeleton", [COCO17, OPENPOSE18], ids=lambda s: s.name)
def test_in_images_place_and_size_of_every_frame_do_not_matter(skeleton: Skeleton) -> None:
    batch = walks(skeleton)
    draw = torch.Generator().manual_seed(1)
    scale = torch.rand(3, 1, 12, 1, 1, generator=draw) * 9 + 0.5
    shift = 50 * torch.randn(3, 2, 12, 1, 1, generator=draw)
    plain = normalise_walk(batch, skeleton, "unit_size")
    other = normalise_walk(moved(batch, scale, shift), skeleton, "unit_size")
    torch.testing.assert_close(other.pose, plain.pose, atol=2e-4, rtol=1e-3)
    assert not torch.allclose(plain.pose, batch.pose)


def test_in_space_place_does_not_matter_and_size_only_where_it_is_kept() -> None:
    batch = walks(KINECT20)
    draw = torch.Generator().manual_seed(1)
    shift = torch.randn(3, 3, 12, 1, 1, generator=draw)
    size = torch.tensor([0.5, 1.3, 2.0])[:, None, None, None, None]
    changed = moved(batch, size, shift)
    kept, unit = (normalise_walk(batch, KINECT20, how).pose for how in ("keep_size", "unit_size"))
    torch.testing.assert_close(normalise_walk(changed, KINECT20, "unit_size").pose, unit, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(normalise_walk(changed, KINECT20, "keep_size").pose, kept * size, atol=1e-5, rtol=1e-4)
    # One number a walk: what grows within the walk stays to be seen.
    torch.testing.assert_close(unit / unit[:, :1, :1, :1], kept / kept[:, :1, :1, :1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("how", ["keep_size", "unit_size"])
def test_the_middle_of_the_hips_is_the_origin_and_size_is_one(how: str) -> None:
    batch = normalise_walk(walks(KINECT20), KINECT20, how)
    hips = batch.pose[0][:, :, list(KINECT20.index("left_hip", "right_hip"))]
    torch.testing.assert_close(hips.mean(dim=2), torch.zeros(3, 12, 1), atol=1e-6, rtol=0)
    one_hip = batch.pose[1][:, 2:4, list(KINECT20.index("right_hip"))]
    torch.testing.assert_close(one_hip, torch.zeros_like(one_hip), atol=1e-6, rtol=0)
    no_hip = batch.pose[1][:, 5].sum(dim=1)
    torch.testing.assert_close(no_hip, torch.zeros_like(no_hip), atol=1e-5, rtol=0)
    if how == "unit_size":
        seen = (batch.joint_weight > 0).sum(dim=(1, 2, 3))
        size = (batch.pose.square().sum(dim=(1, 2, 3, 4)) / seen).sqrt()
        torch.testing.assert_close(size, torch.ones(3))


@pytest.mark.parametrize("skeleton", [COCO17, KINECT20], ids=lambda s: s.name)
def test_what_is_absent_stays_zero_and_a_walk_alone_is_the_same(skeleton: Skeleton) -> None:
    batch = walks(skeleton)

    def prepared(some: SkeletonBatch) -> SkeletonBatch:
        some = normalise_walk(some, skeleton, "unit_size")
        if skeleton.coordinates == 3:
            some = face_ahead(some, skeleton, "every_frame", 5)
        return gait_inputs(some, skeleton, ("joint", "bone", "joint_motion", "bone_angle"))

    together = prepared(batch)
    absent = (together.joint_weight == 0)[:, None].expand_as(together.pose)
    assert absent.any()
    assert (together.pose[absent] == 0).all()
    assert torch.isfinite(together.pose).all()
    for row in range(3):
        alone = prepared(replace(batch, pose=batch.pose[[row]], joint_weight=batch.joint_weight[[row]]))
        torch.testing.assert_close(alone.pose[0], together.pose[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("when", ["walk", "every_frame"])
def test_heading_is_taken_out_whichever_way_a_walk_is_turned(when: str) -> None:
    batch = walks(KINECT20)
    angles = np.zeros((3, 3))
    angles[:, 1] = [0.5, 2.0, -3.0]
    turned = transform(batch, torch.from_numpy(rotation_matrices(angles).astype(np.float32)))
    expected = face_ahead(batch, KINECT20, when, 5)
    torch.testing.assert_close(face_ahead(turned, KINECT20, when, 5).pose, expected.pose, atol=1e-5, rtol=0)
    lengths = (expected.pose.norm(dim=1), batch.pose.norm(dim=1))
    torch.testing.assert_close(*lengths)
    torch.testing.assert_close(expected.pose[:, 1], batch.pose[:, 1])


def test_left_to_right_runs_along_x_at_any_moment_of_a_turn() -> None:
    batch = walks(KINECT20)
    still = replace(batch, pose=batch.pose[:1, :, :1].expand(1, -1, 12, -1, -1), joint_weight=batch.joint_weight[:1])
    angle = torch.linspace(0, 1.5, 12)
    cos, sin = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
    x, y, z = still.pose[0]
    turning = replace(still, pose=torch.stack([cos * x + sin * z, y, cos * z - sin * x])[None])
    ahead = face_ahead(turning, KINECT20, "every_frame", 1).pose[0]
    left, right = KINECT20.index("left_hip", "right_hip")
    across = ahead[:, :, right] - ahead[:, :, left]
    assert (across[0] > 0).all()
    torch.testing.assert_close(across[2], torch.zeros_like(across[2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(ahead, ahead[:, :1].expand_as(ahead), atol=1e-5, rtol=0)


def test_an_image_cannot_be_turned() -> None:
    with pytest.raises(ValueError, match="data.heading: got 'walk' for COCO17"):
        face_ahead(walks(COCO17), COCO17, "walk", 5)


@pytest.mark.parametrize("skeleton", [COCO17, KINECT20], ids=lambda s: s.name)
def test_bone_angles_know_no_size_and_mirror_like_positions(skeleton: Skeleton) -> None:
    batch = walks(skeleton)
    angle = bone_angle(batch, skeleton)
    larger = bone_angle(replace(batch, pose=3 * batch.pose), skeleton)
    torch.testing.assert_close(larger.pose, angle.pose, atol=1e-3, rtol=0)
    image = bone_angle(mirrored(batch, skeleton), skeleton)
    torch.testing.assert_close(image.pose, mirrored(angle, skeleton).pose)
    assert angle.pose.abs().max() <= np.pi / 2
    child, parent = skeleton.index("left_knee", "left_hip")
    bone = (batch.pose[0, :, 0, child, 0] - batch.pose[0, :, 0, parent, 0]).double().numpy()
    by_hand = np.pi / 2 - np.arccos(bone / np.linalg.norm(bone))
    np.testing.assert_allclose(angle.pose[0, :, 0, child, 0], by_hand, atol=1e-6)


def test_inputs_are_channels_one_after_the_other() -> None:
    batch = walks(KINECT20)
    both = gait_inputs(batch, KINECT20, ("bone", "joint_motion"))
    assert both.pose.shape[1] == 6
    torch.testing.assert_close(both.pose[:, :3], to_modality(batch, KINECT20, "bone").pose)
    torch.testing.assert_close(both.pose[:, 3:], to_modality(batch, KINECT20, "joint_motion").pose)
