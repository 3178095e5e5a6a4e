"""A data set of your own in NTU's raw layout: ``SsssCcccPpppRrrrAaaa.skeleton`` files, and the names of the actions."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from feeders.dataset import DataSet
from feeders.prepare import DATASETS, plan
from feeders.prepare.ntu import ntu_source, read
from feeders.prepare.report import Report
from feeders.skeleton import NTU25


def import_ntu_layout(raw: Path, out: Path, class_names: Sequence[str], jobs: int = 1) -> Report:
    """A folder or zip of such files as a store, cleaned as NTU's are; the data set is named as the store's folder.

    Class k is action k + 1 of the file names.

    Raises:
        FileNotFoundError: there are no such files; ValueError: none is whole, or the name is one of our data sets'.
    """
    if out.name in DATASETS:
        raise ValueError(f"--out: got {out}, expected a folder named for your data, and not as one of {DATASETS}")
    facts = DataSet(out.name, NTU25, tuple(class_names), protocols={}, root="", bodies=2)
    digest = hashlib.sha256("\n".join(class_names).encode()).hexdigest()[:12]
    source = replace(
        ntu_source("demo"),
        dataset=facts,
        cleaning=f"default, class names {digest}",
        read=partial(read, len(class_names), "default", False),
        layout="a folder or zip of SsssCcccPpppRrrrAaaa.skeleton files, subfolders allowed",
    )
    return plan(source, raw, out, jobs=jobs).finish()
