"""CASIA-B (Yu et al., ICPR 2006): 124 people, 11 views, ten walks each; COCO joints in pixels (GaitGraph's poses).

In the store: subject is the person's number, label that minus 1, camera the view in degrees, setup the place of the
condition in `CONDITIONS` (normal, bag, coat), replication the walk's number within it.
"""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import COCO17

CONDITIONS = ("nm", "bg", "cl")
VIEWS = tuple(range(0, 181, 18))
PEOPLE = 124

CASIA_B = DataSet(
    name="casia_b",
    skeleton=COCO17,
    class_names=tuple(f"{person:03d}" for person in range(1, PEOPLE + 1)),
    protocols=MappingProxyType(
        {
            "large_sample": Protocol(
                train={"subject": frozenset(range(1, 75))}, test={"subject": frozenset(range(75, PEOPLE + 1))}
            )
        }
    ),
    root="CASIA-B",
    bodies=1,
    # GaitGraph's validation people.
    validation_subjects=tuple(range(60, 75)),
    units="pixels",
    frame_rate=25.0,
)
