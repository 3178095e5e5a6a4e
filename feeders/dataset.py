"""What a data set is to the loaders: its names, its skeleton, and its protocols as data."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from feeders.skeleton import Skeleton
from feeders.store import StoreIndex, StoreWriter

logger = logging.getLogger(__name__)

# What the field's papers and configs call the official protocols.
_ABBREVIATIONS = {
    "cross_subject": ("xsub", "csub", "cs"),
    "cross_view": ("xview", "cview", "cv"),
    "cross_setup": ("xset", "xsetup", "cset", "csetup", "cross_set"),
}


@dataclass(frozen=True)
class Protocol:
    """Which clips are learned from and which are tested, by fields of the store's index.

    A clip is on a side when *every* field named there holds one of its values; a clip on neither side is not used.

    Args:
        train, test: field ("subject", "camera", "setup") -> values.
        without_copies: leave clips out of training that are bit-identical to a test clip.
    """

    train: Mapping[str, frozenset[int]]
    test: Mapping[str, frozenset[int]]
    without_copies: bool = False


@dataclass(frozen=True)
class DataSet:
    """The facts of one data set.

    Args:
        protocols: name -> Protocol; the first is the default.
        root: where its raw files lie by habit, relative to the data folder.
        bodies: how many people a clip may show.
        validation_subjects: whom to hold out of training where the config does not say; those who are not there are
            passed over.
        units, frame_rate: of the positions, and frames a second, as the store's header tells them.
        zero_shot: name -> the classes kept from training, to be recognised by their texts alone.
    """

    name: str
    skeleton: Skeleton
    class_names: tuple[str, ...]
    protocols: Mapping[str, Protocol]
    root: str
    bodies: int
    validation_subjects: tuple[int, ...] = ()
    units: str = "metres"
    frame_rate: float = 30.0
    zero_shot: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def protocol(self, name: str | None) -> Protocol:
        """A protocol by name, the default for None."""
        if name is None:
            return next(iter(self.protocols.values()))
        if name not in self.protocols:
            raise ValueError(f"data.split: got {name!r}, expected one of {list(self.protocols)} for {self.name}")
        return self.protocols[name]

    def unseen_classes(self, zero_shot: str | None) -> frozenset[int]:
        """The classes that a zero-shot split keeps from training; for None there are none."""
        if zero_shot is None:
            return frozenset()
        if zero_shot not in self.zero_shot:
            expected = f"one of {list(self.zero_shot)}" if self.zero_shot else "null: it has no zero-shot split"
            raise ValueError(f"data.zero_shot: got {zero_shot!r}, expected {expected} for {self.name}")
        return self.zero_shot[zero_shot]


def canonical_split(name: str) -> str:
    """Our name of a protocol for the field's: ``xsub``, ``CSub`` and ``cross-subject`` are ``cross_subject``."""
    plain = name.lower().replace("-", "_")
    return next((ours for ours, others in _ABBREVIATIONS.items() if plain in (ours, *others)), name)


def store_writer(folder: Path, facts: DataSet, cleaning: str = "") -> StoreWriter:
    """A new store for clips of a data set; see `feeders.store.Header` for ``cleaning``."""
    return StoreWriter(
        folder,
        dataset=facts.name,
        skeleton=facts.skeleton,
        class_names=facts.class_names,
        units=facts.units,
        frame_rate=facts.frame_rate,
        cleaning=cleaning,
    )


def usual_validation(index: StoreIndex, protocol: Protocol, facts: DataSet) -> tuple[int, ...]:
    """The data set's usual validation subjects, of those who are on the training side."""
    learned_from = set(index.subject[_on_side(index, protocol.train)].tolist())
    return tuple(subject for subject in facts.validation_subjects if subject in learned_from)


