"""Raw recordings -> store, once: ``python -m feeders.prepare DATASET --raw DIR [DIR ...] --out DIR``.

Whoever is killed, or meets a full disk, asks again and goes on: what was read stands in ``.<out>-partial`` until the
store is whole. A broken file is left out, or ends the preparation: the source says which, and ``skip_broken`` decides
otherwise. A report, ``<out>-report.json``, says what was read, what was left out and why, and which clips are exact
copies of each other across the splits.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from feeders.dataset import copies_across, store_writer
from feeders.prepare import ntu, penn, skeletics, ucla
from feeders.prepare.gait import GAIT_SOURCES
from feeders.prepare.ntu_bodies import Denoise
from feeders.prepare.raw_files import RawFiles, find_files, read_text
from feeders.prepare.report import Report, load_report, report_path, write_report
from feeders.prepare.shards import PREPARE_VERSION, Shard, listing_digest, load_shard, plan_shards, read_shards
from feeders.prepare.source import RawSource
from feeders.store import Store, is_store
from torchlight.arrays import some
from torchlight.atomic import locked

__all__ = ["DATASETS", "PREPARE_VERSION", "Preparation", "Report", "plan", "prepare", "raw_source", "report_path"]

logger = logging.getLogger(__name__)

DATASETS = ("ucla", "ntu60", "ntu120", "penn", "skeletics", "demo", *GAIT_SOURCES)
_STORE, _REPORT = "store", "report.json"


def raw_source(dataset: str, denoise: Denoise = "default", missing_list: Path | None = None) -> RawSource:
    """The reader of a data set's raw files, by name.

    Args:
        dataset: one of `DATASETS`.
        denoise: NTU's way of cleaning; "published" keeps the faults of the published procedure.
        missing_list: a file of names to leave out, in place of the published list.
    """
    match dataset:
        case "ucla":
            source = ucla.SOURCE
        case "penn":
            source = penn.SOURCE
        case "skeletics":
            source = skeletics.SOURCE
        case "ntu60" | "ntu120" | "demo":
            source = ntu.ntu_source(dataset, denoise)
        case _ if dataset in GAIT_SOURCES:
            source = GAIT_SOURCES[dataset]
        case _:
            raise ValueError(f"dataset: got {dataset!r}, expected one of {DATASETS}")
    if source.cleaning != denoise:
        raise ValueError(f"denoise: got {denoise!r}, expected {source.cleaning!r}, which is all that {dataset} has")
    if missing_list is None:
        return source
    words = read_text(missing_list).split()
    return replace(source, missing=frozenset(word.removesuffix(source.suffix) for word in words))


@dataclass(frozen=True)
class Preparation:
    """Raw files that are to become a store, and how far that has come.

    Args:
        jobs: processes that read.
        skip_broken: leave broken files out of the store, rather than end without one.
    """

    source: RawSource
    raw: tuple[Path, ...]
    out: Path
    found: RawFiles
    jobs: int
    skip_broken: bool

    def finished(self) -> Report | None:
        """The report, where the store stands already; ValueError where something else stands in its place."""
        report = load_report(report_path(self.out))
        if is_store(self.out) and self._fits(report):
            return report
        if not self.out.exists() or self._fits(load_report(self._folder / _REPORT)):
            return None
        state = "something without its report"
        if report is not None:
            state = f"what was made of {dict(report.made_of)} with {len(report.broken)} broken files left out"
        raise ValueError(
            f"{self.out}: got {state}, expected nothing there or a store made of {self._made_of}; "
            "remove it, or name another --out"
        )

    def read(self) -> None:
        """Read, check and clean every raw file that was not read before; OSError where the disk is full."""
        with _alone_in(self._folder):
            for _ in read_shards(self.source, self._shards, self.jobs):
                pass

    def finish(self) -> Report:
        """Read what is left to read, put the store together, and report.

        Raises:
            ValueError: a file is broken (unless ``skip_broken``), or none is whole; no store is written.
            OSError: a file cannot be read, or the disk is full; what was read is kept.
        """
        with _alone_in(self._folder) as folder:
            if self.finished() is None:
                if not self._fits(load_report(folder / _REPORT)):
                    self._put_together(folder)
                if (folder / _STORE).exists():
                    (folder / _STORE).replace(self.out)
                (folder / _REPORT).replace(report_path(self.out))
        shutil.rmtree(self._folder, ignore_errors=True)
        report = self.finished()
        assert report is not None
        return report

    def _fits(self, report: Report | None) -> bool:
        """Whether a report is of what is asked for here."""
        return report is not None and report.made_of == self._made_of and (self.skip_broken or not report.broken)

    def _put_together(self, folder: Path) -> None:
        """Read on; write the store and, last of all, the report into the folder of unfinished work."""
        (folder / _REPORT).unlink(missing_ok=True)
        for leftover in (folder / _STORE, *folder.glob(f".{_STORE}-*")):
            shutil.rmtree(leftover, ignore_errors=True)
        facts = self.source.dataset
        left_out, broken = dict(self.found.left_out), dict(self.found.broken)
        mended: dict[str, list[str]] = {}
        report = Report(
            dataset=facts.name,
            raw=tuple(map(str, self.raw)),
            store=str(self.out),
            made_of=self._made_of,
            files=len(self.found.files) + len(left_out) + len(broken),
            left_out=left_out,
            broken=broken,
            mended=mended,
        )
        shards = read_shards(self.source, self._shards, self.jobs)
        with (
            closing(shards),
            store_writer(folder / _STORE, facts, self.source.cleaning) as writer,
        ):
            clips = 0
            for shard in shards:
                block, outcome = load_shard(shard)
                left_out |= dict.fromkeys(outcome.nobody, "without a body in any frame")
                broken |= outcome.broken
                for note, names in outcome.mended.items():
                    mended.setdefault(note, []).extend(names)
                if block is not None:
                    writer.append(block)
                    clips += len(block.index)
            if clips == 0 or (broken and not self.skip_broken):
                self._refuse(report)
        store = Store(folder / _STORE)
        copies = {
            name: copies_across(store.index, protocol)
            for name, protocol in facts.protocols.items()
            if not protocol.without_copies
        }
        report = replace(
            report,
            clips=clips,
            frames=int(store.index.frames.sum()),
            body_frames=int(store.index.segments[:, 2].sum()),
            copies=copies,
        )
        write_report(folder / _REPORT, report)

    def _refuse(self, report: Report) -> None:
        """Leave a report but no store, nor any work that a repaired file would make stale."""
        write_report(report_path(self.out), report)
        shutil.rmtree(self._folder)
        first = next(iter(report.broken.values()), "no clip with a body")
        raise ValueError(
            f"{' '.join(report.raw)}: got {len(report.broken)} broken of {report.files} files, first {first}; "
            f"all stand in {report_path(self.out)}; repair them, or leave them out: "
            f"python -m feeders.prepare {report.dataset} --raw {' '.join(report.raw)} --out DIR --skip-broken, "
            "and train with data.root=DIR"
        )

    @property
    def _folder(self) -> Path:
        return self.out.with_name(f".{self.out.name}-partial")

    @cached_property
    def _shards(self) -> list[Shard]:
        return plan_shards(self.source, self.found.files, self._folder)

    @cached_property
    def _made_of(self) -> dict[str, str]:
        return {"cleaning": self.source.cleaning, "files": listing_digest(self.source, self.found.files)}


def plan(
    source: RawSource, raw: Path | Sequence[Path], out: Path, *, jobs: int = 1, skip_broken: bool | None = None
) -> Preparation:
    """Find the raw files; FileNotFoundError, which says where to get them, where there are none."""
    places = (raw,) if isinstance(raw, Path) else tuple(raw)
    skips = source.skip_broken if skip_broken is None else skip_broken
    source, found = discover(source, places)
    return Preparation(source, places, out, found, jobs, skips)


def discover(source: RawSource, places: Sequence[Path]) -> tuple[RawSource, RawFiles]:
    """The raw files of a source, and the source completed by what they tell; errors are those of `find_files`."""
    found = find_files(source, places)
    if source.complete is None:
        return source, found
    source = source.complete(source, places, found.files)
    if absent := sorted(source.probes - {file.name for file in found.files}):
        logger.warning(
            "%s: %d of %d listed probes found, without %s",
            *(places[0], len(source.probes) - len(absent), len(source.probes), some(absent)),
        )
    return source, found


def prepare(
    dataset: str, raw: Path | Sequence[Path], out: Path, *, jobs: int = 1, skip_broken: bool | None = None
) -> Report:
    """Read every raw file of a data set into a new store at ``out``, or what is left of that, and report."""
    return plan(raw_source(dataset), raw, out, jobs=jobs, skip_broken=skip_broken).finish()


@contextmanager
def _alone_in(folder: Path) -> Iterator[Path]:
    """The folder of unfinished work, of which one process at a time is the master; ValueError for a second one."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder / "lock", waits=False))
        except BlockingIOError:
            raise ValueError(f"{folder}: got another process that is at work here, wait until it ends") from None
        yield folder
