"""What a run says: log lines (console and ``log.txt``), scalars (TensorBoard), running means of an epoch's losses."""

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from torch import Tensor

from torchlight.distributed import all_gather, is_main
from torchlight.task import StepOutput

logger = logging.getLogger(__name__)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log to the console and append to a file, on the main process; the others only warn."""
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.setLevel(logging.INFO if is_main() else logging.WARNING)
    # What installed libraries have to tell is in the file; the console is for the run.
    console.addFilter(lambda record: record.levelno >= logging.WARNING or "site-packages" not in record.pathname)
    handlers: list[logging.Handler] = [console]
    if is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    # Results are printed by the launcher and logged as debug records: the file has them, the console not twice.
    logging.getLogger("torchlight").setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)


class ScalarWriter:
    """Scalars to TensorBoard on the main process, over optimiser steps; elsewhere nothing.

    Written in place and not through tensorboardX's `SummaryWriter`, whose thread meets a full disk with tracebacks.
    Plots are worth less than a run: when they cannot be written, that is said once and they end.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writer: EventsWriter | None = None
        if is_main():
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}")
            # What a killed run wrote beyond the point that it is resumed from is not shown.
            self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Write some scalars at a step."""
        for name, value in values.items():
            self._write(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))
        self._guarded(lambda writer: writer.flush())

    def close(self) -> None:
        """Write out what is buffered."""
        self._guarded(lambda writer: writer.close())

    def _write(self, event: Event) -> None:
        self._guarded(lambda writer: writer.write_event(event))

    def _guarded(self, act: Callable[[EventsWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            act(self._writer)
        except OSError as error:
            logger.warning("TensorBoard's scalars cannot be written: %s", error.strerror or error)
            self._writer = None


@dataclass(frozen=True)
class _Pending:
    epoch: int
    batch: int
    sample_ids: tuple[str, ...]
    weight: int
    names: tuple[str, ...]
    losses: int
    values: Tensor


@dataclass
class LossMeter:
    """Means of an epoch's losses and scalars over clips, read from the device a few steps at a time.

    Args:
        sums: name -> [sum of values x clips, clips]; what a checkpoint keeps of it.
    """

    sums: dict[str, list[float]] = field(default_factory=dict)
    _pending: list[_Pending] = field(default_factory=list)

    def add(self, output: StepOutput, total: Tensor, batch: Any, epoch: int, position: int) -> None:
        """Note one step, without waiting for the device."""
        values = {"loss": total, **output.losses} | dict(output.scalars)
        stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
        losses = 1 + len(output.losses)
        ids = tuple(getattr(batch, "sample_id", ()))
        self._pending.append(_Pending(epoch, position, ids, len(batch), tuple(values), losses, stacked))

    def flush(self) -> dict[str, float]:
        """Add up what is pending and return the latest step's values.

        Raises:
            ValueError: a loss is NaN or infinite; names the epoch, the batch and its samples.
        """
        latest: dict[str, float] = {}
        for step in self._pending:
            latest = dict(zip(step.names, step.values.tolist(), strict=True))
            for name in step.names[: step.losses]:
                if not math.isfinite(latest[name]):
                    raise ValueError(
                        f"training: epoch {step.epoch + 1}, batch {step.batch}: got {name} = {latest[name]}, expected "
                        f"a finite number; samples {', '.join(step.sample_ids) or 'unnamed'}; lower "
                        "train.optimiser.lr, set train.clip_gradient, or look at these samples"
                    )
            for name, value in latest.items():
                total = self.sums.setdefault(name, [0.0, 0.0])
                total[0] += value * step.weight
                total[1] += step.weight
        self._pending.clear()
        return latest

    def means(self) -> dict[str, float]:
        """Mean over all clips of all processes."""
        self.flush()
        joined: dict[str, list[float]] = {}
        for sums in all_gather(self.sums):
            for name, (total, clips) in sums.items():
                entry = joined.setdefault(name, [0.0, 0.0])
                entry[0] += total
                entry[1] += clips
        return {name: total / clips for name, (total, clips) in joined.items()}
