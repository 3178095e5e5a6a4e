"""What became of a file that was imported, kept as ``<store>-report.json`` beside the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feeders.prepare.report import report_path, write_report


def demand_one(file: Path, clips: int, left_out: Mapping[str, str]) -> None:
    """A ValueError that says why, where not one clip of a file can be kept."""
    if not clips:
        reason = next(iter(left_out.values()), "it has none")
        raise ValueError(f"{file}: got no clip that can be kept of {len(left_out)}, expected one; the first: {reason}")


@dataclass(frozen=True)
class SplitComparison:
    """A split's clips by the file's own list and by our protocol."""

    theirs: int
    ours: int
    only_theirs: Sequence[str]
    only_ours: Sequence[str]


@dataclass(frozen=True)
class ImportReport:
    """What an import found.

    Args:
        left_out: clip -> why it is not in the store.
        copied_bodies: clips whose second body was an exact copy of the first, and was dropped.
        splits: the file's name of a split -> how its list compares with our protocol.
    """

    file: str
    store: str
    dataset: str
    clips: int
    left_out: Mapping[str, str]
    copied_bodies: int = 0
    splits: Mapping[str, SplitComparison] = field(default_factory=dict)

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{self.dataset}: {self.clips} clips of {self.file} in {self.store}, {len(self.left_out)} left out"]
        lines += [f"left out {name}: {reason}" for name, reason in list(self.left_out.items())[:10]]
        if self.copied_bodies:
            lines.append(f"{self.copied_bodies} second bodies were copies of the first, and dropped")
        for name, split in self.splits.items():
            state = (
                "the same as ours"
                if not split.only_theirs and not split.only_ours
                else f"{len(split.only_theirs)} only in the file's list, {len(split.only_ours)} only in ours"
            )
            lines.append(f"split {name}: {split.theirs} clips, {state}")
        return "\n".join([*lines, f"in full: {report_path(Path(self.store))}"])

    def write(self) -> None:
        """Keep it."""
        write_report(report_path(Path(self.store)), self)
