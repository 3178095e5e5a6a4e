"""The simulated data set: people nobody learned from, seen by cameras nobody learned from."""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import NTU25
from feeders.synthetic import CLASS_NAMES, TEST_CAMERAS, TEST_SUBJECTS, VALIDATION_SUBJECTS, SyntheticConfig

# One class of each group whose neighbours stay to be learned from: hands (rub hands), head (nod), legs (kick forward),
# two people (shake hands, push). Chosen by that alone, before any network had been trained on a part of the classes.
_UNSEEN = ("clap", "shake head", "stamp foot", "high five")


def demo_data(simulation: SyntheticConfig) -> DataSet:
    """The data set that one simulation makes."""
    test = {"subject": frozenset(TEST_SUBJECTS), "camera": frozenset(TEST_CAMERAS)}
    everyone = {
        "subject": frozenset(range(1, simulation.people + 1)),
        "camera": frozenset(range(1, simulation.cameras + 1)),
    }
    learn = {field: values - test[field] for field, values in everyone.items()}
    return DataSet(
        name="demo",
        skeleton=NTU25,
        class_names=CLASS_NAMES,
        protocols=MappingProxyType({"unseen_people_and_cameras": Protocol(learn, test)}),
        root="",
        bodies=2,
        validation_subjects=tuple(person for person in VALIDATION_SUBJECTS if person <= simulation.people),
        zero_shot=MappingProxyType({"demo_12_4": frozenset(map(CLASS_NAMES.index, _UNSEEN))}),
    )
