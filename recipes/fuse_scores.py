"""Fuse score files: join the streams by sample id, weigh them, add them up."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.streams import (
    CHAIN_ENDS_IN,
    FUSED,
    MODALITIES,
    Weights,
    check,
    check_data_set,
    choose_weights,
    chosen_of,
)
from torchlight.arrays import some
from torchlight.metrics.bootstrap import ENDS, Interval
from torchlight.metrics.classification import ClassificationMetrics, top_k
from torchlight.metrics.fusion import fuse, search_weights
from torchlight.scores import AlignedScores, ScoreFile, align, read_labels, read_scores, with_labels, write_scores


def fuse_scores(args: argparse.Namespace, streams: Mapping[str, Path]) -> str:
    """Fuse scores, write, and describe what came out."""
    if args.distance or args.fuse != "distances" or args.scale != "spread":
        raise ValueError("got --distance, --fuse or --scale, expected none: they are about embeddings, not scores")
    paths = {name: _score_path(source, args.split) for name, source in streams.items()}
    labels = read_labels(args.labels) if args.labels else {}
    aligned = _load(paths, args.split, args.datasets, labels)
    weights = choose_weights(args, paths) if args.search is None else _searched(args, paths, aligned, labels)
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
            _table(single | {FUSED: ("", fused.logits)}, aligned.labels),
            f"fused scores: {out}",
        ]
    )


def _load(paths: Mapping[str, Path], split: str, dataset: str, labels: Mapping[str, int]) -> AlignedScores:
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


def _score_path(source: Path, split: str) -> Path:
    """The score file of a split: the file itself, or in a folder of ours or of the predecessors."""
    ours = f"scores/{split}.npz"
    names = (ours, f"{CHAIN_ENDS_IN}/{ours}", f"{split}.npz", f"epoch1_{split}_score.pkl")
    for path in (source, *(source / name for name in names)):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{source}: got none of {', '.join(names)}; run the stream's door with --phase test --save-score True"
    )


def _searched(
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
        found = {name: _score_path(folder, split) for name, folder in zip(paths, folders, strict=True)}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--search: found no validation scores, and never uses others: {error}") from error
    validation = _load(found, split, args.datasets, labels)
    if shared := sorted(set(validation.sample_id) & set(reported.sample_id)):
        raise ValueError(
            f"--search: got {len(shared)} samples that are in both {split} and {args.split} "
            f"({some(shared)}), expected none"
        )
    assert validation.labels is not None
    value = search_weights(validation.logits, validation.labels, args.normalise)
    top1 = top_k(validation.labels, fuse(validation.logits, value, args.normalise), 1)
    return Weights(value, f"searched on {split} scores ({len(validation.sample_id)} samples, fused top-1 {top1:.2f} %)")


def _table(streams: Mapping[str, tuple[str, NDArray[np.float32]]], labels: NDArray[np.int64]) -> str:
    """Accuracy of each named (weight, logits), in percent with 95 % bootstrap intervals over samples."""
    width = max(6, *(len(name) for name in streams))
    metrics = ("top1", "top5", "mean_class")
    lines = [f"{'stream':<{width}}  weight" + "".join(f"  {metric:<22}" for metric in metrics).rstrip()]
    for name, (weight, logits) in streams.items():
        value = ClassificationMetrics().of_arrays(labels, logits)
        cells = [str(Interval(*(value[metric + end] for end in ("", *ENDS)))) for metric in metrics]
        lines.append(f"{name:<{width}}  {weight:>6}  {'  '.join(cells)}")
    return "\n".join(lines)
