"""Walks named one by one: raw files or folders in a data set's layout, or a whole store, as a store of their own."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from feeders.dataset import store_writer
from feeders.prepare import raw_source
from feeders.prepare.raw_files import find_files
from feeders.prepare.source import RawItem, RawSource
from feeders.store import Recording, Store, check, is_store

logger = logging.getLogger(__name__)

# As many parts as a layout's names are made of at most, the file among them.
_PARTS = 4


def store_of_files(dataset: str, files: Sequence[Path], folder: Path, like: Store | None = None) -> Store:
    """The walks of some raw files, read and cleaned as ever, in a store made below a folder; a single store is itself.

    A walk's name is made of the last four parts of its path, as it is written where that says a folder at least. A walk
    that is broken, or in which nobody is seen, is left out, with a warning that says why.

    Args:
        dataset: whose layout the files have.
        files: one store; or raw files, and folders of them.
        folder: an empty one, which has to live as long as the store.
        like: a store of such walks; the names of CSV files are made of as many parts as the longest there, however few
            are written, so ``my_walks/ann/3.csv`` is a walk of ann where no camera has a folder, and columns are of its
            skeleton's joints.

    Raises:
        FileNotFoundError: a file is not there; ValueError: two have one name, none has the layout, or none is left.
    """
    source = raw_source(dataset, skeleton=None if like is None else like.header.skeleton)
    if absent := [str(file) for file in files if not file.exists()]:
        raise FileNotFoundError(f"{absent[0]}: no such file, expected walks of {dataset} ({source.layout}) or a store")
    if len(files) == 1 and is_store(files[0]):
        return Store(files[0])
    _link(files, folder / "raw", None if like is None else max(depths(like)))
    try:
        found = find_files(source, [folder / "raw"])
    except FileNotFoundError:
        raise ValueError(f"{files[0]}: got no walk of {dataset}, expected {source.layout}") from None
    if found.broken:
        raise ValueError(next(iter(found.broken.values())))
    for name, reason in found.left_out.items():
        logger.warning("%s: left out, %s", name, reason)
    if source.complete is not None:
        # A published list of people lies somewhere above the files.
        above = [place for file in files for place in (file, *file.resolve().parents)]
        source = source.complete(source, above, found.files)
    recordings, faults = _read(source, found.files)
    if not recordings:
        raise ValueError(f"{files[0]}: got no walk that can be read: {faults[0]}")
    for fault in faults:
        logger.warning("left out, %s", fault)
    with store_writer(folder / "store", source.dataset) as writer:
        for recording in recordings:
            writer.add(recording)
    return Store(folder / "store")


def depths(store: Store) -> set[int]:
    """Of how many parts the names of its walks are made."""
    return {name.count("/") + 1 for name in store.index.sample_id.tolist()}


def _read(source: RawSource, items: Sequence[RawItem]) -> tuple[list[Recording], list[str]]:
    """The walks, and a reason with a name for each that is broken or shows nobody."""
    facts = source.dataset
    shape = (len(facts.skeleton.joints), facts.skeleton.coordinates, len(facts.class_names))
    recordings, faults = [], []
    for item in items:
        try:
            recording = source.read(item.name, item.content()).recording
            check(recording, *shape)
        except ValueError as error:
            faults.append(str(error))
        else:
            recordings.append(recording)
    return recordings, faults


def _link(files: Sequence[Path], folder: Path, depth: int | None) -> None:
    """Links to all files below a folder, under the last parts of their paths: ``depth`` of a CSV file's."""
    inside = [found for place in files for found in ((place,) if place.is_file() else sorted(place.rglob("*")))]
    for file in filter(Path.is_file, inside):
        is_enough = len(file.parts) >= (depth or 2) and ".." not in file.parts
        # Not resolved: what a link is called is part of the name.
        path = file if is_enough else Path(os.path.abspath(file))  # noqa: PTH100
        names = [part for part in path.parts if part != path.anchor]
        link = folder.joinpath(*names[-(depth if depth and file.suffix == ".csv" else _PARTS) :])
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(file.resolve())
        elif link.resolve() != file.resolve():
            raise ValueError(f"{file}: got another walk of the same name, {link.resolve()}, expected each name once")
