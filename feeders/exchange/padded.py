"""The padded ``.npz`` that CTR-GCN's preparation writes and its feeder reads, such as ``NTU60_CS.npz``.

Members ``x_train, y_train, x_test, y_test``: x (N, T, 150) float32, frames left-aligned and zeros after, a row holding
body 1's joints 1 to 25 as x, y, z, then body 2's; y (N, K) float64 one-hot. Arrays are streamed, never held whole.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy

from feeders.dataset import Protocol, split_index
from feeders.exchange.report import ImportReport, demand_one
from feeders.ntu import CLASS_NAMES
from feeders.skeleton import NTU25
from feeders.store import Recording, Store, StoreWriter, Track
from torchlight.atomic import open_atomically

SIDES = ("train", "test")
"""A clip's side is its ``setup`` in the store, as a place in this tuple: the file knows no subject, camera or setup."""
_JOINTS, _BODIES = len(NTU25.joints), 2
_ROW = _BODIES * _JOINTS * 3
# Of 300 frames, clips at a time: 5 MB.
_CLIPS = 32


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Args:
        clips: side -> how many.
        cut: clips that lost frames or bodies.
    """

    file: Path
    clips: dict[str, int]
    cut: int

    def summary(self) -> str:
        """A line for people."""
        return f"{self.file}: train {self.clips['train']}, test {self.clips['test']} clips, {self.cut} of them cut"


def import_padded(file: Path, out: Path, class_names: Sequence[str] | None = None) -> ImportReport:
    """A padded file as a store of data set ``padded``; clips are ``train_0``, ``test_5``, as in published score files.

    Frames after the last one that shows anything are dropped; a body is present in a frame where any of its numbers is
    not zero. A second body that repeats the first exactly (NTU 120's way to say "nobody") is dropped and counted. A
    clip without anything, or with NaN, is left out and reported. Without ``class_names``, 60 or 120 classes are NTU's.

    Raises:
        ValueError: the file is not of this layout, is damaged, or has no whole clip; no store is written.
    """
    left_out: dict[str, str] = {}
    copies = clips = 0
    try:
        with zipfile.ZipFile(file) as archive:
            labels = {side: _labels(archive, side, file) for side in SIDES}
            names = _class_names({width for _, width in labels.values()}, class_names, file)
            with StoreWriter(
                out, dataset="padded", skeleton=NTU25.name, joints=_JOINTS, coordinates=3, class_names=names
            ) as writer:
                for setup, side in enumerate(SIDES):
                    label = labels[side][0]
                    for number, poses in enumerate(_clips(archive, side, len(label), file)):
                        bodies, frames, is_copied = _bodies(poses)
                        name = f"{side}_{number}"
                        try:
                            writer.add(Recording(name, int(label[number]), frames, bodies, setup=setup))
                        except ValueError as error:
                            left_out[name] = str(error)
                            continue
                        copies += is_copied
                        clips += 1
                demand_one(file, clips, left_out)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{file}: got a damaged file ({error}), expected a whole .npz; fetch it again") from error
    report = ImportReport(str(file), str(out), "padded", clips, left_out, copied_bodies=copies)
    report.write()
    return report


def export_padded(
    store: Store,
    file: Path,
    protocol: Protocol,
    *,
    frames: int = 300,
    too_much: Literal["refuse", "cut"] = "refuse",
) -> ExportReport:
    """A store as a padded file of T ``frames``, replaced in one step.

    Samples stand by the protocol's fields, then by name, and in NTU 120 a body that is alone stands twice, as
    published. ``too_much`` says what to do with clips of more frames, or more than two bodies.

    Raises:
        ValueError: the store has another skeleton, a side has no clips, or clips have too much.
    """
    header, index = store.header, store.index
    if header.skeleton != NTU25.name:
        raise ValueError(f"{store.folder}: got skeleton {header.skeleton}, expected {NTU25.name}; 150 columns hold it")
    sides = {side: _published_order(store, protocol, split_index(index, protocol, ())[side]) for side in SIDES}
    is_too_much = (index.frames > frames) | (index.bodies > _BODIES)
    chosen = np.concatenate(list(sides.values()))
    cut = chosen[is_too_much[chosen]]
    if empty := [side for side, samples in sides.items() if not len(samples)]:
        raise ValueError(f"{store.folder}: got no {empty[0]} clips, expected some; choose another protocol")
    if len(cut) and too_much == "refuse":
        raise ValueError(
            f"{store.folder}: got {len(cut)} clips of more than {frames} frames or {_BODIES} bodies, first "
            f"{index.sample_id[cut[0]]}, expected none; cut them with --cut"
        )
    copies = header.dataset == "ntu120"
    with open_atomically(file) as stream, zipfile.ZipFile(stream, "w", allowZip64=True) as archive:
        for side, samples in sides.items():
            one_hot = np.eye(len(header.class_names))[index.label[samples]]
            with _member(archive, f"x_{side}", (len(samples), frames, _ROW), np.float32) as member:
                for start in range(0, len(samples), _CLIPS):
                    member.write(_rows(store, samples[start : start + _CLIPS], frames, copies).data)
            with _member(archive, f"y_{side}", one_hot.shape, np.float64) as member:
                member.write(one_hot.data)
    return ExportReport(file, {side: len(samples) for side, samples in sides.items()}, len(cut))


def _rows(store: Store, samples: np.ndarray, frames: int, copies: bool) -> np.ndarray:
    asked = np.broadcast_to(np.arange(frames), (len(samples), frames))
    pose_NTMVC = store.gather(samples, asked, _BODIES).pose
    if copies:
        single = store.index.bodies[samples] == 1
        pose_NTMVC[single, :, 1] = pose_NTMVC[single, :, 0]
    return pose_NTMVC


def _published_order(store: Store, protocol: Protocol, samples: np.ndarray) -> np.ndarray:
    """Clip numbers by the protocol's fields, then by name, numbers in names counted as numbers."""
    index = store.index

    def key(sample: int) -> tuple[list[int], list[int | str]]:
        words = re.split(r"(\d+)", str(index.sample_id[sample]))
        name = [int(word) if word.isdecimal() else word for word in words]
        return [int(getattr(index, field)[sample]) for field in protocol.train], name

    return np.array(sorted(samples.tolist(), key=key), dtype=np.int64)


def _bodies(poses: np.ndarray) -> tuple[tuple[Track, ...], int, bool]:
    """(T, M, V, C) -> its present bodies, its frames, and whether the second body repeated the first."""
    present = (poses != 0).any(axis=(2, 3))
    frames = int(present.any(axis=1).nonzero()[0][-1]) + 1 if present.any() else 0
    is_copied = bool(present.any()) and np.array_equal(poses[:, 0], poses[:, 1])
    bodies = [np.flatnonzero(present[:, body]) for body in range(1 if is_copied else _BODIES)]
    tracks = tuple(Track(seen, poses[seen, body]) for body, seen in enumerate(bodies) if len(seen))
    return tracks, frames, is_copied


def _labels(archive: zipfile.ZipFile, side: str, file: Path) -> tuple[np.ndarray, int]:
    """Class of every clip of a side, and how many classes there are."""
    labels, classes = [np.zeros(0, dtype=np.int64)], 0
    for rows in _stream(archive, f"y_{side}", 2, file):
        is_one = rows == 1
        if not ((is_one.sum(axis=1) == 1) & ((rows != 0).sum(axis=1) == 1)).all():
            raise ValueError(f"{file}: got y_{side} with other rows than one-hot ones, expected a single 1 in each")
        labels.append(is_one.argmax(axis=1))
        classes = rows.shape[1]
    return np.concatenate(labels), classes


def _class_names(widths: set[int], given: Sequence[str] | None, file: Path) -> tuple[str, ...]:
    classes = max(widths)
    if widths - {0, classes}:
        raise ValueError(f"{file}: got {sorted(widths)} classes in y_train and y_test, expected as many in both")
    if given is None and classes not in (60, 120):
        raise ValueError(f"{file}: got {classes} classes without names, expected 60 or 120 of NTU's, or --class-names")
    names = CLASS_NAMES[:classes] if given is None else tuple(given)
    if len(names) != classes:
        raise ValueError(f"class names: got {len(names)}, expected {classes}, one for each column of y_train")
    return names


def _clips(archive: zipfile.ZipFile, side: str, count: int, file: Path) -> Iterator[np.ndarray]:
    """Every clip of a side, (T, M, V, C) float32."""
    for rows in _stream(archive, f"x_{side}", 3, file, count):
        if rows.shape[2] != _ROW:
            raise ValueError(f"{file}: got x_{side} with {rows.shape[2]} columns, expected {_ROW}, two bodies of NTU25")
        yield from rows.astype(np.float32, copy=False).reshape(*rows.shape[:2], _BODIES, _JOINTS, 3)


def _stream(
    archive: zipfile.ZipFile, name: str, axes: int, file: Path, clips: int | None = None
) -> Iterator[np.ndarray]:
    """A member array in chunks of rows; where ``clips`` is given, it has as many."""
    try:
        member = archive.open(f"{name}.npy")
    except KeyError:
        raise ValueError(f"{file}: got members {archive.namelist()}, expected {name}.npy among them") from None
    with member:
        shape, is_fortran, dtype = _array_facts(member, f"{file}, {name}")
        if len(shape) != axes or is_fortran or dtype.kind != "f":
            order = "Fortran" if is_fortran else "C"
            raise ValueError(
                f"{file}: got {name} {shape} {dtype} in {order} order, expected {axes} axes of floats in C"
            )
        if clips not in (None, shape[0]):
            raise ValueError(f"{file}: got {shape[0]} clips in {name}, expected {clips} as in y{name[1:]}")
        held, row_bytes = (
            archive.getinfo(f"{name}.npy").file_size - member.tell(),
            math.prod(shape[1:]) * dtype.itemsize,
        )
        if held != shape[0] * row_bytes:
            raise ValueError(f"{file}: got {held} bytes of {name}, expected {shape[0] * row_bytes} for {shape} {dtype}")
        for start in range(0, shape[0], _CLIPS):
            rows = min(_CLIPS, shape[0] - start)
            yield np.frombuffer(member.read(rows * row_bytes), dtype).reshape(rows, *shape[1:])


def _array_facts(member: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, "np.dtype[np.generic]"]:
    try:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(member)
    except ValueError as error:
        raise ValueError(f"{where}: got no array ({error}), expected .npy data") from error
    return shape, is_fortran, dtype


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: type) -> Iterator[IO[bytes]]:
    """A new array of the archive, to be filled with its rows; uncompressed, as `np.savez` makes it."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        facts = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, facts)
        yield member
