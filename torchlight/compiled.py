"""Inner loops that numba compiles: quicker where it is installed, and never needed."""

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


def compiled_or_none(load: Callable[[], T], without: str) -> T | None:
    """What ``load`` imports; None, and a debug line of what is done without it, where numba is not there or cannot be.

    To be called on first use, as importing numba takes long.
    """
    try:
        return load()
    except (ImportError, RuntimeError) as error:
        # RuntimeError: numba finds no folder to keep what it compiles in.
        logger.debug("%s: %s; pip install numba does it faster", without, error)
        return None
