from dataclasses import replace

import numpy as np
import pytest
import torch

from feeders.batch import SkeletonBatch
from feeders.draws import normal, permutation, uniform
from feeders.skeleton import NTU25, Skeleton
from feeders.transforms import (
    AugmentConfig,
    Moves,
    align,
    augment,
    centre,
    drawn_moves,
    hide_joints,
    min_max,
    move,
    rotation_matrices,
    shear_matrices,
    stretch,
    transform,
)

EVERYTHING = AugmentConfig(
    rotation=(10.0, 180.0, 10.0),
    scale=(0.8, 1.2),
    shear=0.2,
    mirror=0.5,
    bones=0.05,
    noise=0.01,
    joint_mask=0.2,
    part_mask=0.5,
)
SPINE = NTU25.joints.index("spine_middle")
LEFT_HIP, RIGHT_HIP = NTU25.index("left_hip", "right_hip")


def picked(batch: SkeletonBatch, rows: list[int]) -> SkeletonBatch:
    return replace(
        batch,
        pose=batch.pose[rows],
        joint_weight=batch.joint_weight[rows],
        body_mask=batch.body_mask[rows],
        frame_mask=batch.frame_mask[rows],
        label=batch.label[rows],
        sample_id=tuple(batch.sample_id[row] for row in rows),
    )


def absent_is_zero(batch: SkeletonBatch) -> bool:
    return bool((batch.pose * (batch.joint_weight == 0)[:, None] == 0).all())


def rotations(angles: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rotation_matrices(angles).astype(np.float32))


def test_moves_are_mirror_scale_shear_and_rotation_in_this_order(batch: SkeletonBatch, seeds: np.ndarray) -> None:
    settings = {"mirror": 1.0, "scale": (0.8, 1.2), "shear": 0.2, "rotation": (10.0, 180.0, 10.0)}
    step_by_step = batch
    for name, value in settings.items():
        step_by_step = augment(step_by_step, AugmentConfig(**{name: value}), NTU25, seeds)
    at_once = augment(batch, AugmentConfig(**settings), NTU25, seeds)
    torch.testing.assert_close(at_once.pose, step_by_step.pose, atol=1e-5, rtol=0)
    assert torch.equal(at_once.joint_weight, step_by_step.joint_weight)


def test_rotation_equals_a_loop_of_single_axis_turns(batch: SkeletonBatch) -> None:
    angles = np.random.default_rng(0).uniform(-3, 3, size=(3, 3))
    turned = transform(batch, rotations(angles)).pose.numpy()
    for n, (x, y, z) in enumerate(angles):
        about_x = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
        about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
        about_z = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
        for t in range(9):
            for v in range(25):
                for m in range(2):
                    expected = about_z @ (about_y @ (about_x @ batch.pose[n, :, t, v, m].numpy()))
                    np.testing.assert_allclose(turned[n, :, t, v, m], expected, atol=1e-5)


def test_a_turn_about_y_and_then_x_leans_nothing_sideways(seeds: np.ndarray) -> None:
    settings = {order: AugmentConfig(rotation=(60.0, 60.0, 0.0), turns=order) for order in ("xyz", "yxz")}
    both = {order: drawn_moves(each, seeds).matrix for order, each in settings.items()}
    # Where the vertical goes: its x is what leans sideways.
    assert np.abs(both["yxz"][:, 0, 1]).max() < 1e-7 < np.abs(both["xyz"][:, 0, 1]).min()
    about_x, about_y = (
        drawn_moves(AugmentConfig(rotation=angles), seeds).matrix for angles in ((60.0, 0.0, 0.0), (0.0, 60.0, 0.0))
    )
    np.testing.assert_allclose(both["yxz"], about_x @ about_y, atol=1e-6)
    np.testing.assert_allclose(both["xyz"], about_y @ about_x, atol=1e-6)


