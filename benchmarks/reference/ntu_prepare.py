"""The published preparation of NTU RGB+D (CTR-GCN's ``data/ntu`` and ``data/ntu120``), plainly, faults included.

Nothing here is fast, and nothing is mended. It is what `feeders.prepare` is held against, both for its numbers
(``--denoise published``) and, reading line by line as anyone would, for its speed. Where the published scripts crash, a
ValueError stands here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class PlainBody:
    """One id of a file: joints (F, 25, 3), the frame that each is taken to be of, and how much it moves."""

    joints: np.ndarray
    interval: list[int]
    motion: float = 0.0


@dataclass
class PlainClip:
    """A file: how many of its frames show a body, and its bodies by id, in order of first appearance."""

    frames: int
    bodies: dict[str, PlainBody]


def read_plain(source: Path | str) -> PlainClip:
    """Step 1, of a path or a file's text: follow the lines; frames without a body do not count."""
    lines = iter((source.read_text(encoding="ascii") if isinstance(source, Path) else source).splitlines())
    joints_of: dict[str, list[list[list[float]]]] = {}
    interval_of: dict[str, list[int]] = {}
    frame = 0
    for _ in range(int(next(lines))):
        count = int(next(lines))
        if count == 0:
            continue
        for _ in range(count):
            body_id = next(lines).split()[0]
            joints = []
            for _ in range(int(next(lines))):
                values = next(lines).split()
                joints.append([float(values[0]), float(values[1]), float(values[2])])
            if body_id not in joints_of:
                joints_of[body_id] = [joints]
                interval_of[body_id] = [frame]
            else:
                joints_of[body_id].append(joints)
                interval_of[body_id].append(interval_of[body_id][-1] + 1)
        frame += 1
    bodies = {
        body_id: PlainBody(np.array(joints, dtype=np.float32), interval_of[body_id])
        for body_id, joints in joints_of.items()
    }
    if len(bodies) > 1:
        for body in bodies.values():
            body.motion = _motion(body.joints)
    return PlainClip(frame, bodies)


def prepare_plain(source: Path | str, *, copies_body: bool = False) -> np.ndarray:
    """Steps 1 to 4 for one file: (frames, 150) float32, before the zeros at the end; NTU 120 copies a lone body."""
    joints = translate(denoise(read_plain(source)))
    if joints.shape[1] == 150:
        return joints
    return np.hstack([joints, joints if copies_body else np.zeros_like(joints)])


def denoise(clip: PlainClip) -> np.ndarray:
    """Step 2: (frames, 75) where one body is left, (frames, 150) where more are, be they all in the first place."""
    if not clip.bodies:
        raise ValueError("no body")
    bodies = dict(clip.bodies)
    if len(bodies) == 1:
        return _one_body(next(iter(bodies.values())), clip.frames)
    bodies = _drop_wide(_drop_short(bodies))
    if len(bodies) == 1:
        joints = _one_body(next(iter(bodies.values())), clip.frames)
    else:
        joints = _two_bodies(sorted(bodies.values(), key=lambda body: body.motion, reverse=True), clip.frames)
    shown: np.ndarray = joints[joints.sum(axis=1) != 0]
    return shown


def translate(joints: np.ndarray) -> np.ndarray:
    """Step 3: the origin at joint 2 of body 1 where it first is not all zero; of two, an absent body stays zero."""
    first = 0
    while first < len(joints) and not joints[first, :75].any():
        first += 1
    if first == len(joints):
        raise ValueError("body 1 is all zero")
    origin = np.tile(joints[first, 3:6], joints.shape[1] // 3)
    moved: np.ndarray = joints.copy()
    for frame in range(len(joints)):
        moved[frame] -= origin
        if joints.shape[1] == 150:
            for half in (slice(0, 75), slice(75, 150)):
                if joints[frame, half].sum() == 0:
                    moved[frame, half] = 0
    return moved


def _drop_short(bodies: dict[str, PlainBody]) -> dict[str, PlainBody]:
    kept = {body_id: body for body_id, body in bodies.items() if len(body.interval) > 11}
    if not kept:
        raise ValueError("no body of more than 11 frames")
    return kept


def _drop_wide(bodies: dict[str, PlainBody]) -> dict[str, PlainBody]:
    kept = dict(bodies)
    for body_id, body in bodies.items():
        if len(kept) == 1:
            break
        good = []
        for frame, joints in enumerate(body.joints):
            width = float(joints[:, 0].max() - joints[:, 0].min())
            height = float(joints[:, 1].max() - joints[:, 1].min())
            if width <= 0.8 * height:
                good.append(frame)
        bad = len(body.joints) - len(good)
        if bad / len(body.joints) >= 0.69754:
            del kept[body_id]
        elif bad > 0:
            kept[body_id] = PlainBody(body.joints, body.interval, min(body.motion, _motion(body.joints[good])))
    return kept


def _motion(joints: np.ndarray) -> float:
    return float(np.sum(np.var(joints.reshape(-1, 3), axis=0)))


def _one_body(body: PlainBody, frames: int) -> np.ndarray:
    joints = np.zeros((frames, 75), dtype=np.float32)
    # A body that is there more often than there are frames does not fit: ValueError.
    joints[body.interval[0] : body.interval[-1] + 1] = body.joints.reshape(-1, 75)
    return joints


def _two_bodies(bodies: list[PlainBody], frames: int) -> np.ndarray:
    joints = np.zeros((frames, 150), dtype=np.float32)
    start_1, end_1 = bodies[0].interval[0], bodies[0].interval[-1]
    joints[start_1 : end_1 + 1, :75] = bodies[0].joints.reshape(-1, 75)
    start_2, end_2 = 0, 0
    for body in bodies[1:]:
        start, end = body.interval[0], body.interval[-1]
        if min(end_1, end) - max(start_1, start) <= 0:
            joints[start : end + 1, :75] = body.joints.reshape(-1, 75)
            start_1, end_1 = min(start_1, start), max(end_1, end)
        elif min(end_2, end) - max(start_2, start) <= 0:
            joints[start : end + 1, 75:] = body.joints.reshape(-1, 75)
            start_2, end_2 = min(start_2, start), max(end_2, end)
    return joints
