"""Read the simulated walkers' ``.skeleton`` files: as NTU's, but whose clip it is is the label."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from feeders.demo_gait import demo_walkers
from feeders.prepare.ntu import read as read_ntu
from feeders.prepare.source import RawItem, RawSource, Reading
from feeders.synthetic.walkers import WalkersConfig

_PERSON = re.compile(r"P(\d{3})", re.ASCII)


def read(name: str, content: bytes) -> Reading:
    """One walk."""
    reading = read_ntu(1, "default", False, name, content)
    return replace(reading, recording=replace(reading.recording, label=reading.recording.subject - 1))


def complete(source: RawSource, places: Sequence[Path], items: Sequence[RawItem]) -> RawSource:
    """The source with as many people as were filmed."""
    people = max((int(found[1]) for found in (_PERSON.search(item.name) for item in items) if found), default=4)
    return replace(source, dataset=demo_walkers(WalkersConfig(people=max(people, 4))))


SOURCE = RawSource(
    # As many people as were filmed; see `complete`.
    dataset=replace(demo_walkers(WalkersConfig()), class_names=()),
    suffix=".skeleton",
    read=read,
    complete=complete,
    layout="a folder of the simulator's SsssCcccPpppRrrrA001.skeleton files",
)
