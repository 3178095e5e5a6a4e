"""Fuse the score files of several streams: ``python ensemble.py --joint-dir work_dir/joint --bone-dir work_dir/bone``.

Streams are joined by sample id. Weights are equal, given, or searched on validation scores, never on what is reported.
Runs that have embeddings instead of scores are fused for retrieval, under the protocols that their files carry:
``python ensemble.py --stream joint=work_dir/gait_joint --stream bone=work_dir/gait_bone``.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from torchlight.command_line import Parser
from torchlight.embeddings import (
    align_embeddings,
    concatenated,
    is_embeddings_file,
    read_embeddings,
    write_embeddings,
)
from torchlight.metrics.classification import ClassificationMetrics, top_k
from torchlight.metrics.distance import DISTANCES, EmbeddingSpace
from torchlight.metrics.fusion import Normalisation, fuse, search_weights, shares
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.retrieval import comparison
from torchlight.scores import AlignedScores, ScoreFile, align, read_labels, read_scores, with_labels, write_scores

# The folder of a chain's last run, in the chain's.
_CHAIN_ENDS_IN = "finetune"
_FUSED = "fused"
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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in MODALITIES:
        flag = f"--{name.replace('_', '-')}-dir"
        parser.add_argument(flag, type=Path, metavar="DIR", help=f"run folder or score file of the {name} stream")
    parser.add_argument("--stream", action="append", default=[], metavar="NAME=DIR", help="any further stream")
    parser.add_argument(
        "--datasets",
        "--dataset",
        default="",
        type=data_set_name,
        metavar="NAME[/PROTOCOL]",
        help="what the files must be of, if they say: ntu120/xsub, ntu/xview, ucla, demo, ...",
    )
    parser.add_argument("--split", default="test", help="the split to fuse and report (test)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--weights", type=float, nargs="+", metavar="W", help="in the order the table prints the streams"
    )
    chosen.add_argument("--weight", action="append", metavar="NAME=W", help="by name, one for every stream")
    chosen.add_argument(
        "--search", nargs="?", const="val", metavar="SPLIT", help="choose the weights on the streams' validation scores"
    )
    parser.add_argument(
        "--search-dirs", type=Path, nargs="+", metavar="DIR", help="where those are, if in other runs; in stream order"
    )
    parser.add_argument(
        "--normalise", choices=get_args(Normalisation), default="softmax", help="before adding (softmax)"
    )
    parser.add_argument("--distance", choices=DISTANCES, help="of embeddings, where not as their runs say")
    parser.add_argument(
        "--fuse",
        choices=("distances", "vectors"),
        default="distances",
        help="embeddings: by the mean of their distances, or one after the other as one vector (distances)",
    )
    parser.add_argument(
        "--scale",
        choices=("spread", "none"),
        default="spread",
        help="embeddings: each stream's distances over their standard deviation, or as they are (spread)",
    )
    parser.add_argument(
        "--labels", type=Path, help="labels for files without: a score file, CTR-GCN's .npz or id,label lines"
    )
    parser.add_argument(
        "--out", type=Path, help="fused scores (work_dir/ensemble/SPLIT.npz) or vectors (the same, in embeddings/)"
    )
    return parser.parse_args(argv)


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
    if _FUSED in further:
        raise ValueError(f"--stream: got the name {_FUSED}, expected another one; it is the ensemble's own")
    streams |= {name: Path(value) for name, value in further.items()}
    if not streams:
        raise ValueError("got no streams, expected at least one of --joint-dir, --bone-dir, ... or --stream NAME=DIR")
    return streams


def embeddings_path(source: Path, split: str) -> Path | None:
    """The embeddings file of a split: in the folder of a run or of a chain, or the file itself; None if neither."""
    if source.is_file() and is_embeddings_file(source):
        return source
    paths = (folder / "embeddings" / f"{split}.npz" for folder in (source, source / _CHAIN_ENDS_IN))
    return next(filter(Path.is_file, paths), None)


def score_path(source: Path, split: str) -> Path:
    """The score file of a split: the file itself, or in a folder of ours or of the predecessors."""
    ours = f"scores/{split}.npz"
    names = (ours, f"{_CHAIN_ENDS_IN}/{ours}", f"{split}.npz", f"epoch1_{split}_score.pkl")
    for path in (source, *(source / name for name in names)):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{source}: got none of {', '.join(names)}; run the stream's door with --phase test --save-score True"
    )


def load(paths: Mapping[str, Path], split: str, dataset: str, labels: Mapping[str, int]) -> AlignedScores:
    """Read the streams and join them; each must be of the split, data set and modality that it is given for."""
    files = []
    for name, path in paths.items():
        scores = read_scores(path)
        check(path, "split", scores.split, split)
        check_data_set(path, scores.dataset, dataset)
        check(path, "modality", scores.modality if name in MODALITIES else "", name)
        files.append(with_labels(scores, labels) if scores.labels is None and labels else scores)
        check(path, "data set", scores.dataset, files[0].dataset)
    aligned = align(files)
    if aligned.labels is None:
        raise ValueError("labels: got none in any stream, expected --labels FILE (pickled scores carry no labels)")
    return aligned


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


def searched(
    args: argparse.Namespace, paths: Mapping[str, Path], reported: AlignedScores, labels: Mapping[str, int]
) -> Weights:
    """Weights chosen on validation scores, after making sure that they share nothing with what is reported."""
    split = args.search
    if split in ("test", args.split):
        raise ValueError(
            f"--search: got {split!r}, expected a validation split; weights are never chosen on what is reported"
        )
    folders = args.search_dirs or [path.parent for path in paths.values()]
    if len(folders) != len(paths):
        raise ValueError(f"--search-dirs: got {len(folders)}, expected one for each of {', '.join(paths)}")
    try:
        found = {name: score_path(folder, split) for name, folder in zip(paths, folders, strict=True)}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--search: found no validation scores, and never uses others: {error}") from error
    validation = load(found, split, args.datasets, labels)
    if shared := sorted(set(validation.sample_id) & set(reported.sample_id)):
        raise ValueError(
            f"--search: got {len(shared)} samples that are in both {split} and {args.split} "
            f"({', '.join(shared[:5])}), expected none"
        )
    assert validation.labels is not None
    value = search_weights(validation.logits, validation.labels, args.normalise)
    top1 = top_k(validation.labels, fuse(validation.logits, value, args.normalise), 1)
    return Weights(value, f"searched on {split} scores ({len(validation.sample_id)} samples, fused top-1 {top1:.2f} %)")


def table(streams: Mapping[str, tuple[str, NDArray[np.float32]]], labels: NDArray[np.int64]) -> str:
    """Accuracy of each named (weight, logits), in percent with 95 % bootstrap intervals over samples."""
    width = max(6, *(len(name) for name in streams))
    metrics = ("top1", "top5", "mean_class")
    lines = [f"{'stream':<{width}}  weight" + "".join(f"  {metric:<22}" for metric in metrics).rstrip()]
    for name, (weight, logits) in streams.items():
        value = ClassificationMetrics().of_arrays(labels, logits)
        cells = [f"{value[m]:6.2f} [{value[m + '_low']:6.2f}, {value[m + '_high']:6.2f}]" for m in metrics]
        lines.append(f"{name:<{width}}  {weight:>6}  {'  '.join(cells)}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> str:
    """Fuse whatever the streams have."""
    streams = streams_of(args)
    embeddings = {name: embeddings_path(source, args.split) for name, source in streams.items()}
    found = {name: path for name, path in embeddings.items() if path}
    if not found:
        return run_scores(args, streams)
    if found.keys() != streams.keys():
        others = ", ".join(streams.keys() - found.keys())
        raise ValueError(
            f"got embeddings of {', '.join(found)} and none of {others}, expected every stream to have them"
        )
    return run_embeddings(args, found)


def run_embeddings(args: argparse.Namespace, paths: Mapping[str, Path]) -> str:
    """Fuse embeddings and compare the streams with what came out, under each protocol of theirs."""
    if args.search or args.search_dirs or args.labels or args.normalise != "softmax":
        raise ValueError("got --search, --search-dirs, --labels or --normalise, expected none: they are about scores")
    files = []
    for name, path in paths.items():
        files.append(read_embeddings(path))
        check(path, "split", files[-1].split, args.split)
        check_data_set(path, files[-1].dataset, args.datasets)
        check(path, "data set", files[-1].dataset, files[0].dataset)
        check(path, "modality", files[-1].modality if name in MODALITIES else "", name)
    aligned = align_embeddings(files)
    said = {file.distance for file in aligned}
    if not args.distance and len(said) > 1:
        raise ValueError(f"got distances {', '.join(sorted(said))}, expected --distance to choose one for all streams")
    distance = args.distance or aligned[0].distance
    weights = choose_weights(args, paths)
    share = shares(weights.value, len(paths))
    spaces = {name: file.space(distance) for name, file in zip(paths, aligned, strict=True)}
    scaled = share
    if args.scale == "spread":
        pairing = Pairing.of(aligned[0].table, aligned[0].protocols[0])
        streams, of_vectors = list(spaces.values()), args.fuse == "vectors"
        over = EmbeddingSpace.over_spread(share, streams, pairing.probe, pairing.gallery, of_vectors=of_vectors)
        scaled = shares(over, len(paths))
    lines = [
        f"{aligned[0].dataset or 'unnamed data set'}, split {args.split}: {len(aligned[0].table)} samples",
        f"weights: {weights.origin}, over {args.scale}; fused: {args.fuse}, {distance}; "
        "percent with 95 % bootstrap intervals over identities",
    ]
    chosen = chosen_of(paths, [file.chosen_by for file in aligned])
    lines += chosen
    if args.fuse == "vectors":
        out = args.out or Path("work_dir") / "ensemble" / "embeddings" / f"{args.split}.npz"
        fused = concatenated(aligned, distance, scaled, modality="+".join(paths), chosen_by="; ".join(chosen))
        write_embeddings(out, fused)
        spaces[_FUSED] = fused.space()
        lines.append(f"fused embeddings: {out}")
    else:
        spaces[_FUSED] = EmbeddingSpace.fused(list(spaces.values()), scaled)
    weight_of = dict(zip(paths, share.tolist(), strict=True))
    lines += [comparison(aligned[0].table, protocol, spaces, weight_of) for protocol in aligned[0].protocols]
    return "\n".join(lines)


def run_scores(args: argparse.Namespace, streams: Mapping[str, Path]) -> str:
    """Fuse scores, write, and describe what came out."""
    if args.distance or args.fuse != "distances" or args.scale != "spread":
        raise ValueError("got --distance, --fuse or --scale, expected none: they are about embeddings, not scores")
    paths = {name: score_path(source, args.split) for name, source in streams.items()}
    labels = read_labels(args.labels) if args.labels else {}
    aligned = load(paths, args.split, args.datasets, labels)
    weights = choose_weights(args, paths) if args.search is None else searched(args, paths, aligned, labels)
    assert aligned.labels is not None
    chosen = chosen_of(paths, aligned.chosen_by)
    fused = ScoreFile(
        sample_id=aligned.sample_id,
        logits=fuse(aligned.logits, weights.value, args.normalise),
        labels=aligned.labels,
        class_names=aligned.class_names,
        dataset=aligned.dataset or args.datasets,
        split=args.split,
        modality="+".join(paths),
        chosen_by="; ".join(chosen),
    )
    out = args.out or Path("work_dir") / "ensemble" / f"{args.split}.npz"
    write_scores(out, fused)
    single = {
        name: (f"{weight:.3f}", logits)
        for name, weight, logits in zip(paths, weights.value / weights.value.sum(), aligned.logits, strict=True)
    }
    samples, classes = fused.logits.shape
    return "\n".join(
        [
            f"{fused.dataset or 'unnamed data set'}, split {args.split}: {samples} samples, {classes} classes",
            f"weights: {weights.origin}; added: {args.normalise}; percent with 95 % bootstrap intervals over samples",
            *chosen,
            table(single | {_FUSED: ("", fused.logits)}, aligned.labels),
            f"fused scores: {out}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; bad input is one line and exit code 2."""
    try:
        print(run(parse(argv)))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
