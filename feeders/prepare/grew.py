"""Read GREW's 2D poses, ``*_2d_pose.txt`` of 53 values as Gait3D's, as published or as OpenGait rearranges them.

Published: ``train/<id>/<walk>/``, ``test/gallery/<id>/<walk>/``, ``test/probe/<walk>/``. Rearranged, and as pickles:
``<id>train/00/<walk>``, ``<id>/01/<walk>`` and ``02``, ``probe/03/<walk>``, which are our names. A published gallery
does not say which of its walks is 01; here the first by name is (OpenGait: the first that the file system tells).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from feeders.grew import GALLERY, GREW, PROBE, PROBE_LABEL, TEST_PEOPLE, TRAIN, TRAIN_PEOPLE
from feeders.prepare.detections import Walk, crop_lines
from feeders.prepare.gait_files import FrameFolder
from feeders.prepare.gait_trees import last_three, read_tree, scan_tree
from feeders.prepare.raw_files import RawFile
from feeders.prepare.source import RawItem, RawSource

_NAME = re.compile(r"(?:(\d{5})(train)?|probe)/(\d\d)/[^/]+", re.ASCII)
_UNNUMBERED = "gallery"
_JOINTS = len(GREW.skeleton.joints)
_SUFFIX = "_2d_pose.txt"


def walk_of(name: str) -> Walk:
    """The columns of a walk."""
    fields = _NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name}: got an unknown name, expected NNNNNtrain/00/WALK, NNNNN/01/WALK or probe/03/WALK")
    if fields[1] is None:
        return Walk(PROBE_LABEL, subject=0, setup=PROBE, replication=int(fields[3]))
    person, last = int(fields[1]), TRAIN_PEOPLE if fields[2] else TEST_PEOPLE
    if not 1 <= person <= last:
        raise ValueError(f"{name}: got person {person}, expected 1 to {last}")
    subject = person if fields[2] else TRAIN_PEOPLE + person
    return Walk(subject - 1, subject, setup=TRAIN if fields[2] else GALLERY, replication=int(fields[3]))


def scan(place: Path) -> Iterator[RawItem]:
    """All walks; the walks of a published gallery get their numbers here, in the order of their names."""
    count: dict[str, int] = {}
    for item in scan_tree(_SUFFIX, _folder_name, place):
        person, kind, walk = item.name.split("/") if item.name.count("/") == 2 else ("", "", "")
        if kind == _UNNUMBERED and isinstance(item, FrameFolder):
            count[person] = count.get(person, 0) + 1
            yield replace(item, name=f"{person}/{count[person]:02d}/{walk}")
        elif kind == "probe" and isinstance(item, RawFile):
            yield replace(item, name=f"probe/03/{walk}")
        else:
            yield item


def _frames(name: str, files: Mapping[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    return crop_lines(name, files, _SUFFIX, _JOINTS)


def _folder_name(path: PurePosixPath) -> str | None:
    walk, above, before = path.name, path.parent.name, path.parent.parent.name
    if above == "probe":
        return f"probe/03/{walk}"
    if before == "gallery":
        return f"{above}/{_UNNUMBERED}/{walk}"
    return f"{above}train/00/{walk}" if before == "train" else last_three(path)


SOURCE = RawSource(
    dataset=GREW,
    suffix=_SUFFIX,
    read=partial(read_tree, walk_of, _frames, _JOINTS),
    scan=scan,
    layout="the extracted folders train and test of GREW, with *_2d_pose.txt files, or a tree of OpenGait's pickles; "
    "request them at https://www.grew-benchmark.org",
)
