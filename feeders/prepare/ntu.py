"""NTU RGB+D's ``.skeleton`` text files -> clips: read, choose and order the bodies, move the origin.

Source of the steps: the published NTU preparation (CTR-GCN's ``data/ntu``), with two of its faults left out: a body
that vanishes and returns keeps its true frames, and presence is never guessed from a sum of coordinates.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from feeders.dataset import DataSet
from feeders.demo import demo_data
from feeders.ntu import NTU60, NTU120
from feeders.prepare.source import RawFiles, RawSource
from feeders.skeleton import NTU25
from feeders.store import Recording, Track
from feeders.synthetic import SyntheticConfig

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_JOINTS, _VALUES, _BODY_FACTS = len(NTU25.joints), 12, 10
_BLOCK = _JOINTS * _VALUES
_ORIGIN = NTU25.joints.index("spine_middle")
# Published: with several bodies in a clip, one seen in 11 frames or fewer is taken for a false detection.
_SHORTEST = 11


@dataclass(frozen=True)
class RawBody:
    """One body id of a raw file.

    Shapes:
        frames: (F,) rising frame numbers of the file; joints: (F, 25, 3) float32, metres, camera frame
    """

    body_id: str
    frames: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True)
class RawClip:
    """A raw file as it is: its frame count (empty frames too) and its bodies in order of first appearance."""

    frames: int
    bodies: tuple[RawBody, ...]


def read_skeleton(path: Path) -> RawClip:
    """Parse a ``.skeleton`` file; ValueError with the reason where it is truncated or malformed."""
    tokens = path.read_text(encoding="ascii", errors="replace").split()
    frames, frame_of, starts = _walk(path.name, tokens)
    try:
        # A quarter of the file: the other columns are never converted, and in some files are no numbers.
        numbers = [
            float(token) for at in starts for axis in range(3) for token in tokens[at + axis : at + _BLOCK : _VALUES]
        ]
    except ValueError as error:
        raise ValueError(
            f"{path.name}: got coordinates that are no numbers ({error}); the file is malformed"
        ) from error
    joints = np.array(numbers, dtype=np.float32).reshape(-1, 3, _JOINTS).transpose(0, 2, 1)
    # Ids are compared as text: they need more than the 53 bits of a float64.
    rows_of: dict[str, list[int]] = {}
    for row, at in enumerate(starts):
        rows_of.setdefault(tokens[at - _BODY_FACTS - 1], []).append(row)
    bodies = []
    for body_id, rows in rows_of.items():
        # A sensor that reports an id twice in one frame: the first stands.
        seen, first = np.unique(frame_of[rows], return_index=True)
        bodies.append(RawBody(body_id, seen, joints[np.array(rows)[first]]))
    return RawClip(frames, tuple(bodies))


def select_bodies(bodies: Sequence[RawBody]) -> list[Track]:
    """At most two bodies, the one that moves most first; a body that continues another's slot joins it."""
    long_enough = [body for body in bodies if len(body.frames) > _SHORTEST]
    kept = list(bodies) if len(bodies) == 1 else long_enough or [max(bodies, key=lambda body: len(body.frames))]
    slots: list[Track] = []
    for body in sorted(kept, key=_motion, reverse=True):
        free = next((n for n, slot in enumerate(slots) if not np.isin(body.frames, slot.frames).any()), None)
        if free is not None:
            slots[free] = _joined(slots[free], body)
        elif len(slots) < 2:
            slots.append(Track(body.frames, body.joints))
    return slots


def to_recording(sample_id: str, label: int, clip: RawClip) -> Recording:
    """A raw clip as the store keeps it: frames without any body closed up, origin at the first body's spine."""
    setup, camera, subject, replication, _ = _fields(sample_id)
    if not clip.bodies:
        raise ValueError(f"{sample_id}: got an empty clip ({clip.frames} frames, no body), expected at least one body")
    tracks = select_bodies(clip.bodies)
    seen = np.unique(np.concatenate([track.frames for track in tracks]))
    origin = tracks[0].joints[0, _ORIGIN]
    return Recording(
        sample_id=sample_id,
        label=label,
        frames=len(seen),
        bodies=tuple(Track(np.searchsorted(seen, track.frames), track.joints - origin) for track in tracks),
        subject=subject,
        camera=camera,
        setup=setup,
        replication=replication,
    )


