"""The folder of a run: what lies where, and the rows of ``metrics.jsonl``."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchlight.atomic import write_atomically

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RunDir:
    """``config.yaml``, ``last.pt``, ``best.pt``, ``metrics.jsonl``, ``scores/``, ``log.txt``, ``tb/`` in one folder.

    A gait run has ``embeddings/`` in the place of ``scores/``, and a ``gallery.npz``.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The resolved config, re-runnable."""
        return self.root / "config.yaml"

    @property
    def last(self) -> Path:
        """The checkpoint that training goes on from."""
        return self.root / "last.pt"

    @property
    def best(self) -> Path:
        """The selected checkpoint of a run with ``select: best``."""
        return self.root / "best.pt"

    def best_of_epoch(self, epoch: int) -> Path:
        """One of the ``keep_best`` best epochs."""
        return self.root / f"best_epoch{epoch:04d}.pt"

    @property
    def log(self) -> Path:
        """What the console showed."""
        return self.root / "log.txt"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events."""
        return self.root / "tb"

    @property
    def metrics(self) -> Path:
        """One JSON object per line: epoch, split, seed and values."""
        return self.root / "metrics.jsonl"

    def scores(self, split: str) -> Path:
        """The score file of a split."""
        return self.root / "scores" / f"{split}.npz"

    def embeddings(self, split: str) -> Path:
        """The embeddings file of a split."""
        return self.root / "embeddings" / f"{split}.npz"

    @property
    def gallery(self) -> Path:
        """People with names, by their embeddings."""
        return self.root / "gallery.npz"

    @property
    def predicted(self) -> Path:
        """What was said of clips of somebody's own."""
        return self.root / "predicted.jsonl"

    def refuse_a_run(self) -> None:
        """A ValueError where there is a run in the folder already."""
        if held := [path.name for path in (self.last, self.best) if path.exists()]:
            raise ValueError(
                f"{self.root}: got a folder with a trained run ({held[0]}), expected a new one; continue it with "
                "--resume auto, choose another --work-dir, or replace it with --overwrite"
            )

    def clear(self) -> None:
        """Delete what a former run has left, but for its log, which goes on."""
        own = (self.config, self.last, self.metrics, self.gallery)
        said = (self.predicted, self.root / "identified.jsonl")
        made = ("best*.pt", "scores/*.npz", "embeddings/*.npz", "embeddings/*.csv", "tb/events.*")
        for old in (*own, *said, *(file for pattern in made for file in self.root.glob(pattern))):
            old.unlink(missing_ok=True)

    def take_over(self, last: Path) -> None:
        """Bring over a checkpoint of another folder as the last one, with what that run had chosen and measured."""
        other = RunDir(last.parent)
        for path in (last, other.metrics, *other.root.glob("best*.pt")):
            if path.exists():
                write_atomically(self.last if path == last else self.root / path.name, path.read_bytes())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``; a last line that a killed process left half-written is passed over."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def keep_rows(self, keep: Callable[[Row], bool]) -> None:
        """Drop the rows of ``metrics.jsonl`` that are about to be made anew."""
        if self.metrics.exists():
            kept = [json.dumps(row) + "\n" for row in self.rows() if keep(row)]
            write_atomically(self.metrics, "".join(kept).encode())

    def add_row(self, row: Row) -> None:
        """Append one row to ``metrics.jsonl``."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")

    def replace_row(self, row: Row, key: tuple[str, ...]) -> None:
        """Append one row in the place of those that have the same values under some keys."""
        self.keep_rows(lambda old: any(old.get(name) != row[name] for name in key))
        self.add_row(row)
