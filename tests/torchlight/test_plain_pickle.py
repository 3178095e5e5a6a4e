"""Pickles are read as data: genuine ones whole, others not at all."""

import builtins
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchlight.plain_pickle import load_plain_pickle


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def load(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "some.pkl"
    path.write_bytes(data)
    return load_plain_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("module", [b"numpy._core.", b"numpy.core."])
def test_plain_values_and_arrays_come_back_as_they_were(tmp_path: Path, protocol: int, module: bytes) -> None:
    value = {
        "test_0": np.linspace(0, 1, 5, dtype=np.float32),
        3: [np.arange(6.0).reshape(2, 3), (np.asfortranarray(np.arange(6).reshape(2, 3)), None, True)],
        np.int64(7): {"half": np.ones(2, np.float16), "big": np.arange(3, dtype=">i4"), "text": np.array(["a", "bc"])},
        np.str_("name"): np.float64(0.5),
    }
    data = pickle.dumps(value, protocol)
    for written in (b"numpy._core.", b"numpy.core."):
        if protocol < 4:  # Later protocols carry the length of a name.
            data = data.replace(written, module)
    back = load(tmp_path, data)
    assert list(back) == ["test_0", 3, 7, "name"]
    assert back["name"] == 0.5
    for mine, theirs in [
        (back["test_0"], value["test_0"]),
        (back[3][0], value[3][0]),
        (back[3][1][0], value[3][1][0]),
        *((back[7][key], value[np.int64(7)][key]) for key in ("half", "big", "text")),
    ]:
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype.newbyteorder("=")
    assert back[3][1][1:] == (None, True)


def test_a_python_2_pickle_is_read(tmp_path: Path) -> None:
    numbers = struct.pack("<2f", 1.5, -200.0)
    data = (
        b"\x80\x02}U\x06test_0cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + numbers + b"tbs."
    )
    np.testing.assert_array_equal(load(tmp_path, data)["test_0"], np.array([1.5, -200.0], np.float32))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_anything_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "proof"
    bombs = [
        Runs(os.system, f"touch {proof}"),
        Runs(builtins.eval, f"open({str(proof)!r}, 'w')"),
        Runs(builtins.exec, f"open({str(proof)!r}, 'w')"),
        Runs(builtins.getattr, "a", "upper"),
        Runs(Path, str(proof)),
        Runs(np.load, str(proof)),
        np.array([Runs(os.system, f"touch {proof}")], dtype=object),
    ]
    for bomb in bombs:
        with pytest.raises(ValueError, match="expected") as refusal:
            load(tmp_path, pickle.dumps({"test_0": bomb}, protocol))
        assert "\n" not in str(refusal.value)
        assert not proof.exists()
    pickle.loads(pickle.dumps(bombs[0], protocol))
    assert proof.exists(), "the bomb must be live for this test to mean anything"


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n(K\x05\x85tR.",
        b"cnumpy\ndtype\n(U\x02O8tR.",
        b"cnumpy\ndtype\n(U\x0bf4,(2,)O8,f4tR.",
        b"c_codecs\nencode\n(U\x01aU\x05rot13tR.",
        b"c_codecs\nencode\n}U\x01aU\x01bsb.",
        b"cnumpy.core.multiarray\n_reconstruct\n}U\x01aU\x01bsb.",
        b"cnumpy.core.multiarray\n_reconstruct\n)\x81.",
        b"cnumpy.core.multiarray\n_reconstruct\n.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8tRU\x02abtR.",
        b"]\x94h\x00a.",
        b"\x82\x01.",
        b"\x80\x04Pname\n.",
        b"",
        b"garbage",
        b"\x80\x02Nr\x00\x00\x00\x01.",
        b"Np16777216\n.",
        pickle.dumps({"a": np.arange(4.0)})[:-9],
        b"}(K\x01K\x02cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02u1tRU\x01\x01tRK\x03u.",
        pickle.dumps({1, 2}),
        pickle.dumps(1j),
    ],
)
def test_what_is_not_plain_ends_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match="some.pkl") as refusal:
        load(tmp_path, data)
    assert "\n" not in str(refusal.value)


def test_shared_containers_cannot_explode(tmp_path: Path) -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(12):
        laughs = [laughs] * 40
    back = load(tmp_path, pickle.dumps(laughs))
    assert len(back) == 40
    assert back[0] is back[39]
