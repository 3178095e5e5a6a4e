"""The simulated walkers as a data set: people nobody learned from, some of whose walks are with a load.

In the store: subject is the person, label that minus 1, setup the condition (1 normal, 2 carrying), camera and
replication as filmed.
"""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import NTU25
from feeders.synthetic.walkers import WalkersConfig


def demo_walkers(simulation: WalkersConfig) -> DataSet:
    """The data set that one simulation makes: every fourth person is tested on, every eighth held out to choose on."""
    people = range(1, simulation.people + 1)
    test = frozenset(person for person in people if person % 4 == 0)
    return DataSet(
        name="demo_gait",
        skeleton=NTU25,
        class_names=tuple(f"walker {person:03d}" for person in people),
        protocols=MappingProxyType(
            {"unseen_people": Protocol({"subject": frozenset(people) - test}, {"subject": test})}
        ),
        root="",
        bodies=1,
        validation_subjects=tuple(person for person in people if person % 8 == 7),
    )
