"""Simulated NTU ``.skeleton`` files with everything that goes wrong in real ones."""

from collections.abc import Sequence

import numpy as np

# Two ids that one float64 cannot tell apart.
ANNA, BERT, CARL = 72057594037931101, 72057594037931102, 72057594037931103
Frame = Sequence[tuple[int, np.ndarray]]


def skeleton_file(frames: Sequence[Frame]) -> bytes:
    """Frames of (body id, (25, 3) joints) as an NTU file."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body_id, joints in bodies:
            lines += [f"{body_id} 0 1 1 1 1 0 0.01 -0.2 2", "25"]
            lines += [f"{x:.9g} {y:.9g} {z:.9g} 266.1 189 988 430 -0.2 0.02 0.9 -0.03 2" for x, y, z in joints]
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def poses(seed: int, frames: int, motion: float = 0.1) -> np.ndarray:
    """(frames, 25, 3) float32 of a body that stands upright, 2 m tall and 1 m wide, about a point it wanders from."""
    draw = np.random.default_rng(seed)
    pose = draw.uniform(-0.3, 0.3, (frames, 25, 3)) + motion * draw.normal(size=(frames, 1, 3)) + [0, 0, 3]
    pose[:, 3, 1] += 2
    return pose.astype(np.float32)


def clip_of(seen: dict[int, str], motion: dict[int, float] | None = None) -> list[list[tuple[int, np.ndarray]]]:
    """Frames in which an id is seen where its text says 1."""
    joints = {
        who: poses(n, len(text), (motion or {}).get(who, 1 / (1 + n))) for n, (who, text) in enumerate(seen.items())
    }
    frames = max(map(len, seen.values()))
    return [[(who, joints[who][t]) for who, text in seen.items() if text[t : t + 1] == "1"] for t in range(frames)]


def random_clip(seed: int) -> list[list[tuple[int, np.ndarray]]]:
    """Ids that vanish, return, hand over and flash by; wide, all-zero and sum-zero poses; frames that show nobody."""
    draw = np.random.default_rng(seed)
    if draw.random() < 0.05:
        late, early = draw.integers(14, 20), draw.integers(12, 20)
        return clip_of({ANNA: "1" * 40, BERT: "0" * int(late) + "1" * 20, CARL: "1" * int(early)})
    frames = int(draw.choice([1, 2, 11, 12, 13, 20, 30, 30, 40, 40]))
    clip: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(frames)]
    end = 0
    for number in range(int(draw.choice([1, 1, 2, 3, 4, 4]))):
        is_lead = number == 0 and draw.random() < 0.5
        seen = np.arange(frames) if is_lead else _presence(draw, frames, end)
        end = int(seen[-1])
        pose = poses(seed * 7 + number, frames, motion=1.0 if is_lead else float(draw.choice([0.05, 0.1, 0.5])))
        if draw.random() < 0.3:
            pose[draw.random(frames) < draw.choice([0.3, 0.68, 0.72, 1.0]), 0, 0] += 3
        if draw.random() < 0.25:
            pose[draw.random(frames) < draw.choice([0.1, 0.5, 1.0])] = 0
        if draw.random() < 0.25:
            _cancel(pose, seen[draw.random(len(seen)) < 0.3], draw)
        if number and draw.random() < 0.1:
            pose = _opposite(clip, frames)
        for frame in seen:
            clip[frame] += [(ANNA + number, pose[frame])] * (2 if draw.random() < 0.002 else 1)
    if draw.random() < 0.3:
        for frame in np.flatnonzero(draw.random(frames) < 0.2):
            clip[frame] = []
    return clip


def _presence(draw: np.random.Generator, frames: int, end: int) -> np.ndarray:
    every = np.arange(frames)
    first, last = sorted(draw.integers(0, frames, 2).tolist())
    match int(draw.integers(9)):
        case 0:
            return every
        case 1:
            return every[first : last + 1]
        case 2:
            is_gap = (every > first) & (every < last)
            return every if is_gap.all() else every[~is_gap]
        case 3:
            return every[first : first + 5]
        case 4:
            return every[max(0, min(end + int(draw.integers(-1, 2)), frames - 1)) :]
        case 5:
            return every[frames // 2 :]
        case 6 | 7:
            return every[: 1 + frames // 3]
        case _:
            return every[: max(1, last)]


def _cancel(pose: np.ndarray, frames: np.ndarray, draw: np.random.Generator) -> None:
    """Coordinates that cancel, exactly or but for float32's rounding."""
    for frame in frames:
        values = draw.normal(size=37).round(int(draw.choice([0, 1, 7]))).astype(np.float32)
        pose[frame] = draw.permutation([*values, *-values, 0]).reshape(25, 3)


def _opposite(clip: list[list[tuple[int, np.ndarray]]], frames: int) -> np.ndarray:
    """A body that cancels the first one of every frame."""
    pose = poses(0, frames)
    for frame, bodies in enumerate(clip):
        if bodies:
            pose[frame] = -bodies[0][1]
    return pose
