"""Gait3D (Zheng et al., CVPR 2022): 4,000 people in a supermarket, 39 cameras; COCO joints in pixels of a moving crop.

In the store: subject and label are the person's number, camera is camidC, replication is 1000 * videoid + seq, and
setup is the walk's role in the official partition, Gait3D.json: `TRAIN`, `GALLERY` or `PROBE` (one walk of each test
person).
"""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import COCO17

TRAIN, GALLERY, PROBE = range(3)
PEOPLE = 4000

GAIT3D = DataSet(
    name="gait3d",
    skeleton=COCO17,
    class_names=tuple(f"{person:04d}" for person in range(PEOPLE)),
    protocols=MappingProxyType(
        {"official": Protocol(train={"setup": frozenset({TRAIN})}, test={"setup": frozenset({GALLERY, PROBE})})}
    ),
    root="Gait3D/2D_Poses",
    bodies=1,
    # A tenth of the people, fixed by number, of whom those on the training side are held out.
    validation_subjects=tuple(range(9, PEOPLE, 10)),
    units="pixels",
    frame_rate=25.0,
)
