"""Raw files are read in shards that stand on disk when they are done: who is killed goes on from the last of them.

A shard is named for everything that made it (its files, the way of cleaning, the version of this code), so that old
work is found again where it fits, and never where it does not.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from feeders.prepare.packed_arrays import pack, unpack
from feeders.prepare.source import NobodySeenError, RawItem, RawSource, Reading
from feeders.store import Block, Recording, StoreIndex, check, encode
from torchlight.allocator import keep_freed_memory
from torchlight.arrays import some
from torchlight.atomic import remove_unfinished, write_atomically

logger = logging.getLogger(__name__)

# Part of the name of what is made: raise it when reading or cleaning changes what a store holds.
PREPARE_VERSION = "1.1"
# A fraction of a second of work, some megabytes of memory.
_FILES = 128


@dataclass(frozen=True)
class Outcome:
    """What became of the files of a shard that are not, or not only, clips now.

    Args:
        nobody: names of clips without a body; broken: name -> reason; mended: note -> names.
    """

    nobody: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    mended: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """Files that are read together, and where the result is kept."""

    path: Path
    files: tuple[RawItem, ...]


def listing_digest(source: RawSource, files: Sequence[RawItem]) -> str:
    """What tells one preparation from another: the files, how they are cleaned, and the version of this code."""
    digest = hashlib.sha256(f"{source.dataset.name} {source.cleaning} {PREPARE_VERSION}\n".encode())
    for file in files:
        digest.update(f"{file.name} {file.size} {file.stamp}\n".encode())
    return digest.hexdigest()[:16]


def plan_shards(source: RawSource, files: Sequence[RawItem], folder: Path) -> list[Shard]:
    """Cut the files into shards, in order."""
    parts = [tuple(files[start : start + _FILES]) for start in range(0, len(files), _FILES)]
    return [Shard(folder / f"shard-{listing_digest(source, part)}", part) for part in parts]


def read_shards(source: RawSource, shards: Sequence[Shard], jobs: int) -> Generator[Shard, None, None]:
    """The shards in order, each when it stands on disk; those that did not before are read by ``jobs`` processes.

    Raises:
        OSError: a file cannot be read, the disk is full, or a process was killed; what was read is kept.
    """
    for folder in {shard.path.parent for shard in shards}:
        remove_unfinished(folder)
        for stale in set(folder.glob("shard-*")) - {shard.path for shard in shards}:
            stale.unlink()
    todo = {shard.path: len(shard.files) for shard in shards if not shard.path.exists()}
    total, missing = sum(len(shard.files) for shard in shards), sum(todo.values())
    if missing < total:
        logger.info("%d of %d files were read before", total - missing, total)
    facts = source.dataset
    shape = (len(facts.skeleton.joints), facts.skeleton.coordinates, len(facts.class_names))
    # tqdm's own lock is a semaphore between processes, which a process that is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    with tqdm(total=missing, desc="reading", unit="file", disable=None if todo else True) as progress:
        for shard in _read_all(source, shape, shards, jobs):
            yield shard
            progress.update(todo.get(shard.path, 0))


def load_shard(shard: Shard) -> tuple[Block | None, Outcome]:
    """The clips of a shard, None where it has none, and what became of the rest; ValueError where it is damaged."""
    try:
        arrays = unpack(shard.path.read_bytes())
        outcome = Outcome(**json.loads(arrays["outcome"].tobytes()))
        if "poses" not in arrays:
            return None, outcome
        poses, weight = arrays.pop("poses"), arrays.pop("joint_weight", None)
        # An index is kept to the end: copied, lest it keep the poses.
        return Block(StoreIndex.of({name: array.copy() for name, array in arrays.items()}), poses, weight), outcome
    except ValueError as error:
        shard.path.unlink()
        raise ValueError(
            f"{shard.path}: got {error!r}, expected a whole shard; it is removed, run this again"
        ) from error


def _read_all(source: RawSource, shape: tuple[int, int, int], shards: Sequence[Shard], jobs: int) -> Iterator[Shard]:
    read = source.read
    todo = [shard for shard in shards if not shard.path.exists()]
    keep_freed_memory()
    if not todo or (not source.may_kill and min(jobs, len(todo)) <= 1):
        for shard in shards:
            if not shard.path.exists():
                _read_shard(read, shape, shard)
            yield shard
        return
    # Forked where that is safe, and read once in vain: processes then share what reading loads (a compiler: 100 MB),
    # and none imports the program that asked, which may be a training with torch.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    if not source.may_kill:
        with suppress(ValueError):
            read(todo[0].files[0].name, todo[0].files[0].content())
    processes = min(max(jobs, 1), len(todo))
    with ProcessPoolExecutor(processes, context, _begin_process) as pool:
        futures = {shard.path: pool.submit(_read_shard, read, shape, shard) for shard in todo}
        try:
            for shard in shards:
                if shard.path in futures:
                    futures[shard.path].result()
                yield shard
        except BrokenProcessPool:
            # Shards are begun in order.
            begun = [shard.files for shard in todo if not shard.path.exists()][:processes]
            raise OSError(
                f"got a reading process that died over one of {some(f'{files[0]} to {files[-1]}' for files in begun)}; "
                "a file there is damaged, or memory ran out: run this again without that file, or with fewer --jobs, "
                "it goes on where it was"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _read_shard(read: Callable[[str, Any], Reading], shape: tuple[int, int, int], shard: Shard) -> None:
    outcome = Outcome()
    recordings: list[Recording] = []
    for file in shard.files:
        try:
            reading = read(file.name, file.content())
            check(reading.recording, *shape)
        except NobodySeenError:
            outcome.nobody.append(file.name)
        except ValueError as error:
            outcome.broken[file.name] = str(error)
        else:
            recordings.append(reading.recording)
            for note in reading.notes:
                outcome.mended.setdefault(note, []).append(file.name)
    arrays = {"outcome": np.frombuffer(json.dumps(vars(outcome)).encode(), dtype=np.uint8)}
    if recordings:
        block = encode(recordings)
        arrays |= vars(block.index) | {"poses": block.poses}
        if block.joint_weight is not None:
            arrays["joint_weight"] = block.joint_weight
    write_atomically(shard.path, pack(arrays), survives_power_loss=False)


def _begin_process() -> None:
    """Leave Ctrl-C to the parent, and end with it: a worker whose parent is killed would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
