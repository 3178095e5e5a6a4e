"""Pickles of others, read as data: numbers, strings, containers and numpy arrays, and no code of theirs or of numpy's.

Every name that a pickle may mention stands for an inert class below. Arrays are put together only after
unpickling has ended, from checked dtype, shape and bytes, so no object with behaviour is ever in reach of the file.
"""

import math
import os
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|U[1-9][0-9]{0,3}")
MAX_DEPTH = 16


def load_plain_pickle(path: Path) -> Any:
    """What a pickle of plain values and numpy arrays holds; Python 2 and 3, numpy 1 and 2, protocols 0 to 5.

    Raises:
        ValueError: the file is damaged, or names anything but a numpy array; it was not run.
    """
    with path.open("rb") as stream:
        return read_plain_pickle(stream, path)


def read_plain_pickle(stream: BinaryIO, where: object) -> Any:
    """As `load_plain_pickle`, from an open file; ``where`` names it in errors."""
    try:
        _check_memo(stream)
        return _plain(_PlainUnpickler(stream, encoding="latin1").load(), {}, MAX_DEPTH)
    except (pickle.UnpicklingError, ValueError) as error:
        reason = str(error)
    except (ArithmeticError, AttributeError, EOFError, ImportError, LookupError, MemoryError, TypeError) as error:
        reason = f"got a damaged pickle ({error}), expected plain values and numpy arrays"
    raise ValueError(f"{where}: {' '.join(reason.split())}")


def _check_memo(stream: BinaryIO) -> None:
    """Unpickling makes room for every place up to one that a value is kept at: gigabytes, by nine bytes of a file."""
    start = stream.tell()
    size = stream.seek(0, os.SEEK_END) - start
    stream.seek(start)
    try:
        kept = (place for code, place, _ in pickletools.genops(stream) if code.name in ("PUT", "LONG_BINPUT"))
        last = max((place for place in kept if place is not None), default=0)
    except ValueError as error:
        raise pickle.UnpicklingError(f"got a truncated or damaged pickle ({error}), expected a whole one") from error
    if last > size:
        raise pickle.UnpicklingError(
            f"got a value kept at place {last} of a pickle of {size} bytes, expected a whole one"
        )
    stream.seek(start)


class _Dtype:
    """What a pickle says of ``numpy.dtype``."""

    def __init__(self, code: str, *flags: bool) -> None:
        if not (isinstance(code, str) and PLAIN_DTYPE.fullmatch(code)):
            raise pickle.UnpicklingError(f"got an array of type {code!r}, expected numbers or text; it was not read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"got byte order {state[1]!r}, expected one of < > | =")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """What a pickle says of an array: ``_reconstruct`` makes it empty, its state fills it."""

    def __init__(self, *empty: Any) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, fortran, self.data = state
        self.order = "F" if fortran else "C"

    def build(self) -> NDArray[Any]:
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        dtype = self.dtype.dtype
        if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(self.shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"got array data that does not fill shape {self.shape}, expected its bytes")
        flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
        return np.asarray(flat.reshape(self.shape, order="F" if self.order == "F" else "C"))


class _BufferArray(_Array):
    """The array of protocol 5, complete at once."""

    def __init__(self, data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str, axis_order: None = None) -> None:
        if order not in ("C", "F") or axis_order is not None:
            raise pickle.UnpicklingError(f"got an array in memory order {order!r}, expected C or F")
        self.data, self.dtype, self.shape, self.order = data, dtype, shape, order


class _Scalar(_Array):
    """A numpy number or string, such as the keys of a dict made from an array."""

    def __init__(self, dtype: _Dtype, data: Any) -> None:
        self.data, self.dtype, self.shape, self.order = data, dtype, (), "C"


class _Latin1:
    """``_codecs.encode`` as protocols 0 to 2 use it, to spell bytes."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"got bytes spelled in {encoding!r}, expected latin1")
        return text.encode("latin1")

    # Without it the file could set attributes of this class.
    def __setstate__(self, state: Any) -> None: ...


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        match module.replace("numpy._core.", "numpy.core."), name:
            case "numpy", "dtype":
                return _Dtype
            case ("numpy", "ndarray") | ("numpy.core.multiarray", "_reconstruct"):
                return _Array
            case "numpy.core.multiarray", "scalar":
                return _Scalar
            case "numpy.core.numeric", "_frombuffer":
                return _BufferArray
            case "_codecs", "encode":
                return _Latin1
        raise pickle.UnpicklingError(
            f"got a pickle that names {module}.{name}, expected only plain values and numpy arrays; it was not run"
        )


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Replace the stand-ins by arrays; shared containers are converted once, so that nesting cannot explode."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if id(value) in done:
        return done[id(value)]
    if depth == 0:
        raise pickle.UnpicklingError(f"got containers nested deeper than {MAX_DEPTH}, expected plain values")
    result: Any
    match value:
        case _Scalar():
            result = value.build().item()
        case _Array():
            result = value.build()
        case dict():
            result = {_plain(key, done, depth - 1): _plain(item, done, depth - 1) for key, item in value.items()}
            if len(result) != len(value):
                raise pickle.UnpicklingError("got a dict with equal keys, expected each key once")
        case list() | tuple():
            result = type(value)(_plain(item, done, depth - 1) for item in value)
        case _:
            raise pickle.UnpicklingError(f"got a {type(value).__name__}, expected plain values and numpy arrays")
    done[id(value)] = result
    return result
