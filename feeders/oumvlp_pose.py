"""OUMVLP-Pose (An et al., TBIOM 2020): 10,307 people, 14 views, two walks each; OpenPose's 18 joints in pixels.

In the store: subject is the person's number, label that minus 1, camera the view in degrees, replication the sequence
(`PROBE` 0, `GALLERY` 1). The official training people are the odd numbers to 10305.
"""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import OPENPOSE18

PEOPLE = 10307
VIEWS = (*range(0, 91, 15), *range(180, 271, 15))
PROBE, GALLERY = range(2)

_TRAIN = frozenset(range(1, 10306, 2))

OUMVLP_POSE = DataSet(
    name="oumvlp_pose",
    skeleton=OPENPOSE18,
    class_names=tuple(f"{person:05d}" for person in range(1, PEOPLE + 1)),
    protocols=MappingProxyType(
        {"official": Protocol(train={"subject": _TRAIN}, test={"subject": frozenset(range(1, PEOPLE + 1)) - _TRAIN})}
    ),
    root="OUMVLP-Pose",
    bodies=1,
    validation_subjects=tuple(range(9, PEOPLE, 20)),
    units="pixels",
    frame_rate=25.0,
)
