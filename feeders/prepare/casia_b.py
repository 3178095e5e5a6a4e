"""Read CASIA-B's poses: GaitGraph's CSV files, or OpenGait's and FastPoseGait's pickles ``<id>/nm-01/090/090.pkl``.

A row of a CSV is one frame: ``…/075-nm-01-090/00012.jpg``, then x, y, confidence of COCO's 17 joints. The files overlap
(``train_valid`` holds ``train`` and ``valid``); a walk that is there twice is read once.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from feeders.casia_b import CASIA_B, CONDITIONS, PEOPLE, VIEWS
from feeders.prepare.detections import Walk, frame_number, pickled_frames, read_detections
from feeders.prepare.gait_files import table_rows
from feeders.prepare.gait_trees import last_three
from feeders.prepare.raw_files import files_at
from feeders.prepare.source import RawItem, RawSource, Reading

_NAME = re.compile(r"(\d{3})/(nm|bg|cl)-(\d\d)/(\d{3})", re.ASCII)
_JOINTS = len(CASIA_B.skeleton.joints)
_PICKLE = b"\x80"


def walk_of(name: str) -> Walk:
    """The columns of a walk named ``075/nm-01/090``."""
    fields = _NAME.fullmatch(name)
    if fields is None or not 1 <= int(fields[1]) <= PEOPLE or int(fields[4]) not in VIEWS:
        raise ValueError(f"{name}: got an unknown name, expected NNN/nm-NN/VVV, bg or cl, with a view of {VIEWS}")
    person, view = int(fields[1]), int(fields[4])
    return Walk(person - 1, person, view, setup=CONDITIONS.index(fields[2]), replication=int(fields[3]))


def read(name: str, content: bytes) -> Reading:
    """One walk: its rows, or its pickle."""
    walk = walk_of(name)
    if content[:1] == _PICKLE:
        return read_detections(name, walk, *pickled_frames(name, content, _JOINTS))
    numbers, people = [], []
    for line in content.decode("utf-8", "replace").splitlines():
        image, *cells = line.split(",")
        try:
            values = np.array(cells, dtype=np.float32)
        except ValueError as error:
            raise ValueError(f"{name}: got a row {image} that is not numbers ({error})") from error
        if len(values) != 3 * _JOINTS:
            raise ValueError(f"{name}: got {len(values)} values in row {image}, expected {3 * _JOINTS}")
        numbers.append(frame_number(PurePosixPath(image).name, PurePosixPath(image).suffix))
        people.append(values)
    return read_detections(name, walk, np.array(numbers), np.array(people).reshape(-1, _JOINTS, 3))


def scan(place: Path) -> Iterator[RawItem]:
    """The walks of all CSV files, then pickles."""
    if place.is_dir() or place.suffix == ".csv":
        yield from table_rows(place, _belongs, _row_name)
    if place.suffix != ".csv":
        yield from files_at(place, ".pkl", lambda path: last_three(path.parent))


def _belongs(header: list[str]) -> bool:
    return header[0] == "image_name" and len(header) == 1 + 3 * _JOINTS


def _row_name(image: str) -> str:
    """``…/075-nm-01-090/00012.jpg`` -> ``075/nm-01/090``; what is not so is left as it is, and cannot be read."""
    folder = PurePosixPath(image).parent.name
    parts = folder.split("-")
    return f"{parts[0]}/{parts[1]}-{parts[2]}/{parts[3]}" if len(parts) == 4 else folder or image


SOURCE = RawSource(
    dataset=CASIA_B,
    suffix=".csv",
    read=read,
    scan=scan,
    layout="GaitGraph's casia-b_pose_*coco.csv files (github.com/tteepe/GaitGraph, release v0.1), or a tree of "
    "OpenGait's pickles",
)
