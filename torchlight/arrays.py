"""Files of plain arrays whose rows are samples: written whole or not at all, read as data only, joined by sample id."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchlight.atomic import write_atomically

# What numpy and zipfile raise on a damaged file.
_DAMAGE = (
    *(ValueError, OSError, EOFError, LookupError, MemoryError, RuntimeError, AttributeError),
    *(zipfile.BadZipFile, zlib.error),
)

SAID_LATER: Mapping[str, NDArray[np.str_]] = {"chosen_by": np.array("")}
"""What files of former versions do not say, in their place."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz``, whole or not at all."""
    if path.suffix != ".npz":
        raise ValueError(f"{path}: expected a name that ends in .npz")
    memory = io.BytesIO()
    np.savez(memory, **arrays)  # type: ignore[arg-type]
    write_atomically(path, memory.getvalue())


def read_arrays(path: Path, wanted: Callable[[str], bool]) -> dict[str, NDArray[Any]]:
    """The wanted arrays of an ``.npz``; ValueError where it is damaged or holds anything but plain arrays."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            arrays = {name: archive[name] for name in archive.files if wanted(name)}
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: got {reason}, expected an .npz of plain arrays; it was not run") from error
    if odd := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise ValueError(f"{path}: got {odd[0]!r} that is no array, expected an .npz of plain arrays")
    return arrays


def check_texts(path: Path, arrays: Mapping[str, NDArray[Any]], lists: Sequence[str], single: Sequence[str]) -> None:
    """ValueError where one of these arrays is not a list of texts, or not a single text."""
    texts = (*lists, *single)
    if any(arrays[key].dtype.kind != "U" or arrays[key].ndim != (key in lists) for key in texts):
        raise ValueError(f"{path}: got {', '.join(texts)} of another type, expected text")


def check_distinct(what: str, sample_id: Sequence[str]) -> None:
    """ValueError where two samples have one id."""
    if len(set(sample_id)) != len(sample_id):
        seen: set[str] = set()
        twice = [name for name in sample_id if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise ValueError(f"{what}: got sample ids more than once ({some(twice)}), expected each once")


def matching_order(
    sample_id: Sequence[str], name: str, expected: Sequence[str], expected_name: str
) -> NDArray[np.intp]:
    """Where the expected samples are found among others that must be the same; ``name`` says whose in the error."""
    row = {name: position for position, name in enumerate(sample_id)}
    absent = [name for name in expected if name not in row]
    if absent or len(row) != len(expected):
        if name == expected_name:
            name = expected_name = ""
        known = set(expected)
        surplus = [name for name in sample_id if name not in known]
        raise ValueError(
            f"align: got samples that do not join: {len(absent)} only in {expected_name or 'the first stream'} "
            f"({some(absent)}), {len(surplus)} only in {name or 'another stream'} ({some(surplus)}); "
            "expected the same sample ids in every stream"
        )
    return np.array([row[name] for name in expected], dtype=np.intp)


def agreed(what: str, values: Sequence[Any]) -> Any:
    """The one value that streams give, passing over those that say nothing; None where none does."""
    said = sorted({value for value in values if value})
    if len(said) > 1:
        raise ValueError(f"align: got different {what} ({said[0]!r}, {said[1]!r}), expected the same in every stream")
    return said[0] if said else None


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few of some names, for an error."""
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
