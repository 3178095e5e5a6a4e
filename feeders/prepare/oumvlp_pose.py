"""Read OUMVLP-Pose: ``<id>/<view>_<seq>/NNNN_keypoints.json`` as OpenPose writes them, or OpenGait's pickles.

Names follow OpenGait: ``00001/00/090`` is person, sequence, view.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from feeders.oumvlp_pose import OUMVLP_POSE, PEOPLE, VIEWS
from feeders.prepare.detections import Walk, openpose_frames
from feeders.prepare.gait_trees import read_tree, scan_tree
from feeders.prepare.source import RawSource

_NAME = re.compile(r"(\d{5})/(\d\d)/(\d{3})", re.ASCII)
_FOLDER = re.compile(r"(\d{3})_(\d\d)", re.ASCII)
_JOINTS = len(OUMVLP_POSE.skeleton.joints)


def walk_of(name: str) -> Walk:
    """The columns of a walk."""
    fields = _NAME.fullmatch(name)
    if fields is None or not 1 <= int(fields[1]) <= PEOPLE or int(fields[2]) > 1 or int(fields[3]) not in VIEWS:
        raise ValueError(f"{name}: got an unknown name, expected NNNNN/00/VVV, or 01, with a view of {VIEWS}")
    person, sequence, view = map(int, fields.groups())
    return Walk(person - 1, person, view, setup=0, replication=sequence)


def _frames(name: str, files: Mapping[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    return openpose_frames(name, files, _JOINTS)


def _folder_name(path: PurePosixPath) -> str | None:
    fields = _FOLDER.fullmatch(path.name)
    return None if fields is None else f"{path.parent.name}/{fields[2]}/{fields[1]}"


SOURCE = RawSource(
    dataset=OUMVLP_POSE,
    suffix=".json",
    read=partial(read_tree, walk_of, _frames, _JOINTS),
    scan=partial(scan_tree, ".json", _folder_name),
    layout="a folder of <id>/<view>_<seq>/NNNN_keypoints.json files, or of OpenGait's pickles with 18 joints; "
    "request them at http://www.am.sanken.osaka-u.ac.jp/BiometricDB/GaitLPPose.html",
)
