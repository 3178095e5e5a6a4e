"""GREW (Zhu et al., ICCV 2021): 26,000 people outdoors, 882 cameras; COCO joints in pixels of a crop.

In the store: replication is the walk's folder (0 in training, 1 and 2 of a test person), setup its role: `TRAIN`,
`GALLERY` or `PROBE`. Training person n is subject n, test person n subject 20000 + n. Who the official probes are is
not published: all are subject 0, of the class ``probe``. Cameras are not published either (-1).
"""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import COCO17

TRAIN, GALLERY, PROBE = range(3)
TRAIN_PEOPLE, TEST_PEOPLE = 20000, 6000
PROBE_LABEL = TRAIN_PEOPLE + TEST_PEOPLE

GREW = DataSet(
    name="grew",
    skeleton=COCO17,
    class_names=(
        *(f"{person:05d}train" for person in range(1, TRAIN_PEOPLE + 1)),
        *(f"{person:05d}" for person in range(1, TEST_PEOPLE + 1)),
        "probe",
    ),
    protocols=MappingProxyType(
        {"official": Protocol(train={"setup": frozenset({TRAIN})}, test={"setup": frozenset({GALLERY, PROBE})})}
    ),
    root="GREW",
    bodies=1,
    validation_subjects=tuple(range(19, TRAIN_PEOPLE, 20)),
    units="pixels",
)
