"""The embedded default over seeds: text on and off, float32 and bf16 training, on unseen people and an unseen camera.

    python -m benchmarks.demo            # nine runs, a few minutes each; finished ones are skipped
    python -m benchmarks.demo --table    # only print the table

The simulator was made so that this is neither trivial nor impossible, with its test split in view: the numbers say that
the house works, not that a method is good.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, environment
from torchlight.metrics.bootstrap import mean_interval
from torchlight.metrics.classification import ClassificationMetrics, predicted_class
from torchlight.scores import read_scores

SEEDS = (0, 1, 2)
VARIANTS = {"text on": (), "text on, bf16": ("train.precision=bf16",), "text off": ("text.tower=none",)}
FILE = RESULTS / "demo.json"
WORK = Path("work_dir/benchmarks/demo")


def train(variant: str, seed: int, threads: int) -> dict[str, Any]:
    """One run of the demo's door; its numbers, and which test clips it got right."""
    folder = WORK / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}"
    words = ["main_clip_ntu.py", "--config", "config/demo/joint.yaml", "--work-dir", str(folder), "--device", "cpu"]
    words += ["--resume", "auto", f"seed={seed}", *VARIANTS[variant]]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    scores = read_scores(folder / "scores" / "test.npz")
    assert scores.labels is not None
    return {
        "command": " ".join(["python", *words]),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "metrics": ClassificationMetrics().of_arrays(scores.labels, scores.logits),
        "right": (predicted_class(scores.labels, scores.logits) == scores.labels).astype(int).tolist(),
    }


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Mean and spread over the seeds that are finished."""
    lines = [
        "| demo, top-1 % on unseen people and camera | mean ± spread | seeds | minutes a run |",
        "|---|---|---|---|",
    ]
    lines.append("| chance | 6.2 | | |")
    for variant in VARIANTS:
        done = [runs[name] for seed in SEEDS if (name := f"{variant} {seed}") in runs]
        if done:
            top1 = [run["metrics"]["top1"] for run in done]
            minutes = np.mean([run["minutes"] for run in done])
            spread = np.std(top1, ddof=1) if len(top1) > 1 else 0.0
            lines.append(f"| {variant} | {np.mean(top1):.1f} ± {spread:.1f} | {len(top1)} | {minutes:.1f} |")
    pairs = [(f"text on {seed}", f"text on, bf16 {seed}") for seed in SEEDS]
    if all(name in runs for pair in pairs for name in pair):
        difference = [np.subtract(runs[half]["right"], runs[full]["right"]) for full, half in pairs]
        of = mean_interval(100 * np.mean(difference, axis=0))
        lines += [
            "",
            f"bf16 minus float32, paired over clips: {of.estimate:+.1f} [{of.low:+.1f}, {of.high:+.1f}] points.",
        ]
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, keep it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads a run")
    args = parser.parse_args()
    runs = json.loads(FILE.read_text())["runs"] if FILE.exists() else {}

    def work(job: tuple[int, str]) -> None:
        seed, variant = job
        if (name := f"{variant} {seed}") not in runs:
            runs[name] = train(variant, seed, args.threads)
            FILE.parent.mkdir(parents=True, exist_ok=True)
            FILE.write_text(json.dumps({"runs": runs, "environment": environment()}) + "\n")
            print(f"{name}: {runs[name]['metrics']['top1']:.1f}", flush=True)

    if not args.table:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(work, [(seed, variant) for variant in VARIANTS for seed in SEEDS]))
    print(table(runs))


if __name__ == "__main__":
    main()
