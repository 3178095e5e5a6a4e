"""Front door: what a skeleton is. Joint names, the bone tree, mirror pairs and named body parts, each written once.

Joint orders are facts of the file formats: NTU25 is Kinect v2 (Shahroudy et al., CVPR 2016), KINECT20 is the Kinect v1
SDK order that NW-UCLA stores (Wang et al., CVPR 2014), COCO17 and OPENPOSE18 are those of the 2D pose estimators that
gait data sets were made with (Lin et al., ECCV 2014; Cao et al., CVPR 2017), PENN13 is Penn Action's (Zhang et al.,
ICCV 2013), VIBE25 the 25 joints that Skeletics-152 (Gupta et al., IJCV 2021) keeps of VIBE's 49, by VIBE's names. A
part scheme names, for every part, its joints and the regions of the prompt files that describe it; overlapping schemes
share limb roots between torso and limb, as GAP and BPI do.

A skeleton of one's own is `Skeleton.from_tree`; stores and checkpoints of it carry its whole definition.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class Part:
    """One named body part: which joints it owns and which prompt regions describe it."""

    joints: tuple[int, ...]
    regions: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """A joint layout with its bone tree, mirror pairs and part schemes; ValueError where it is none.

    Args:
        name: registry name, or one of its own.
        joints: joint names in file order; V == len(joints).
        parents: (V,) parent of each joint; the root is its own parent.
        mirror: (V,) the joint that takes this one's place in a left-right mirror image.
        coordinates: 2 for image positions, 3 for space.
        origin: groups of joints, best first; a body is at the mean of what is seen of the first group with any.
        schemes: part scheme name -> part name -> Part; the order of parts is the order of axis P.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    mirror: tuple[int, ...]
    coordinates: int
    origin: tuple[tuple[int, ...], ...]
    schemes: Mapping[str, Mapping[str, Part]]

    def __post_init__(self) -> None:
        schemes = {scheme: MappingProxyType(dict(parts)) for scheme, parts in self.schemes.items()}
        object.__setattr__(self, "schemes", MappingProxyType(schemes))
        for fault in _faults(self):
            raise ValueError(f"skeleton {self.name}: {fault}")

    @classmethod
    def from_tree(
        cls,
        name: str,
        tree: Mapping[str, str],
        coordinates: int,
        schemes: Mapping[str, Mapping[str, tuple[Sequence[str], Sequence[str]]]] | None = None,
    ) -> "Skeleton":
        """A skeleton by joint names; mirror pairs and part schemes follow from them.

        ``left_x`` and ``right_x`` mirror each other. Limbs and head are known by the words of `_ARM`, `_LEG` and
        `_HEAD` (``left_elbow``); any other joint is of the torso. Parts without joints are left out, and schemes of
        which less than two parts remain.

        Args:
            name: as errors and reports call it.
            tree: joint -> its parent, in file order; the root is its own parent.
            coordinates: 2 for positions in an image, 3 for space.
            schemes: part schemes beside those: scheme -> part -> (its joints, the prompt regions that describe it).

        Raises:
            ValueError: a parent, a mirror partner or a part's joint that is not there, or no tree.
        """
        joints = tuple(tree)
        at = {joint: index for index, joint in enumerate(joints)}
        if coordinates not in (2, 3):
            raise ValueError(f"skeleton {name}: got {coordinates} coordinates, expected 2 (an image) or 3 (space)")
        for joint, parent in tree.items():
            if parent not in at:
                raise ValueError(f"skeleton {name}: got parent {parent!r} of {joint!r}, expected one of {list(at)}")
            if _partner(joint) not in at:
                raise ValueError(
                    f"skeleton {name}: got {joint!r} without {_partner(joint)!r}, expected both or neither"
                )
        own = {
            scheme: {part: _part(f"skeleton {name}: {scheme}.{part}", at, *said) for part, said in parts.items()}
            for scheme, parts in (schemes or {}).items()
        }
        return cls(
            name=name,
            joints=joints,
            parents=tuple(at[parent] for parent in tree.values()),
            mirror=tuple(at[_partner(joint)] for joint in joints),
            coordinates=coordinates,
            origin=_origin(joints),
            schemes={**_schemes(joints), **own},
        )

    def __deepcopy__(self, memo: object) -> "Skeleton":
        """Itself: nothing in it can change, and the proxies that see to that cannot be copied."""
        return self

    def __reduce__(self) -> tuple[Callable[..., "Skeleton"], tuple[str]]:
        """Pickled as it is written, as proxies cannot be pickled."""
        return skeleton_named, (self.written,)

    @property
    def written(self) -> str:
        """What stores and checkpoints carry: the name of one of `SKELETONS`, of any other the definition as JSON."""
        if SKELETONS.get(self.name) == self:
            return self.name
        schemes = {name: {part: vars(own) for part, own in parts.items()} for name, parts in self.schemes.items()}
        return json.dumps({**vars(self), "schemes": schemes})

    @property
    def tree(self) -> Mapping[str, str]:
        """Joint -> its parent, in file order."""
        return {joint: self.joints[parent] for joint, parent in zip(self.joints, self.parents, strict=True)}

    @property
    def root(self) -> int:
        """The joint that is its own parent."""
        return next(joint for joint, parent in enumerate(self.parents) if joint == parent)

    def index(self, *names: str) -> tuple[int, ...]:
        """Positions of named joints, in the order asked; ValueError names those that are not there."""
        if missing := [name for name in names if name not in self.joints]:
            raise ValueError(f"skeleton {self.name}: got no {' and no '.join(missing)}, expected it among its joints")
        return tuple(self.joints.index(name) for name in names)

    def parts(self, scheme: str, key: str = "model.parts") -> Mapping[str, Part]:
        """The parts of one scheme; ValueError names the config's ``key`` and the schemes there are."""
        if scheme not in self.schemes:
            hint = "; its joints' names tell no limbs (docs/own_data.md)" if set(self.schemes) == {"whole"} else ""
            raise ValueError(
                f"{key}: got {scheme!r}, expected one of {sorted(self.schemes)} for skeleton {self.name}{hint}"
            )
        return self.schemes[scheme]

    def membership(self, scheme: str, key: str = "model.parts") -> np.ndarray:
        """(P, V) float32, 1 where the part owns the joint; see `parts`."""
        parts = self.parts(scheme, key)
        member_PV = np.zeros((len(parts), len(self.joints)), dtype=np.float32)
        for row, part in enumerate(parts.values()):
            member_PV[row, list(part.joints)] = 1.0
        return member_PV


