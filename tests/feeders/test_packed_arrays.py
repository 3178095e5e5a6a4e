import numpy as np
import pytest

from feeders.prepare.packed_arrays import pack, unpack


def arrays() -> dict[str, np.ndarray]:
    return {
        "names": np.array(["a", "longer", "ü"]),
        "digests": np.array([b"0123", b"4567"]),
        "numbers": np.arange(12, dtype=np.int64).reshape(3, 4),
        "none": np.zeros((0, 25, 3), dtype=np.float32),
        "poses": np.random.default_rng(0).normal(size=(5, 25, 3)).astype(np.float32),
    }


def test_what_is_packed_comes_back() -> None:
    held = arrays()
    found = unpack(pack(held))
    assert list(found) == list(held)
    for name, array in held.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].ctypes.data % array.dtype.alignment == 0


@pytest.mark.parametrize("at", [0, 7, 8, 15, 16, 40, 300, -1])
def test_a_changed_byte_is_found(at: int) -> None:
    content = bytearray(pack(arrays()))
    content[at] ^= 1
    with pytest.raises(ValueError, match="another checksum"):
        unpack(bytes(content))


@pytest.mark.parametrize("length", [0, 8, 15, 16, 100, -1])
def test_a_shorter_file_is_found(length: int) -> None:
    with pytest.raises(ValueError, match="another checksum"):
        unpack(pack(arrays())[:length])
