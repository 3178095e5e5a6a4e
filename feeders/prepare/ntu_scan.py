"""The compiled walk over an NTU ``.skeleton`` file: one pass over its bytes.

It takes plain, whole files only, and gives up on anything else: `feeders.prepare.ntu_parse` reads those line by line
and says what is wrong with them.
"""

import numpy as np
from numba import njit

from feeders.prepare.intrinsics import eight_bytes, equal_bytes, lower_bytes, set_bits, trailing_zeros

# Up to these bounds mantissa and power of ten are exact in float64, so one operation rounds once (Clinger, PLDI 1990).
_EXACT_MANTISSA, _EXACT_POWER = np.uint64(2**53), 22
_POWERS = 10.0 ** np.arange(_EXACT_POWER + 1)
_NEWLINE, _RETURN, _SPACE, _ZERO, _PLUS, _MINUS, _POINT, _SMALL_E = 10, 13, 32, 48, 43, 45, 46, 101
# Eight bytes at a time (Lamport, CACM 1975): the same in every byte of a word.
_ONES = 0x0101010101010101
_ONE = np.uint64(1)
_ZEROS, _SIX, _TENS = np.uint64(_ZERO * _ONES), np.uint64(0x06 * _ONES), np.uint64(0xF0 * _ONES)
_BY_TEN, _BY_HUNDRED, _BY_MYRIAD = np.uint64(1 + 10 * 2**8), np.uint64(1 + 100 * 2**16), np.uint64(1 + 10000 * 2**32)
_PAIRS, _FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)


@njit(cache=True, nogil=True)
def scan(text: np.ndarray, frame_of: np.ndarray, body_id: np.ndarray, joints: np.ndarray) -> tuple[int, int]:
    """Fill the three tables, a row for each body-frame, and return (frames, rows); (-1, -1) to give up.

    Shapes:
        text: (B,) uint8, ending with a newline
        frame_of: (R,) int64; body_id: (R,) uint64; joints: (R, V, 3) float32; R is at most what is looked at
    """
    rows, (_, count_of_joints, _) = 0, joints.shape
    frames, at = _count(text, 0)
    for frame in range(frames):
        bodies, at = _count(text, at)
        if bodies < 0:
            return -1, -1
        for _ in range(bodies):
            if rows == len(joints):
                return -1, -1
            body, at = _whole(text, _skip_blanks(text, at))
            # 9 values follow the id in the line of a body, 9 the coordinates in that of a joint.
            at = _skip_values(text, at, 9)
            found, at = _count(text, at)
            if found != count_of_joints:
                return -1, -1
            frame_of[rows], body_id[rows] = frame, body
            for joint in range(count_of_joints):
                for axis in range(3):
                    joints[rows, joint, axis], at = _decimal(text, _skip_blanks(text, at))
                at = _skip_values(text, at, 9)
            if at < 0:
                return -1, -1
            rows += 1
    while 0 <= at < len(text) and _is_space(_byte(text, at)):
        at += 1
    return (frames, rows) if at == len(text) else (-1, -1)


# Each step returns where it stopped; -1, which the later steps hand on, where it gave up.


@njit(cache=True, nogil=True)
def _byte(text: np.ndarray, at: int) -> int:
    # An unsigned index spares the test for one that counts from the end.
    byte: int = np.int64(text[np.uint64(at)])
    return byte


@njit(cache=True, nogil=True)
def _is_space(byte: int) -> bool:
    return (byte == 32) | ((byte >= 9) & (byte <= 13))


@njit(cache=True, nogil=True)
def _skip_blanks(text: np.ndarray, at: int) -> int:
    if at < 0 or at >= len(text):
        return -1
    while _byte(text, at) != _NEWLINE and _is_space(_byte(text, at)):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _skip_values(text: np.ndarray, at: int, expected: int) -> int:
    """Past the end of the line, if it has as many values more."""
    if at < 0:
        return -1
    start, spaces, is_odd, before = at, np.uint64(0), False, np.uint64(0)
    while at + 64 <= len(text):
        space, control = equal_bytes(text, at, _SPACE), lower_bytes(text, at, _SPACE)
        if control:
            # Of the spaces, those before it.
            space &= control ^ (control - _ONE)
        spaces += set_bits(space)
        # A space behind a space is not in front of a value.
        is_odd |= (space & (space << _ONE | before)) != 0
        if control:
            at += np.int64(trailing_zeros(control))
            # One space before each value and none after the last, then the line's end, of one byte or two.
            if spaces == expected and not is_odd and _byte(text, at - 1) > _SPACE:
                at += _byte(text, at) == _RETURN
                if _byte(text, at) == _NEWLINE:
                    return at + 1
            break
        before = space >> np.uint64(63)
        at += 64
    return _skip_any_values(text, start, expected)


@njit(cache=True, nogil=True)
def _skip_any_values(text: np.ndarray, at: int, expected: int) -> int:
    """The same, byte by byte, however the values are spaced."""
    values, byte = 0, _byte(text, at)
    while byte != _NEWLINE:
        if byte <= 32 and not _is_space(byte):
            return -1
        while byte > 32:
            at += 1
            byte = _byte(text, at)
        while byte != _NEWLINE and _is_space(byte):
            at += 1
            byte = _byte(text, at)
        values += byte > 32
    return at + 1 if values == expected else -1


