"""Read KinectGait: ``PersonNNN/K.txt``, lines ``Joint;x;y;z`` in metres, 20 a frame, put into KINECT20's order."""

import re
from pathlib import PurePosixPath

import numpy as np

from feeders.kinect_gait import KINECT_GAIT, PEOPLE
from feeders.prepare.detections import Walk
from feeders.prepare.source import RawSource, Reading
from feeders.store import Track

# The file's order of joints, and our names of them.
_JOINTS = {
    "Head": "head",
    "Shoulder-Center": "shoulder_centre",
    "Shoulder-Right": "right_shoulder",
    "Shoulder-Left": "left_shoulder",
    "Elbow-Right": "right_elbow",
    "Elbow-Left": "left_elbow",
    "Wrist-Right": "right_wrist",
    "Wrist-Left": "left_wrist",
    "Hand-Right": "right_hand",
    "Hand-Left": "left_hand",
    "Spine": "spine",
    "Hip-centro": "hip_centre",
    "Hip-Right": "right_hip",
    "Hip-Left": "left_hip",
    "Knee-Right": "right_knee",
    "Knee-Left": "left_knee",
    "Ankle-Right": "right_ankle",
    "Ankle-Left": "left_ankle",
    "Foot-Right": "right_foot",
    "Foot-Left": "left_foot",
}
_ORDER = [list(_JOINTS.values()).index(joint) for joint in KINECT_GAIT.skeleton.joints]
_NAME = re.compile(r"Person(\d{3})/(\d{1,2})", re.ASCII)


def read(name: str, content: bytes) -> Reading:
    """One walk; ValueError where a line, the order of joints or the name is not the data set's."""
    fields = _NAME.fullmatch(name)
    if fields is None or not 1 <= int(fields[1]) <= PEOPLE:
        raise ValueError(f"{name}: got an unknown name, expected PersonNNN/K with NNN from 001 to {PEOPLE}")
    person, walk = map(int, fields.groups())
    cells = [line.split(";") for line in content.decode("utf-8", "replace").split()]
    if not cells or len(cells) % len(_JOINTS):
        raise ValueError(f"{name}: got {len(cells)} lines, expected {len(_JOINTS)} joints in every frame")
    expected = list(_JOINTS) * (len(cells) // len(_JOINTS))
    for row, (line, joint) in enumerate(zip(cells, expected, strict=True), start=1):
        if line[0] != joint or len(line) != 4:
            raise ValueError(f"{name}: got {';'.join(line)!r} in line {row}, expected {joint};x;y;z")
    try:
        joints = np.array([line[1:] for line in cells], dtype=np.float32).reshape(-1, len(_JOINTS), 3)
    except ValueError as error:
        raise ValueError(f"{name}: got coordinates that are not numbers ({error})") from error
    columns = Walk(person - 1, person, camera=0, setup=0, replication=walk)
    return Reading(columns.recording(name, Track(np.arange(len(joints)), joints[:, _ORDER])))


def _name(path: PurePosixPath) -> str:
    return "/".join(path.with_suffix("").parts[-2:])


def belongs(name: str) -> bool:
    """Whether a file is in a person's folder."""
    return name.startswith("Person")


SOURCE = RawSource(
    dataset=KINECT_GAIT,
    suffix=".txt",
    read=read,
    name=_name,
    belongs=belongs,
    layout="a folder of PersonNNN/K.txt files (`Data`, 164 people), the Kinect Gait Biometry Dataset "
    "of Andersson and Araujo (AAAI 2015)",
)