def read(classes: int, path: Path) -> Recording:
    """One ``.skeleton`` file as a clip."""
    action = _fields(path.stem)[-1]
    if not 1 <= action <= classes:
        raise ValueError(f"{path.name}: got action {action}, expected 1 to {classes}")
    return to_recording(path.stem, action - 1, read_skeleton(path))


def find(last_setup: int | None, raw: Path) -> RawFiles:
    """All ``.skeleton`` files under a folder, by name; of NTU, up to a setup and without the published missing ones."""
    found = sorted(raw.rglob("*.skeleton"), key=lambda path: path.stem)
    if last_setup is None:
        return RawFiles(tuple(found))
    asked = [path for path in found if not _NAME.fullmatch(path.stem) or int(path.stem[1:4]) <= last_setup]
    missing = _missing_skeletons()
    return RawFiles(
        files=tuple(path for path in asked if path.stem not in missing),
        left_out={path.stem: "on the published list of missing skeletons" for path in asked if path.stem in missing},
    )


def ntu_source(dataset: str) -> RawSource:
    """The source of one of the data sets that come as ``.skeleton`` files."""
    facts, last_setup = _facts(dataset)
    return RawSource(
        dataset=facts,
        find=partial(find, last_setup),
        read=partial(read, len(facts.class_names)),
        layout="a folder of SsssCcccPpppRrrrAaaa.skeleton files, subfolders allowed (`nturgb+d_skeletons`, for NTU 120 "
        "`nturgb+d_skeletons120` beside it); request them at https://rose1.ntu.edu.sg/dataset/actionRecognition",
    )


def _facts(dataset: str) -> tuple[DataSet, int | None]:
    match dataset:
        case "ntu60":
            return NTU60, 17
        case "ntu120":
            return NTU120, 32
        case _:
            return demo_data(SyntheticConfig()), None


def _fields(name: str) -> tuple[int, ...]:
    fields = _NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name}: got an unknown name, expected SsssCcccPpppRrrrAaaa")
    return tuple(map(int, fields.groups()))


def _walk(name: str, tokens: Sequence[str]) -> tuple[int, np.ndarray, list[int]]:
    """Follow the counts: how many frames, and of each body-frame its frame and the place of its first coordinate."""
    frame_of, starts, at = [], [], 1
    frames = _count(name, tokens, 0, "frame count")
    for frame in range(frames):
        where = f"of frame {frame} of {frames}"
        bodies = _count(name, tokens, at, f"body count {where}")
        at += 1
        for _ in range(bodies):
            joints = _count(name, tokens, at + _BODY_FACTS, f"joint count {where}")
            if joints != _JOINTS:
                raise ValueError(f"{name}: got {joints} as the joint count {where}, expected {_JOINTS}")
            frame_of.append(frame)
            starts.append(at + _BODY_FACTS + 1)
            at += _BODY_FACTS + 1 + _BLOCK
    if at != len(tokens):
        state = "truncated" if at > len(tokens) else "malformed"
        raise ValueError(f"{name}: got {len(tokens)} values, expected {at} for {frames} frames; the file is {state}")
    return frames, np.array(frame_of, dtype=np.int64), starts


def _count(name: str, tokens: Sequence[str], at: int, what: str) -> int:
    if at >= len(tokens):
        raise ValueError(f"{name}: got a truncated file, it ends before the {what}")
    if not tokens[at].isdecimal():
        raise ValueError(
            f"{name}: got {tokens[at][:20]!r} as the {what}, expected a whole number; the file is malformed"
        )
    return int(tokens[at])


def _motion(body: RawBody) -> float:
    """Published: the variance of x, y and z over all frames and joints, summed."""
    return float(body.joints.reshape(-1, 3).astype(np.float64).var(axis=0).sum())


def _joined(slot: Track, body: RawBody) -> Track:
    frames = np.concatenate([slot.frames, body.frames])
    order = np.argsort(frames)
    return Track(frames[order], np.concatenate([slot.joints, body.joints])[order])


@cache
def _missing_skeletons() -> frozenset[str]:
    return frozenset(files("feeders.prepare").joinpath("ntu_missing_skeletons.txt").read_text("ascii").split())
