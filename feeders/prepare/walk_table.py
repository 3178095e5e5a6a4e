"""A walk as a CSV table: a header ``frame,left_hip_x,left_hip_y[,left_hip_z][,left_hip_conf],…``, and rows.

What is wrong is said of the column, or of the line, so that whoever wrote the file finds it.
"""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from feeders.skeleton import SKELETONS, Skeleton

# Frames that float64 tells apart.
_FRAMES = 1 << 53


def read_table(skeleton: Skeleton, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R,) frame numbers, (R, V, C) joints, (R, V) confidence; a joint without columns, or left empty, is missing.

    Raises:
        ValueError: the columns are not the skeleton's, a row is not as many numbers, or a confidence is below 0.
    """
    columns, lines = _lines(content)
    if fault := _fault(columns, [skeleton]):
        raise ValueError(f"{name}: got {fault}")
    table = _numbers(name, lines, len(columns))
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
    return table[:, 0].astype(np.int64), np.nan_to_num(joints, nan=0.0).astype(np.float32), weight.astype(np.float32)


def smallest_skeleton(name: str, content: bytes) -> Skeleton:
    """The skeleton with the fewest joints beyond those that have columns; ValueError where none has all of them."""
    columns = _lines(content)[0]
    # A flat skeleton has no column with z, and one in space needs them.
    coordinates = 3 if any(column.endswith("_z") for column in columns) else 2
    alike = [each for each in SKELETONS.values() if each.coordinates == coordinates]
    known = [len(set(columns).intersection(_columns_of(each))) for each in alike]
    likely = [each for each, count in zip(alike, known, strict=True) if count == max(known)]
    smallest = min(likely, key=lambda each: len(each.joints))
    if fault := _fault(columns, [smallest] if max(known) else alike):
        raise ValueError(f"{name}: got {fault}")
    return smallest


def _lines(content: bytes) -> tuple[list[str], list[str]]:
    """The columns that the header names, and the other lines."""
    header, *lines = content.decode("utf-8-sig", "replace").splitlines() or [""]
    return [column.strip() for column in header.split(",")], lines


def _numbers(name: str, lines: Sequence[str], columns: int) -> np.ndarray:
    """(R, columns) float64 of the lines below a header, NaN where a cell is empty; the first column is whole."""
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = [float(cell or "nan") for cell in line.split(",")]
        except ValueError as error:
            raise ValueError(f"{where}: got a cell that is no number ({error}), expected {columns} numbers") from None
        if len(row) != columns:
            raise ValueError(f"{where}: got {len(row)} cells, expected {columns} numbers")
        if not abs(row[0]) < _FRAMES or row[0] % 1:
            raise ValueError(f"{where}: got frame {row[0]:g}, expected a whole number")
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def _fault(columns: Sequence[str], skeletons: Sequence[Skeleton]) -> str:
    """What is wrong with a header, and what was expected of one of these skeletons; empty where nothing is."""
    if len(columns) == 1:
        shown = columns[0] if len(columns[0]) <= 40 else f"{columns[0][:40]}..."
        return f"one column {shown!r}, expected frame and joints with commas between"
    if columns[0] != "frame":
        return f"{columns[0]!r} for the first column, expected frame"
    if twice := [column for column in columns if columns.count(column) > 1]:
        return f"column {twice[0]!r} {columns.count(twice[0])} times, expected each once"
    known = [column for skeleton in skeletons for column in _columns_of(skeleton)]
    unknown = [column for column in columns[1:] if column not in known]
    if not unknown:
        return ""
    near = get_close_matches(unknown[0], known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    axes = ", ".join(f"_{axis}" for axis in "xyz"[: skeletons[0].coordinates])
    names = " or ".join(skeleton.name for skeleton in skeletons)
    return f"column {unknown[0]!r}{hint}{more}, expected {axes} or _conf of a joint of {names}"


def _columns_of(skeleton: Skeleton) -> list[str]:
    return [f"{joint}_{kind}" for joint in skeleton.joints for kind in (*"xyz"[: skeleton.coordinates], "conf")]