def test_rotation_keeps_lengths_and_shear_keeps_volume() -> None:
    matrix = rotation_matrices(np.random.default_rng(0).normal(size=(5, 3)))
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.tile(np.eye(3), (5, 1, 1)), atol=1e-12)
    np.testing.assert_array_equal(shear_matrices(np.zeros((2, 6))), np.tile(np.eye(3), (2, 1, 1)))


def test_augmentation_ignores_batch_mates_and_the_global_generator(batch: SkeletonBatch, seeds: np.ndarray) -> None:
    together = augment(batch, EVERYTHING, NTU25, seeds)
    before = torch.get_rng_state()
    for n in range(3):
        alone = augment(picked(batch, [n]), EVERYTHING, NTU25, seeds[[n]])
        torch.testing.assert_close(alone.pose[0], together.pose[n], atol=1e-6, rtol=0)
        assert torch.equal(alone.joint_weight[0], together.joint_weight[n])
    assert torch.equal(before, torch.get_rng_state())
    again = augment(batch, EVERYTHING, NTU25, seeds)
    assert torch.equal(again.pose, together.pose)
    assert not torch.allclose(augment(batch, EVERYTHING, NTU25, seeds + 1).pose, together.pose)


def test_no_augmentation_is_the_identity(batch: SkeletonBatch, seeds: np.ndarray) -> None:
    assert augment(batch, AugmentConfig(), NTU25, seeds) is batch


def test_what_is_absent_stays_absent_through_everything(batch: SkeletonBatch, seeds: np.ndarray) -> None:
    for when in ("first_frame", "every_frame"):
        for how in ("first_frame", "clip"):
            moved = align(centre(batch, NTU25.origin, when), NTU25, how)
            result = min_max(augment(moved, EVERYTHING, NTU25, seeds))
            assert absent_is_zero(result)
            assert (result.joint_weight[batch.joint_weight == 0] == 0).all()


def test_mirroring_twice_is_the_identity(batch: SkeletonBatch) -> None:
    chosen = np.array([True, False, True])
    image = Moves(np.stack([np.diag([-1.0 if turned else 1.0, 1.0, 1.0]) for turned in chosen]).astype("f4"), chosen)
    once = move(batch, NTU25, image)
    assert torch.equal(once.pose[1], batch.pose[1])
    assert torch.equal(once.pose[0, 0, :, LEFT_HIP], -batch.pose[0, 0, :, RIGHT_HIP])
    assert torch.equal(once.pose[0, 1:, :, LEFT_HIP], batch.pose[0, 1:, :, RIGHT_HIP])
    twice = move(once, NTU25, image)
    assert torch.equal(twice.pose, batch.pose)
    assert torch.equal(twice.joint_weight, batch.joint_weight)


def test_centring_puts_the_joint_at_the_origin(batch: SkeletonBatch) -> None:
    first = centre(batch, NTU25.origin, "first_frame")
    assert (first.pose[:, :, 0, SPINE, 0] == 0).all()
    moved = batch.pose - first.pose
    torch.testing.assert_close(moved[:, :, 4, 7, 0], batch.pose[:, :, 0, SPINE, 0], atol=1e-5, rtol=0)
    every = centre(batch, NTU25.origin, "every_frame")
    assert (every.pose[:, :, :, SPINE, 0] == 0).all()
    assert centre(batch, NTU25.origin, "none") is batch


def test_centring_looks_past_absent_bodies_and_frames(batch: SkeletonBatch) -> None:
    late = replace(batch, pose=batch.pose.flip(4), joint_weight=batch.joint_weight.flip(3))
    first = centre(late, NTU25.origin, "first_frame").pose
    assert (first[0, :, 0, SPINE, 1] == 0).all()  # only the second body is there
    assert (first[1, :, 4, SPINE, 0] == 0).all()  # the first body comes in frame 4
    every = centre(late, NTU25.origin, "every_frame").pose
    assert (every[1, :, :4, SPINE, 1] == 0).all()
    assert (every[1, :, 4:, SPINE, 0] == 0).all()


