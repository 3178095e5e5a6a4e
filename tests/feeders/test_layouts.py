"""What every joint layout obeys, and the part tables of Penn Action's."""

import pickle
from dataclasses import replace
from types import MappingProxyType

import pytest

from feeders.skeleton import COCO17, PENN13, SKELETONS, VIBE25, Skeleton, skeleton_named

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


@EVERY
def test_one_of_ours_is_written_by_its_name_and_made_by_its_tree_again(skeleton: Skeleton) -> None:
    assert skeleton.written == skeleton.name
    assert Skeleton.from_tree(skeleton.name, skeleton.tree, skeleton.coordinates) == skeleton


def test_one_of_its_own_is_read_as_it_was_written(upper: Skeleton) -> None:
    for mine in (upper, replace(COCO17, mirror=tuple(range(17))), replace(upper, origin=((2,), (0, 1)))):
        assert skeleton_named(mine.written) == pickle.loads(pickle.dumps(mine)) == mine
        assert skeleton_named(mine.written).written == mine.written


def test_schemes_leave_out_parts_without_joints(upper: Skeleton) -> None:
    assert list(upper.parts("torso_arms_legs")) == ["torso", "arms"]
    assert list(upper.parts("five_parts_disjoint")) == ["torso", "left_arm", "right_arm"]
    assert list(upper.parts("head_arms_hip_legs")) == ["head", "arms", "hip"]
    for scheme in upper.schemes:
        assert upper.membership(scheme).any(axis=1).all()


def test_a_scheme_of_its_own_has_the_joints_and_regions_that_were_said(upper: Skeleton) -> None:
    assert names(upper, "forearms", "left") == {"left_elbow", "left_wrist"}
    assert upper.parts("forearms")["right"].regions == ("right_arms",)


def test_a_skeleton_without_limbs_has_its_whole_and_says_why() -> None:
    hand = Skeleton.from_tree("HAND", {"palm": "palm", "thumb_tip": "palm", "little_tip": "palm"}, 3)
    assert list(hand.schemes) == ["whole"]
    assert hand.origin == ((0, 1, 2),)
    with pytest.raises(
        ValueError, match=r"model\.parts: got 'five_parts', expected one of \['whole'\] for .*HAND.*limbs"
    ):
        hand.parts("five_parts")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"neck": "nek"}, "got parent 'nek' of 'neck', expected one of"),
        ({"left_hip": "pelvis"}, "got 'left_hip' without 'right_hip'"),
        ({"head": "head"}, r"got \['pelvis', 'head'\] as root"),
        ({"pelvis": "head"}, "got no joint as root"),
        (
            {"left_shoulder": "left_wrist"},
            r"got a circle of parents above \['left_shoulder', 'left_elbow', 'left_wrist'\]",
        ),
    ],
)
def test_what_is_no_tree_names_the_joint(change: dict[str, str], says: str, upper: Skeleton) -> None:
    with pytest.raises(ValueError, match=f"skeleton MINE: {says}"):
        Skeleton.from_tree("MINE", {**upper.tree, **change}, 3)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ((("elbow",), ("arms",)), r"halves\.left: got \['elbow'\], expected some of"),
        (("head", ("head",)), r"halves\.left: got 'head' and .*, expected names of joints and of prompt regions"),
        (((), ("head",)), r"halves\.left: got \(\) and"),
    ],
)
def test_a_part_of_no_joints_names_itself(part: tuple, says: str, upper: Skeleton) -> None:
    with pytest.raises(ValueError, match=f"skeleton MINE: {says}"):
        Skeleton.from_tree("MINE", upper.tree, 3, schemes={"halves": {"left": part}})


@pytest.mark.parametrize("change", [{"parents": (0,) * 8}, {"mirror": (1, 2, 0, *range(3, 9))}, {"origin": ()}])
def test_numbers_that_fit_no_joints_are_no_skeleton(change: dict, upper: Skeleton) -> None:
    with pytest.raises(ValueError, match="skeleton UPPER9: got "):
        replace(upper, **change)
