"""The door to `feeders.prepare`: raw recordings -> store, with a report; what a store holds; whether it is whole."""

import argparse
import sys
from pathlib import Path

from feeders.prepare import DATASETS
from feeders.prepare.check import demand_whole, describe, empty_clips, served_protocols
from feeders.prepare.command import add_options, asked_preparation, exit_status, finish
from feeders.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked; 0 when all is well, 1 with lines that say what is not."""
    asked = _parser().parse_args(arguments)
    match asked.command:
        case "info":
            return exit_status(lambda: _print(describe(Store(asked.store))))
        case "validate":
            return exit_status(lambda: _validate(Store(asked.store)))
        case dataset:
            return exit_status(lambda: finish(asked_preparation(dataset, asked.raw, asked.out, asked)))


def _validate(store: Store) -> None:
    demand_whole(store)
    _print([f"{store.folder}: {len(store)} clips, whole", *empty_clips(store), *served_protocols(store)])


def _print(lines: list[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m feeders.prepare",
        description="Read raw recordings into a store, or look at one. Killed, it goes on when it is asked again.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join([*DATASETS, "info", "validate"]))
    for dataset in DATASETS:
        command = commands.add_parser(dataset, help=f"prepare {dataset}")
        command.add_argument(
            "--raw", type=Path, nargs="+", required=True, metavar="DIR", help="folders or zips of the raw recordings"
        )
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the store to make")
        add_options(command)
    for name, purpose in (("info", "what a store holds"), ("validate", "whether a store is whole, and what it serves")):
        commands.add_parser(name, help=purpose).add_argument("store", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
