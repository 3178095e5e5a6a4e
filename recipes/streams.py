"""The streams of an ensemble: where they are, what their files must say, and what each of them weighs."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# The folder of a chain's last run, in the chain's.
CHAIN_ENDS_IN = "finetune"
FUSED = "fused"
MODALITIES = ("joint", "bone", "joint_motion", "bone_motion")
# What the predecessors' command lines call a data set and its protocol -> what score files call them.
DATASETS = {
    "ntu": "ntu60",
    "ntu/xsub": "ntu60/cross_subject",
    "ntu/xview": "ntu60/cross_view",
    "ntu60/xsub": "ntu60/cross_subject",
    "ntu60/xview": "ntu60/cross_view",
    "ntu120/xsub": "ntu120/cross_subject",
    "ntu120/xset": "ntu120/cross_setup",
    "nw-ucla": "ucla",
}


@dataclass(frozen=True)
class Weights:
    """One weight per stream, and where they came from."""

    value: NDArray[np.float64]
    origin: str


def data_set_name(asked: str) -> str:
    """A data set and, after a slash, its protocol as score files name them."""
    return DATASETS.get(asked.casefold(), asked.casefold())


def named(items: Sequence[str], what: str) -> dict[str, str]:
    """NAME=VALUE items as a dict."""
    pairs = [item.partition("=") for item in items]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ValueError(f"{what}: got {name + equals + value!r}, expected NAME=VALUE")
    result = {name: value for name, _, value in pairs}
    if len(result) != len(pairs):
        raise ValueError(f"{what}: got {', '.join(name for name, _, _ in pairs)}, expected each name once")
    return result


def streams_of(args: argparse.Namespace) -> dict[str, Path]:
    """Stream name -> where its scores are, the four modalities first."""
    streams = {name: getattr(args, f"{name}_dir") for name in MODALITIES if getattr(args, f"{name}_dir")}
    further = named(args.stream, "--stream")
    if twice := streams.keys() & further.keys():
        raise ValueError(f"--stream: got {', '.join(sorted(twice))} a second time, expected each stream once")
    if FUSED in further:
        raise ValueError(f"--stream: got the name {FUSED}, expected another one; it is the ensemble's own")
    streams |= {name: Path(value) for name, value in further.items()}
    if not streams:
        raise ValueError("got no streams, expected at least one of --joint-dir, --bone-dir, ... or --stream NAME=DIR")
    return streams


def check(path: Path, what: str, said: str, expected: str) -> None:
    """A file that says what it is must be what it is used as."""
    if said and expected and said != expected:
        hint = "; --stream NAME=DIR takes any modality" if what == "modality" else ""
        raise ValueError(f"{path}: got {what} {said!r}, expected {expected!r}{hint}")


def check_data_set(path: Path, said: str, expected: str) -> None:
    """The same data set and, where both name one, the same protocol."""
    if any(one != other for one, other in zip(said.casefold().split("/"), expected.split("/"), strict=False)):
        check(path, "data set", said, expected)


def chosen_of(streams: Iterable[str], chosen_by: Iterable[str]) -> list[str]:
    """What streams say of how their weights were chosen, where any were; on test, say."""
    said = zip(streams, chosen_by, strict=True)
    return [f"{name}: {how}" for name, how in said if how and not how.startswith("last")]


def choose_weights(args: argparse.Namespace, paths: Mapping[str, Path]) -> Weights:
    """Equal or given weights."""
    if args.search_dirs:
        raise ValueError("--search-dirs: got folders without --search, expected both")
    if args.weight is not None:
        by_name = named(args.weight, "--weight")
        if by_name.keys() != paths.keys():
            raise ValueError(f"--weight: got {', '.join(by_name)}, expected one for each of {', '.join(paths)}")
        try:
            return Weights(np.array([float(by_name[name]) for name in paths]), "given by name")
        except ValueError:
            raise ValueError(f"--weight: got {', '.join(args.weight)}, expected numbers") from None
    if args.weights is not None:
        return Weights(np.array(args.weights), "given")
    return Weights(np.ones(len(paths)), "equal")
