"""Laws of poses in an image: units that do not depend on the camera, and every step of the way in two dimensions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from feeders.batch import SkeletonBatch, mirrored
from feeders.modality import to_modality
from feeders.normalise import body_size, by_body, by_image
from feeders.skeleton import NTU25, PENN13, Skeleton
from feeders.transforms import AugmentConfig, align, augment, centre, min_max

EVERYTHING = AugmentConfig(
    rotation=(0.0, 0.0, 30.0), scale=(0.8, 1.2), shear=0.2, mirror=0.5, noise=0.1, joint_mask=0.2, part_mask=0.5
)
SIZE = torch.tensor([[480, 270], [320, 240], [640, 360], [100, 400]])
HIPS = PENN13.index("left_hip", "right_hip")
SHOULDERS = PENN13.index("left_shoulder", "right_shoulder")


@pytest.fixture
def flat() -> SkeletonBatch:
    """Four clips in images, 11 frames: a third of the joints hidden; the last shows nothing at all."""
    draw = torch.Generator().manual_seed(3)
    weight = (torch.rand(4, 11, 13, 1, generator=draw) > 0.33).float()
    weight[3] = 0.0
    return SkeletonBatch(
        pose=100.0 * torch.randn(4, 2, 11, 13, 1, generator=draw) * weight[:, None],
        joint_weight=weight,
        body_mask=weight.amax(dim=(1, 2)) > 0,
        frame_mask=torch.ones(4, 11, dtype=torch.bool),
        label=torch.arange(4),
        sample_id=("a", "b", "c", "d"),
    )


def placed(batch: SkeletonBatch, scale: float, shift: tuple[float, ...]) -> SkeletonBatch:
    moved = batch.pose * scale + torch.tensor(shift)[:, None, None, None]
    return replace(batch, pose=moved * (batch.joint_weight > 0)[:, None])


def test_body_units_know_neither_place_nor_scale(flat: SkeletonBatch) -> None:
    expected = by_body(flat, PENN13).pose
    torch.testing.assert_close(by_body(placed(flat, 3.7, (310.0, -95.0)), PENN13).pose, expected, atol=1e-4, rtol=0)


def test_body_units_hold_in_space_too(batch: SkeletonBatch) -> None:
    moved = placed(batch, 0.2, (3.0, -1.0, 2.0))
    torch.testing.assert_close(by_body(moved, NTU25).pose, by_body(batch, NTU25).pose, atol=1e-4, rtol=0)


def test_body_size_equals_a_loop_over_bones(flat: SkeletonBatch) -> None:
    pose, weight = flat.pose[..., 0].numpy(), flat.joint_weight[..., 0].numpy()
    for clip, size in enumerate(body_size(flat, PENN13).tolist()):
        lengths = []
        for joint, parent in enumerate(PENN13.parents):
            both = (weight[clip, :, joint] > 0) & (weight[clip, :, parent] > 0)
            if joint != parent and both.any():
                bone = pose[clip][:, both, joint] - pose[clip][:, both, parent]
                lengths.append(np.quantile(np.linalg.norm(bone, axis=0), 0.75))
        assert size == pytest.approx(np.median(lengths) if lengths else 0.0, rel=1e-5)


def test_a_few_wild_joints_hardly_change_the_body_size(flat: SkeletonBatch) -> None:
    wild = flat.pose.clone()
    wild[:3, :, 0, :2] *= 50.0
    ratio = body_size(replace(flat, pose=wild), PENN13)[:3] / body_size(flat, PENN13)[:3]
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


def test_one_joint_alone_and_no_joint_become_zero(flat: SkeletonBatch) -> None:
    weight = torch.zeros_like(flat.joint_weight)
    weight[0, 4, 6] = 1.0
    alone = by_body(replace(flat, pose=flat.pose * weight[:, None], joint_weight=weight), PENN13).pose
    assert torch.equal(alone, torch.zeros_like(alone))


def test_joints_without_bones_are_in_units_of_their_spread(flat: SkeletonBatch) -> None:
    weight = torch.zeros_like(flat.joint_weight)
    weight[:, :, [0, 12]] = 1.0  # head and right ankle share no bone
    pose = torch.randn(flat.pose.shape, generator=torch.Generator().manual_seed(1)) * 1e3 * weight[:, None]
    apart = by_body(replace(flat, pose=pose, joint_weight=weight), PENN13).pose[:, :, :, [0, 12]].norm(dim=1)
    torch.testing.assert_close(apart.mean(dim=(1, 2, 3)), torch.ones(4))


def test_image_units_know_no_image_size(flat: SkeletonBatch) -> None:
    factor = torch.tensor([[2.0, 0.5], [1.0, 3.0], [4.0, 4.0], [1.0, 1.0]])
    larger = replace(flat, pose=flat.pose * factor[:, :, None, None, None])
    expected = by_image(flat, SIZE.float()).pose
    torch.testing.assert_close(by_image(larger, SIZE * factor).pose, expected, atol=1e-5, rtol=0)
    corner = replace(flat, pose=(SIZE / 2.0)[:, :, None, None, None].expand_as(flat.pose))
    assert torch.equal(by_image(corner, SIZE).pose, torch.ones_like(flat.pose))


@pytest.mark.parametrize("size", [torch.full((4, 2), -1), torch.tensor([[480, 270]] * 3 + [[480, 0]])])
def test_image_units_without_a_size_are_refused(flat: SkeletonBatch, size: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"data\.normalise: got image"):
        by_image(flat, size)


def test_image_units_in_space_are_refused(batch: SkeletonBatch) -> None:
    with pytest.raises(ValueError, match="3 coordinates"):
        by_image(batch, SIZE[:3])


@pytest.mark.parametrize("when", ["first_frame", "clip", "every_frame"])
def test_hidden_joints_stay_zero_and_change_nothing(flat: SkeletonBatch, when: str) -> None:
    seeds = np.arange(4)

    def through(batch: SkeletonBatch) -> list[torch.Tensor]:
        steps = [by_body(batch, PENN13), by_image(batch, SIZE), centre(batch, PENN13.origin, when), min_max(batch)]
        steps += [augment(centre(steps[0], PENN13.origin, when), EVERYTHING, PENN13, seeds)]
        return [to_modality(step, PENN13, name).pose for step in steps for name in ("joint", "bone", "joint_motion")]

    is_hidden = (flat.joint_weight == 0)[:, None]
    garbage = replace(flat, pose=torch.where(is_hidden, 777.0, flat.pose))
    for clean, dirty in zip(through(flat), through(garbage), strict=True):
        assert torch.isfinite(clean).all()
        assert (clean[3] == 0).all()
        torch.testing.assert_close(torch.where(is_hidden, 0.0, dirty), torch.where(is_hidden, 0.0, clean))


def test_a_body_is_at_its_visible_hips_then_shoulders_then_at_what_is_seen(flat: SkeletonBatch) -> None:
    weight = flat.joint_weight.clone()
    weight[:] = 0.0
    weight[:, 0] = 1.0  # everything
    weight[:, 1, HIPS[1]] = weight[:, 1, SHOULDERS[0]] = 1.0  # one hip, one shoulder
    weight[:, 2, list(SHOULDERS)] = weight[:, 2, 0] = 1.0  # no hip
    weight[:, 3, 0] = weight[:, 3, 12] = 1.0  # neither
    pose = torch.randn(flat.pose.shape, generator=torch.Generator().manual_seed(0)) * weight[:, None]
    moved = centre(replace(flat, pose=pose, joint_weight=weight), PENN13.origin, "every_frame").pose
    for frame, group in enumerate([HIPS, (HIPS[1],), SHOULDERS, (0, 12)]):
        middle = moved[:, :, frame, list(group)].mean(dim=2)
        torch.testing.assert_close(middle, torch.zeros_like(middle), atol=1e-6, rtol=0)
    assert (moved[:, :, 4:] == 0).all()


def test_an_image_turns_about_z_as_space_does(flat: SkeletonBatch) -> None:
    settings = AugmentConfig(rotation=(0.0, 0.0, 40.0), scale=(0.5, 1.5), mirror=0.5, shear=0.3)
    in_space = replace(flat, pose=torch.cat([flat.pose, torch.zeros_like(flat.pose[:, :1])], dim=1))
    seeds = np.arange(4)
    turned = augment(flat, settings, PENN13, seeds).pose
    space = augment(in_space, settings, replace(PENN13, coordinates=3), seeds).pose
    torch.testing.assert_close(turned, space[:, :2], atol=1e-4, rtol=0)
    plain = augment(flat, AugmentConfig(rotation=(0.0, 0.0, 40.0)), PENN13, seeds).pose
    torch.testing.assert_close(plain.norm(dim=1), flat.pose.norm(dim=1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rotation", [(5.0, 0.0, 0.0), (0.0, 5.0, 5.0)])
def test_an_image_turns_about_no_other_axis(flat: SkeletonBatch, rotation: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"data\.augment\.rotation: got .* PENN13, expected 0 about x and y"):
        augment(flat, AugmentConfig(rotation=rotation), PENN13, np.arange(4))


def test_an_image_has_no_vertical_to_align_by(flat: SkeletonBatch) -> None:
    with pytest.raises(ValueError, match=r"data\.align: got 'clip' for PENN13, expected none"):
        align(flat, PENN13, "clip")
    assert align(flat, PENN13, "none") is flat


def test_a_mirror_image_turns_x_round_the_centre(flat: SkeletonBatch) -> None:
    image = mirrored(flat, PENN13)
    left, right = PENN13.index("left_wrist", "right_wrist")
    assert torch.equal(image.pose[:, 0, :, left], -flat.pose[:, 0, :, right])
    assert torch.equal(image.pose[:, 1, :, left], flat.pose[:, 1, :, right])
    assert torch.equal(image.joint_weight[:, :, left], flat.joint_weight[:, :, right])
    first, second = (by_body(one, PENN13) for one in (image, flat))
    torch.testing.assert_close(first.pose, mirrored(second, PENN13).pose, atol=1e-5, rtol=0)


@pytest.mark.parametrize("skeleton", [PENN13, NTU25], ids=lambda skeleton: skeleton.name)
def test_the_origin_of_a_layout_is_its_own_mirror_image(skeleton: Skeleton) -> None:
    for group in skeleton.origin:
        assert sorted(skeleton.mirror[joint] for joint in group) == sorted(group)
