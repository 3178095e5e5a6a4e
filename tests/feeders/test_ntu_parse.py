import logging
import re
import sys
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reference.ntu_prepare import read_plain
from feeders.prepare import ntu_parse
from feeders.prepare.ntu_parse import RawClip, read_lines, read_skeleton
from tests.feeders.ntu_files import ANNA, BERT, clip_of, random_clip, skeleton_file

GOOD = skeleton_file(clip_of({ANNA: "101", BERT: "001"}))
SMALL = skeleton_file(clip_of({ANNA: "1"}))
FIRST_X = SMALL.split(b"\n")[4].split()[0]


def outcome(read, content: bytes) -> tuple[object, ...] | str:
    """What a reader makes of some bytes, bit for bit; anything but a clip or a ValueError ends the test."""
    try:
        clip = read("clip", content)
    except ValueError as error:
        return _one_line(str(error))
    return clip.frames, clip.frame_of.tolist(), clip.body_id.tolist(), clip.joints.tobytes()


def _one_line(reason: str) -> str:
    assert reason.startswith("clip: got ")
    assert "\n" not in reason
    return reason


def by_lines(name: str, content: bytes) -> RawClip:
    """The reader as it is where numba is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ntu_parse, "_compiled", lambda: None)
        return read_skeleton(name, content)


@pytest.mark.parametrize("seed", range(30))
def test_a_file_reads_as_a_plain_reader_reads_it(seed: int) -> None:
    content = skeleton_file(random_clip(seed))
    clip, plain = read_skeleton("clip", content), read_plain(content.decode())
    assert outcome(read_skeleton, content) == outcome(by_lines, content)
    assert [str(body_id) for body_id in dict.fromkeys(clip.body_id.tolist())] == list(plain.bodies)
    assert len(set(clip.frame_of.tolist())) == plain.frames
    for body_id, body in plain.bodies.items():
        np.testing.assert_array_equal(clip.joints[clip.body_id == np.uint64(body_id)], body.joints)


NUMBERS = st.one_of(
    st.sampled_from(["0.1234567", "-1.2e-05", "3", "nan", "-inf", "Infinity", "1e400", "1e-400", "-0.0", "+.5", "5."]),
    st.sampled_from([".", "e5", "1e", "1e+", "-", "+", "1-2", "1_0", "0x1p3", "8.5E-22", "1e22", "1e23", "0.7e-45"]),
    st.sampled_from(["9007199254740993", "1.00000005960464477539", "3.4028236e38", "0" * 30 + "1.5"]),
    st.floats().map(repr),
    st.floats(width=32).map(repr),
    st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{0,4})?", fullmatch=True).filter(bool),
)


@given(NUMBERS)
@settings(max_examples=400, deadline=None)
def test_a_number_is_what_python_says_it_is(token: str) -> None:
    content = SMALL.replace(FIRST_X, token.encode(), 1)
    assert outcome(read_skeleton, content) == outcome(by_lines, content)
    try:
        with np.errstate(over="ignore"):
            expected = np.float32(float(token))
    except ValueError:
        with pytest.raises(ValueError, match="in line 5, expected numbers"):
            read_skeleton("clip", content)
        return
    assert read_lines("clip", content).joints[0, 0, 0].tobytes() == expected.tobytes() or np.isnan(expected)
    if np.isfinite(expected):
        assert read_skeleton("clip", content).joints[0, 0, 0].tobytes() == expected.tobytes()
    else:
        with pytest.raises(ValueError, match="NaN or infinite coordinates in frame 0"):
            read_skeleton("clip", content)


@given(st.integers(0, 10**22) | st.integers(2**64 - 2, 2**64 + 1))
@settings(max_examples=100, deadline=None)
def test_ids_are_exact_up_to_64_bits(body_id: int) -> None:
    content = SMALL.replace(str(ANNA).encode(), str(body_id).encode())
    assert outcome(read_skeleton, content) == outcome(by_lines, content)
    if body_id < 2**64:
        assert read_skeleton("clip", content).body_id.tolist() == [body_id]
    else:
        with pytest.raises(ValueError, match="as the body id"):
            read_skeleton("clip", content)


@given(st.binary(max_size=200) | st.text(" \r\n\t\v\f\x1c0123456789.-e", max_size=200).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    assert outcome(read_skeleton, content) == outcome(by_lines, content)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with bytes overwritten, cut out or put in."""
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.sampled_from([0, 1, 2, 40, len(content)]))
        put = draw(st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b"\x1c", b"25", b"9" * 30, b"\r", b"\n\n"]))
        content[at : at + cut] = put
    return bytes(content)


@given(damaged())
@settings(max_examples=400, deadline=None)
def test_a_damaged_file_is_read_or_refused(content: bytes) -> None:
    assert outcome(read_skeleton, content) == outcome(by_lines, content)


