"""A data set that no module of ours knows: its facts are read from its store, its split is said by whoever uses it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np

from feeders.dataset import DataSet, Protocol
from feeders.store import Store, StoreIndex

Field = Literal["subject", "camera", "setup", "replication"]
"""What a split may be made by."""


def own_data(store: Store, test_on: Mapping[Field, Sequence[int]]) -> DataSet:
    """The facts of a store, with one protocol, ``own``.

    A clip is tested on when every field of ``test_on`` (``{"subject": [4, 5]}``) has one of its values, and learned
    from when none has; a clip of which that is true of some (a known person seen by an unknown camera) is not used.
    """
    header, index = store.header, store.index
    return DataSet(
        name=header.dataset,
        skeleton=store.skeleton,
        class_names=header.class_names,
        protocols=MappingProxyType({"own": _protocol(index, test_on)}),
        root="",
        bodies=int(index.bodies.max()),
    )


def _protocol(index: StoreIndex, test_on: Mapping[Field, Sequence[int]]) -> Protocol:
    if not test_on:
        raise ValueError("data.test_on: got nothing, expected fields and values to test on, as {subject: [4, 5]}")
    there: dict[str, frozenset[int]] = {
        field: frozenset(np.unique(getattr(index, field)).tolist()) for field in test_on
    }
    test: dict[str, frozenset[int]] = {field: frozenset(values) for field, values in test_on.items()}
    for field, values in test.items():
        if missing := sorted(values - there[field]):
            said = sorted(there[field] - {-1})
            expected = f"some of {said}" if said else f"another field: the store says the {field} of no clip"
            raise ValueError(f"data.test_on: got {field} {missing}, expected {expected}")
    return Protocol(train={field: there[field] - values for field, values in test.items()}, test=test)
