"""What preparing needs of a source of raw recordings: which files there are, and how one file is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from feeders.dataset import DataSet
from feeders.store import Recording


@dataclass(frozen=True)
class RawFiles:
    """The files to read, and those that a published list tells to leave out: name -> reason."""

    files: tuple[Path, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RawSource:
    """How raw recordings of a data set are found and read.

    Args:
        find: raw folder -> files, in the order of the store.
        read: file -> Recording; ValueError with the reason where the file is broken. Picklable.
        layout: what a raw folder looks like and where to get one, for the error that it is missing.
    """

    dataset: DataSet
    find: Callable[[Path], RawFiles]
    read: Callable[[Path], Recording]
    layout: str
