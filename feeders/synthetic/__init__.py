"""A motion-capture studio in software: named actions by people of different build, written as NTU ``.skeleton`` files.

Every performance happens once, in the world, and is seen by all cameras as in NTU RGB+D (Shahroudy et al., CVPR 2016);
testing is on people and cameras that training never saw. The demo trains on these recordings from the raw text on.
How hard the actions are was set with the default test split in view, so a score on it measures the demo, not a method.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from feeders.skeleton import NTU25
from feeders.synthetic.actions import ACTIONS, FRAMES_A_SECOND, draw_take, wander
from feeders.synthetic.body import Array, Person, draw_person, world_joints
from torchlight.config import StrictConfig

logger = logging.getLogger(__name__)

CLASS_NAMES: tuple[str, ...] = tuple(ACTIONS)
"""Class k is action k + 1 in file names."""
TEST_SUBJECTS: tuple[int, ...] = (3, 5, 8, 10, 13, 15, 18)
VALIDATION_SUBJECTS: tuple[int, ...] = (2, 12)
"""Held out of training where a validation split is wanted; filmed by the training cameras."""
TEST_CAMERAS: tuple[int, ...] = (2,)

_FEWEST_FRAMES, _MOST_FRAMES = 30, 120
_FIRST_BODY_ID = 72057594037927937
_EXTREMITIES = [index for index, name in enumerate(NTU25.joints) if name.endswith(("hand", "tip", "thumb", "foot"))]


@dataclass(frozen=True)
class Camera:
    """Where a sensor stands: degrees round the scene from its front, metres away and above the floor."""

    yaw: float
    distance: float
    height: float

    def view(self, world: Array) -> Array:
        """World (..., 3) to this sensor's frame: y up, z away from it, metres."""
        angle = np.radians(self.yaw)
        position = np.array([self.distance * np.sin(angle), self.height, self.distance * np.cos(angle)])
        ahead = np.array([0.0, 0.9, 0.0]) - position
        ahead /= np.linalg.norm(ahead)
        side = np.cross([0.0, 1.0, 0.0], ahead)
        side /= np.linalg.norm(side)
        return np.asarray((world - position) @ np.stack([side, np.cross(ahead, side), ahead]).T)


CAMERAS: tuple[Camera, ...] = (
    Camera(yaw=-25.0, distance=3.3, height=1.1),
    Camera(yaw=5.0, distance=3.7, height=1.2),
    Camera(yaw=35.0, distance=3.1, height=0.9),
    Camera(yaw=-45.0, distance=4.1, height=2.1),
    Camera(yaw=70.0, distance=3.5, height=1.4),
)


class SyntheticConfig(StrictConfig):
    """How much is recorded. A larger set contains the smaller one, file by file.

    Args:
        people: performers; ids from 1, each with a build and a manner of their own.
        cameras: sensors, the first of ``CAMERAS``.
        repetitions: performances of every action by every person.
        noise: strength of the sensor's noise, drift and slips; 0 records the world exactly.
        seed: another studio with other people.
    """

    people: int = Field(default=18, ge=1, le=999)
    cameras: int = Field(default=3, ge=1, le=len(CAMERAS))
    repetitions: int = Field(default=2, ge=1, le=999)
    noise: float = Field(default=1.0, ge=0.0)
    seed: int = Field(default=0, ge=0)


def write_recordings(folder: Path, config: SyntheticConfig) -> None:
    """Film every person, action and repetition: ``SsssCcccPpppRrrrAaaa.skeleton``, setup 1, by `write_files`."""
    write_files(folder, film(config))


