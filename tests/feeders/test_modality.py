from dataclasses import replace

import pytest
import torch

from feeders.batch import SkeletonBatch
from feeders.modality import to_modality
from feeders.skeleton import NTU25
from feeders.transforms import hide_joints

ROOT = NTU25.root


def test_a_bone_is_joint_minus_parent_and_the_root_is_zero(batch: SkeletonBatch) -> None:
    bone = to_modality(batch, NTU25, "bone").pose
    for joint, parent in enumerate(NTU25.parents):
        torch.testing.assert_close(bone[:, :, :, joint], batch.pose[:, :, :, joint] - batch.pose[:, :, :, parent])
    assert (bone[:, :, :, ROOT] == 0).all()


def test_bones_from_the_root_sum_to_the_joint(batch: SkeletonBatch) -> None:
    bone = to_modality(batch, NTU25, "bone").pose
    for joint in range(25):
        total, at = torch.zeros_like(bone[:, :, :, 0]), joint
        while at != ROOT:
            total, at = total + bone[:, :, :, at], NTU25.parents[at]
        expected = batch.pose[:, :, :, joint] - batch.pose[:, :, :, ROOT]
        torch.testing.assert_close(total, expected, atol=1e-5, rtol=0)


def test_bones_and_motion_do_not_know_where_the_body_is(batch: SkeletonBatch) -> None:
    shift = torch.tensor([1.0, -2.0, 3.0])[:, None, None, None] * (batch.joint_weight > 0)[:, None]
    moved = replace(batch, pose=batch.pose + shift)
    for modality in ("bone", "joint_motion", "bone_motion", "relative"):
        first, second = (to_modality(b, NTU25, modality, hops=3).pose for b in (batch, moved))
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


@pytest.mark.parametrize("root", ["zero", "absolute"])
def test_one_hop_is_a_bone(batch: SkeletonBatch, root: str) -> None:
    one_hop = to_modality(batch, NTU25, "relative", hops=1, root=root)
    assert torch.equal(one_hop.pose, to_modality(batch, NTU25, "bone", root=root).pose)


@pytest.mark.parametrize("hops", [1, 2, 3, 8])
def test_absolute_relative_equals_the_matrix_power(batch: SkeletonBatch, hops: int) -> None:
    # (child, parent), counted from 1, as published: the tree hangs from joint 2.
    pairs = [(1, 2), (21, 2), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)]
    pairs += [(13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19)]
    pairs += [(22, 23), (23, 8), (24, 25), (25, 12)]
    adjacency = torch.zeros(25, 25)
    for joint, parent in pairs:
        adjacency[joint - 1, parent - 1] = 1.0
    matrix = torch.eye(25) - torch.linalg.matrix_power(adjacency, hops)
    expected = torch.einsum("uv,nctvm->nctum", matrix, batch.pose)
    result = to_modality(batch, NTU25, "relative", hops=hops, root="absolute")
    torch.testing.assert_close(result.pose, expected, atol=1e-5, rtol=0)
    assert torch.equal(result.joint_weight, batch.joint_weight)
    if hops == 8:
        assert torch.equal(result.pose, batch.pose)


def test_many_hops_with_a_zero_root_are_relative_to_the_root(batch: SkeletonBatch) -> None:
    result = to_modality(batch, NTU25, "relative", hops=25).pose
    torch.testing.assert_close(result, batch.pose - batch.pose[:, :, :, [ROOT]])


def test_motion_sums_to_the_way_and_is_zero_in_the_last_frame(batch: SkeletonBatch) -> None:
    motion = to_modality(batch, NTU25, "joint_motion").pose
    assert (motion[:, :, -1] == 0).all()
    way = batch.pose[:, :, -1, :, 0] - batch.pose[:, :, 0, :, 0]
    torch.testing.assert_close(motion[..., 0].sum(2), way, atol=1e-5, rtol=0)


def test_motion_never_leaps_from_or_to_an_absent_frame(batch: SkeletonBatch) -> None:
    motion = to_modality(batch, NTU25, "joint_motion").pose[2, ..., 1]
    for frame in (2, 3, 4, 5):  # absent in 3, 4, 5
        assert (motion[:, frame] == 0).all()
    assert (motion[:, 6] != 0).any()


def test_bone_motion_is_the_motion_of_bones(batch: SkeletonBatch) -> None:
    bone = to_modality(batch, NTU25, "bone")
    assert torch.equal(to_modality(batch, NTU25, "bone_motion").pose, to_modality(bone, NTU25, "joint_motion").pose)


def test_a_bone_to_a_hidden_joint_is_hidden(batch: SkeletonBatch) -> None:
    elbow, wrist, hand = NTU25.index("left_elbow", "left_wrist", "left_hand")
    bone = to_modality(hide_joints(batch, torch.eye(25)[wrist].bool().expand(3, 25)), NTU25, "bone")
    for joint in (wrist, hand):
        assert (bone.pose[:, :, :, joint] == 0).all()
        assert (bone.joint_weight[:, :, joint] == 0).all()
    assert (bone.joint_weight[:, :, elbow, 0] == 1).all()


@pytest.mark.parametrize("modality", ["joint", "bone", "joint_motion", "bone_motion", "relative"])
def test_an_absent_body_stays_zero(batch: SkeletonBatch, modality: str) -> None:
    result = to_modality(batch, NTU25, modality, hops=2)
    assert (result.pose * (batch.joint_weight == 0)[:, None] == 0).all()
    assert (result.joint_weight[batch.joint_weight == 0] == 0).all()
