"""Trainings behind a table: each is one call of a documented door and leaves one JSON, and scores or embeddings.

A finished run is skipped, an interrupted one goes on from its checkpoints, a failed one is said and leaves no result.
They run where the environment's BENCH_DEVICE says: ``cpu``, or a GPU's number. What a GPU made is kept apart, in
folders whose names end in ``_gpu``, and ``--table`` shows it where BENCH_DEVICE is set so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.measure import environment
from torchlight.metrics.bootstrap import mean_interval
from torchlight.metrics.classification import ClassificationMetrics
from torchlight.scores import align, read_scores

# As a door's --device takes it.
DEVICE = os.environ.get("BENCH_DEVICE") or "cpu"
# Of a failed training's console.
_LINES_SHOWN = 20


def apart(folder: Path) -> Path:
    """A folder of the CPU's runs, or that which stands beside it for `DEVICE`."""
    if DEVICE != "cpu" and not DEVICE.isdigit():
        raise ValueError(f"BENCH_DEVICE: got {DEVICE!r}, expected cpu or the number of a GPU")
    return folder if DEVICE == "cpu" else folder.with_name(f"{folder.name}_gpu")


@dataclass(frozen=True)
class Run(ABC):
    """One training and what it is evaluated on; what a subclass adds as fields is kept with the numbers.

    Attributes:
        work: where the run folders are made; on a GPU `apart` from it.
        headline: the metric that is said when it is done.
    """

    work: ClassVar[Path]
    headline: ClassVar[str] = "top1"

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of its result files and of its run folder."""

    @property
    @abstractmethod
    def kept(self) -> Path:
        """The folder of its result files; on a GPU `apart` from it."""

    @property
    @abstractmethod
    def evaluated_on(self) -> str:
        """The split whose scores are kept."""

    @abstractmethod
    def command(self) -> list[str]:
        """A door, called as a user would: the words after ``python``."""

    @property
    def produced(self) -> Path:
        """What its door leaves of the evaluated split."""
        return self.folders[-1] / "scores" / f"{self.evaluated_on}.npz"

    def numbers(self) -> dict[str, Any]:
        """What is kept with it, from its kept file; ``metrics`` among them."""
        scores = read_scores(self.scores)
        assert scores.labels is not None
        metrics = ClassificationMetrics()
        return {
            "metrics": metrics.of_arrays(scores.labels, scores.logits),
            "classifier_alone": metrics.of_arrays(scores.labels, scores.extra.get("classifier", scores.logits)),
            "checkpoint_sha": scores.checkpoint_sha,
        }

    @property
    def scores(self) -> Path:
        """Its kept score file, or embeddings file."""
        return apart(self.kept) / f"{self.name}.npz"

    @property
    def result(self) -> Path:
        """Its kept numbers; a run is finished when this file is there."""
        return apart(self.kept) / f"{self.name}.json"

    @property
    def folder(self) -> Path:
        """What its door is given as ``--work-dir``."""
        return apart(self.work) / self.name

    @property
    def folders(self) -> tuple[Path, ...]:
        """The run folders that its training fills, the one that is evaluated last."""
        return (self.folder,)


def train(run: Run, threads: int) -> None:
    """Do one run and keep its numbers and scores."""
    started = time.monotonic()
    run.folder.mkdir(parents=True, exist_ok=True)
    said = run.folder / "console.txt"
    with said.open("a") as console:
        done = subprocess.run(
            [sys.executable, *run.command()],
            stdout=console,
            stderr=console,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if done.returncode != 0:
        last = said.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        print("\n    ".join([f"{run.name}: exit code {done.returncode}, {said} ends with", *last]), flush=True)
        return
    run.result.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.produced, run.scores)
    epochs = [row for stage in run.folders for row in _epochs(stage)]
    payload = {
        **asdict(run),
        "evaluated_on": run.evaluated_on,
        "command": " ".join(["python", *run.command()]),
        **run.numbers(),
        "epochs": len(epochs),
        "training_minutes": round(sum(row["epoch_seconds"] for row in epochs) / 60, 1),
        "minutes_of_last_call": round((time.monotonic() - started) / 60, 1),
        "threads": threads,
        "environment": environment(),
    }
    run.result.write_text(json.dumps(payload, indent=1) + "\n")
    reached = f"{run.headline} {payload['metrics'][run.headline]:.1f}"
    print(f"{run.name}: {reached}, {payload['training_minutes']} minutes", flush=True)


def top1(runs: Sequence[Run]) -> list[float]:
    """Top-1 of the finished ones."""
    return [json.loads(run.result.read_text())["metrics"]["top1"] for run in runs if run.result.exists()]


def difference(first: Sequence[Run], second: Sequence[Run]) -> str:
    """Top-1 of the first minus the second's, meant over seeds, with an interval over test clips."""
    pairs = [pair for pair in zip(first, second, strict=True) if all(run.scores.exists() for run in pair)]
    if not pairs:
        return "not run"
    right = []
    for side in zip(*pairs, strict=True):
        aligned = align([read_scores(run.scores) for run in side])
        assert aligned.labels is not None
        right.append((aligned.logits.argmax(axis=2) == aligned.labels).mean(axis=0))
    found = mean_interval(100 * (right[0] - right[1]))
    return f"{found.estimate:+.1f} [{found.low:+.1f}, {found.high:+.1f}] ({len(pairs)} seeds)"


def cell(runs: Sequence[Run]) -> str:
    """Mean and spread of the finished ones, as a table shows them."""
    values = top1(runs)
    if not values:
        return "not run"
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread} ({len(values)} seed{'s' * (len(values) > 1)})"


def main(description: str, plan: Callable[[], Sequence[Run]], table: Callable[[], str]) -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads a run; 2 jobs of 1 beat 1 job of 2")
    args = parser.parse_args()
    started = time.monotonic()

    def work(run: Run) -> None:
        if time.monotonic() - started < 60 * args.minutes and not run.result.exists():
            train(run, args.threads)

    if not args.table:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(work, [run for run in plan() if args.only in run.name]))
    print(table())


def _epochs(folder: Path) -> list[dict[str, Any]]:
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, rows) if "lr" in row]
