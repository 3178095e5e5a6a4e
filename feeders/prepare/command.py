"""What the commands that prepare share: their options, how they go on, and how they end."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from feeders.prepare import Preparation, plan, raw_source
from feeders.prepare.ntu_bodies import Denoise
from feeders.skeleton import SKELETONS


def add_options(parser: argparse.ArgumentParser) -> None:
    """How raw files become a store."""
    parser.add_argument(
        "--jobs", type=int, default=min(8, os.cpu_count() or 1), metavar="N", help="processes that read [%(default)s]"
    )
    parser.add_argument(
        "--denoise",
        choices=get_args(Denoise),
        default="default",
        help="NTU: mend the faults of the published cleaning and report each, or keep them [%(default)s]",
    )
    parser.add_argument(
        "--missing-list", type=Path, metavar="FILE", help="names of clips to leave out, in place of the published list"
    )
    parser.add_argument(
        "--skeleton",
        choices=sorted(SKELETONS),
        help="walkers: whose joints the columns are, by default the smallest that has those of the first file",
    )
    broken = parser.add_mutually_exclusive_group()
    broken.add_argument(
        "--skip-broken",
        action="store_true",
        default=None,
        help="leave broken files out, with the reason in the report: NTU's and the demo's default",
    )
    broken.add_argument(
        "--strict",
        action="store_false",
        dest="skip_broken",
        help="end without a store: NW-UCLA's and Penn Action's default",
    )


def asked_preparation(dataset: str, raw: Sequence[Path], out: Path, asked: argparse.Namespace) -> Preparation:
    """The raw files found, with the options of `add_options`."""
    source = raw_source(dataset, asked.denoise, asked.missing_list, asked.skeleton)
    return plan(source, raw, out, jobs=asked.jobs, skip_broken=asked.skip_broken)


def finish(preparation: Preparation) -> None:
    """Make the store, or say that it stands."""
    report = preparation.finished()
    if report is not None:
        sys.stdout.write("already prepared\n")
    sys.stdout.write((report or preparation.finish()).summary() + "\n")


def exit_status(command: Callable[[], None]) -> int:
    """Run a command; 1 with one line that says why it did not end well."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        command()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130
    return 0
