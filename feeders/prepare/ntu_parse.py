"""NTU RGB+D's ``.skeleton`` text files -> numbers, exactly as Python's ``float`` and ``int`` read them.

Line 1 is the frame count. A frame is its body count, then of each body a line of 10 values that begins with the body's
id, the joint count, and a line of 12 values for each joint that begins with x, y, z (metres, camera frame).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from feeders.skeleton import NTU25
from torchlight.compiled import compiled_or_none

_JOINTS, _JOINT_VALUES, _BODY_VALUES = len(NTU25.joints), 12, 10
_BODY_LINES = 2 + _JOINTS
# With one character and one separator a value.
_BODY_BYTES = 2 * (_BODY_VALUES + 1 + _JOINTS * _JOINT_VALUES)


@dataclass(frozen=True)
class RawClip:
    """A raw file as it is.

    Args:
        frames: the count that the file states, frames without bodies too.

    Shapes:
        frame_of: (R,) int64, the frame of each body-frame, in file order: rising, equal for bodies seen together
        body_id: (R,) uint64; the ids need more than the 53 bits of a float64
        joints: (R, 25, 3) float32, metres, camera frame
    """

    frames: int
    frame_of: np.ndarray
    body_id: np.ndarray
    joints: np.ndarray


def read_skeleton(name: str, content: bytes) -> RawClip:
    """Parse a ``.skeleton`` file; ValueError with the line and the reason where it is truncated or malformed."""
    clip = (_compiled() or read_lines)(name, content)
    if not np.isfinite(clip.joints).all():
        row = int(np.flatnonzero(~np.isfinite(clip.joints).all(axis=(1, 2)))[0])
        raise ValueError(f"{name}: got NaN or infinite coordinates in frame {clip.frame_of[row]}, expected numbers")
    return clip


@cache
def _compiled() -> Callable[[str, bytes], RawClip] | None:
    def load() -> Callable[[str, bytes], RawClip]:
        from feeders.prepare.ntu_scan import scan

        def read(name: str, content: bytes) -> RawClip:
            text = np.frombuffer(content if content.endswith(b"\n") else content + b"\n", np.uint8)
            most = len(text) // _BODY_BYTES
            frame_of, body_id = np.empty(most, np.int64), np.empty(most, np.uint64)
            joints = np.empty((most, _JOINTS, 3), np.float32)
            frames, rows = scan(text, frame_of, body_id, joints)
            if frames < 0:
                return read_lines(name, content)
            return RawClip(frames, frame_of[:rows].copy(), body_id[:rows].copy(), joints[:rows].copy())

        return read

    return compiled_or_none(load, "skeleton files are read line by line")


def read_lines(name: str, content: bytes) -> RawClip:
    """`read_skeleton` without a compiler, where coordinates may be any of Python's numbers."""
    lines = [line.split() for line in content.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    frames = _count(name, lines, 0, "frame count", lines_each=1)
    at, frame_of, body_id, numbers = 1, list[int](), list[int](), list[float]()
    for frame in range(frames):
        bodies = _count(name, lines, at, f"body count of frame {frame} of {frames}", lines_each=_BODY_LINES)
        at += 1
        for _ in range(bodies):
            frame_of.append(frame)
            body_id.append(_whole(name, lines, at, _BODY_VALUES, "body id", below=2**64))
            joints = _count(name, lines, at + 1, "joint count", lines_each=1)
            if joints != _JOINTS:
                raise ValueError(f"{name}: got {joints} as the joint count in line {at + 2}, expected {_JOINTS}")
            for joint in range(at + 2, at + _BODY_LINES):
                numbers += _coordinates(name, lines, joint)
            at += _BODY_LINES
    if at != len(lines):
        raise ValueError(
            f"{name}: got {len(lines)} lines, expected {at} for {frames} frames; the file is malformed after them"
        )
    with np.errstate(over="ignore"):
        table = np.array(numbers, dtype=np.float32).reshape(-1, _JOINTS, 3)
    return RawClip(frames, np.array(frame_of, np.int64), np.array(body_id, np.uint64), table)


def _values(name: str, lines: list[list[bytes]], at: int, expected: int, what: str) -> list[bytes]:
    if at >= len(lines):
        raise ValueError(f"{name}: got a file of {len(lines)} lines, it is truncated before the {what}")
    if len(lines[at]) != expected:
        raise ValueError(
            f"{name}: got {len(lines[at])} values in line {at + 1}, expected the {expected} of a {what}; "
            "the file is truncated or malformed"
        )
    return lines[at]


def _whole(name: str, lines: list[list[bytes]], at: int, values: int, what: str, below: int) -> int:
    token = _values(name, lines, at, values, what)[0]
    number = int(token) if token.isdigit() and len(token) < 32 else below
    if number >= below:
        raise ValueError(
            f"{name}: got {_shown(token)} as the {what} in line {at + 1}, expected a whole number below {below}; "
            "the file is malformed"
        )
    return number


def _count(name: str, lines: list[list[bytes]], at: int, what: str, lines_each: int) -> int:
    """A count, held against the lines that follow before anything is made of it."""
    count = _whole(name, lines, at, 1, what, below=10**18)
    most = (len(lines) - at - 1) // lines_each
    if count > most:
        raise ValueError(
            f"{name}: got {count} as the {what} in line {at + 1}, expected at most {most} with the lines that follow; "
            "the file is truncated or malformed"
        )
    return count


def _coordinates(name: str, lines: list[list[bytes]], at: int) -> list[float]:
    x, y, z, *_ = _values(name, lines, at, _JOINT_VALUES, "joint")
    try:
        return [float(x), float(y), float(z)]
    except ValueError as error:
        shown = " ".join(map(_shown, (x, y, z)))
        raise ValueError(f"{name}: got {shown} as coordinates in line {at + 1}, expected numbers") from error


def _shown(token: bytes) -> str:
    return repr(token[:20].decode("ascii", errors="replace"))
