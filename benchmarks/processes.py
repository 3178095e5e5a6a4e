"""A process for each version that is measured: none runs on memory that another has left behind. Imports no torch."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[..., Any]


@contextmanager
def serving(make: Callable[..., Work], *arguments: object) -> Iterator[Work]:
    """A new process that calls ``make`` once, and what calls there the function it returned.

    Arguments and answers are pickled. The first call waits until the process is ready, so it should not count.
    """
    context = multiprocessing.get_context("spawn")
    line, far_end = context.Pipe()
    process = context.Process(target=_serve, args=(far_end, make, arguments))
    process.start()
    far_end.close()

    def ask(*words: object) -> Any:
        line.send(words)
        return line.recv()

    with line:
        yield ask
    process.join()


def _serve(line: Connection, make: Callable[..., Work], arguments: tuple[object, ...]) -> None:
    work = make(*arguments)
    # Until the asking end is closed.
    with suppress(EOFError):
        while True:
            line.send(work(*line.recv()))
