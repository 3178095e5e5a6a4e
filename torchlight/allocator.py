"""The C allocator's manners, for programs that free and ask for the same large tensors in every step."""

import ctypes
import functools
import logging
import sys

logger = logging.getLogger(__name__)

# glibc, malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@functools.cache
def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next tensor instead of handing it back to the system.

    On CPU the page faults of fresh 10 MB tensors cost more than filling them. Resident memory then stays at its peak
    until the process ends. Numbers do not change. Call it once, at start-up; it does nothing but on Linux with glibc.

    Returns:
        whether the allocator took the hint.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Both: a tensor that comes from mmap is unmapped when freed whatever the trim threshold is. -1: never trim.
    taken = bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
    logger.debug("glibc keeps freed memory: %s", taken)
    return taken
