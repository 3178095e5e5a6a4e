"""The door to `feeders.exchange`: other people's files in and out."""

import argparse
import logging
import os
import sys
import zipfile
from pathlib import Path
from typing import get_args

from feeders.dataset import DataSet, Protocol, canonical_split
from feeders.exchange.ntu_layout import import_ntu_layout
from feeders.exchange.padded import export_padded, import_padded
from feeders.exchange.pyskl import import_pyskl
from feeders.ntu import NTU60, NTU120
from feeders.own import Field, own_data
from feeders.prepare.raw_files import read_text
from feeders.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Import or export one file; 0 when it stands, 1 with one line that says why it does not."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if asked.command == "import":
            summary = _import(asked.file, asked.out, asked.class_names, asked.jobs)
        else:
            store = Store(asked.store)
            protocol = _protocol(store, asked)
            summary = export_padded(store, asked.out, protocol, too_much="cut" if asked.cut else "refuse").summary()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(summary + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m feeders.exchange", description="Other people's files in and out.")
    commands = parser.add_subparsers(dest="command", required=True)
    read = commands.add_parser("import", help="a padded .npz, a pyskl 3D .pkl or your own .skeleton files -> store")
    read.add_argument("file", type=Path, help="NTU60_CS.npz or its like, ntu60_3danno.pkl, or a folder")
    read.add_argument("--out", type=Path, required=True, metavar="DIR", help="the store to make; must not exist")
    read.add_argument("--class-names", type=Path, metavar="FILE", help="one name a line, where they are not NTU's")
    read.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="processes that read a folder")
    write = commands.add_parser("export", help="store -> padded .npz, for CTR-GCN's feeder and its like")
    write.add_argument("store", type=Path, help="a prepared store of 25 joints")
    write.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz to write")
    which = write.add_mutually_exclusive_group(required=True)
    which.add_argument("--protocol", help="of NTU 60 or 120: cross_subject, cross_view, cross_setup")
    which.add_argument(
        "--test-on", action="append", metavar="FIELD=N,N", help=f"of any store; a field is one of {get_args(Field)}"
    )
    write.add_argument("--cut", action="store_true", help="cut clips to 300 frames and two bodies instead of ending")
    return parser


def _import(file: Path, out: Path, class_names: Path | None, jobs: int) -> str:
    lines = [] if class_names is None else read_text(class_names).splitlines()
    names = [line.strip() for line in lines if line.strip()] or None
    if file.is_dir():
        if names is None:
            raise ValueError(f"{file}: got .skeleton files without names of the actions, expected --class-names FILE")
        return import_ntu_layout(file, out, names, jobs).summary()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: got nothing there, expected a padded .npz, a pyskl .pkl or a folder")
    return (import_padded(file, out, names) if zipfile.is_zipfile(file) else import_pyskl(file, out)).summary()


def _protocol(store: Store, asked: argparse.Namespace) -> Protocol:
    if asked.test_on:
        return own_data(store, dict(_field_and_values(word) for word in asked.test_on)).protocol(None)
    known: dict[str, DataSet] = {facts.name: facts for facts in (NTU60, NTU120)}
    if store.header.dataset not in known:
        raise ValueError(f"--protocol: got a store of {store.header.dataset}, expected one of NTU; use --test-on")
    return known[store.header.dataset].protocol(canonical_split(asked.protocol))


def _field_and_values(word: str) -> tuple[Field, list[int]]:
    name, _, values = word.partition("=")
    numbers = values.split(",")
    for field in get_args(Field):
        if field == name and all(number.isdecimal() for number in numbers):
            return field, list(map(int, numbers))
    raise ValueError(f"--test-on: got {word!r}, expected FIELD=N,N with a field of {get_args(Field)}")


if __name__ == "__main__":
    sys.exit(main())
