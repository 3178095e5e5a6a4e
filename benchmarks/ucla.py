"""NW-UCLA on real recordings: every run behind the README's table, one JSON and one score file each.

    export PARTCLIP_DATA=...                  # the folder that holds NW-UCLA/all_sqe
    python -m benchmarks.ucla                 # train what is not finished yet, then print the table
    python -m benchmarks.ucla --minutes 100   # start no further run after that time
    python -m benchmarks.ucla --table         # only print the table, from benchmarks/results/ucla

A run is one call of ``main_clip_ucla.py`` with the two-core recipe ``config/ucla/cpu.yaml``. A finished one is skipped,
an interrupted one goes on from its checkpoint. Stage ``choose`` holds subjects 9 and 10 of views 1 and 2 out of
training and never opens view 3; what is chosen there (text weight, ensemble weights) is frozen for stage ``final``,
which trains on all subjects and is tested once, after its last epoch.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, environment
from torchlight.metrics.classification import ClassificationMetrics
from torchlight.metrics.fusion import fuse, search_weights
from torchlight.scores import align, read_scores

SPLITS = ("published", "without_copies")
STREAMS = {"joint": "lst_joint", "bone": "lst_bone", "joint_motion": "lst_joint_vel", "bone_motion": "lst_bone_vel"}
FOLDER = RESULTS / "ucla"
WORK = Path("work_dir/benchmarks/ucla")


@dataclass(frozen=True)
class Run:
    """One training and what it is evaluated on."""

    stage: str
    split: str
    stream: str
    seed: int
    text: bool

    @property
    def name(self) -> str:
        """The name of its result files."""
        return f"{self.stage}-{self.split}-{self.stream}-{'text' if self.text else 'plain'}-{self.seed}"

    @property
    def scores(self) -> Path:
        """Its kept score file."""
        return FOLDER / f"{self.name}.npz"

    @property
    def result(self) -> Path:
        """Its kept numbers; a run is finished when this file is there."""
        return FOLDER / f"{self.name}.json"

    def command(self) -> list[str]:
        """The documented door, called as a user would."""
        overrides = [f"seed={self.seed}", f"data.split={self.split}"]
        if not self.text:
            overrides += ["text.tower=none", "inference.text_weight=0"]
        phases = ["train", "test"]
        if self.stage == "choose":
            overrides += ["data.validation_subjects=[9, 10]", "inference.text_weight=validation"]
            phases = ["train", "validate"]
        return [
            *("main_clip_ucla.py", "--config", f"config/ucla/{STREAMS[self.stream]}.yaml"),
            *("--config", "config/ucla/cpu.yaml", "--work-dir", str(WORK / self.name), "--phase", *phases),
            *("--resume", "auto", "--device", "cpu", "--save-score", *overrides),
        ]


def plan() -> tuple[Run, ...]:
    """All runs, the most telling first."""
    others = [stream for stream in STREAMS if stream != "joint"]
    runs = [Run("choose", "without_copies", stream, 0, text=True) for stream in STREAMS]
    runs += [Run("final", split, "joint", 0, text=True) for split in SPLITS]
    runs += [Run("final", split, stream, 0, text=True) for stream in others for split in SPLITS]
    runs += [Run("final", split, "joint", 0, text=False) for split in SPLITS]
    runs += [Run("final", split, "joint", seed, text) for seed in (1, 2) for text in (True, False) for split in SPLITS]
    return tuple(runs)


def train(run: Run, threads: int) -> None:
    """Do one run and keep its numbers and scores; a failed one is said and leaves no result."""
    started = time.monotonic()
    folder = WORK / run.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "console.txt").open("a") as console:
        done = subprocess.run(
            [sys.executable, *run.command()],
            stdout=console,
            stderr=console,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if done.returncode != 0:
        print(f"{run.name}: exit code {done.returncode}, see {folder / 'console.txt'}", flush=True)
        return
    split = "val" if run.stage == "choose" else "test"
    scores = read_scores(folder / "scores" / f"{split}.npz")
    assert scores.labels is not None
    metrics = ClassificationMetrics()
    epochs = [row for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "lr" in row]
    payload = {
        **asdict(run),
        "evaluated_on": split,
        "command": " ".join(["python", *run.command()]),
        "metrics": metrics.of_arrays(scores.labels, scores.logits),
        "classifier_alone": metrics.of_arrays(scores.labels, scores.extra.get("classifier", scores.logits)),
        "epochs": len(epochs),
        "training_minutes": round(sum(row["epoch_seconds"] for row in epochs) / 60, 1),
        "minutes_of_last_call": round((time.monotonic() - started) / 60, 1),
        "threads": threads,
        "checkpoint_sha": scores.checkpoint_sha,
        "environment": environment(),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "scores" / f"{split}.npz", run.scores)
    run.result.write_text(json.dumps(payload, indent=1) + "\n")
    print(f"{run.name}: top-1 {payload['metrics']['top1']:.1f}, {payload['training_minutes']} minutes", flush=True)


def top1(runs: Sequence[Run], key: str = "metrics") -> list[float]:
    """Top-1 of the finished ones."""
    return [json.loads(run.result.read_text())[key]["top1"] for run in runs if run.result.exists()]


def fused(runs: Sequence[Run], weights: np.ndarray) -> dict[str, float] | None:
    """Metrics of the streams' weighted mean; None until all are finished."""
    if not all(run.scores.exists() for run in runs):
        return None
    aligned = align([read_scores(run.scores) for run in runs])
    assert aligned.labels is not None
    return ClassificationMetrics().of_arrays(aligned.labels, fuse(aligned.logits, weights, "softmax"))


