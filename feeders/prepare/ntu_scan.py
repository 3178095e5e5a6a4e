"""The compiled walk over an NTU ``.skeleton`` file: one pass over its bytes.

It takes plain, whole files only, and gives up on anything else: `feeders.prepare.ntu_parse` reads those line by line
and says what is wrong with them.
"""

import numpy as np
from numba import njit

# Up to these bounds mantissa and power of ten are exact in float64, so one operation rounds once (Clinger, PLDI 1990).
_EXACT_MANTISSA, _EXACT_POWER = np.uint64(2**53), 22
_POWERS = 10.0 ** np.arange(_EXACT_POWER + 1)
_NEWLINE, _ZERO, _PLUS, _MINUS, _POINT, _SMALL_E = 10, 48, 43, 45, 46, 101


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


@njit(cache=True, nogil=True, error_model="numpy")
def _decimal(text: np.ndarray, at: int) -> tuple[float, int]:
    """A decimal number, rounded as Python's float does."""
    if at < 0:
        return 0.0, -1
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
