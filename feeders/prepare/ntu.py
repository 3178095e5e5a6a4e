"""NTU RGB+D 60 and 120, and the demo, from their ``.skeleton`` files: which files, and each one's clip."""

from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import get_args

from feeders.dataset import DataSet
from feeders.demo import demo_data
from feeders.ntu import NTU60, NTU120, SAMPLE_NAME
from feeders.prepare.ntu_bodies import Denoise, clean
from feeders.prepare.ntu_parse import read_skeleton
from feeders.prepare.source import RawSource, Reading
from feeders.store import Recording
from feeders.synthetic import SyntheticConfig


def read(classes: int, denoise: Denoise, copies_body: bool, name: str, content: bytes) -> Reading:
    """One ``.skeleton`` file as a clip; see `feeders.prepare.ntu_bodies.clean` for how it is cleaned."""
    fields = SAMPLE_NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name}: got an unknown name, expected SsssCcccPpppRrrrAaaa")
    setup, camera, subject, replication, action = map(int, fields.groups())
    if not 1 <= action <= classes:
        raise ValueError(f"{name}: got action {action}, expected 1 to {classes}")
    reading = unlabelled(denoise, copies_body, name, content)
    recording = replace(
        reading.recording,
        label=action - 1,
        subject=subject,
        camera=camera,
        setup=setup,
        replication=replication,
    )
    return replace(reading, recording=recording)


def unlabelled(denoise: Denoise, copies_body: bool, name: str, content: bytes) -> Reading:
    """The clip of a ``.skeleton`` file of any name."""
    cleaned = clean(name, read_skeleton(name, content), denoise, copies_body=copies_body)
    return Reading(Recording(name, 0, cleaned.frames, cleaned.bodies), cleaned.notes)


def belongs(last_setup: int, name: str) -> bool:
    """Whether a file is of the data set that ends with a setup; an unknown name is, and cannot be read."""
    fields = SAMPLE_NAME.fullmatch(name)
    return fields is None or int(fields[1]) <= last_setup


def ntu_source(dataset: str, denoise: Denoise = "default") -> RawSource:
    """The source of "ntu60", "ntu120" or "demo"; ``denoise`` is as `feeders.prepare.ntu_bodies.clean` has it."""
    if denoise not in get_args(Denoise):
        raise ValueError(f"denoise: got {denoise!r}, expected one of {get_args(Denoise)}")
    facts, last_setup = _facts(dataset)
    is_of_set = partial(belongs, last_setup)
    missing = files("feeders.prepare").joinpath("ntu_missing_skeletons.txt").read_text("ascii").split()
    return RawSource(
        dataset=facts,
        suffix=".skeleton",
        read=partial(read, len(facts.class_names), denoise, dataset == "ntu120"),
        layout="a folder of SsssCcccPpppRrrrAaaa.skeleton files, subfolders allowed (`nturgb+d_skeletons`, for NTU 120 "
        "`nturgb+d_skeletons120` beside it), or the published zips; "
        "request them at https://rose1.ntu.edu.sg/dataset/actionRecognition",
        belongs=is_of_set,
        missing=frozenset() if dataset == "demo" else frozenset(filter(is_of_set, missing)),
        cleaning=denoise,
        unlabelled=partial(unlabelled, denoise, dataset == "ntu120"),
    )


def _facts(dataset: str) -> tuple[DataSet, int]:
    """A data set and the last of its setups."""
    match dataset:
        case "ntu60":
            return NTU60, 17
        case "ntu120":
            return NTU120, 32
        case _:
            return demo_data(SyntheticConfig()), 999