def _faults(skeleton: Skeleton) -> Iterator[str]:
    """What makes a definition none, worst first."""
    joints, parents, mirror = skeleton.joints, skeleton.parents, skeleton.mirror
    count, there = len(joints), set(range(len(joints)))
    if not count or len(set(joints)) != count or skeleton.coordinates < 1:
        yield f"got joints {list(joints)} of {skeleton.coordinates} coordinates, expected some that differ, and 2 or 3"
    groups = [*skeleton.origin, *(part.joints for parts in skeleton.schemes.values() for part in parts.values())]
    numbers = {joint for group in (parents, mirror, *groups) for joint in group}
    if not len(parents) == len(mirror) == count or not numbers <= there or not skeleton.origin or not all(groups):
        yield f"got parents, mirror, origin or parts that do not fit {count} joints, expected numbers of joints"
        return
    roots = [joints[joint] for joint, parent in enumerate(parents) if joint == parent]
    if len(roots) != 1:
        yield f"got {roots or 'no joint'} as root, expected one joint that is its own parent"
        return
    reached = np.arange(count)
    for _ in joints:
        reached = np.array(parents)[reached]
    if astray := [joints[joint] for joint in there if parents[reached[joint]] != reached[joint]]:
        yield f"got a circle of parents above {astray}, expected each to lead to the root {roots[0]!r}"
    if [mirror[joint] for joint in mirror] != [*range(count)]:
        yield f"got mirror {mirror}, expected pairs, each joint the other's"


def _partner(joint: str) -> str:
    """The joint in whose place it is in a mirror image."""
    side, _, rest = joint.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, joint)


def _part(where: str, at: Mapping[str, int], joints: Sequence[str], regions: Sequence[str]) -> Part:
    """A part of one's own by the names of its joints."""
    if isinstance(joints, str) or isinstance(regions, str) or not joints or not regions:
        raise ValueError(f"{where}: got {joints!r} and {regions!r}, expected names of joints and of prompt regions")
    if missing := [joint for joint in joints if joint not in at]:
        raise ValueError(f"{where}: got {missing}, expected some of {list(at)}")
    return Part(tuple(at[joint] for joint in joints), tuple(regions))


