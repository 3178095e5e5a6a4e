"""The command line of every door, as config overrides and the few things that are not config."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """What cannot be parsed is a ValueError, for doors to end in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise ValueError(message)


@dataclass(frozen=True)
class Command:
    """What was asked for.

    Args:
        configs: config files, later over earlier; empty = the door's default.
        overrides: ``section.key=value`` tokens, those of ``--work-dir`` and the like last.
        resume: None = no, ``"auto"`` = from the run folder if it holds a run, else a checkpoint file.
    """

    configs: tuple[Path, ...]
    overrides: tuple[str, ...]
    weights: Path | None
    resume: str | None
    overwrite: bool


def parse_command(
    arguments: Sequence[str], phases: Sequence[str], description: str, files_of: Mapping[str, str] | None = None
) -> Command:
    """Parse a door's command line; any token with ``=`` that is not an option is an override, wherever it stands.

    ``files_of`` is phase -> config key of the files that may be named after it, as in ``--phase identify FILE...``.
    """
    parser = Parser(description=description, epilog="Any section.key=value overrides the config, e.g. train.epochs=3.")
    parser.add_argument(
        "--config", action="append", default=[], type=Path, help="YAML file; may be given several times"
    )
    parser.add_argument("--work-dir", help="the run's folder")
    parser.add_argument("--phase", nargs="+", metavar="PHASE", help=f"what to do, in this order: {', '.join(phases)}")
    parser.add_argument("--device", nargs="+", help="auto | cpu | CUDA indices (several: one process each)")
    parser.add_argument("--weights", type=Path, help="checkpoint to test, or to start training from")
    parser.add_argument(
        "--resume", nargs="?", const="auto", help="auto (default): go on if the run folder holds a run; or a file"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is in the run folder")
    parser.add_argument(
        "--save-score", nargs="?", const=True, type=_truth, help="write scores/<split>.npz when testing (default true)"
    )
    overrides = [token for token in arguments if "=" in token and not token.startswith("-")]
    options = parser.parse_args([token for token in arguments if token not in overrides])
    words = options.phase or []
    asked = list(takewhile(phases.__contains__, words))
    if files := words[len(asked) :]:
        key = (files_of or {}).get(asked[-1]) if asked else None
        if key is None:
            raise ValueError(f"--phase: got {files[0]!r}, expected some of {', '.join(phases)}")
        overrides.append(f"{key}={json.dumps(files)}")
    given = {
        "work_dir": options.work_dir,
        "phases": asked or None,
        "device": options.device,
        "save_score": options.save_score,
    }
    # JSON is YAML, quoting included.
    overrides += [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    return Command(tuple(options.config), tuple(overrides), options.weights, options.resume, options.overwrite)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected True or False")
    return text.lower() == "true"
