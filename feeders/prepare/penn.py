"""Read Penn Action's ``NNNN.mat`` files: 13 joints a frame in pixels, where some joints are hidden.

A store's poses have their origin in the middle of the image, x to the right and y up (the files count pixels from 1 at
the top left). A hidden joint has weight 0 and stands at the origin; the annotators' guess of it is not kept. Hidden is

- what ``visibility`` says is;
- what stands at the placeholder, at most (1, 1);
- what is not a finite number (a note in the report).

A frame without a visible joint is one without a body (a note); a file without any such frame has nobody in it and is
left out: 1516, of the training side. Integer coordinates (uint8, uint16) are read as real numbers. Too few boxes in
``bbox`` (1154, 1865), which is not used, and another number of frames in ``nframes`` or ``dimensions`` than there are
joints, are notes. A file is broken where it is truncated, lacks a key, has an unknown action or side, ``x``, ``y`` and
``visibility`` of different shapes, no frame, or an image without size.
"""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from feeders.penn import CLASS_NAMES, PENN, TEST, TRAINING, VIEWS, fold
from feeders.prepare.source import NobodySeenError, RawSource, Reading
from feeders.store import Recording, Track

_NAME = re.compile(r"\d{4}")
_SHOWN = ("x", "y", "visibility", "dimensions")
_NEEDED = ("action", "train", *_SHOWN)
_SIDES = {1: TRAINING, -1: TEST}
_PLACEHOLDER = 1.0


def belongs(name: str) -> bool:
    """Whether a file's name is that of a clip."""
    return _NAME.fullmatch(name) is not None


def read(name: str, content: bytes) -> Reading:
    """One clip; ValueError where the file is broken, NobodySeenError where no joint is ever visible."""
    clip = _variables(name, content, _NEEDED)
    action = _word(clip["action"]).replace("_", " ")
    side = _SIDES.get(_number(clip["train"]))
    if action not in CLASS_NAMES or side is None:
        raise ValueError(
            f"{name}: got action {action!r} and train {_word(clip['train'])}, expected one of {CLASS_NAMES}, 1 or -1"
        )
    label, view = CLASS_NAMES.index(action), _word(clip.get("pose", ""))
    reading = _reading(name, clip)
    recording = replace(
        reading.recording,
        label=label,
        subject=fold(label, int(name)),
        camera=VIEWS.index(view) + 1 if view in VIEWS else -1,
        setup=side,
    )
    return replace(reading, recording=recording)


def unlabelled(name: str, content: bytes) -> Reading:
    """The clip of a file of any name, which needs no ``action`` and no ``train``."""
    return _reading(name, _variables(name, content, _SHOWN))


def placed(joints: np.ndarray, width: int, height: int) -> np.ndarray:
    """Positions (..., 2) in a file's pixels -> about the middle of the image, y up."""
    centre = np.array([width + 1.0, height + 1.0]) / 2.0
    return (joints - centre) * (1.0, -1.0)


def _reading(name: str, clip: Mapping[str, np.ndarray]) -> Reading:
    """What a clip shows, whatever its label."""
    height, width = (_number(clip["dimensions"], axis) for axis in (0, 1))
    if height < 1 or width < 1:
        raise ValueError(f"{name}: got an image of {width} x {height} pixels, expected a size")
    joints, is_visible = _joints(name, clip)
    is_finite = np.isfinite(joints).all(axis=2)
    is_seen = is_visible & is_finite & (joints > _PLACEHOLDER).any(axis=2)
    frames = np.flatnonzero(is_seen.any(axis=1))
    if not len(frames):
        raise NobodySeenError(f"{name}: got no visible joint in {len(joints)} frames")
    faults = {
        "bounding boxes of fewer frames than joints, not used": _is_short(clip.get("bbox"), len(joints)),
        "another number of frames told than there are joints": _told_lengths(clip) - {len(joints)},
        "coordinates that are no numbers, taken as hidden": not is_finite[is_visible].all(),
        "frames without a visible joint, taken as without a body": len(frames) < len(joints),
    }
    seen = np.where(is_seen[..., None], placed(joints, width, height), 0.0)
    return Reading(
        Recording(
            sample_id=name,
            label=0,
            frames=len(joints),
            bodies=(Track(frames, seen[frames].astype(np.float32), is_seen[frames].astype(np.float32)),),
            width=width,
            height=height,
        ),
        notes=tuple(fault for fault, is_there in faults.items() if is_there),
    )


def _variables(name: str, content: bytes, needed: Sequence[str]) -> Mapping[str, np.ndarray]:
    try:
        clip: dict[str, np.ndarray] = loadmat(io.BytesIO(content))
    except (ValueError, TypeError, LookupError, OSError, NotImplementedError, MatReadError, zlib.error) as error:
        raise ValueError(f"{name}: got a truncated or broken MATLAB file ({error}), expected version 5") from error
    if missing := [key for key in needed if key not in clip or not np.size(clip[key])]:
        raise ValueError(f"{name}: got no {', '.join(missing)}, expected {', '.join(needed)}")
    return clip


def _joints(name: str, clip: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(T, V, 2) float64 positions as they stand in the file, (T, V) visibility."""
    x, y, visibility = (clip[key] for key in ("x", "y", "visibility"))
    joints = len(PENN.skeleton.joints)
    if not x.shape == y.shape == visibility.shape == (len(x), joints):
        raise ValueError(
            f"{name}: got x, y, visibility of shapes {x.shape}, {y.shape}, {visibility.shape}, "
            f"expected (frames, {joints}) thrice"
        )
    try:
        # As numbers first: the difference of two uint8 wraps round.
        return np.stack([x, y], axis=2).astype(np.float64), visibility.astype(bool)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: got coordinates that are not numbers ({error})") from error


def _is_short(boxes: np.ndarray | None, frames: int) -> bool:
    return boxes is not None and len(boxes) < frames


def _told_lengths(clip: Mapping[str, np.ndarray]) -> set[int]:
    told = {_number(clip["dimensions"], 2), _number(clip.get("nframes", np.empty(0)))}
    return told - {-1}


def _word(value: np.ndarray | str) -> str:
    return str(np.ravel(value)[0]) if np.size(value) else ""


def _number(values: np.ndarray, at: int = 0) -> int:
    """One of some numbers as a whole one; 0 for what is none, -1 for what is not there."""
    if at >= np.size(values):
        return -1
    try:
        return int(np.ravel(values)[at])
    except (ValueError, TypeError, OverflowError):
        return 0


SOURCE = RawSource(
    dataset=PENN,
    suffix=".mat",
    read=read,
    unlabelled=unlabelled,
    belongs=belongs,
    skip_broken=False,
    may_kill=True,  # scipy's reader of MATLAB files trusts them
    layout="a folder of NNNN.mat files (`labels` of Penn_Action.tar.gz, 2,326 of them)",
)
