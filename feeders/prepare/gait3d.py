"""Read Gait3D's 2D poses: ``<id>/camidC_videoidV/seqS/human_crop_fN.txt``, or their OpenGait pickles, and Gait3D.json.

A frame file is one line of 53 values: crop width and height, then x, y, confidence of COCO's joints in crop pixels.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from feeders.gait3d import GAIT3D, GALLERY, PEOPLE, PROBE, TRAIN
from feeders.prepare.detections import Walk, crop_lines
from feeders.prepare.gait_trees import last_three, read_tree, scan_tree
from feeders.prepare.source import RawItem, RawSource

_NAME = re.compile(r"(\d{4})/camid(\d+)_videoid(\d+)/seq(\d+)", re.ASCII)
_JOINTS = len(GAIT3D.skeleton.joints)
_SUFFIX = ".txt"


def walk_of(partition: Mapping[str, int], name: str) -> Walk:
    """The columns of a walk; ``partition`` maps a person to `TRAIN` or `GALLERY`, and a probe's name to `PROBE`."""
    fields = _NAME.fullmatch(name)
    if fields is None or int(fields[1]) >= PEOPLE:
        raise ValueError(f"{name}: got an unknown name, expected NNNN/camidC_videoidV/seqS below {PEOPLE}")
    if fields[1] not in partition:
        raise ValueError(f"{name}: got a person that is on neither side of Gait3D.json")
    person, camera, video, sequence = map(int, fields.groups())
    role = partition.get(name, partition[fields[1]])
    return Walk(person, person, camera, setup=role, replication=1000 * video + sequence)


def _frames(name: str, files: Mapping[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    return crop_lines(name, files, _SUFFIX, _JOINTS)


def _folder_name(path: PurePosixPath) -> str | None:
    return last_three(path) if path.name.startswith("seq") else None


def complete(source: RawSource, places: Sequence[Path], items: Sequence[RawItem]) -> RawSource:
    """The source with the official partition, which lies in the raw folder, or beside it; ValueError without it."""
    found = [folder / "Gait3D.json" for place in places for folder in (place, place.resolve().parent)]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise ValueError(
            f"{places[0]}: got no Gait3D.json in it or beside it, expected the official partition, "
            "datasets/Gait3D/Gait3D.json of OpenGait; without it nobody knows which people are to be tested on"
        )
    partition = load_partition(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    read = partial(read_tree, partial(walk_of, partition), _frames, _JOINTS)
    probes = frozenset(name for name, role in partition.items() if role == PROBE)
    return replace(source, read=read, cleaning=f"{source.cleaning}, Gait3D.json {digest}", probes=probes)


def load_partition(path: Path) -> dict[str, int]:
    """The official sides, as `walk_of` takes them; ValueError where the file is of another form."""
    try:
        sides = json.loads(path.read_text(encoding="utf-8"))
        people = dict.fromkeys(sides["TRAIN_SET"], TRAIN) | dict.fromkeys(sides["TEST_SET"], GALLERY)
        both = set(sides["TRAIN_SET"]) & set(sides["TEST_SET"])
        probes = {"/".join(name.split("-")): PROBE for name in sides["PROBE_SET"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: got {error!r}, expected lists TRAIN_SET, TEST_SET and PROBE_SET") from error
    strangers = sorted(name for name in probes if people.get(name.split("/")[0]) != GALLERY)
    if both or strangers:
        raise ValueError(f"{path}: got {sorted(both) or strangers} on both sides or of no test person")
    return people | probes


SOURCE = RawSource(
    dataset=GAIT3D,
    suffix=_SUFFIX,
    read=partial(read_tree, partial(walk_of, {}), _frames, _JOINTS),
    scan=partial(scan_tree, _SUFFIX, _folder_name),
    complete=complete,
    layout="a folder of <id>/camidC_videoidV/seqS/human_crop_fN.txt files (`2D_Poses`) or of OpenGait's pickles, with "
    "Gait3D.json in it or beside it; request them at https://gait3d.github.io",
)
