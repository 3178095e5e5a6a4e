"""The door to `feeders.prepare`: raw recordings -> store, with a report."""

import argparse
import logging
import sys
from pathlib import Path

from feeders.prepare import DATASETS, prepare


def main(arguments: list[str] | None = None) -> int:
    """Prepare one data set; 0 when the store stands, 1 with one line that says why it does not."""
    parser = argparse.ArgumentParser(prog="python -m feeders.prepare", description="Read raw recordings into a store.")
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of the raw recordings")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the store to make; must not exist")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that read")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken files out instead of ending")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        report = prepare(asked.dataset, asked.raw, asked.out, jobs=asked.jobs, skip_broken=asked.skip_broken)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(report.summary() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
