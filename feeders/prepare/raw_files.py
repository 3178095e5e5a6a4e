"""The files of a raw data set, wherever they lie: in folder trees, and in zips as they were published, unextracted."""

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from feeders.prepare.source import RawItem, RawSource

# Far above any recording; keeps a wrong file, or a zip that claims to hold terabytes, out of memory.
_LARGEST = 1 << 27
_LOCAL_HEADER = 30
_ENCRYPTED = 1


def read_text(path: Path) -> str:
    """A text file of the user's, UTF-8 with or without a mark; ValueError with its name where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: got {error}, expected UTF-8 text") from None


@dataclass(frozen=True, slots=True)
class ZipMember:
    """Where a file is in its zip."""

    path: str
    offset: int
    packed_bytes: int
    method: int
    is_encrypted: bool


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw recording, unread.

    Args:
        name: the sample's name.
        place: its path, or that of its zip.
        size: bytes, unpacked.
        stamp: changes when the content does: the time of its last change, or its checksum in a zip.
    """

    name: str
    place: str
    size: int
    stamp: int
    member: ZipMember | None = None

    def __str__(self) -> str:
        return self.place if self.member is None else f"{self.place}/{self.member.path}"

    def content(self) -> bytes:
        """The file's bytes; ValueError where a zip does not hold what it promises, OSError where the disk fails."""
        if self.size > _LARGEST:
            raise ValueError(f"{self.name}: got a file of {self.size} bytes, expected at most {_LARGEST}")
        if self.member is not None:
            return self._unpacked(self.member)
        with open(self.place, "rb", buffering=0) as file:  # noqa: PTH123 - as `files_at`: without a path in between
            return file.read()

    def _unpacked(self, member: ZipMember) -> bytes:
        # Not by a ZipFile: each process would hold the directory of all 57,000 members of a published zip.
        with Path(self.place).open("rb") as archive:
            archive.seek(member.offset)
            header = archive.read(_LOCAL_HEADER)
            name_and_extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            archive.seek(name_and_extra, os.SEEK_CUR)
            packed = archive.read(member.packed_bytes)
        if member.is_encrypted or member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{self}: got a member that is encrypted or of compression {member.method}; extract it")
        content = packed
        if member.method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
            except zlib.error as error:
                raise ValueError(f"{self}: got a damaged member ({error}); download the zip again") from error
        if len(content) != self.size or zlib.crc32(content) != self.stamp:
            raise ValueError(f"{self}: got another length or checksum than the zip promises; download the zip again")
        return content


@dataclass(frozen=True)
class RawFiles:
    """What was found of a data set.

    Args:
        files: to read, by name: the order of the store.
        left_out: file or name -> reason, as a published list tells or because the same file is there twice.
        broken: file -> reason.
    """

    files: tuple[RawItem, ...]
    left_out: Mapping[str, str]
    broken: Mapping[str, str]


def find_files(source: RawSource, places: Sequence[Path]) -> RawFiles:
    """All files of a data set in folder trees and zips.

    Raises:
        FileNotFoundError: none is there; says where to get them.
        ValueError: a zip is damaged.
    """
    nowhere = [str(place) for place in places if not place.exists()]
    found: dict[str, RawItem] = {}
    left_out: dict[str, str] = {}
    broken: dict[str, str] = {}
    for place in () if nowhere else places:
        for file in source.scan(place) if source.scan else files_at(place, source.suffix, source.name):
            if not source.belongs(file.name):
                continue
            first = found.setdefault(file.name, file)
            if first is file:
                continue
            if _is_same(first, file):
                left_out[str(file)] = f"the same as {first}"
            else:
                broken[str(file)] = f"{file}: got another content than {first} of the same name; remove one of them"
    if not found:
        state = f"nothing at {nowhere[0]}" if nowhere else f"no recordings in {', '.join(map(str, places))}"
        raise FileNotFoundError(f"{source.dataset.name} recordings: got {state}, expected {source.layout}")
    left_out |= dict.fromkeys(sorted(found.keys() & source.missing), "on the list of missing skeletons")
    files = tuple(found[name] for name in sorted(found.keys() - source.missing))
    return RawFiles(files, left_out, broken)


def _is_same(first: RawItem, second: RawItem) -> bool:
    """Whether two items hold the same; a file in a zip is not unpacked for it, as its checksum is known."""
    if first.size != second.size:
        return False
    try:
        if isinstance(first, RawFile) and isinstance(second, RawFile) and (first.member or second.member):
            return _checksum(first) == _checksum(second)
        return bool(first.content() == second.content())
    except ValueError:
        return False


def _checksum(file: RawFile) -> int:
    return file.stamp if file.member else zlib.crc32(file.content())


def files_at(place: Path, suffix: str, name_of: Callable[[PurePosixPath], str]) -> Iterator[RawFile]:
    """Plain files before zips, so that a zip beside its own content is not what is read."""
    if place.is_file():
        yield from _members(place, suffix, name_of)
        return
    zips: list[Path] = []
    for folder, names in each_folder(place):
        inner = PurePosixPath(Path(folder).relative_to(place).as_posix())
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - a third of the time that paths take, a million times
            if name.endswith(".zip"):
                zips.append(Path(path))
            elif name.endswith(suffix) and not name.startswith("."):
                facts = os.stat(path)  # noqa: PTH116
                if stat.S_ISREG(facts.st_mode):
                    yield RawFile(name_of(inner / name), path, facts.st_size, facts.st_mtime_ns)
    for archive in zips:
        yield from _members(archive, suffix, name_of)


def each_folder(place: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder of a tree once, in order, with the sorted names of its files; links are followed."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(place, onerror=_fail, followlinks=True):
        # A link to a folder above would be walked for ever.
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        yield folder, sorted(names)


def _fail(error: OSError) -> None:
    raise error


def _members(path: Path, suffix: str, name_of: Callable[[PurePosixPath], str]) -> Iterator[RawFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: got a file that is no whole zip ({error}); download it again") from error
    for member in members:
        inside = PurePosixPath(member.filename)
        if inside.name.endswith(suffix) and not inside.name.startswith(".") and not member.is_dir():
            where = ZipMember(
                path=member.filename,
                offset=member.header_offset,
                packed_bytes=member.compress_size,
                method=member.compress_type,
                is_encrypted=bool(member.flag_bits & _ENCRYPTED),
            )
            yield RawFile(name_of(inside), str(path), member.file_size, member.CRC, where)