def chosen_weights() -> tuple[np.ndarray, str]:
    """Ensemble weights from the stage ``choose``; equal until it is finished."""
    runs = [run for run in plan() if run.stage == "choose"]
    if not all(run.scores.exists() for run in runs):
        return np.full(len(STREAMS), 1 / len(STREAMS)), "equal; validation runs are not finished"
    aligned = align([read_scores(run.scores) for run in runs])
    assert aligned.labels is not None
    weights = search_weights(aligned.logits, aligned.labels, "softmax")
    return weights, "chosen on subjects 9 and 10 of views 1 and 2"


def table() -> str:
    """The README's table, from the kept results alone."""
    final = [run for run in plan() if run.stage == "final"]
    weights, origin = chosen_weights()
    lines = [
        "Test subjects are training subjects, seen from another view; last epoch; mean ± spread (standard deviation).",
        "",
        "| NW-UCLA, top-1 % | published (1,020 / 464) | without copies (925 / 464) |",
        "|---|---|---|",
    ]

    def row(title: str, cells: Sequence[str]) -> None:
        lines.append(f"| {title} | {' | '.join(cells)} |")

    def seeds(stream: str, text: bool) -> list[str]:
        cells = []
        for split in SPLITS:
            values = top1([r for r in final if (r.split, r.stream, r.text) == (split, stream, text)])
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread} ({len(values)} seeds)" if values else "not run")
        return cells

    baselines = FOLDER / "baselines.json"
    if baselines.exists():
        for name, values in json.loads(baselines.read_text())["top1"].items():
            row(name, [f"{values[split]:.1f}" for split in SPLITS])
    row("joint, text off", seeds("joint", text=False))
    for stream in STREAMS:
        row(stream.replace("_", " "), seeds(stream, text=True))
    for title, by in ((f"four streams, weights {origin}", weights), ("four streams, equal weights", np.ones(4))):
        cells = []
        for split in SPLITS:
            runs = [
                r
                for stream in STREAMS
                for r in final
                if (r.split, r.stream, r.seed, r.text) == (split, stream, 0, True)
            ]
            got = fused(runs, by)
            cells.append(f"{got['top1']:.1f} [{got['top1_low']:.1f}, {got['top1_high']:.1f}]" if got else "not run")
        row(title, cells)
    held_out = ", ".join(
        f"{run.stream} {value:.1f}" for run in plan() if run.stage == "choose" for value in top1([run])
    )
    lines += ["", f"On the held-out subjects 9 and 10 (without copies): {held_out or 'not run'}."]
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="train nothing")
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
            list(pool.map(work, plan()))
    print(table())


if __name__ == "__main__":
    main()