@pytest.mark.parametrize("how", ["first_frame", "clip"])
def test_aligning_undoes_any_turn_about_the_vertical(batch: SkeletonBatch, how: str) -> None:
    turned = transform(batch, rotations(np.array([[0.0, 0.7, 0.0], [0.0, 2.9, 0.0], [0.0, -1.8, 0.0]])))
    straight = align(turned, NTU25, how).pose
    torch.testing.assert_close(straight, align(batch, NTU25, how).pose, atol=1e-5, rtol=0)
    across = straight[:, :, :, RIGHT_HIP, 0] - straight[:, :, :, LEFT_HIP, 0]
    across = across[:, :, 0] if how == "first_frame" else across.sum(2)
    assert (across[:, 0] > 0).all()
    torch.testing.assert_close(across[:, 2], torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(straight[:, 1], batch.pose[:, 1])


def test_aligning_leaves_a_clip_without_a_hip_line_as_it_is(batch: SkeletonBatch) -> None:
    pose = batch.pose.clone()
    pose[:, :, :, LEFT_HIP] = pose[:, :, :, RIGHT_HIP]
    flat = replace(batch, pose=pose)
    assert torch.equal(align(flat, NTU25, "clip").pose, pose)
    hidden = hide_joints(batch, torch.eye(25)[LEFT_HIP].bool().expand(3, 25))
    assert torch.equal(align(hidden, NTU25, "first_frame").pose, hidden.pose)


def test_min_max_fills_minus_one_to_one_and_survives_a_flat_axis(batch: SkeletonBatch) -> None:
    pose = batch.pose.clone()
    pose[0, 1] = 3.0 * (batch.joint_weight[0] > 0)
    result = min_max(replace(batch, pose=pose))
    assert torch.isfinite(result.pose).all()
    assert (result.pose[0, 1] == 0).all()
    for n, c in ((0, 0), (1, 2), (2, 1)):
        seen = result.pose[n, c][batch.joint_weight[n] > 0]
        assert seen.min() == -1.0
        assert seen.max() == 1.0
    original = batch.pose[1, 0, :, :, 0]
    everything = batch.pose[1, 0][batch.joint_weight[1] > 0]
    expected = (original - everything.min()) / (everything.max() - everything.min()) * 2 - 1
    torch.testing.assert_close(result.pose[1, 0, :, :, 0], expected, atol=1e-6, rtol=0)


def test_min_max_undoes_scaling_and_shifting(batch: SkeletonBatch) -> None:
    shifted = replace(batch, pose=(batch.pose * 1.7 + 0.3) * (batch.joint_weight > 0)[:, None])
    torch.testing.assert_close(min_max(shifted).pose, min_max(batch).pose, atol=1e-5, rtol=0)


def test_hiding_zeroes_pose_and_weight_but_never_a_whole_sample(batch: SkeletonBatch) -> None:
    hidden = torch.zeros(3, 25, dtype=torch.bool)
    hidden[0, 5] = True
    hidden[1] = True
    result = hide_joints(batch, hidden)
    assert (result.joint_weight[0, :, 5] == 0).all()
    assert (result.pose[0, :, :, 5] == 0).all()
    assert torch.equal(result.pose[1:], batch.pose[1:])


def test_a_masked_part_is_exactly_one_part(batch: SkeletonBatch) -> None:
    everyone = replace(batch, joint_weight=torch.ones_like(batch.joint_weight))
    settings = AugmentConfig(part_mask=1.0)
    parts = [set(part.joints) for part in NTU25.parts(settings.part_scheme).values()]
    lost = augment(everyone, settings, NTU25, np.array([1, 2, 3])).joint_weight[:, 0, :, 0] == 0
    assert all(set(torch.nonzero(row)[:, 0].tolist()) in parts for row in lost)


def test_a_scheme_without_parts_masks_none(batch: SkeletonBatch, seeds: np.ndarray) -> None:
    with pytest.raises(ValueError, match="part_scheme: got 'whole', expected a scheme with parts"):
        augment(batch, AugmentConfig(part_mask=0.5, part_scheme="whole"), NTU25, seeds)
    with pytest.raises(ValueError, match=r"data\.augment\.part_scheme: got 'halves', expected one of"):
        augment(batch, AugmentConfig(part_mask=0.5, part_scheme="halves"), NTU25, seeds)


def test_a_skeleton_without_hips_has_nothing_to_align_by(batch: SkeletonBatch, upper: Skeleton) -> None:
    with pytest.raises(ValueError, match=r"data\.align: got 'clip' for UPPER9, expected none: it has no hips"):
        align(batch, upper, "clip")


def test_masks_and_mirrors_come_as_often_as_asked() -> None:
    seeds = np.arange(20000)
    assert abs((uniform(seeds, "mirror")[:, 0] < 0.3).mean() - 0.3) < 0.01
    draws = uniform(seeds, "a", 2)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:, 0], uniform(seeds, "b")[:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.03
    drawn = normal(seeds, "noise", 3)
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    assert sorted(permutation(5, 100).tolist()) == list(range(100))


COPIES = 2000


@pytest.fixture
def clip() -> SkeletonBatch:
    """A clip many times over; its first three joints stand a metre along each axis."""
    pose = torch.randn(3, 4, 25, 1, generator=torch.Generator().manual_seed(0))
    pose[:, :, :3] = torch.eye(3)[:, None, :, None]
    return SkeletonBatch(
        pose=pose.expand(COPIES, -1, -1, -1, -1),
        joint_weight=torch.ones(COPIES, 4, 25, 1),
        body_mask=torch.ones(COPIES, 1, dtype=torch.bool),
        frame_mask=torch.ones(COPIES, 4, dtype=torch.bool),
        label=torch.zeros(COPIES, dtype=torch.int64),
        sample_id=("a",) * COPIES,
        meta={},
    )


def augmented(clip: SkeletonBatch, **asked: object) -> SkeletonBatch:
    return augment(clip, AugmentConfig(**asked), NTU25, np.arange(COPIES, dtype=np.uint64))


def seen_maps(clip: SkeletonBatch, **asked: object) -> np.ndarray:
    """(N, 3, 3) what became of the three axes."""
    return augmented(clip, **asked).pose[:, :, 0, :3, 0].double().numpy()


def test_joints_and_parts_are_hidden_as_often_as_asked(clip: SkeletonBatch) -> None:
    for asked in (0.1, 0.7):
        hidden = (augmented(clip, joint_mask=asked).joint_weight[:, 0, :, 0] == 0).double()
        assert abs(hidden.mean() - asked) < 0.01
        assert (hidden.mean(dim=0) - asked).abs().max() < 0.05
    for asked in (0.1, 0.7):
        result = augmented(clip, part_mask=asked)
        hidden_NV = result.joint_weight[:, 0, :, 0] == 0
        assert abs(hidden_NV.any(dim=1).double().mean() - asked) < 0.03
        for part in NTU25.parts("five_parts_disjoint").values():
            assert abs(hidden_NV[:, list(part.joints)].all(dim=1).double().mean() - asked / 5) < 0.03
        assert not result.pose[:, :, 0, :, 0].abs().sum(dim=1)[hidden_NV].any()


def test_clips_are_mirrored_as_often_as_asked(clip: SkeletonBatch) -> None:
    image = clip.pose[0][:, :, list(NTU25.mirror)] * torch.tensor([-1.0, 1.0, 1.0])[:, None, None, None]
    for asked in (0.1, 0.7):
        pose = augmented(clip, mirror=asked).pose
        is_image, is_same = ((pose == one).flatten(1).all(dim=1) for one in (image, clip.pose[0]))
        assert (is_image ^ is_same).all()
        assert abs(is_image.double().mean() - asked) < 0.03


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("largest", [10.0, 120.0])
def test_clips_turn_about_each_axis_by_up_to_the_angle_asked(clip: SkeletonBatch, axis: int, largest: float) -> None:
    maps = seen_maps(clip, rotation=[largest if other == axis else 0.0 for other in range(3)])
    np.testing.assert_allclose(maps[:, axis, axis], 1.0, atol=1e-6)
    first, second = ({0, 1, 2} - {axis},)[0]
    angles = np.rad2deg(np.arctan2(maps[:, first, second], maps[:, first, first]))
    assert largest * 0.99 < np.abs(angles).max() <= largest + 1e-3
    assert abs(np.abs(angles).mean() - largest / 2) < 0.03 * largest
    assert abs((angles > 0).mean() - 0.5) < 0.05


def test_clips_are_scaled_and_sheared_as_far_as_asked(clip: SkeletonBatch) -> None:
    maps = seen_maps(clip, scale=(0.8, 1.3))
    factor = maps[:, 0, 0]
    np.testing.assert_allclose(maps, factor[:, None, None] * np.eye(3), atol=1e-6)
    assert 0.8 <= factor.min() < 0.805 < 1.295 < factor.max() <= 1.3
    assert abs(factor.mean() - 1.05) < 0.01
    maps = seen_maps(clip, shear=0.2)
    entries = maps[:, ~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(maps[:, np.eye(3, dtype=bool)], 1.0, atol=1e-6)
    assert 0.199 < entries.max() <= 0.2
    assert -0.2 <= entries.min() < -0.199
    assert np.abs(entries.mean(axis=0)).max() < 0.01


def test_noise_and_bones_vary_as_much_as_asked(clip: SkeletonBatch) -> None:
    for asked in (0.01, 0.05):
        noise = (augmented(clip, noise=asked).pose - clip.pose).double()
        assert abs(noise.std() / asked - 1) < 0.01
        assert abs(noise.mean()) < 0.01 * asked
        assert (noise.std(dim=0) / asked - 1).abs().max() < 0.1
        parents = list(NTU25.parents)
        before, after = (pose - pose[:, :, :, parents] for pose in (clip.pose, augmented(clip, bones=asked).pose))
        bones = [joint for joint, parent in enumerate(parents) if joint != parent]
        share = (after.norm(dim=1) / before.norm(dim=1) - 1)[:, 0, bones, 0].double()
        assert abs(share.std() / asked - 1) < 0.02


def test_a_stretched_bone_is_longer_by_its_share_and_no_other_bone_changes(batch: SkeletonBatch) -> None:
    seen = replace(batch, joint_weight=torch.ones_like(batch.joint_weight))
    parents = list(NTU25.parents)
    share = 0.1 * torch.randn(len(batch), len(parents), generator=torch.Generator().manual_seed(0))
    before, after = (one.pose - one.pose[:, :, :, parents] for one in (seen, stretch(seen, NTU25, share)))
    torch.testing.assert_close(after, before * (1 + share)[:, None, None, :, None], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(stretch(seen, NTU25, share).pose[:, :, :, NTU25.root], seen.pose[:, :, :, NTU25.root])


def test_a_bone_with_a_hidden_end_keeps_its_length(batch: SkeletonBatch) -> None:
    elbow, wrist = NTU25.index("left_elbow", "left_wrist")
    weight = torch.ones_like(batch.joint_weight)
    weight[:, :, elbow] = 0
    hidden = replace(batch, pose=batch.pose * weight[:, None], joint_weight=weight)
    share = torch.zeros(len(batch), len(NTU25.joints))
    share[:, [elbow, wrist]] = 0.5
    torch.testing.assert_close(stretch(hidden, NTU25, share).pose, hidden.pose)
