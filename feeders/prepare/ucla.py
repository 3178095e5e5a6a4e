"""Read NW-UCLA's ``all_sqe`` JSON files: ``aAA_sSS_eEE_vVV.json`` with (T, 20, 3) joints in camera metres."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import numpy as np

from feeders.prepare.source import RawSource, Reading
from feeders.store import Recording, Track
from feeders.ucla import ACTIONS, UCLA

_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
_JOINTS = len(UCLA.skeleton.joints)


def belongs(name: str) -> bool:
    """Whether a file's name is that of a clip, be its numbers right or wrong."""
    return fnmatch(name, "a*_s*_e*_v*")


def read(name: str, content: bytes) -> Reading:
    """One clip; ValueError where it is truncated, empty, not finite, of another skeleton or of another name."""
    fields = _NAME.fullmatch(name)
    if fields is None or int(fields[1]) not in ACTIONS:
        raise ValueError(f"{name}: got an unknown name, expected aAA_sSS_eEE_vVV with an action of {ACTIONS}")
    action, subject, replication, camera = map(int, fields.groups())
    label = ACTIONS.index(action)
    clip = _content(name, content)
    if clip.get("file_name", name) != name or clip.get("label", label + 1) != label + 1:
        raise ValueError(
            f"{name}: got file_name {clip.get('file_name')!r} and label {clip.get('label')!r} inside, "
            f"expected {name!r} and {label + 1}"
        )
    recording = _recording(name, clip)
    return Reading(replace(recording, label=label, subject=subject, camera=camera, replication=replication))


def unlabelled(name: str, content: bytes) -> Reading:
    """The clip of a file of any name, whatever ``file_name`` and ``label`` are inside."""
    return Reading(_recording(name, _content(name, content)))


def _content(name: str, content: bytes) -> dict[str, Any]:
    try:
        clip = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: got truncated or broken JSON ({error}), expected a whole file") from error
    if not isinstance(clip, dict) or not isinstance(clip.get("skeletons"), list):
        raise ValueError(f"{name}: got no `skeletons` list, expected keys file_name, skeletons, label")
    return clip


def _recording(name: str, clip: Mapping[str, Any]) -> Recording:
    joints = _joints(clip["skeletons"], name)
    return Recording(name, 0, len(joints), (Track(np.arange(len(joints)), joints),))


def _joints(skeletons: list[object], name: str) -> np.ndarray:
    if not skeletons:
        raise ValueError(f"{name}: got an empty clip, expected at least one frame")
    counts = sorted({len(frame) if isinstance(frame, list) else 0 for frame in skeletons})
    if counts != [_JOINTS]:
        raise ValueError(f"{name}: got frames of {counts} joints, expected {_JOINTS} in each")
    try:
        joints = np.array(skeletons, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name}: got coordinates that are not three numbers a joint ({error})") from error
    if joints.shape[1:] != (_JOINTS, 3):
        raise ValueError(f"{name}: got joints of shape {joints.shape}, expected (frames, {_JOINTS}, 3)")
    if not np.isfinite(joints).all():
        frame = int(np.flatnonzero(~np.isfinite(joints).all(axis=(1, 2)))[0])
        raise ValueError(f"{name}: got NaN coordinates in frame {frame}, expected finite numbers")
    return joints


SOURCE = RawSource(
    dataset=UCLA,
    suffix=".json",
    read=read,
    unlabelled=unlabelled,
    belongs=belongs,
    skip_broken=False,
    layout="a folder of aAA_sSS_eEE_vVV.json files (`all_sqe`, 1,484 of them); "
    "the skeleton JSON files that CTR-GCN's README links, from the Northwestern-UCLA Multiview Action 3D set",
)
