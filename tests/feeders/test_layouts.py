"""What every joint layout obeys, and the part tables of Penn Action's."""

import pickle
from dataclasses import replace
from types import MappingProxyType

import pytest

from feeders.skeleton import PENN13, SKELETONS, VIBE25, Skeleton

EVERY = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
SCHEMES = ("torso_arms_legs", "torso_arms_legs_disjoint", "head_arms_hip_legs", "five_parts", "five_parts_disjoint")


@EVERY
def test_a_layout_is_a_tree_and_its_mirror_image_one_too(skeleton: Skeleton) -> None:
    for joint in range(len(skeleton.joints)):
        assert skeleton.mirror[skeleton.mirror[joint]] == joint
        assert skeleton.parents[skeleton.mirror[joint]] == skeleton.mirror[skeleton.parents[joint]]
        at = joint
        for _ in skeleton.joints:
            at = skeleton.parents[at]
        assert at == skeleton.root


@EVERY
def test_every_scheme_is_there_and_covers_every_joint(skeleton: Skeleton) -> None:
    assert set(SCHEMES) <= set(skeleton.schemes)
    for scheme in SCHEMES:
        member_PV = skeleton.membership(scheme)
        assert member_PV.any(axis=1).all()
        assert member_PV.any(axis=0).all()
        if scheme.endswith("disjoint"):
            assert (member_PV.sum(axis=0) == 1).all()


@EVERY
def test_a_layout_comes_out_of_a_pickle_as_itself_and_a_changed_one_as_changed(skeleton: Skeleton) -> None:
    assert pickle.loads(pickle.dumps(skeleton)) is skeleton
    changed = replace(skeleton, coordinates=6)
    back = pickle.loads(pickle.dumps(changed))
    assert back == changed
    assert type(back.schemes) is type(back.parts("five_parts")) is MappingProxyType


def names(skeleton: Skeleton, scheme: str, part: str) -> set[str]:
    return {skeleton.joints[joint] for joint in skeleton.parts(scheme)[part].joints}


def test_penns_torso_is_head_and_shoulders_and_hips_or_head_and_hips() -> None:
    hips = {"left_hip", "right_hip"}
    assert names(PENN13, "torso_arms_legs", "torso") == {"head", "left_shoulder", "right_shoulder"} | hips
    assert names(PENN13, "five_parts", "torso") == {"head", "left_shoulder", "right_shoulder"} | hips
    for scheme in ("torso_arms_legs_disjoint", "five_parts_disjoint"):
        assert names(PENN13, scheme, "torso") == {"head"} | hips
    assert names(PENN13, "five_parts_disjoint", "left_leg") == {"left_knee", "left_ankle"}
    assert names(PENN13, "head_arms_hip_legs", "hip") == hips


def test_vibes_toes_are_legs_and_its_face_is_head() -> None:
    assert {"left_big_toe", "right_big_toe"} <= names(VIBE25, "torso_arms_legs_disjoint", "legs")
    assert {"left_eye", "right_ear", "thorax", "head_top"} <= names(VIBE25, "head_arms_hip_legs", "head")
    assert names(VIBE25, "head_arms_hip_legs", "hip") == {"pelvis", "spine", "left_hip", "right_hip"}
