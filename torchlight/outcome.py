"""How the outcome of a test is kept and shown: its metric row, its table and its score file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig
from torchlight.evaluation import Evaluation
from torchlight.metrics.bootstrap import ENDS
from torchlight.run_dir import RunDir
from torchlight.scores import ScoreFile, write_scores
from torchlight.task import Loaders


def outcome_row(result: Evaluation, checkpoint: Checkpoint, file_name: str, sha: str) -> dict[str, Any]:
    """The row of ``metrics.jsonl``; it says which weights were tested and how they were chosen."""
    return {
        "epoch": checkpoint.progress.epoch,
        "split": result.split,
        "seed": checkpoint.seed,
        "checkpoint": file_name,
        "checkpoint_sha": sha,
        "chosen_by": checkpoint.chosen_by,
        **result.values,
    }


def outcome_table(result: Evaluation) -> str:
    """Metric, value and, where ``metric_low`` and ``metric_high`` are there, its interval."""
    lines = []
    for name, value in result.values.items():
        if not name.endswith(ENDS):
            low, high = (result.values.get(name + end) for end in ENDS)
            interval = "" if low is None or high is None else f"  [{low:.2f}, {high:.2f}]"
            lines.append(f"  {name:<24}{value:7.2f}{interval}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Origin:
    """The weights that something was said by: their digest, and how they were chosen."""

    checkpoint_sha: str
    chosen_by: str


def save_scores(run: RunConfig, result: Evaluation, loaders: Loaders, origin: Origin, run_dir: RunDir) -> Path:
    """Write the score file of a split, for a task that classifies; outputs beside the logits are its ``extra``."""
    outputs = {name: output.numpy() for name, output in result.prediction.outputs.items()}
    if "logits" not in outputs:
        raise ValueError("save_score: got a task without logits, expected one that classifies; use --save-score False")
    file = ScoreFile(
        sample_id=result.prediction.sample_ids,
        logits=outputs.pop("logits"),
        labels=result.prediction.labels.numpy(),
        class_names=loaders.class_names,
        dataset=loaders.dataset,
        split=result.split,
        modality=loaders.modality,
        checkpoint_sha=origin.checkpoint_sha,
        chosen_by=origin.chosen_by,
        extra=outputs,
    )
    path = run_dir.scores(result.split)
    write_scores(path, file)
    return path