_TREE_NTU25 = {
    "spine_base": "spine_middle",
    "spine_middle": "spine_shoulder",
    "neck": "spine_shoulder",
    "head": "neck",
    "left_shoulder": "spine_shoulder",
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
    "left_hand": "left_wrist",
    "right_shoulder": "spine_shoulder",
    "right_elbow": "right_shoulder",
    "right_wrist": "right_elbow",
    "right_hand": "right_wrist",
    "left_hip": "spine_base",
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
    "left_foot": "left_ankle",
    "right_hip": "spine_base",
    "right_knee": "right_hip",
    "right_ankle": "right_knee",
    "right_foot": "right_ankle",
    "spine_shoulder": "spine_shoulder",
    "left_hand_tip": "left_thumb",
    "left_thumb": "left_hand",
    "right_hand_tip": "right_thumb",
    "right_thumb": "right_hand",
}
_TREE_KINECT20 = {
    "hip_centre": "spine",
    "spine": "shoulder_centre",
    "shoulder_centre": "shoulder_centre",
    "head": "shoulder_centre",
    "left_shoulder": "shoulder_centre",
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
    "left_hand": "left_wrist",
    "right_shoulder": "shoulder_centre",
    "right_elbow": "right_shoulder",
    "right_wrist": "right_elbow",
    "right_hand": "right_wrist",
    "left_hip": "hip_centre",
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
    "left_foot": "left_ankle",
    "right_hip": "hip_centre",
    "right_knee": "right_hip",
    "right_ankle": "right_knee",
    "right_foot": "right_ankle",
}
_LIMBS = {
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
    "right_elbow": "right_shoulder",
    "right_wrist": "right_elbow",
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
    "right_knee": "right_hip",
    "right_ankle": "right_knee",
}
_FACE = {"nose": "nose", "left_eye": "nose", "right_eye": "nose", "left_ear": "left_eye", "right_ear": "right_eye"}


def _ordered(joints: str, tree: Mapping[str, str]) -> Mapping[str, str]:
    """A tree with its joints in file order."""
    return {joint: tree[joint] for joint in joints.split()}


_TREE_COCO17 = _ordered(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    {
        **_FACE,
        **_LIMBS,
        "left_shoulder": "nose",
        "right_shoulder": "nose",
        "left_hip": "left_shoulder",
        "right_hip": "right_shoulder",
    },
)
_TREE_OPENPOSE18 = _ordered(
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
    {
        **_FACE,
        **_LIMBS,
        "nose": "neck",
        "neck": "neck",
        "left_shoulder": "neck",
        "right_shoulder": "neck",
        "left_hip": "neck",
        "right_hip": "neck",
    },
)
# The head is the root, as no joint lies between it and the shoulders.
_TREE_PENN13 = _ordered(
    "head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee "
    "right_knee left_ankle right_ankle",
    {
        **_LIMBS,
        "head": "head",
        "left_shoulder": "head",
        "right_shoulder": "head",
        "left_hip": "left_shoulder",
        "right_hip": "right_shoulder",
    },
)
_TREE_VIBE25 = _ordered(
    "head_top head nose left_eye right_eye left_ear right_ear thorax neck right_shoulder right_elbow right_wrist "
    "left_shoulder left_elbow left_wrist spine pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle "
    "right_big_toe left_big_toe",
    {
        **_FACE,
        **_LIMBS,
        "thorax": "thorax",
        "neck": "thorax",
        "head": "neck",
        "head_top": "head",
        "nose": "head",
        "left_shoulder": "thorax",
        "right_shoulder": "thorax",
        "spine": "thorax",
        "pelvis": "spine",
        "left_hip": "pelvis",
        "right_hip": "pelvis",
        "left_big_toe": "left_ankle",
        "right_big_toe": "right_ankle",
    },
)