def write_files(folder: Path, films: Iterable[tuple[str, Array]]) -> None:
    """Write one ``.skeleton`` file a film, all of them or nothing.

    ValueError where the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: got a folder that is not empty, expected a new one; remove it to record again")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        count = 0
        for name, bodies in films:
            (partial / f"{name}.skeleton").write_bytes(skeleton_text(bodies))
            count += 1
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    logger.info("%d recordings written to %s", count, folder)


def film(config: SyntheticConfig) -> Iterator[tuple[str, Array]]:
    """Sample names and what the sensor saw: (M, T, 25, 3), metres in the camera frame."""
    for subject in range(1, config.people + 1):
        person = draw_person(np.random.default_rng([config.seed, 1, subject]))
        for label in range(1, len(ACTIONS) + 1):
            for repetition in range(1, config.repetitions + 1):
                key = [config.seed, 2, subject, label, repetition]
                world = perform(CLASS_NAMES[label - 1], person, np.random.default_rng(key))
                for camera in range(1, config.cameras + 1):
                    seen = CAMERAS[camera - 1].view(world)
                    rng = np.random.default_rng([*key, camera])
                    yield (
                        f"S001C{camera:03d}P{subject:03d}R{repetition:03d}A{label:03d}",
                        seen + config.noise * sensor_error(seen.shape, rng),
                    )


def perform(action_name: str, person: Person, rng: np.random.Generator) -> Array:
    """One performance in the world: (M, T, 25, 3) metres; the partner, a stranger of another build, comes second.

    A take does not depend on the action, so two actions under equal seeds differ only in what is done.
    """
    action = ACTIONS[action_name]
    seconds = rng.gamma(9.0, 0.19) / person.tempo
    frames = int(np.clip(round(seconds * FRAMES_A_SECOND), _FEWEST_FRAMES, _MOST_FRAMES))
    take = draw_take(person, frames, rng)
    origin, facing = 0.25 * rng.normal(size=2), rng.uniform(-0.9, 0.9)
    if action.respond is None:
        return world_joints(person, action.perform(take), origin, facing)[None]
    partner = draw_person(rng)
    answer = draw_take(partner, frames, rng)
    # Each faces the other across the scene, so that the cameras see both.
    facing += np.pi / 2.0 if rng.random() < 0.5 else -np.pi / 2.0
    ahead = np.array([np.sin(facing), np.cos(facing)])
    half = 0.5 * action.distance * person.build.arm * ahead
    return np.stack(
        [
            world_joints(person, action.perform(take), origin - half, facing),
            world_joints(partner, action.respond(answer), origin + half, facing + np.pi),
        ]
    )


def sensor_error(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """White noise, slow drift of every joint, and slips: a joint that is lost for a moment and guessed wrongly."""
    bodies, frames, joints, _ = shape
    spread = np.ones((joints, 1))
    spread[_EXTREMITIES] = 1.6
    error = 0.007 * spread * rng.normal(size=shape)
    for body in range(bodies):
        error[body] += 0.009 * spread * wander(frames, 3 * joints, rng).reshape(frames, joints, 3)
        for _slip in range(rng.poisson(0.6)):
            first, length, joint = rng.integers(frames), rng.integers(2, 9), rng.choice(_EXTREMITIES)
            error[body, first : first + length, joint] += rng.normal(scale=0.12, size=3)
    return np.asarray(error)


def skeleton_text(bodies: Array) -> bytes:
    """An NTU ``.skeleton`` file of (M, T, 25, 3) metres, all bodies in every frame.

    Positions have four decimals; depth and colour positions are a pinhole's, orientations zero, all joints tracked.
    Lines are laid out in columns of bytes for all frames at once, 0 standing for no character.
    """
    bodies_TMV3 = bodies.transpose(1, 0, 2, 3)
    frames, count, joints, _ = bodies_TMV3.shape
    x, y, z = (bodies_TMV3[..., axis] for axis in range(3))
    # Kinect v2: focal lengths of about 366 and 1060 pixels, image centres (256, 212) and (960, 540).
    pixels = [256 + 366 * x / z, 212 - 366 * y / z, 960 + 1060 * x / z, 540 - 1060 * y / z]
    blank = np.broadcast_to(np.frombuffer(b" ", np.uint8), (frames, count, joints, 1))
    columns = [part for values in (x, y, z) for part in (_decimal_text(values, 2, 4), blank)]
    columns += [part for values in pixels for part in (_decimal_text(np.clip(values, -9999, 9999), 4, 0), blank)]
    ending = np.frombuffer(b"0 0 0 0 2\n", np.uint8)
    columns.append(np.broadcast_to(ending, (frames, count, joints, len(ending))))
    lines = np.concatenate(columns, axis=-1).reshape(frames, count, -1)
    heads = [f"{_FIRST_BODY_ID + body} 0 1 1 1 1 0 0.0 0.0 2\n{joints}\n".encode() for body in range(count)]
    head = np.stack([np.frombuffer(text, np.uint8) for text in heads])
    blocks = np.concatenate([np.broadcast_to(head, (frames, *head.shape)), lines], axis=-1).reshape(frames, -1)
    opening = np.frombuffer(f"{count}\n".encode(), np.uint8)
    table = np.concatenate([np.broadcast_to(opening, (frames, len(opening))), blocks], axis=-1).ravel()
    return f"{frames}\n".encode() + bytes(table[table != 0])


def _decimal_text(values: Array, whole: int, decimals: int) -> np.ndarray:
    """Fixed-point decimals as (..., width) bytes, a sign or nothing first, leading zeros of the whole part left out."""
    scaled = np.rint(values * 10**decimals).astype(np.int64)
    if np.abs(scaled).max() >= 10 ** (whole + decimals):
        raise ValueError(f"skeleton file: got {np.abs(values).max():.1f}, expected less than {10**whole}; check units")
    magnitude = np.abs(scaled)
    powers = 10 ** np.arange(whole + decimals - 1, -1, -1)
    characters = ((magnitude[..., None] // powers) % 10 + ord("0")).astype(np.uint8)
    is_leading = (magnitude[..., None] < powers) & (powers > 10**decimals)
    characters[is_leading] = 0
    sign = np.where(scaled < 0, ord("-"), 0).astype(np.uint8)[..., None]
    point = np.full_like(sign, ord("."))
    pieces = [sign, characters[..., :whole]] + ([point, characters[..., whole:]] if decimals else [])
    return np.concatenate(pieces, axis=-1)
