"""The simulator's people and their kinematics: build, manner of moving, and a pose that puts 25 joints in the world.

Body axes are right-handed: x to the person's left, y up, z ahead. Sided vectors are (outward, up, ahead), so that one
number means the same for the left limb (index 0) and the right (index 1). Lengths of a pose are in limb lengths, which
makes it fit every build. Proportions are near Winter's segment lengths (Biomechanics, 1990, fig. 3.1), with the narrow
shoulders and hips of Kinect's joints.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feeders.skeleton import NTU25

Array = NDArray[np.float64]
_OUTWARD = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
_SIDES = ("left", "right")


@dataclass(frozen=True)
class Build:
    """Lengths of a person's bones in metres."""

    thigh: float
    shin: float
    ankle_height: float
    foot: float
    spine_low: float
    spine_high: float
    neck: float
    head: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    hand: float

    @property
    def leg(self) -> float:
        """Hip to ankle, stretched."""
        return self.thigh + self.shin

    @property
    def arm(self) -> float:
        """Shoulder to wrist, stretched."""
        return self.upper_arm + self.forearm


@dataclass(frozen=True)
class Person:
    """One individual: build, rest pose, temperament and gait, the same in everything the person does.

    Args:
        main_side: 0 for a left-handed person, 1 for a right-handed one.
        tempo: how fast, around 1.
        amplitude: how large, around 1.
        slouch: torso bow at rest, radians.
        head_bow: head bow at rest, radians.
        arms_out: how far the hanging wrists stand off the body, arm lengths.
        elbow_bend: how much the hanging arms are shortened by bent elbows, share of the arm length.
        stance: half the distance of the feet beyond the hips, leg lengths.
        toe_out: radians.
        cadence: strides (two steps) a second.
        stride: length of a stride, leg lengths.
        arm_swing: of the wrists in walking, arm lengths.
        sway: sideways path of the pelvis in walking, leg lengths.
        bounce: vertical path of the pelvis in walking, leg lengths.
        twist: of the torso in walking, radians.
        foot_lift: in walking, leg lengths.
    """

    build: Build
    main_side: int
    tempo: float
    amplitude: float
    slouch: float
    head_bow: float
    arms_out: float
    elbow_bend: float
    stance: float
    toe_out: float
    cadence: float
    stride: float
    arm_swing: float
    sway: float
    bounce: float
    twist: float
    foot_lift: float


def draw_person(rng: np.random.Generator) -> Person:
    """A new individual; height 1.5 to 1.95 m, every segment with its own deviation."""
    height = rng.uniform(1.5, 1.95)

    def bone(share_of_height: float) -> float:
        return float(share_of_height * height * np.exp(rng.normal(0.0, 0.05)))

    build = Build(
        thigh=bone(0.245),
        shin=bone(0.246),
        ankle_height=bone(0.04),
        foot=bone(0.075),
        spine_low=bone(0.165),
        spine_high=bone(0.125),
        neck=bone(0.05),
        head=bone(0.09),
        shoulder=bone(0.105),
        hip=bone(0.05),
        upper_arm=bone(0.172),
        forearm=bone(0.146),
        hand=bone(0.06),
    )
    return Person(
        build=build,
        main_side=int(rng.random() < 0.7),
        tempo=rng.uniform(0.8, 1.25),
        amplitude=rng.uniform(0.75, 1.15),
        slouch=rng.uniform(-0.03, 0.22),
        head_bow=rng.uniform(-0.1, 0.15),
        arms_out=rng.uniform(0.05, 0.25),
        elbow_bend=rng.uniform(0.01, 0.08),
        stance=rng.uniform(-0.02, 0.1),
        toe_out=rng.uniform(0.0, 0.5),
        cadence=rng.uniform(0.75, 1.1),
        stride=rng.uniform(1.1, 1.7),
        arm_swing=rng.uniform(0.1, 0.45),
        sway=rng.uniform(0.0, 0.05),
        bounce=rng.uniform(0.01, 0.04),
        twist=rng.uniform(0.02, 0.25),
        foot_lift=rng.uniform(0.06, 0.16),
    )


@dataclass(frozen=True)
class Pose:
    """A movement of one body, independent of build and place.

    Shapes:
        place: (T, 2) metres left and ahead of the starting point, moved over the ground
        heading: (T,) radians turned to the left
        pelvis: (T, 3) offset from upright standing, leg lengths
        torso, head: (T, 3) bow, turn and tilt, radians; the head's relative to the torso
        wrist: (T, 2, 3) from the shoulder, sided, arm lengths, turning with the torso
        hand: (T, 2) tangent of the hand's upward bend at the wrist
        ankle: (T, 2, 3) offset from standing, sided, leg lengths
        toes: (T, 2) upward pitch of the foot, radians
    """

    place: Array
    heading: Array
    pelvis: Array
    torso: Array
    head: Array
    wrist: Array
    hand: Array
    ankle: Array
    toes: Array


