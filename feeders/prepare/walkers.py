"""Read walks of one's own, docs/own_walkers.md: CSV files named by folders, and any OpenGait tree of pickles.

``<identity>/[<camera>/[<condition>/]]<walk>.csv`` has a header ``frame,left_hip_x,left_hip_y[,left_hip_z]
[,left_hip_conf],…`` in any order of columns; ``<identity>/<condition>/<camera>/*.pkl`` is OpenGait's id, type and view.

In the store: label and subject are the place of the identity among all, sorted; camera and setup (the condition) are
the places of their names among all, sorted; replication is the last number in the file's name, of a pickle in its type.
"""

import re
from collections.abc import Iterator, Sequence
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
from feeders.skeleton import COCO17, OPENPOSE18, SKELETONS, Skeleton

_CELL = re.compile(r"(\w+)_(x|y|z|conf)")
# Numbers of walks that 64 bits hold; frames that float64 tells apart.
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$", re.ASCII)
_FRAMES = 1 << 53
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


def complete(source: RawSource, places: Sequence[Path], items: Sequence[RawItem]) -> RawSource:
    """The source with the identities, cameras, conditions and skeleton that are there."""
    named = [fields for fields in (fields_of(item.name) for item in items) if fields[0]]
    identities, cameras, conditions = (tuple(sorted({fields[column] for fields in named})) for column in range(3))
    skeleton, units = _first_skeleton(items, source.dataset.skeleton)
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
    numbers, joints, weight = _table(skeleton, name, content)
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


def _table(skeleton: Skeleton, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R,) frame numbers, (R, V, C) joints, (R, V) confidence; a joint without columns, or left empty, is missing."""
    header, *lines = content.decode("utf-8-sig", "replace").splitlines() or [""]
    columns = [column.strip() for column in header.split(",")]
    unknown = [column for column in columns[1:] if not _is_of(column, skeleton)]
    if columns[0] != "frame" or unknown or len(set(columns)) < len(columns):
        raise ValueError(f"{name}: got columns {unknown or columns[:3]}, expected frame and joints of {skeleton.name}")
    try:
        rows = [[float(cell or "nan") for cell in line.split(",")] for line in lines if line.strip()]
        if wrong := {len(row) for row in rows} - {len(columns)}:
            raise ValueError(f"a row of {wrong.pop()} cells")
        table = np.array(rows, dtype=np.float64).reshape(-1, len(columns))
        if not (np.abs(table[:, 0]) < _FRAMES).all() or (table[:, 0] % 1).any():
            raise ValueError("no whole frame number")
        numbers = table[:, 0].astype(np.int64)
    except ValueError as error:
        raise ValueError(f"{name}: got a row that is not {len(columns)} numbers ({error})") from error
    at = {column: table[:, place] for place, column in enumerate(columns)}
    none = np.full(len(table), np.nan)
    joints = np.stack(
        [
            np.stack([at.get(f"{joint}_{axis}", none) for axis in "xyz"[: skeleton.coordinates]], axis=1)
            for joint in skeleton.joints
        ],
        axis=1,
    )
    weight = np.stack([at.get(f"{joint}_conf", np.ones(len(table))) for joint in skeleton.joints], axis=1)
    weight = np.where(np.isnan(joints).any(axis=2), 0.0, np.nan_to_num(weight))
    if (weight < 0).any():
        raise ValueError(f"{name}: got a confidence below 0, expected 0 to 1")
    return numbers, np.nan_to_num(joints, nan=0.0).astype(np.float32), weight.astype(np.float32)


def _is_of(column: str, skeleton: Skeleton) -> bool:
    cell = _CELL.fullmatch(column)
    axes = "xyz"[: skeleton.coordinates]
    return cell is not None and cell[1] in skeleton.joints and (cell[2] == "conf" or cell[2] in axes)


def _first_skeleton(items: Sequence[RawItem], likely: Skeleton) -> tuple[Skeleton, str]:
    """The skeleton that the first readable file shows, the likely one where it may be, and the units that follow."""
    for item in items:
        try:
            content = item.content()
        except ValueError:
            continue  # Reading it says what is wrong with it.
        if item.name.startswith(_PICKLED):
            for skeleton in (COCO17, OPENPOSE18):
                try:
                    pickled_frames(item.name, content, len(skeleton.joints))
                except ValueError:
                    continue
                return skeleton, "pixels"
            continue
        columns = content.split(b"\n", 1)[0].decode("utf-8", "replace").split(",")[1:]
        skeletons = (likely, *SKELETONS.values())
        fitting = [s for s in skeletons if columns and all(_is_of(c.strip(), s) for c in columns)]
        # A flat skeleton never fits columns with z; a spatial one fits columns without.
        flat = not any(column.strip().endswith("_z") for column in columns)
        for skeleton in fitting:
            if (skeleton.coordinates == 2) == flat:
                return skeleton, "pixels" if flat else "metres"
    raise ValueError(f"walkers: got no file whose columns are joints of one of {sorted(SKELETONS)}, expected {_LAYOUT}")


SOURCE = RawSource(
    dataset=DataSet("walkers", COCO17, (), MappingProxyType({}), root="walkers", bodies=1),
    suffix=".csv",
    read=partial(read, COCO17, ((), (), ())),
    scan=scan,
    complete=complete,
    layout=_LAYOUT,
)
