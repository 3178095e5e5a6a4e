"""What preparing needs to know of a source of raw recordings: which files are its own, and how one of them is read."""

from collections.abc import Callable
from dataclasses import dataclass

from feeders.dataset import DataSet
from feeders.store import Recording


class NobodySeenError(ValueError):
    """A whole file without a body in any frame: such clips are left out, not broken."""


@dataclass(frozen=True)
class Reading:
    """A raw file as the store keeps it.

    Args:
        notes: names of the published procedure's faults that acted on this clip and were mended; the report lists them.
    """

    recording: Recording
    notes: tuple[str, ...] = ()


def _every_name(name: str) -> bool:
    return True


@dataclass(frozen=True)
class RawSource:
    """How raw recordings of a data set are told from other files, and read. A sample's name is its file's stem.

    Args:
        suffix: how its file names end, as ".skeleton".
        read: (name, content of the file) -> Reading; `NobodySeenError` where nobody is in it, else ValueError with the
            reason where it is broken. Picklable.
        layout: what a raw folder looks like and where to get one, for the error that it is missing.
        belongs: name -> whether a file is of this data set at all; others are passed over in silence.
        missing: names that a published list tells to leave out.
        cleaning: which of the source's ways of cleaning ``read`` follows; stores are told apart by it.
        skip_broken: whether broken files are left out and reported, rather than the end of the preparation.
    """

    dataset: DataSet
    suffix: str
    read: Callable[[str, bytes], Reading]
    layout: str
    belongs: Callable[[str], bool] = _every_name
    missing: frozenset[str] = frozenset()
    cleaning: str = "default"
    skip_broken: bool = True
