"""Files that are either the old one or the new one, never half of either, and that one process at a time makes."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SUFFIX = ".unfinished"


def write_atomically(path: Path, content: bytes, *, survives_power_loss: bool = True) -> None:
    """Replace a file in one step; see `open_atomically`."""
    with open_atomically(path, survives_power_loss=survives_power_loss) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path, *, survives_power_loss: bool = True) -> Iterator[IO[bytes]]:
    """A stream into a file that takes its place in one step when the block ends well.

    On failure the old one stays, nothing else is left, and an OSError says so. Not to survive a loss of power is
    quicker, for what is found damaged when it is read and can be made again.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX)
    except OSError as error:
        raise OSError(f"{path}: could not be written: {error.strerror or error}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if survives_power_loss:
                os.fsync(file.fileno())
        # mkstemp makes private files; give this one what open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = "; the file that was there is kept" if path.exists() else ""
        raise OSError(f"{path}: could not be written: {error.strerror or error}{kept}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Delete what writers that were killed have left in a folder."""
    for leftover in folder.glob(f".*{SUFFIX}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, waits: bool) -> Iterator[None]:
    """Hold a lock file, of which one process at a time is the holder; a process that dies lets go of it.

    Where there are no such locks (Windows) nothing is held, and files that replace each other in one step remain.

    Raises:
        BlockingIOError: another one holds it, and this one does not wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
