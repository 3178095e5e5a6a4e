"""A version that is measured runs in a process of its own, and its end is noticed."""

import os
from collections.abc import Callable

import pytest

from benchmarks.processes import serving


def make_adder(first: int) -> Callable[[int], tuple[int, int]]:
    return lambda second: (first + second, os.getpid())


def make_nothing() -> Callable[[], None]:
    return lambda: os._exit(1)


def test_each_version_answers_from_a_process_of_its_own() -> None:
    with serving(make_adder, 1) as one, serving(make_adder, 10) as ten:
        answers = [one(1), ten(1), one(2), ten(2)]
    assert [answer for answer, _ in answers] == [2, 11, 3, 12]
    assert len({process for _, process in answers} | {os.getpid()}) == 3


def test_a_process_that_died_is_not_waited_for() -> None:
    with pytest.raises(EOFError), serving(make_nothing) as ask:
        ask()
