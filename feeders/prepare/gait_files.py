"""The shapes in which walks lie on disk, beyond one file each: a folder with a file per frame, rows of a table."""

import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from feeders.prepare.raw_files import each_folder


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """One walk as a folder of files, one for every frame; see `feeders.prepare.source.RawItem`."""

    name: str
    place: str
    suffix: str
    size: int
    stamp: int

    def __str__(self) -> str:
        return self.place

    def content(self) -> Mapping[str, bytes]:
        """File name -> bytes."""
        files = sorted(path for path in Path(self.place).iterdir() if _is_frame(path.name, self.suffix))
        return {path.name: path.read_bytes() for path in files}


@dataclass(frozen=True, slots=True)
class TableRows:
    """One walk as rows of a CSV file, wherever these stand in it; see `feeders.prepare.source.RawItem`.

    Args:
        spans: (offset, bytes) of rows that follow each other.
    """

    name: str
    place: str
    spans: tuple[tuple[int, int], ...]
    stamp: int

    def __str__(self) -> str:
        return f"{self.place} ({self.name})"

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return sum(count for _, count in self.spans)

    def content(self) -> bytes:
        """The rows, without the header."""
        with Path(self.place).open("rb") as file:
            rows = []
            for offset, count in self.spans:
                file.seek(offset)
                rows.append(file.read(count))
        return b"".join(rows)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that holds no walks of the layout, to be reported as broken beside those that do."""

    name: str
    reason: str
    size: int = 0
    stamp: int = 0

    def __str__(self) -> str:
        return self.name

    def content(self) -> bytes:
        """Always a ValueError, with the reason."""
        raise ValueError(self.reason)


def frame_folders(
    place: Path, suffix: str, name_of: Callable[[PurePosixPath], str | None]
) -> Iterator[FrameFolder | Unreadable]:
    """The folders that hold frame files; ``name_of`` makes a walk's name of a folder's whole path.

    A folder that it gives no name is reported as broken, with its path.
    """
    for folder, names in each_folder(place):
        frames = [Path(folder, name) for name in names if _is_frame(name, suffix)]
        if not frames:
            continue
        # Whoever points at a part of the tree still has the folders above, which are part of a walk's name.
        path = PurePosixPath(Path(folder).absolute().as_posix())
        name = name_of(path)
        if name is None:
            yield Unreadable(folder, f"{folder}: got frames in a folder of an unknown name; see the layout")
            continue
        size, digest = 0, 0
        for frame in frames:
            facts = frame.stat()
            if stat.S_ISREG(facts.st_mode):
                size += facts.st_size
                digest = zlib.crc32(f"{frame.name} {facts.st_mtime_ns}".encode(), digest)
        yield FrameFolder(name, folder, suffix, size, digest)


def table_rows(
    place: Path, belongs: Callable[[list[str]], bool], name_of: Callable[[str], str]
) -> Iterator[TableRows | Unreadable]:
    """The walks of every CSV file whose header ``belongs``; ``name_of`` makes a walk's name of a row's first cell."""
    for folder, names in [("", [str(place)])] if place.is_file() else each_folder(place):
        for path in (Path(folder, name) for name in names if name.endswith(".csv") and not name.startswith(".")):
            with path.open("rb") as file:
                header = file.readline().decode("utf-8", "replace").strip().split(",")
            if belongs(header):
                yield from _rows_of(path, name_of)
            else:
                yield Unreadable(str(path), f"{path}: got a header of {len(header)} columns, from {header[:2]} on")


def _rows_of(path: Path, name_of: Callable[[str], str]) -> Iterator[TableRows]:
    spans: dict[str, list[tuple[int, int]]] = {}
    last: str | None = None
    offset = 0
    with path.open("rb") as file:
        offset += len(file.readline())
        for line in file:
            name = name_of(line.split(b",", 1)[0].decode("utf-8", "replace"))
            if line.strip():
                own = spans.setdefault(name, [])
                if name == last:
                    own[-1] = own[-1][0], own[-1][1] + len(line)
                else:
                    own.append((offset, len(line)))
                last = name
            else:
                last = None
            offset += len(line)
    stamp = path.stat().st_mtime_ns
    for name, parts in spans.items():
        yield TableRows(name, str(path), tuple(parts), stamp)


def _is_frame(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".")
