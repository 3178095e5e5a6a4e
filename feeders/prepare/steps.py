"""The three documented NTU commands, in ``data/ntu`` and ``data/ntu120``: each goes on where the last one ended.

    get_raw_skes_data.py        reads, checks and cleans every raw file, into shards
    get_raw_denoised_data.py    puts the store together and reports: what was left out, and which faults were mended
    seq_transformation.py       checks the store, says what it serves; --export writes the padded .npz of the old code

Raw files are looked for below ``nturgbd_raw`` in the data folder, and the store is made there as ``ntu60`` or
``ntu120``, where training looks first.
"""

import argparse
import os
import sys
from pathlib import Path

from feeders.exchange.padded import export_padded
from feeders.locate import usual_store
from feeders.prepare import Preparation, raw_source
from feeders.prepare.check import demand_whole, served_protocols
from feeders.prepare.command import add_options, asked_preparation, exit_status, finish
from feeders.store import Store

# As the published scripts name them.
_PADDED = {
    "ntu60": {"cross_subject": "NTU60_CS.npz", "cross_view": "NTU60_CV.npz"},
    "ntu120": {"cross_subject": "NTU120_CSub.npz", "cross_setup": "NTU120_CSet.npz"},
}


def run_step(dataset: str, script: str) -> int:
    """Do what one of the three scripts is for, ``data/<folder>/<name>.py`` of the project; the exit status."""
    here = Path(script).resolve()
    asked = _parser(here.name).parse_args()
    # As `feeders.locate.data_folder` has it for a command that runs in the project's folder.
    data = here.parents[2] / (os.environ.get("PARTCLIP_DATA") or "data")
    facts = raw_source(dataset).dataset
    out = usual_store(facts, data)

    def preparation() -> Preparation:
        return asked_preparation(dataset, asked.raw or [data / facts.root], out, asked)

    match here.stem:
        case "get_raw_skes_data":
            return exit_status(lambda: _read(preparation()))
        case "get_raw_denoised_data":
            return exit_status(lambda: finish(preparation()))
        case _:
            return exit_status(lambda: _check(Store(out), here.parent if asked.export else None))


def _read(preparation: Preparation) -> None:
    if preparation.finished() is not None:
        sys.stdout.write(f"already prepared: {preparation.out}\n")
        return
    preparation.read()
    sys.stdout.write(f"{len(preparation.found.files)} files are read; next: python get_raw_denoised_data.py\n")


def _check(store: Store, exports: Path | None) -> None:
    demand_whole(store)
    sys.stdout.write("\n".join([f"{store.folder}: {len(store)} clips, ready", *served_protocols(store)]) + "\n")
    if exports is not None:
        facts = raw_source(store.header.dataset).dataset
        for protocol, name in _PADDED[facts.name].items():
            exported = export_padded(store, exports / name, facts.protocol(protocol), too_much="cut")
            sys.stdout.write(exported.summary() + "\n")


def _parser(script: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python {script}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if script == "seq_transformation.py":
        parser.add_argument("--export", action="store_true", help="write the padded .npz files too")
    else:
        parser.add_argument("--raw", type=Path, nargs="+", metavar="DIR", help="folders or zips [nturgbd_raw]")
        add_options(parser)
    return parser
