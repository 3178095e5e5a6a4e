"""From what a pose estimator saw in the frames of one walk to the walk: one person, in numbered frames, with gaps.

Frames are ordered by number, never by name (f9916 comes before f10312). Where a frame shows several people, the walker
is the one with the largest sum of confidences: a crop, or a camera of a gait laboratory, is about one person, whom it
shows whole; bystanders and false detections are cut off or uncertain. A joint of confidence 0 is missing, a person
without any joint is nobody, and a frame without anybody is a gap.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from feeders.prepare.source import NobodySeenError, Reading
from feeders.store import Recording, Track
from torchlight.plain_pickle import read_plain_pickle

CLIPPED = "confidence above 1, clipped"
SEVERAL = "several people in a frame, the one of most confidence taken"
GAPS = "frames without anybody, kept as gaps"
_NUMBER = re.compile(r"(?<!\d)(\d{1,18})(?:_keypoints)?$", re.ASCII)
# An hour: what is longer counts something else than frames, and a test would fill the gaps.
_LONGEST = 100_000


@dataclass(frozen=True)
class Walk:
    """Who walks, where, how: a clip's columns in the index, as each data set's module maps its names to them."""

    label: int
    subject: int = -1
    camera: int = -1
    setup: int = -1
    replication: int = -1

    def recording(self, name: str, track: Track) -> Recording:
        """The walk as a clip that ends with its last frame; ValueError where that is hours after the first."""
        frames = int(track.frames[-1]) + 1
        if frames > _LONGEST:
            raise ValueError(
                f"{name}: got {frames} frames from the first to the last, expected at most {_LONGEST}; are these times?"
            )
        return Recording(
            sample_id=name,
            label=self.label,
            frames=frames,
            bodies=(track,),
            subject=self.subject,
            camera=self.camera,
            setup=self.setup,
            replication=self.replication,
        )


def read_detections(name: str, walk: Walk, numbers: np.ndarray, people: np.ndarray) -> Reading:
    """One walk of all that was detected in its frames.

    Shapes:
        numbers: (R,) frame number of each detection, in any order, repeated where a frame shows several people
        people: (R, V, 3) x, y, confidence

    Raises:
        NobodySeenError: there is nobody in any frame; ValueError: numbers that are not finite, negative confidence.
    """
    if not np.isfinite(people).all():
        raise ValueError(f"{name}: got NaN or infinite numbers in frame {_first(numbers, ~np.isfinite(people))}")
    confidence = people[:, :, 2]
    if (confidence < 0).any():
        raise ValueError(
            f"{name}: got a confidence below 0 in frame {_first(numbers, confidence < 0)}, expected 0 to 1"
        )
    sure = confidence.sum(axis=1)
    # By frame, the surest first; equals keep their order.
    order = np.lexsort((-sure, numbers))
    order = order[sure[order] > 0]
    if not len(order):
        raise NobodySeenError(f"{name}: nobody is detected in any frame")
    frames, chosen = np.unique(numbers[order], return_index=True)
    notes = [SEVERAL] if len(chosen) < len(order) else []
    person = people[order[chosen]]
    return walk_of_frames(name, walk, frames, person[:, :, :2], person[:, :, 2], notes)


def walk_of_frames(
    name: str, walk: Walk, frames: np.ndarray, joints: np.ndarray, confidence: np.ndarray, notes: Sequence[str] = ()
) -> Reading:
    """The walk of one person, from their first frame on; gaps and confidences above 1 are noted beside ``notes``.

    Shapes:
        frames: (F,) rising; joints: (F, V, C); confidence: (F, V)
    """
    clipped = [CLIPPED] if (confidence > 1).any() else []
    gaps = [GAPS] if frames[-1] - frames[0] >= len(frames) else []
    track = Track(frames - frames[0], joints, confidence.clip(max=1.0))
    return Reading(walk.recording(name, track), (*clipped, *notes, *gaps))


def frame_number(file: str, suffix: str) -> int:
    """The number at the end of a frame file's name; ValueError where there is none."""
    found = _NUMBER.search(file.removesuffix(suffix))
    if found is None:
        raise ValueError(f"{file}: got a name without a frame number, expected one before {suffix}")
    return int(found[1])


def crop_lines(name: str, files: Mapping[str, bytes], suffix: str, joints: int) -> tuple[np.ndarray, np.ndarray]:
    """Gait3D's and GREW's frames: crop width, crop height, then x, y, confidence of V joints, a line for each person.

    The crop's size, which tells the camera rather than the walker, is not kept.

    Shapes:
        returns: (R,) frame numbers, (R, V, 3) people
    """
    numbers, people = [], []
    for file, content in files.items():
        number = frame_number(file, suffix)
        for line in content.decode("ascii", "replace").splitlines():
            values = _floats(line, f"{name}/{file}")
            if len(values) != 2 + 3 * joints:
                raise ValueError(f"{name}/{file}: got {len(values)} values, expected {2 + 3 * joints}")
            numbers.append(number)
            people.append(values[2:])
    return np.array(numbers, dtype=np.int64), np.array(people, dtype=np.float32).reshape(-1, joints, 3)


def openpose_frames(name: str, files: Mapping[str, bytes], joints: int) -> tuple[np.ndarray, np.ndarray]:
    """OpenPose's JSON files: ``people``, each with ``pose_keypoints_2d`` of V joints; as `crop_lines` returns."""
    numbers, people = [], []
    for file, content in files.items():
        number = frame_number(file, ".json")
        try:
            seen = [person["pose_keypoints_2d"] for person in json.loads(content)["people"]]
            numbers += [number] * len(seen)
            people += [np.array(values, dtype=np.float32) for values in seen]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{name}/{file}: got {error!r}, expected OpenPose's people") from error
        if wrong := {person.shape for person in people} - {(3 * joints,)}:
            raise ValueError(f"{name}/{file}: got keypoints of shape {wrong.pop()}, expected {3 * joints} numbers")
    return np.array(numbers, dtype=np.int64), np.array(people, dtype=np.float32).reshape(-1, joints, 3)


def pickled_frames(name: str, content: bytes, joints: int) -> tuple[np.ndarray, np.ndarray]:
    """An OpenGait or FastPoseGait pickle, one array (T, V, 3), read as data; as `crop_lines` returns."""
    array = read_plain_pickle(BytesIO(content), name)
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[1:] != (joints, 3):
        shape = getattr(array, "shape", type(array).__name__)
        raise ValueError(f"{name}: got {shape}, expected an array of shape (frames, {joints}, 3)")
    return np.arange(len(array)), array.astype(np.float32)


def _floats(line: str, where: str) -> list[float]:
    try:
        return [float(cell) for cell in line.split(",")]
    except ValueError:
        raise ValueError(f"{where}: got {line[:40]!r}, expected numbers between commas") from None


def _first(numbers: np.ndarray, is_wrong: np.ndarray) -> int:
    """The first frame with something wrong in it."""
    return int(numbers[is_wrong.reshape(len(numbers), -1).any(axis=1)].min())
