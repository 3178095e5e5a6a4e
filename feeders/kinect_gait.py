"""KinectGait (Andersson and Araujo, AAAI 2015): 164 people, five walks each on a semicircle, Kinect v1 in metres.

In the store: subject is the person's number, label that minus 1, replication the walk; there is one camera. Nobody is
on both sides; the protocol's gallery is walk 1 of Person101 to 164, its probes are their other walks.
"""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import KINECT20

PEOPLE = 164
GALLERY_WALK = 1

KINECT_GAIT = DataSet(
    name="kinect_gait",
    skeleton=KINECT20,
    class_names=tuple(f"Person{person:03d}" for person in range(1, PEOPLE + 1)),
    protocols=MappingProxyType(
        {
            "people_101_to_164": Protocol(
                train={"subject": frozenset(range(1, 101))}, test={"subject": frozenset(range(101, PEOPLE + 1))}
            )
        }
    ),
    root="kinect_gait/Data",
    bodies=1,
    validation_subjects=tuple(range(86, 101)),
    # Every second frame of the recordings is kept.
    frame_rate=15.0,
)
