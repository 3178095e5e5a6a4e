"""The simulator's walkers: people of their own build and gait, with and without a load, filmed by two cameras.

Every walk happens once, in the world, and is seen by all cameras; files are NTU ``.skeleton``, the person in P, the
condition in S (1 normal, 2 carrying), the walk in R. Testing is on people that training never saw. What a walk looks
like depends on the person, the day and the load; a score on it measures the demo, not a method.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from feeders.synthetic import Camera, sensor_error, write_files
from feeders.synthetic.actions import FRAMES_A_SECOND, Take, draw_take, walk
from feeders.synthetic.body import Array, Person, Pose, draw_person, world_joints
from torchlight.config import StrictConfig

NORMAL, CARRYING = 1, 2
"""Conditions, as S in file names."""
CAMERAS: tuple[Camera, ...] = (
    Camera(yaw=-20.0, distance=6.0, height=1.3),
    Camera(yaw=65.0, distance=6.5, height=1.6),
)


class WalkersConfig(StrictConfig):
    """How much is filmed. A larger set contains the smaller one, file by file.

    Args:
        people: walkers; ids from 1, each with a build and a gait of their own. Every fourth is a test person.
        walks: of every person; the last third of them with a load.
        noise: strength of the sensor's noise, drift and slips.
        seed: another studio with other people.
    """

    people: int = Field(default=40, ge=4, le=999)
    walks: int = Field(default=6, ge=2, le=999)
    noise: float = Field(default=1.0, ge=0.0)
    seed: int = Field(default=0, ge=0)


def write_walks(folder: Path, config: WalkersConfig) -> None:
    """Film every person and walk, and write ``folder``: all of it or nothing."""
    write_files(folder, film_walks(config))


def film_walks(config: WalkersConfig) -> Iterator[tuple[str, Array]]:
    """Sample names and what the sensor saw: (1, T, 25, 3), metres in the camera frame."""
    for subject in range(1, config.people + 1):
        person = draw_person(np.random.default_rng([config.seed, 3, subject]))
        for number in range(1, config.walks + 1):
            key = [config.seed, 4, subject, number]
            condition = CARRYING if number > config.walks - config.walks // 3 else NORMAL
            world = perform_walk(person, condition == CARRYING, np.random.default_rng(key))
            for camera, place in enumerate(CAMERAS, start=1):
                seen = place.view(world)[None]
                error = sensor_error(seen.shape, np.random.default_rng([*key, camera]))
                yield f"S{condition:03d}C{camera:03d}P{subject:03d}R{number:03d}A001", seen + config.noise * error


def perform_walk(person: Person, carries: bool, rng: np.random.Generator) -> Array:
    """One walk in the world, (T, 25, 3) metres; the load does not change what else is drawn."""
    frames = int(rng.uniform(2.2, 3.4) * FRAMES_A_SECOND)
    take = draw_take(person, frames, rng)
    origin, facing = 0.25 * rng.normal(size=2), rng.uniform(-0.6, 0.6)
    pose = walk(take)
    return world_joints(person, _loaded(take, pose) if carries else pose, origin, facing)


def _loaded(take: Take, pose: Pose) -> Pose:
    """A box before the belly: both hands hold it still, the body leans back a little."""
    wrist = pose.wrist.copy()
    wrist[:] = [-0.12, -0.55, 0.42] + 0.1 * (take.rest.wrist - take.rest.wrist.mean(axis=0))
    return replace(pose, wrist=wrist, torso=pose.torso * [1.0, 0.5, 1.0] - [0.06, 0.0, 0.0])
