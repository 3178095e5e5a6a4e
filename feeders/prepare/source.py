"""What preparing needs to know of a source of raw recordings: which files are its own, and how one of them is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from feeders.dataset import DataSet
from feeders.store import Recording


class RawItem(Protocol):
    """What becomes one clip, unread: a file, a folder of frames, some rows of a table.

    ``stamp`` changes when the content does; as text it is the place, for errors.
    """

    @property
    def name(self) -> str:
        """The sample's name."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def stamp(self) -> int:
        """A number that changes with the content."""
        ...

    def content(self) -> Any:
        """What `RawSource.read` is given; ValueError where it is damaged, OSError where the disk fails."""
        ...


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


def _stem(path: PurePosixPath) -> str:
    return path.stem


@dataclass(frozen=True)
class RawSource:
    """How raw recordings of a data set are told from other files, and read.

    Args:
        suffix: how its file names end, as ".skeleton".
        read: (name, content of the item) -> Reading; `NobodySeenError` where nobody is in it, else ValueError with the
            reason where it is broken. Picklable.
        layout: what a raw folder looks like and where to get one, for the error that it is missing.
        belongs: name -> whether a file is of this data set at all; others are passed over in silence.
        missing: names that a published list tells to leave out.
        probes: names of the walks that ask in a published list; `discover` says where some of them are not there.
        cleaning: which of the source's ways of cleaning ``read`` follows; stores are told apart by it.
        skip_broken: whether broken files are left out and reported, rather than the end of the preparation.
        may_kill: damaged files may end the process that reads them, so that it is never this one.
        name: a file's path below the raw folder, or in its zip -> the sample's name; by default its stem.
        scan: a raw folder -> its items, where these are not just its files of that suffix.
        unlabelled: as ``read``, of a file that is called as its owner likes and whose action nobody has named: the clip
            has label 0 and is of no known person.
        complete: (source, places, items) -> the source with what only the raw folder tells: whose walks these are, or
            a published list of test people beside them.
        has_frame_rate: whether anything says how many frames a second the recordings have.
    """

    dataset: DataSet
    suffix: str
    read: Callable[[str, Any], Reading]
    layout: str
    belongs: Callable[[str], bool] = _every_name
    missing: frozenset[str] = frozenset()
    probes: frozenset[str] = frozenset()
    cleaning: str = "default"
    skip_broken: bool = True
    may_kill: bool = False
    name: Callable[[PurePosixPath], str] = _stem
    scan: Callable[[Path], Iterator[RawItem]] | None = None
    unlabelled: Callable[[str, Any], Reading] | None = None
    complete: Callable[["RawSource", Sequence[Path], Sequence[RawItem]], "RawSource"] | None = None
    has_frame_rate: bool = True
