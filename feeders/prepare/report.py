"""What became of a raw folder: a JSON file beside the store, and a few lines for people."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torchlight.atomic import write_atomically

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Report:
    """What was read, what was left out and why.

    Args:
        made_of: what tells this preparation from another: the way of cleaning, the digest of files and code.
        files: how many raw files were found.
        left_out: name -> reason: by a published list, because nobody is seen, or because a file is there twice.
        broken: name -> reason.
        mended: fault of the published procedure -> the clips on which it would have acted.
        copies: protocol -> pairs (training clip, test clip) that are bit-identical.
    """

    dataset: str
    raw: Sequence[str]
    store: str
    made_of: Mapping[str, str]
    files: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    mended: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clips: int = 0
    frames: int = 0
    body_frames: int = 0
    copies: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def summary(self) -> str:
        """A few lines for people."""
        reasons = Counter(self.left_out.values()).most_common()
        return "\n".join(
            [
                f"{self.dataset}: {self.clips} clips of {self.files} files, "
                f"{self.frames} frames, {self.body_frames} body-frames, in {self.store}",
                f"left out: {len(self.left_out)}; broken: {len(self.broken)}",
                *(f"left out: {count} {reason}" for reason, count in reasons),
                *(f"broken: {reason}" for reason in list(self.broken.values())[:10]),
                *(f"mended: {note} in {len(names)} clips, as {names[0]}" for note, names in self.mended.items()),
                *(
                    f"split {name!r}: {len(pairs)} exact copies across training and test, as {' = '.join(pairs[0])}"
                    for name, pairs in self.copies.items()
                    if pairs
                ),
                f"in full: {report_path(Path(self.store))}",
            ]
        )


def report_path(out: Path) -> Path:
    """Where the report of a store lies: beside it."""
    return out.with_name(f"{out.name}-report.json")


def write_report(path: Path, report: "DataclassInstance") -> None:
    """Write the fields of a report, whole or not at all."""
    write_atomically(path, json.dumps(asdict(report), indent=2).encode())


def load_report(path: Path) -> Report | None:
    """A report; None where there is none, or none that this version wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        copies = {name: [tuple(pair) for pair in pairs] for name, pairs in content.pop("copies").items()}
        return Report(**content, copies=copies)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
