"""Named arrays as one run of bytes with a checksum: for a dozen small ones several times cheaper than ``.npz``.

For work that is made again where it is damaged; what is kept for good has a format that others can read.
"""

import json
import zlib
from collections.abc import Mapping

import numpy as np

# Arrays begin at multiples of it, as numpy likes them to; the checksum and the listing's length stand before all.
_ALIGNMENT = 64
_NUMBER = 8


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of plain types, whole in memory, as bytes: checksum, length of the listing, listing, arrays."""
    listing = json.dumps({name: (array.dtype.str, array.shape) for name, array in arrays.items()}).encode()
    parts: list[bytes | memoryview] = [
        len(listing).to_bytes(_NUMBER, "little"),
        listing,
        _gap(2 * _NUMBER + len(listing)),
    ]
    for array in arrays.values():
        content = array.reshape(-1).view(np.uint8).data
        parts += [content, _gap(len(content))]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([checksum.to_bytes(_NUMBER, "little"), *parts])


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """The arrays that were packed, as read-only views; ValueError where a byte of them is not what it was."""
    checksum = int.from_bytes(content[:_NUMBER], "little")
    if len(content) < 2 * _NUMBER or zlib.crc32(memoryview(content)[_NUMBER:]) != checksum:
        raise ValueError(f"packed arrays: got {len(content)} bytes with another checksum than they begin with")
    length = int.from_bytes(content[_NUMBER : 2 * _NUMBER], "little")
    at = 2 * _NUMBER + length
    arrays = {}
    for name, (kind, shape) in json.loads(content[2 * _NUMBER : at]).items():
        at += len(_gap(at))
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(content, np.dtype(kind), count, at).reshape(shape)
        at += arrays[name].nbytes
    return arrays


def _gap(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)