def _origin(joints: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """A joint of the trunk where the layout has one; else the hips, the shoulders, whatever is seen."""
    for trunk in ("spine_middle", "hip_centre", "pelvis"):
        if trunk in joints:
            return ((joints.index(trunk),),)
    pairs = [
        tuple(joints.index(f"{side}_{pair}") for side in ("left", "right"))
        for pair in ("hip", "shoulder")
        if f"left_{pair}" in joints
    ]
    return *pairs, tuple(range(len(joints)))


_ARM = ("shoulder", "elbow", "wrist", "hand", "hand_tip", "thumb")
_LEG = ("hip", "knee", "ankle", "foot", "big_toe")
_HEAD = ("neck", "head", "head_top", "nose", "spine_shoulder", "shoulder_centre", "thorax", "eye", "ear")


def _schemes(joints: tuple[str, ...]) -> Mapping[str, Mapping[str, Part]]:
    """The named schemes, derived from joint names so that no table can disagree with the layout."""
    side_of = {joint: joint.partition("_")[0] for joint in joints}
    kind_of = {joint: joint.partition("_")[2] if side_of[joint] in ("left", "right") else "" for joint in joints}

    def limb(kinds: tuple[str, ...], sides: tuple[str, ...] = ("left", "right")) -> list[int]:
        return [i for i, joint in enumerate(joints) if kind_of[joint] in kinds and side_of[joint] in sides]

    axis = [i for i, joint in enumerate(joints) if kind_of[joint] not in (*_ARM, *_LEG)]
    head = [i for i in axis if (kind_of[joints[i]] or joints[i]) in _HEAD]
    trunk = [i for i in axis if i not in head]
    hips, roots = limb(("hip",)), limb(("shoulder", "hip"))
    arms, legs = limb(_ARM), limb(_LEG)
    # Where no joint lies between neck and hips, the hips are the torso: a face alone would be none.
    torso, own_leg = (axis, _LEG) if trunk else (axis + hips, tuple(kind for kind in _LEG if kind != "hip"))
    arm_text, leg_text, torso_text = ("hands", "arms"), ("legs", "feet"), ("head", "hip")

    def scheme(**parts: tuple[list[int], tuple[str, ...]]) -> Mapping[str, Part]:
        return {name: Part(tuple(sorted(own)), regions) for name, (own, regions) in parts.items() if own}

    def sided(prefix: str, regions: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{prefix}_{region}" for region in regions)

    def five(torso: list[int], leg: tuple[str, ...]) -> Mapping[str, Part]:
        return scheme(
            torso=(torso, torso_text),
            left_arm=(limb(_ARM, ("left",)), sided("left", arm_text)),
            right_arm=(limb(_ARM, ("right",)), sided("right", arm_text)),
            left_leg=(limb(leg, ("left",)), sided("left", leg_text)),
            right_leg=(limb(leg, ("right",)), sided("right", leg_text)),
        )

    schemes = {
        # BPI: limb roots (shoulders, hips) belong to the torso and to their limb.
        "torso_arms_legs": scheme(torso=(axis + roots, torso_text), arms=(arms, arm_text), legs=(legs, leg_text)),
        "torso_arms_legs_disjoint": scheme(
            torso=(torso, torso_text), arms=(arms, arm_text), legs=(limb(own_leg), leg_text)
        ),
        # GAP: head, arms, hip, legs; the hip shares the hip joints with the legs.
        "head_arms_hip_legs": scheme(
            head=(head, ("head",)),
            arms=(arms, arm_text),
            hip=(trunk + hips, ("hip",)),
            legs=(legs, leg_text),
        ),
        "five_parts": five(axis + roots, _LEG),
        "five_parts_disjoint": five(torso, own_leg),
    }
    # Whole is an undivided body, for encoders without parts: only its whole meets texts.
    return {name: parts for name, parts in schemes.items() if len(parts) > 1} | {"whole": scheme()}


NTU25 = Skeleton.from_tree("NTU25", _TREE_NTU25, coordinates=3)
KINECT20 = Skeleton.from_tree("KINECT20", _TREE_KINECT20, coordinates=3)
COCO17 = Skeleton.from_tree("COCO17", _TREE_COCO17, coordinates=2)
OPENPOSE18 = Skeleton.from_tree("OPENPOSE18", _TREE_OPENPOSE18, coordinates=2)
PENN13 = Skeleton.from_tree("PENN13", _TREE_PENN13, coordinates=2)
VIBE25 = Skeleton.from_tree("VIBE25", _TREE_VIBE25, coordinates=3)
SKELETONS: Mapping[str, Skeleton] = MappingProxyType(
    {skeleton.name: skeleton for skeleton in (NTU25, KINECT20, COCO17, OPENPOSE18, PENN13, VIBE25)}
)


def skeleton_named(written: str) -> Skeleton:
    """The layout that stores and checkpoints carry: by the name of one of ours, or `Skeleton.written` of any other."""
    if written in SKELETONS:
        return SKELETONS[written]
    if not written.startswith("{"):
        raise ValueError(
            f"skeleton: got {written!r}, expected one of {sorted(SKELETONS)}, or your own, made by Skeleton.from_tree "
            "and given to StoreWriter (docs/own_data.md)"
        )
    try:
        return TypeAdapter(Skeleton).validate_json(written)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"skeleton: got a definition whose {where} is none ({first['msg']}), expected one") from None
