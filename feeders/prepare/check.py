"""What a store holds, and whether it is whole: for people who bring their own data, or copied somebody's."""

from collections.abc import Iterator

import numpy as np

from feeders.dataset import DataSet, split_index
from feeders.prepare import DATASETS, raw_source
from feeders.prepare.source import RawSource
from feeders.store import Store

_ROWS = 1 << 16


def describe(store: Store) -> list[str]:
    """The header and the counts of a store, as lines for people."""
    header, index = store.header, store.index
    source = _source(store)
    rate = hours = ""
    if source is None or source.has_frame_rate:
        rate = f", {header.frame_rate:g} frames a second"
        hours = f" ({index.frames.sum() / header.frame_rate / 3600:.2f} h)"
    size = sum(facts["bytes"] for facts in header.files.values())
    bodies = ", ".join(f"{count} with {number}" for number, count in _counts(index.bodies))
    lines = [
        f"{store.folder}: {len(index)} clips of {header.dataset}, format {header.version}, {size / 1e6:.1f} MB",
        f"skeleton {header.skeleton_name}, {header.units}{rate}"
        + (f"; cleaning: {header.cleaning}" if header.cleaning else ""),
        f"frames: {index.frames.sum()}{hours}, "
        f"of a clip {index.frames.min()} to {index.frames.max()}, median {np.median(index.frames):g}",
        f"bodies: {index.segments[:, 2].sum()} body-frames; clips: {bodies}",
    ]
    for name in ("subject", "camera", "setup", "replication"):
        counts = [(value, count) for value, count in _counts(getattr(index, name)) if value >= 0]
        if counts:
            lines.append(f"{name} (clips): " + ", ".join(f"{value} ({count})" for value, count in counts))
    of_class = np.bincount(index.label[index.label >= 0], minlength=len(header.class_names))
    lines += [f"class {label} {name!r}: {of_class[label]}" for label, name in enumerate(header.class_names)]
    return [*lines, *empty_clips(store), *served_protocols(store)]


def empty_clips(store: Store) -> list[str]:
    """A line each for clips that show nothing: no joint of any weight, or every position zero."""
    poses, weights = store.arrays()
    index, lines = store.index, list[str]()
    rows = np.add.reduceat(index.segments[:, 2], np.concatenate([[0], index.segment_end[:-1]]))
    first_row = np.cumsum(rows) - rows
    for array, what in ((weights, "in which no joint is ever seen"), (poses, "of which every position is zero")):
        if array is None:
            continue
        shows = np.concatenate(
            [
                array[start : start + _ROWS].reshape(-1, array[0].size).any(axis=1)
                for start in range(0, len(array), _ROWS)
            ]
        )
        is_empty = ~np.logical_or.reduceat(shows, first_row)
        if is_empty.any():
            names = ", ".join(index.sample_id[is_empty][:3].tolist())
            lines.append(f"{is_empty.sum()} clips {what}, as {names}")
    return lines


def served_protocols(store: Store) -> list[str]:
    """Of a data set that is known here: how many clips each of its protocols finds in the store."""
    facts = _known(store)
    lines = []
    for name, protocol in facts.protocols.items() if facts else ():
        counts = {side: len(clips) for side, clips in split_index(store.index, protocol, ()).items()}
        empty = [side for side in ("train", "test") if not counts[side]]
        state = f"not served, no clip to {' and none to '.join(empty)}" if empty else "served"
        lines.append(f"protocol {name}: {state} ({counts['train']} to train, {counts['test']} to test)")
    return lines


def demand_whole(store: Store) -> None:
    """ValueError with a line for everything that is wrong with a store."""
    if faults := find_faults(store):
        raise ValueError("\nerror: ".join(faults))


def find_faults(store: Store) -> list[str]:
    """Everything that is wrong with a store, a line each; none for a whole one."""
    try:
        store.verify()
        # Which looks whether it agrees with itself.
        _ = store.index
        poses, weights = store.arrays()
    except (ValueError, OSError) as error:
        return [str(error)]
    faults = list(_header_faults(store))
    for name, array in (("poses.npy", poses), ("joint_weight.npy", weights)):
        if array is not None and (row := _first_not_finite(array)) is not None:
            faults.append(f"{name}: got NaN or infinite numbers, first in row {row}, expected finite ones")
    if weights is not None and len(weights) and not 0.0 <= weights.min() <= weights.max() <= 1.0:
        faults.append(f"joint_weight.npy: got {weights.min()} to {weights.max()}, expected 0 to 1")
    return faults


def _header_faults(store: Store) -> Iterator[str]:
    header, facts = store.header, _known(store)
    if len(set(header.class_names)) != len(header.class_names) or not all(header.class_names):
        yield f"class names: got {header.class_names}, expected names that differ and are not empty"
    if facts is not None and facts.class_names and facts.class_names != header.class_names:
        yield f"class names: got {len(header.class_names)}, expected the {len(facts.class_names)} of {facts.name}"
    try:
        _ = store.skeleton
    except ValueError as error:
        yield str(error)


def _first_not_finite(array: np.ndarray) -> int | None:
    for start in range(0, len(array), _ROWS):
        is_finite = np.isfinite(array[start : start + _ROWS]).reshape(len(array[start : start + _ROWS]), -1).all(axis=1)
        if not is_finite.all():
            return start + int(np.argmin(is_finite))
    return None


def _counts(values: np.ndarray) -> list[tuple[int, int]]:
    found, counts = np.unique(values, return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))


def _known(store: Store) -> DataSet | None:
    source = _source(store)
    return None if source is None else source.dataset


def _source(store: Store) -> RawSource | None:
    return raw_source(store.header.dataset) if store.header.dataset in DATASETS else None
