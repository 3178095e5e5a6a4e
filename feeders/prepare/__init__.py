"""Raw recordings -> store, once: ``python -m feeders.prepare DATASET --raw DIR --out DIR``.

Strict by default: one broken file ends the preparation and leaves no store; ``skip_broken`` leaves such files out.
Either way a report, ``<out>-report.json``, says what was read, what was left out and why, and which clips are exact
copies of each other across the splits.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from feeders.dataset import copies_across
from feeders.prepare import ntu, ucla
from feeders.prepare.source import RawSource
from feeders.store import FORMAT_VERSION, Recording, Store, StoreWriter

logger = logging.getLogger(__name__)

DATASETS = ("ucla", "ntu60", "ntu120", "demo")
# Part of a cached store's name: raise it when reading or cleaning changes what a store holds.
PREPARE_VERSION = f"{FORMAT_VERSION}.0"


@dataclass(frozen=True)
class Report:
    """What became of a raw folder.

    Args:
        left_out: sample -> reason, by a published list.
        broken: file name -> reason.
        copies: protocol -> pairs (training clip, test clip) that are bit-identical.
    """

    dataset: str
    raw: str
    store: str
    files: int
    left_out: Mapping[str, str]
    broken: Mapping[str, str]
    clips: int = 0
    frames: int = 0
    body_frames: int = 0
    copies: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)

    def summary(self) -> str:
        """A few lines for people."""
        return "\n".join(
            [
                f"{self.dataset}: {self.clips} clips of {self.files} files, "
                f"{self.frames} frames, {self.body_frames} body-frames, in {self.store}",
                f"left out by a published list: {len(self.left_out)}; broken: {len(self.broken)}",
                *list(self.broken.values())[:10],
                *(
                    f"split {name!r}: {len(pairs)} exact copies across training and test, as {' = '.join(pairs[0])}"
                    for name, pairs in self.copies.items()
                    if pairs
                ),
                f"in full: {report_path(Path(self.store))}",
            ]
        )


def raw_source(dataset: str) -> RawSource:
    """The reader of a data set's raw files, by name."""
    match dataset:
        case "ucla":
            return ucla.SOURCE
        case "ntu60" | "ntu120" | "demo":
            return ntu.ntu_source(dataset)
        case _:
            raise ValueError(f"dataset: got {dataset!r}, expected one of {DATASETS}")


def report_path(out: Path) -> Path:
    """Where the report of a store lies: beside it."""
    return out.with_name(f"{out.name}-report.json")


def prepare(dataset: str, raw: Path, out: Path, *, jobs: int = 1, skip_broken: bool = False) -> Report:
    """Read every raw file into a new store at ``out`` and report.

    Raises:
        FileNotFoundError: there are no raw recordings; says where to get them.
        ValueError: a file is broken (unless ``skip_broken``), or none is whole; no store is written.
    """
    source = raw_source(dataset)
    found = source.find(raw)
    if not found.files:
        state = "a folder without recordings" if raw.is_dir() else "no folder"
        raise FileNotFoundError(f"{dataset} recordings: got {state} at {raw}, expected {source.layout}")
    facts, broken = source.dataset, dict[str, str]()
    report = Report(dataset, str(raw), str(out), len(found.files), found.left_out, broken)
    with StoreWriter(
        out,
        dataset=facts.name,
        skeleton=facts.skeleton.name,
        joints=len(facts.skeleton.joints),
        coordinates=facts.skeleton.coordinates,
        class_names=facts.class_names,
    ) as writer:
        for path, result in zip(found.files, _read_all(source.read, found.files, jobs), strict=True):
            try:
                writer.add(_whole(result))
            except ValueError as error:
                broken[path.name] = str(error)
        if broken and (not skip_broken or len(broken) == len(found.files)):
            _write_report(report)
            raise ValueError(
                f"{raw}: got {len(broken)} broken of {len(found.files)} files, first {next(iter(broken.values()))}; "
                f"all stand in {report_path(out)}; repair them, or leave them out: "
                f"python -m feeders.prepare {dataset} --raw {raw} --out DIR --skip-broken"
            )
    store = Store(out)
    report = replace(
        report,
        clips=len(store),
        frames=int(store.index.frames.sum()),
        body_frames=int(store.index.segments[:, 2].sum()),
        copies={
            name: copies_across(store.index, protocol)
            for name, protocol in facts.protocols.items()
            if not protocol.without_copies
        },
    )
    _write_report(report)
    return report


def _whole(result: Recording | str) -> Recording:
    if isinstance(result, str):
        raise ValueError(result)
    return result


def _read_or_reason(read: Callable[[Path], Recording], path: Path) -> Recording | str:
    """A broken file as its reason, so that one file never ends the others' process pool."""
    try:
        return read(path)
    except ValueError as error:
        return str(error)


def _read_all(read: Callable[[Path], Recording], files: Sequence[Path], jobs: int) -> Iterator[Recording | str]:
    """Every file in order, read by ``jobs`` processes but never more than a window of them ahead."""
    if jobs <= 1:
        yield from map(partial(_read_or_reason, read), files)
        return
    window = 256 * jobs
    with ProcessPoolExecutor(jobs) as pool:
        for start in range(0, len(files), window):
            yield from pool.map(partial(_read_or_reason, read), files[start : start + window], chunksize=16)
            logger.info("%d of %d files read", min(start + window, len(files)), len(files))


def _write_report(report: Report) -> None:
    path = report_path(Path(report.store))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    partial_path.write_text(json.dumps(asdict(report), indent=2), encoding="utf-8")
    partial_path.replace(path)
