"""Read Skeletics-152's JSON files: people that VIBE (Kocabas et al., CVPR 2020) found in a clip, 49 joints each.

The form is known from the published parser alone, no file was seen here (published-layouts, section 6). Assumed:

- two archives or folders, whose names hold ``train`` and ``val``; inside, a folder per class name, a file per clip;
- a file maps a person's number to VIBE's output, of which ``frame_ids`` (F rising frame numbers) and ``joints3d``
  (F x 49 x 3 numbers) are used; the joints stand in the order of VIBE's joint list, of which 25 are kept;
- positions are about metres in the camera's directions, x to the image's right, y down and z away: a half turn about z
  makes y up, and leaves left what is left.

A clip begins with the first frame that shows anybody and ends with the last. Of more than two people the two in the
most frames are kept, as the published parser does; its gaps are gaps here. Labels are the folders' names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from feeders.prepare.raw_files import files_at
from feeders.prepare.source import NobodySeenError, RawItem, RawSource, Reading
from feeders.skeletics import CLASS_NAMES, SKELETICS, TRAINING, VALIDATION, fold
from feeders.store import Recording, Track

_SUFFIX = ".json"
_SIDES = {"train": TRAINING, "val": VALIDATION}
# VIBE's places of the joints of VIBE25, in its order.
KEPT = (38, 43, 44, 45, 46, 47, 48, 40, 37, 33, 32, 31, 34, 35, 36, 41, 39, 27, 26, 25, 28, 29, 30, 22, 19)
_VIBE_SHAPE = (49, 3)
_HALF_TURN = np.array([-1.0, -1.0, 1.0])


def scan(place: Path) -> Iterator[RawItem]:
    """The clips of archives or folders that are, or lie in, a place; a sample's name is ``side/class/file``."""
    inside = [] if place.is_file() else sorted(place.iterdir())
    for half in [each for each in inside if _side(each)] or [place]:
        if side := _side(half):
            yield from files_at(half, _SUFFIX, partial(_sample_name, side))


def _side(half: Path) -> str | None:
    """The side whose name is a word of a half's name, where just one is and the half is a folder or an archive."""
    if half.name.startswith(".") or not (half.is_dir() or half.suffix == ".zip"):
        return None
    sides = _SIDES.keys() & re.split(r"[^a-z]+", half.name.lower())
    return sides.pop() if len(sides) == 1 else None


def read(name: str, content: bytes) -> Reading:
    """One clip; ValueError where it is truncated or of another form, NobodySeenError where it holds no person."""
    side, action, _ = name.split("/")
    if action not in CLASS_NAMES:
        raise ValueError(f"{name}: got folder {action!r}, expected a class name, as {CLASS_NAMES[0]!r}")
    reading = unlabelled(name, content)
    recording = replace(reading.recording, label=CLASS_NAMES.index(action), subject=fold(name), setup=_SIDES[side])
    return replace(reading, recording=recording)


def unlabelled(name: str, content: bytes) -> Reading:
    """The clip of a file of any name."""
    try:
        people = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: got truncated or broken JSON ({error}), expected a whole file") from error
    if not isinstance(people, dict):
        raise ValueError(f"{name}: got a {type(people).__name__}, expected a mapping of person numbers")
    tracks = [_track(f"{name}, person {number}", person) for number, person in people.items()]
    # The sort keeps the file's order of people in equally many frames.
    tracks = sorted((track for track in tracks if len(track.frames)), key=lambda track: -len(track.frames))
    if not tracks:
        raise NobodySeenError(f"{name}: got no person, expected at least one")
    kept = tracks[: SKELETICS.bodies]
    start = min(int(track.frames[0]) for track in kept)
    recording = Recording(
        sample_id=name,
        label=0,
        frames=max(int(track.frames[-1]) for track in kept) - start + 1,
        bodies=tuple(Track(track.frames - start, track.joints) for track in kept),
    )
    return Reading(recording, ("people beyond the two in most frames, left out",) if len(tracks) > len(kept) else ())


def _track(where: str, person: object) -> Track:
    if not isinstance(person, Mapping) or not {"frame_ids", "joints3d"} <= person.keys():
        raise ValueError(f"{where}: got no frame_ids and joints3d, expected VIBE's output")
    try:
        frames, joints = np.array(person["frame_ids"]), np.array(person["joints3d"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{where}: got joints3d that are not three numbers a joint ({error})") from error
    if frames.size == joints.size == 0:
        return Track(np.empty(0, dtype=np.int64), np.empty((0, len(KEPT), 3), dtype=np.float32))
    if joints.shape != (frames.size, *_VIBE_SHAPE) or frames.ndim != 1:
        raise ValueError(
            f"{where}: got frame_ids of shape {frames.shape} and joints3d of shape {joints.shape}, "
            "expected (frames,) and (frames, 49, 3)"
        )
    if frames.dtype.kind != "i" or frames[0] < 0 or (np.diff(frames) < 1).any():
        raise ValueError(f"{where}: got frame_ids {frames[:8]}, expected rising frame numbers")
    return Track(frames, (joints[:, KEPT] * _HALF_TURN).astype(np.float32))


def _sample_name(side: str, path: PurePosixPath) -> str:
    return f"{side}/{path.parent.name}/{path.stem}"


SOURCE = RawSource(
    dataset=SKELETICS,
    suffix=_SUFFIX,
    read=read,
    unlabelled=unlabelled,
    scan=scan,
    layout="a folder with vibe_results_train.zip and vibe_results_val.zip, unpacked or not (zenodo record 4515787)",
)