# Many values in eight bytes.
SHORT = b"\r\n".join([b"1", b"1", b"7 0 1 1 1 1 0 0 0 2", b"25", *[b"1 2 3 4 5 6 7 8 9 1 2 3"] * 25, b""])
SEAMS = [
    b"",
    b" ",
    b"  ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\v",
    b"\0",
    b"\x1c",
    b"\x7f",
    b"\x85",
    b"+",
    b"-",
    b"e1",
    b"0",
    b" 5",
]


@st.composite
def near_halfway(draw: st.DrawFn) -> bytes:
    """A number of 6 to 20 decimals between two of float32's, about where rounding twice is another thing than once."""
    low, unit = draw(st.floats(0, 9, width=32)), Decimal(1).scaleb(-draw(st.integers(6, 20)))
    middle = (Decimal(low) + Decimal(float(np.nextafter(np.float32(low), np.float32(10))))) / 2
    number = middle.quantize(unit) + draw(st.integers(-1, 1)) * unit
    return f"{draw(st.sampled_from(['', '-', '+']))}{number:f}".encode()


@st.composite
def resewn(draw: st.DrawFn) -> bytes:
    """A good file with other numbers, or with another seam between two values, in a few places."""
    content = draw(st.sampled_from([SMALL, SHORT])).replace(b"\r\n", draw(st.sampled_from([b"\n", b"\r\n"])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        if draw(st.booleans()):
            seam = next((match.start() for match in re.finditer(rb"\s", content) if match.start() >= at), at)
            start = max(seam + draw(st.integers(-2, 1)), 0)
            content = content[:start] + draw(st.sampled_from(SEAMS)) + content[start + draw(st.integers(0, 2)) :]
        else:
            value = draw(st.sampled_from([b"", b"4"]) | near_halfway())
            content = content[:at] + re.sub(rb"(\A|\s)\S+", rb"\g<1>" + value, content[at:], count=1)
    return draw(st.sampled_from([content, content.rstrip(), content.rstrip() + b" ", content + b"\r\n \n"]))


@given(resewn())
@settings(max_examples=500, deadline=None)
def test_values_are_told_apart_as_line_by_line(content: bytes) -> None:
    assert outcome(read_skeleton, content) == outcome(by_lines, content)


@pytest.mark.parametrize("size", range(0, len(GOOD) - 2, 97))
def test_a_truncated_file_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="truncated|in line"):
        read_skeleton("clip", GOOD[:size])


@pytest.mark.parametrize("lines", [[b"1000000"], [b"1", b"1000000"], [b"1", b"9" * 5000]])
@pytest.mark.parametrize("read", [read_skeleton, by_lines])
def test_a_million_claimed_bodies_or_frames_take_no_memory(lines: list[bytes], read) -> None:
    content = b"\n".join([*lines, *SMALL.split(b"\n")[len(lines) :]])
    read_skeleton("clip", SMALL)
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected at most|expected a whole number"):
        read("clip", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"\n25\r", b"\n24\r", "24 as the joint count in line 4, expected 25"),
        (b"3\r\n1", b"two\r\n1", "'two' as the frame count in line 1"),
        (b"3\r\n1", b"3\r\n-1", "'-1' as the body count of frame 0 of 3 in line 2"),
        (b" 2\r\n25", b"\r\n25", "9 values in line 3, expected the 10 of a body id"),
        (b" -0.03 2\r", b" 2\r", "11 values in line 5, expected the 12 of a joint"),
        (b"\r\n25", b"\r\n\r\n25", "0 values in line 4, expected the 1 of a joint count"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(old: bytes, new: bytes, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=reason):
        read_skeleton("clip", GOOD.replace(old, new, 1))


def test_lines_after_the_last_frame_are_refused_and_blank_ones_are_not() -> None:
    with pytest.raises(ValueError, match="malformed after them"):
        read_skeleton("clip", GOOD + b"1 2 3\n")
    assert outcome(read_skeleton, GOOD + b" \n\n") == outcome(read_skeleton, GOOD)
    assert outcome(read_skeleton, GOOD.rstrip()) == outcome(read_skeleton, GOOD)


def test_columns_that_nobody_reads_may_be_no_numbers() -> None:
    content = GOOD.replace(b" 988 430 ", b" -1.#INF NaN ")
    assert outcome(read_skeleton, content) == outcome(read_skeleton, GOOD) == outcome(by_lines, content)


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "feeders.prepare.ntu_scan", None)
    ntu_parse._compiled.cache_clear()
    yield
    ntu_parse._compiled.cache_clear()


@pytest.mark.usefixtures("without_numba")
def test_without_a_compiler_files_are_read_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        clips = [read_skeleton("clip", GOOD) for _ in range(2)]
    assert clips[0].body_id.tolist() == [ANNA, ANNA, BERT]
    assert len(caplog.records) == 1
    assert "pip install numba" in caplog.text
