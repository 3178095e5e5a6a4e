"""Walks named one by one: raw files or folders in a data set's layout, or a whole store, as a store of their own."""

from collections.abc import Sequence
from pathlib import Path

from feeders.prepare import discover, raw_source
from feeders.store import Store, StoreWriter, is_store

# As many parts as a layout's names are made of at most, the file among them.
_PARTS = 4


def store_of_files(dataset: str, files: Sequence[Path], folder: Path) -> Store:
    """The walks of some raw files, read and cleaned as ever, in a store made below a folder; a single store is itself.

    A walk's name is made of the last four parts of its path as it is written, so ``ann/3.csv`` is a walk of ann.

    Args:
        dataset: whose layout the files have.
        files: one store; or raw files, and folders of them.
        folder: an empty one, which has to live as long as the store.

    Raises:
        FileNotFoundError: a file is not there; ValueError: one is broken, or none has the layout.
    """
    source = raw_source(dataset)
    if absent := [str(file) for file in files if not file.exists()]:
        raise FileNotFoundError(f"{absent[0]}: no such file, expected walks of {dataset} ({source.layout}) or a store")
    if len(files) == 1 and is_store(files[0]):
        return Store(files[0])
    inside = [found for place in files for found in ((place,) if place.is_file() else sorted(place.rglob("*")))]
    for file in filter(Path.is_file, inside):
        names = [part for part in file.parts if part not in (file.anchor, "..")]
        link = folder.joinpath("raw", *names[-_PARTS:])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    try:
        source, found = discover(source, [folder / "raw"])
    except FileNotFoundError:
        raise ValueError(f"{files[0]}: got no walk of {dataset}, expected {source.layout}") from None
    facts = source.dataset
    with StoreWriter(
        folder / "store",
        dataset=facts.name,
        skeleton=facts.skeleton.name,
        joints=len(facts.skeleton.joints),
        coordinates=facts.skeleton.coordinates,
        class_names=facts.class_names,
        units=facts.units,
        frame_rate=facts.frame_rate,
    ) as writer:
        for item in found.files:
            writer.add(source.read(item.name, item.content()).recording)
    return Store(folder / "store")