@njit(cache=True, nogil=True)
def _digits(text: np.ndarray, at: int, value: np.uint64) -> tuple[np.uint64, int]:
    """A number with the digits from here on appended; it holds 19 of them."""
    while 0 <= _byte(text, at) - _ZERO <= 9:
        value = value * np.uint64(10) + np.uint64(_byte(text, at) - _ZERO)
        at += 1
    return value, at


@njit(cache=True, nogil=True)
def _whole(text: np.ndarray, at: int) -> tuple[np.uint64, int]:
    """A whole number and nothing else before the next space."""
    if at < 0:
        return np.uint64(0), -1
    value, end = _digits(text, at, np.uint64(0))
    return (value, end) if 0 < end - at <= 19 and _is_space(_byte(text, end)) else (value, -1)


@njit(cache=True, nogil=True)
def _count(text: np.ndarray, at: int) -> tuple[int, int]:
    """A whole number that is alone in its line."""
    value, at = _whole(text, _skip_blanks(text, at))
    at = _skip_values(text, at, 0)
    return (np.int64(value), at) if at >= 0 and value < np.uint64(10**18) else (-1, -1)


@njit(cache=True, nogil=True)
def _sign(text: np.ndarray, at: int) -> tuple[bool, int]:
    """Whether it is a minus, and where the number begins."""
    # Without a branch, as half of all coordinates are negative.
    byte = _byte(text, at)
    return byte == _MINUS, at + ((byte == _MINUS) | (byte == _PLUS))


@njit(cache=True, nogil=True)
def _eight_digits(text: np.ndarray, at: int) -> tuple[np.uint64, int]:
    """The number that up to eight digits make, and how many there are, without a branch (Lemire, 2018)."""
    word = eight_bytes(text, at) ^ _ZEROS
    count = trailing_zeros(((word + _SIX) | word) & _TENS) >> np.uint64(3)
    # The lowest byte is the first digit. What follows the digits is shifted out, so that zeros stand before them; in
    # two steps, as a shift by all 64 bits is none.
    word = word << np.uint64(32) - np.uint64(4) * count << np.uint64(32) - np.uint64(4) * count
    word = (word * _BY_TEN >> np.uint64(8)) & _PAIRS
    word = (word * _BY_HUNDRED >> np.uint64(16)) & _FOURS
    return word * _BY_MYRIAD >> np.uint64(32), np.int64(count)


@njit(cache=True, nogil=True, error_model="numpy")
def _decimal(text: np.ndarray, at: int) -> tuple[float, int]:
    """A decimal number, rounded as Python's float does."""
    if at < 0:
        return 0.0, -1
    is_negative, first = _sign(text, at)
    if first + 18 <= len(text):
        # The usual form: one digit, a point, up to 14 more, a space.
        whole = _byte(text, first) - _ZERO
        fraction, count = _eight_digits(text, first + 2)
        mantissa = np.float64(whole) * _POWERS[count] + np.float64(fraction)
        if count == 8:
            more, further = _eight_digits(text, first + 10)
            mantissa = mantissa * _POWERS[further] + np.float64(more)
            count += further
        end = first + 2 + count
        is_usual = (_byte(text, first + 1) == _POINT) & (whole >= 0) & (whole <= 9) & (count > 0) & (count < 15)
        if is_usual and _is_space(_byte(text, end)):
            value = mantissa / _POWERS[count]
            return (-value if is_negative else value), end
    return _any_decimal(text, at)


@njit(cache=True, nogil=True, error_model="numpy")
def _any_decimal(text: np.ndarray, at: int) -> tuple[float, int]:
    """The same, digit by digit, in whatever form."""
    is_negative, at = _sign(text, at)
    mantissa, end = _digits(text, at, np.uint64(0))
    digits, power = end - at, 0
    if _byte(text, end) == _POINT:
        end += 1
        at = end
        # As `_digits` does; compiled in place it is faster.
        while 0 <= _byte(text, end) - _ZERO <= 9:
            mantissa = mantissa * np.uint64(10) + np.uint64(_byte(text, end) - _ZERO)
            end += 1
        power = at - end
        digits -= power
    if _byte(text, end) | 32 == _SMALL_E:
        is_small, at = _sign(text, end + 1)
        exponent, end = _digits(text, at, np.uint64(0))
        if not 0 < end - at <= 4:
            return 0.0, -1
        power += -np.int64(exponent) if is_small else np.int64(exponent)
    is_exact = 0 < digits <= 19 and mantissa <= _EXACT_MANTISSA and -_EXACT_POWER <= power <= _EXACT_POWER
    if not is_exact or not _is_space(_byte(text, end)):
        return 0.0, -1
    value = np.float64(mantissa)
    value = value * _POWERS[power] if power >= 0 else value / _POWERS[-power]
    return (-value if is_negative else value), end