def world_joints(person: Person, pose: Pose, origin: Array, facing: float) -> Array:
    """Forward kinematics: (T, 25, 3) joints of NTU25 in metres, y up, floor at 0.

    Args:
        person: whose build and stance.
        pose: T frames.
        origin: (2,) x and z of the starting point in the world.
        facing: radians; 0 looks along the world's z.
    """
    build, frames = person.build, len(pose.heading)
    chest = _rotation(pose.torso)
    pelvis = pose.pelvis * build.leg + [0.0, build.ankle_height + 0.985 * build.leg, 0.0]
    joints: dict[str, Array] = {"spine_base": pelvis}
    joints["spine_middle"] = pelvis + _rotation(pose.torso / 2) @ [0.0, build.spine_low, 0.0]
    joints["spine_shoulder"] = joints["spine_middle"] + chest @ [0.0, build.spine_high, 0.0]
    joints["neck"] = joints["spine_shoulder"] + chest @ _rotation(pose.head / 2) @ [0.0, build.neck, 0.0]
    # The head's centre lies ahead of the neck, so that turning the head moves it.
    joints["head"] = joints["neck"] + chest @ _rotation(pose.head) @ [0.0, 0.9 * build.head, 0.44 * build.head]
    for index, side in enumerate(_SIDES):
        out = _OUTWARD[index]
        shoulder = joints["spine_shoulder"] + chest @ (out * [build.shoulder, -0.15 * build.shoulder, 0.0])
        aim = shoulder + _turn(chest, pose.wrist[:, index] * out * build.arm)
        elbow, wrist = _reach(shoulder, aim, build.upper_arm, build.forearm, chest @ (out * [0.45, -0.6, -0.65]))
        forearm = (wrist - elbow) / build.forearm
        upward = _across(chest @ [0.0, 1.0, 0.0], forearm)
        palm = _unit(forearm + pose.hand[:, index, None] * upward)
        thumb = _unit(0.5 * palm + _unit(_across(chest @ (out * [-0.5, 0.6, 0.6]), palm)))
        hip = pelvis + out * [build.hip, -0.4 * build.hip, 0.0]
        floor = out * [build.hip + person.stance * build.leg, build.ankle_height, 0.0]
        knee_side = np.broadcast_to(out * [0.15, 0.25, 1.0], (frames, 3))
        knee, ankle = _reach(hip, floor + pose.ankle[:, index] * out * build.leg, build.thigh, build.shin, knee_side)
        pitch = pose.toes[:, index] - 0.3
        level = np.stack([np.full(frames, np.sin(person.toe_out)), np.tan(pitch), np.full(frames, 1.0)], axis=1)
        limb = {
            "shoulder": shoulder,
            "elbow": elbow,
            "wrist": wrist,
            "hand": wrist + build.hand * palm,
            "hand_tip": wrist + 2.0 * build.hand * palm,
            "thumb": wrist + build.hand * palm + 0.7 * build.hand * thumb,
            "hip": hip,
            "knee": knee,
            "ankle": ankle,
            "foot": ankle + build.foot * _unit(level * out),
        }
        joints |= {f"{side}_{kind}": path for kind, path in limb.items()}
    local = np.stack([joints[name] for name in NTU25.joints], axis=1)
    turned = local @ _rotation(_turning(pose.heading)).transpose(0, 2, 1)
    turned[:, :, [0, 2]] += pose.place[:, None]
    world: Array = turned @ _rotation(_turning(np.array([facing])))[0].T
    world[:, :, [0, 2]] += origin
    return world


def _turning(angle: Array) -> Array:
    """(T,) turns about the vertical as (T, 3) bow, turn, tilt."""
    return np.stack([np.zeros_like(angle), angle, np.zeros_like(angle)], axis=1)


def _rotation(angles: Array) -> Array:
    """(T, 3) bow, turn, tilt in radians → (T, 3, 3): tilt first, then bow, then turn."""
    (sb, st, sr), (cb, ct, cr) = np.sin(angles).T, np.cos(angles).T
    zero, one = np.zeros_like(sb), np.ones_like(sb)
    bow = np.stack([one, zero, zero, zero, cb, -sb, zero, sb, cb], axis=1).reshape(-1, 3, 3)
    turn = np.stack([ct, zero, st, zero, one, zero, -st, zero, ct], axis=1).reshape(-1, 3, 3)
    tilt = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], axis=1).reshape(-1, 3, 3)
    return np.asarray(turn @ bow @ tilt)


def _turn(rotation: Array, vectors: Array) -> Array:
    return np.asarray(np.einsum("tij,tj->ti", rotation, vectors))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _across(vectors: Array, axis: Array) -> Array:
    """The part of each vector that is perpendicular to a unit axis."""
    return np.asarray(vectors - (vectors * axis).sum(axis=1, keepdims=True) * axis)


def _reach(start: Array, aim: Array, first: float, second: float, bend: Array) -> tuple[Array, Array]:
    """Two-bone inverse kinematics: the middle and end joint of a limb that reaches towards ``aim``.

    The law of cosines places the middle joint on the side of ``bend``; an aim out of reach is approached, so bone
    lengths hold exactly.
    """
    line = aim - start
    wanted = np.linalg.norm(line, axis=1, keepdims=True)
    distance = np.clip(wanted, 1.02 * abs(first - second) + 0.01, 0.9995 * (first + second))
    along = line / np.maximum(wanted, 1e-9)
    cosine = (first**2 + distance**2 - second**2) / (2.0 * first * distance)
    sideways = _unit(_across(bend, along))
    middle = start + first * (cosine * along + np.sqrt(1.0 - cosine**2) * sideways)
    return middle, start + distance * along
