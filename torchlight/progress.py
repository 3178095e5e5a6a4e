"""Progress bars, where somebody is looking."""

import sys
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from torchlight.distributed import is_main


def progress_bar(description: str, total: int, done: int = 0, batches: Iterable[Any] | None = None) -> "tqdm[Any]":
    """A bar over batches on the main process of a terminal, silent anywhere else."""
    # tqdm's own lock is a semaphore between processes, which a process that is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    is_silent = not (is_main() and sys.stderr.isatty())
    return tqdm(batches, description, total=total, initial=done, leave=False, disable=is_silent, unit="batch")
