"""pyskl's 3D annotation pickles, ``ntu60_3danno.pkl`` and ``ntu120_3danno.pkl`` (Duan et al., ACM MM 2022).

``{split: name -> sample names, annotations: [{frame_dir, label, keypoint, total_frames}]}``, keypoint (M, T, 25, 3)
float16, metres in the camera frame, zeros where a body is absent. The file is read as data, never run, and whole into
memory.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from feeders.dataset import DataSet, canonical_split, split_index, store_writer
from feeders.exchange.report import ImportReport, SplitComparison, demand_one
from feeders.ntu import NTU60, NTU120, SAMPLE_NAME
from feeders.skeleton import NTU25
from feeders.store import Recording, Store, StoreIndex, Track
from torchlight.plain_pickle import load_plain_pickle

_ORIGIN = NTU25.joints.index("spine_middle")
_JOINTS = len(NTU25.joints)
_SPLIT = re.compile(r"(xsub|xview|xset)_(train|val|test)")


def import_pyskl(file: Path, out: Path) -> ImportReport:
    """A pyskl pickle as a store of NTU 60 or 120, in the file's order, under the true sample names.

    As our own preparation does, frames without any body are closed up and the mid-spine of the first body in its first
    frame becomes the origin. The file's split lists are compared with our protocols. A clip that cannot be kept (nobody
    in it, NaN, a name and a label that disagree) is left out and reported.

    Raises:
        ValueError: the file names code, is damaged, or is not of this layout; no store is written.
    """
    annotations, lists = _content(load_plain_pickle(file), file)
    facts = NTU120 if any(name.startswith("xset") for name in lists) else NTU60
    left_out: dict[str, str] = {}
    with store_writer(out, facts) as writer:
        for number, annotation in enumerate(annotations):
            try:
                writer.add(_recording(annotation, len(facts.class_names)))
            except ValueError as error:
                left_out[str(annotation.get("frame_dir", number))] = str(error)
        demand_one(file, len(annotations) - len(left_out), left_out)
    index = Store(out).index
    report = ImportReport(
        file=str(file),
        store=str(out),
        dataset=facts.name,
        clips=len(index),
        left_out=left_out,
        splits={name: _compare(index, facts, name, names) for name, names in lists.items()},
    )
    report.write()
    return report


def _content(content: Any, file: Path) -> tuple[list[dict[str, Any]], Mapping[str, list[str]]]:
    match content:
        case {"split": dict() as lists, "annotations": [dict(), *_] as annotations}:
            are_lists = all(isinstance(name, str) and isinstance(names, list) for name, names in lists.items())
            if are_lists and all(isinstance(annotation, dict) for annotation in annotations):
                return annotations, lists
    raise ValueError(f"{file}: got another pickle, expected pyskl's {{'split': ..., 'annotations': [...]}}")


def _recording(annotation: Mapping[str, Any], classes: int) -> Recording:
    name, label, keypoint = str(annotation.get("frame_dir")), annotation.get("label"), annotation.get("keypoint")
    fields = SAMPLE_NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name}: got an unknown name, expected SsssCcccPpppRrrrAaaa")
    setup, camera, subject, replication, action = map(int, fields.groups())
    if label != action - 1 or label >= classes:
        raise ValueError(f"{name}: got label {label!r}, expected {action - 1}, below {classes}")
    shape = getattr(keypoint, "shape", None)
    if not isinstance(keypoint, np.ndarray) or keypoint.ndim != 4 or keypoint.shape[2:] != (_JOINTS, 3):
        raise ValueError(f"{name}: got keypoint of shape {shape}, expected (bodies, frames, {_JOINTS}, 3)")
    tracks, frames = _tracks(keypoint.astype(np.float32))
    return Recording(name, action - 1, frames, tracks, subject, camera, setup, replication)


def _tracks(pose_MTVC: np.ndarray) -> tuple[tuple[Track, ...], int]:
    """The bodies that are there, from the first one's first mid-spine, and in how many frames anybody is."""
    present_MT = (pose_MTVC != 0).any(axis=(2, 3))
    seen = np.flatnonzero(present_MT.any(axis=0))
    at = [(body, np.flatnonzero(frames)) for body, frames in enumerate(present_MT) if frames.any()]
    if not at:
        return (), 0
    first_body, first_frames = at[0]
    origin = pose_MTVC[first_body, first_frames[0], _ORIGIN]
    tracks = tuple(Track(np.searchsorted(seen, frames), pose_MTVC[body, frames] - origin) for body, frames in at)
    return tracks, len(seen)


def _compare(index: StoreIndex, facts: DataSet, name: str, names: list[str]) -> SplitComparison:
    """A list of the file beside our protocol; a split that we have no protocol for is all theirs."""
    fields, ours = _SPLIT.fullmatch(name), set[str]()
    if fields is not None and (protocol := facts.protocols.get(canonical_split(fields[1]))) is not None:
        side = "train" if fields[2] == "train" else "test"
        ours = set(index.sample_id[split_index(index, protocol, ())[side]].tolist())
    theirs = set(map(str, names))
    return SplitComparison(len(theirs), len(ours), sorted(theirs - ours), sorted(ours - theirs))