def split_index(
    index: StoreIndex,
    protocol: Protocol,
    validation_subjects: Sequence[int],
    unseen: Collection[int] = (),
) -> Mapping[str, np.ndarray]:
    """Clip numbers of "train", "val" and "test"; "val" is carved from training by subject.

    Clips of ``unseen`` classes are in "test" alone.
    """
    is_train, is_test = _on_side(index, protocol.train), _on_side(index, protocol.test)
    is_train &= ~np.isin(index.label, sorted(unseen))
    if protocol.without_copies:
        is_train &= ~np.isin(index.digest, index.digest[is_test])
    is_val = is_train & np.isin(index.subject, list(validation_subjects))
    missing = sorted(set(validation_subjects) - set(index.subject[is_train].tolist()))
    # Where nobody is learned from, whom to hold out is not what is wrong.
    if missing and is_train.any():
        raise ValueError(
            f"data.validation_subjects: got {missing}, expected subjects of the training side: "
            f"{sorted(set(index.subject[is_train].tolist()))}"
        )
    sides = {"train": is_train & ~is_val, "val": is_val, "test": is_test}
    return {name: np.flatnonzero(mask) for name, mask in sides.items()}


def announce(
    facts: DataSet, split: str | None, splits: Mapping[str, np.ndarray], left_out: Mapping[str, int] | None = None
) -> str:
    """The title of a run's data, ``name/split``, logged with the sizes of its splits and who is left out for what."""
    title = f"{facts.name}/{split or next(iter(facts.protocols))}"
    counts = [f"{name} {len(samples)}" for name, samples in splits.items()]
    counts += [f"{count} people left out, {reason}" for reason, count in (left_out or {}).items()]
    logger.info("%s: %s", title, ", ".join(counts))
    return title


def wanted_splits(splits: Mapping[str, np.ndarray], want: Collection[str], key: str, store: Path) -> list[str]:
    """The splits to make loaders of: those asked for, ``val`` only where somebody is held out.

    ValueError where one has no clips, for which the config's ``key`` is to blame, or those held out.
    """
    wanted = [name for name in splits if name in want and (name != "val" or len(splits[name]))]
    for name in wanted:
        if not len(splits[name]):
            blamed = "data.validation_subjects" if name == "train" and len(splits["val"]) else key
            purpose = {"train": "learn from", "test": "test on"}[name]
            raise ValueError(f"{blamed}: got no {name} clips in {store}, expected some to {purpose}")
    return wanted


def copies_across(index: StoreIndex, protocol: Protocol) -> list[tuple[str, str]]:
    """Pairs (training clip, test clip) that are bit-identical."""
    learned: dict[bytes, list[str]] = {}
    for number in np.flatnonzero(_on_side(index, protocol.train)):
        learned.setdefault(index.digest[number], []).append(str(index.sample_id[number]))
    return [
        (twin, str(index.sample_id[number]))
        for number in np.flatnonzero(_on_side(index, protocol.test))
        for twin in learned.get(index.digest[number], [])
    ]


def warn_of_copies(index: StoreIndex, splits: Mapping[str, np.ndarray], store: Path) -> None:
    """Say how many clips of some splits (name -> clip numbers) are bit-identical to another of them, with a pair."""
    places = [(int(number), name) for name, numbers in splits.items() for number in numbers]
    first: dict[bytes, tuple[int, str]] = {}
    pairs = [
        (first[index.digest[number]], (number, name))
        for number, name in places
        if first.setdefault(index.digest[number], (number, name)) != (number, name)
    ]
    if pairs:
        one, other = (f"{index.sample_id[number]} ({name})" for number, name in pairs[0])
        logger.warning("%s: %d clips are bit-identical to another, such as %s to %s", store, len(pairs), other, one)


def _on_side(index: StoreIndex, side: Mapping[str, frozenset[int]]) -> np.ndarray:
    mask = np.ones(len(index), dtype=bool)
    for name, values in side.items():
        mask &= np.isin(getattr(index, name), sorted(values))
    return mask
