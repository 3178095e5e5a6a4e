"""NW-UCLA on real recordings: every run behind the README's table, one JSON and one score file each.

    export PARTCLIP_DATA=...                  # the folder that holds NW-UCLA/all_sqe
    python -m benchmarks.ucla                 # train what is not finished yet, then print the table
    python -m benchmarks.ucla --minutes 100   # start no further run after that time
    python -m benchmarks.ucla --table         # only print the table, from benchmarks/results/ucla

A run is one call of ``main_clip_ucla.py`` with the two-core recipe ``config/ucla/cpu.yaml``. A finished one is skipped,
an interrupted one goes on from its checkpoint. Stage ``choose`` holds subjects 9 and 10 of views 1 and 2 out of
training and never opens view 3; the ensemble's weights are chosen there and frozen for stage ``final``, which trains
on all subjects and is tested once, after its last epoch, by the classifier alone (``inference.text_weight=0``).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks import runs
from benchmarks.measure import RESULTS
from benchmarks.runs import cell, difference, top1
from torchlight.metrics.classification import ClassificationMetrics
from torchlight.metrics.fusion import fuse, search_weights
from torchlight.scores import align, read_scores

SPLITS = ("published", "without_copies")
STREAMS = {"joint": "lst_joint", "bone": "lst_bone", "joint_motion": "lst_joint_vel", "bone_motion": "lst_bone_vel"}
FOLDER = RESULTS / "ucla"


@dataclass(frozen=True)
class Run(runs.Run):
    """One training and what it is evaluated on."""

    work = Path("work_dir/benchmarks/ucla")
    recipe: ClassVar[tuple[str, ...]] = ("--config", "config/ucla/cpu.yaml")

    stage: str
    split: str
    stream: str
    seed: int
    text: bool

    @property
    def name(self) -> str:
        """What it differs in."""
        return f"{self.stage}-{self.split}-{self.stream}-{'text' if self.text else 'plain'}-{self.seed}"

    @property
    def kept(self) -> Path:
        """Where the numbers are."""
        return FOLDER

    @property
    def evaluated_on(self) -> str:
        """What is chosen is chosen on held-out subjects."""
        return "val" if self.stage == "choose" else "test"

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
            *self.recipe,
            *("--device", runs.DEVICE, "--work-dir", str(self.folder), "--phase", *phases),
            *("--resume", "auto", "--save-score", *overrides),
        ]


def plan() -> tuple[Run, ...]:
    """All runs, the most telling first."""
    others = [stream for stream in STREAMS if stream != "joint"]
    planned = [Run("choose", "without_copies", stream, 0, text=True) for stream in STREAMS]
    planned += [Run("final", split, "joint", 0, text=True) for split in SPLITS]
    planned += [Run("final", split, stream, 0, text=True) for stream in others for split in SPLITS]
    planned += [Run("final", split, "joint", 0, text=False) for split in SPLITS]
    planned += [
        Run("final", split, "joint", seed, text) for seed in (1, 2) for text in (True, False) for split in SPLITS
    ]
    return tuple(planned)


def fused_cell(streams: Sequence[Run], weights: np.ndarray | None = None) -> str:
    """Top-1 and its interval of the streams' weighted mean, of their plain mean without weights."""
    if not all(run.scores.exists() for run in streams):
        return "not run"
    aligned = align([read_scores(run.scores) for run in streams])
    assert aligned.labels is not None
    together = fuse(aligned.logits, np.ones(len(streams)) if weights is None else weights, "softmax")
    got = ClassificationMetrics().of_arrays(aligned.labels, together)
    return f"{got['top1']:.1f} [{got['top1_low']:.1f}, {got['top1_high']:.1f}]"


def chosen_weights() -> tuple[np.ndarray, str]:
    """Ensemble weights from the stage ``choose``; equal until it is finished."""
    chosen_on = [run for run in plan() if run.stage == "choose"]
    if not all(run.scores.exists() for run in chosen_on):
        return np.full(len(STREAMS), 1 / len(STREAMS)), "equal; validation runs are not finished"
    aligned = align([read_scores(run.scores) for run in chosen_on])
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

    def runs_of(split: str, stream: str, text: bool) -> list[Run]:
        return [r for r in final if (r.split, r.stream, r.text) == (split, stream, text)]

    def seeds(stream: str, text: bool) -> list[str]:
        return [cell(runs_of(split, stream, text)) for split in SPLITS]

    baselines = FOLDER / "baselines.json"
    if baselines.exists():
        for name, values in json.loads(baselines.read_text())["top1"].items():
            row(name, [f"{values[split]:.1f}" for split in SPLITS])
    row("joint, text off", seeds("joint", text=False))
    for stream in STREAMS:
        row(stream.replace("_", " "), seeds(stream, text=True))
    apart = [difference(*(runs_of(split, "joint", text) for text in (True, False))) for split in SPLITS]
    row("what texts change of joint, paired over clips", apart)
    # In the order of STREAMS, as the weights are.
    streams = {split: [Run("final", split, stream, 0, text=True) for stream in STREAMS] for split in SPLITS}
    row(f"four streams, weights {origin}", [fused_cell(streams[split], weights) for split in SPLITS])
    row("four streams, equal weights", [fused_cell(streams[split]) for split in SPLITS])
    held_out = ", ".join(
        f"{run.stream} {value:.1f}" for run in plan() if run.stage == "choose" for value in top1([run])
    )
    lines += ["", f"On the held-out subjects 9 and 10 (without copies): {held_out or 'not run'}."]
    return "\n".join(lines)


if __name__ == "__main__":
    runs.main(__doc__, plan, table)
