"""Text embeddings on disk, filed by the content that made them, so that a second run needs no text model."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchlight.atomic import open_atomically

logger = logging.getLogger(__name__)


def cached_embeddings(tower_digest: str | None, texts: Sequence[str], embed: Callable[[], Tensor]) -> Tensor:
    """The embeddings of these texts, from ``$PARTCLIP_CACHE/text`` (``.cache/text``) or made and filed there.

    ``tower_digest`` tells the tower's embeddings from any other's; None files nothing. A file that cannot be read is
    made again; a folder that cannot be written costs the time of embedding, no more.

    Shapes:
        embed: called where there is no such file, returns (n, D)
        returns: (n, D) float32
    """
    if tower_digest is None:
        return embed()
    path = cache_file(tower_digest, texts)
    if path.is_file():
        try:
            return _read(path, len(texts))
        except (ValueError, EOFError, OSError) as error:
            logger.warning("%s is damaged and will be made again: %s", path, error)
    embeddings = embed()
    try:
        _write(path, embeddings)
    except OSError as error:
        logger.warning("text embeddings could not be cached in %s: %s", path.parent, error)
    return embeddings


def cache_file(tower_digest: str, texts: Sequence[str]) -> Path:
    """Where the embeddings of these texts, in this order, by this tower are kept."""
    content = hashlib.sha256("\0".join([tower_digest, *texts]).encode())
    return Path(os.environ.get("PARTCLIP_CACHE") or ".cache") / "text" / f"{content.hexdigest()}.npy"


def _read(path: Path, rows: int) -> Tensor:
    array = np.load(path, allow_pickle=False)
    if array.dtype != np.float32 or array.ndim != 2 or len(array) != rows or not np.isfinite(array).all():
        raise ValueError(f"got {array.dtype} {array.shape}, expected finite float32 with {rows} rows")
    return torch.from_numpy(array)


def _write(path: Path, embeddings: Tensor) -> None:
    # What is found damaged when it is read is made again.
    with open_atomically(path, survives_power_loss=False) as file:
        np.save(file, embeddings.numpy())
