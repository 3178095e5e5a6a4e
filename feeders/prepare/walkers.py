"""Read walks of one's own, docs/own_walkers.md: CSV files named by folders, and any OpenGait tree of pickles.

``<identity>/[<camera>/[<condition>/]]<walk>.csv`` has a header ``frame,left_hip_x,left_hip_y[,left_hip_z]
[,left_hip_conf],…`` in any order of columns; ``<identity>/<condition>/<camera>/*.pkl`` is OpenGait's id, type and view.

In the store: label and subject are the place of the identity among all, sorted; camera and setup (the condition) are
the places of their names among all, sorted; replication is the last number in the file's name, of a pickle in its type.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from feeders.dataset import DataSet
from feeders.prepare.detections import Walk, pickled_frames, read_detections, walk_of_frames
from feeders.prepare.gait_trees import last_three
from feeders.prepare.raw_files import files_at
from feeders.prepare.source import NobodySeenError, RawItem, RawSource, Reading
from feeders.prepare.walk_table import read_table, smallest_skeleton
from feeders.skeleton import COCO17, OPENPOSE18, Skeleton

logger = logging.getLogger(__name__)

# Numbers of walks that 64 bits hold.
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$", re.ASCII)
_PICKLED = "pkl:"
_LAYOUT = (
    "<identity>/[<camera>/[<condition>/]]<walk>.csv files with columns frame, <joint>_x, <joint>_y[, <joint>_z]"
    "[, <joint>_conf], or <identity>/<condition>/<camera>/*.pkl arrays (frames, 17 or 18, 3); see docs/own_walkers.md"
)


def scan(place: Path) -> Iterator[RawItem]:
    """All CSV files, then all pickles."""
    yield from files_at(place, ".csv", lambda path: path.with_suffix("").as_posix())
    yield from files_at(place, ".pkl", lambda path: _PICKLED + last_three(path.parent))


def fields_of(name: str) -> tuple[str, str, str, str]:
    """Identity, camera, condition and walk of a name; "" for what it does not say."""
    parts = name.removeprefix(_PICKLED).split("/")
    if name.startswith(_PICKLED) and len(parts) == 3:
        identity, condition, camera = parts
        return identity, camera, condition, condition
    if name.startswith(_PICKLED) or not 2 <= len(parts) <= 4:
        return "", "", "", ""
    identity, *between, walk = parts
    camera, condition = [*between, "", ""][:2]
    return identity, camera, condition, walk


def of_skeleton(skeleton: Skeleton) -> RawSource:
    """The source of walks whose joints are said to be those of a skeleton, rather than told by their columns."""
    facts = replace(SOURCE.dataset, skeleton=skeleton)
    whole = partial(complete, skeleton=skeleton)
    return replace(SOURCE, dataset=facts, complete=whole, cleaning=f"joints of {skeleton.name}")


def complete(
    source: RawSource, places: Sequence[Path], items: Sequence[RawItem], skeleton: Skeleton | None = None
) -> RawSource:
    """The source with the identities, cameras and conditions that are there, and the skeleton where none is said."""
    named = [fields for fields in (fields_of(item.name) for item in items) if fields[0]]
    identities, cameras, conditions = (tuple(sorted({fields[column] for fields in named})) for column in range(3))
    skeleton = skeleton or _shown_skeleton(items)
    units = "pixels" if skeleton.coordinates == 2 else "metres"
    facts = replace(source.dataset, class_names=identities, skeleton=skeleton, units=units)
    return replace(source, dataset=facts, read=partial(read, skeleton, (identities, cameras, conditions)))


def read(skeleton: Skeleton, known: Sequence[Sequence[str]], name: str, content: bytes) -> Reading:
    """One walk; ``known`` has the sorted names of identities, cameras and conditions."""
    fields = fields_of(name)
    if not fields[0]:
        raise ValueError(f"{name}: got a path that says no identity, expected {_LAYOUT}")
    label, camera, condition = (names.index(field) for names, field in zip(known, fields[:3], strict=True))
    digits = _LAST_NUMBER.search(fields[3])
    walk = Walk(label, label, camera, setup=condition, replication=int(digits[1]) if digits else -1)
    if name.startswith(_PICKLED):
        return read_detections(name.removeprefix(_PICKLED), walk, *pickled_frames(name, content, len(skeleton.joints)))
    return read_csv(skeleton, walk, name, content)


def read_csv(skeleton: Skeleton, walk: Walk, name: str, content: bytes) -> Reading:
    """One person in the frames of a CSV file, whatever its path says."""
    numbers, joints, weight = read_table(skeleton, name, content)
    if skeleton.coordinates == 2:
        return read_detections(name, walk, numbers, np.concatenate([joints, weight[..., None]], axis=2))
    return _in_space(name, walk, numbers, joints, weight)


def _in_space(name: str, walk: Walk, numbers: np.ndarray, joints: np.ndarray, weight: np.ndarray) -> Reading:
    """The walker in 3D, where there is one person in every frame."""
    order = np.argsort(numbers, kind="stable")
    order = order[weight[order].max(axis=1) > 0]
    if not len(order):
        raise NobodySeenError(f"{name}: no joint is seen in any frame")
    frames = numbers[order]
    if (frames[1:] == frames[:-1]).any():
        raise ValueError(f"{name}: got a frame twice, expected one person in each; keep the walker alone")
    return walk_of_frames(name, walk, frames, joints[order], weight[order])


def _shown_skeleton(items: Sequence[RawItem]) -> Skeleton:
    """The smallest skeleton that the first file of any shows; ValueError with the first fault where none does."""
    faults = []
    for item in items:
        try:
            content = item.content()
            skeleton = (_pickled if item.name.startswith(_PICKLED) else smallest_skeleton)(str(item), content)
        except ValueError as error:
            faults.append(str(error))
            continue
        logger.info("%s: joints of %s", item, skeleton.name)
        return skeleton
    raise ValueError(f"{faults[0]}; see docs/own_walkers.md")


def _pickled(name: str, content: bytes) -> Skeleton:
    """The skeleton that an array is of."""
    with suppress(ValueError):
        pickled_frames(name, content, len(COCO17.joints))
        return COCO17
    pickled_frames(name, content, len(OPENPOSE18.joints))
    return OPENPOSE18


SOURCE = RawSource(
    dataset=DataSet("walkers", COCO17, (), MappingProxyType({}), root="walkers", bodies=1),
    suffix=".csv",
    read=partial(read, COCO17, ((), (), ())),
    scan=scan,
    complete=complete,
    layout=_LAYOUT,
    has_frame_rate=False,
)
