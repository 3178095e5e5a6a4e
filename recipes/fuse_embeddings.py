"""Fuse embeddings for retrieval: by the mean of the streams' distances, or as one vector."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from recipes.streams import CHAIN_ENDS_IN, FUSED, MODALITIES, check, check_data_set, choose_weights, chosen_of
from torchlight.embeddings import (
    align_embeddings,
    concatenated,
    is_embeddings_file,
    read_embeddings,
    write_embeddings,
)
from torchlight.metrics.distance import EmbeddingSpace, weights_over_spread
from torchlight.metrics.fusion import shares
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.retrieval import comparison


def embeddings_path(source: Path, split: str) -> Path | None:
    """The embeddings file of a split: in the folder of a run or of a chain, or the file itself; None if neither."""
    if source.is_file() and is_embeddings_file(source):
        return source
    paths = (folder / "embeddings" / f"{split}.npz" for folder in (source, source / CHAIN_ENDS_IN))
    return next(filter(Path.is_file, paths), None)


def fuse_embeddings(args: argparse.Namespace, paths: Mapping[str, Path]) -> str:
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
        over = weights_over_spread(share, streams, pairing.probe, pairing.gallery, of_vectors=of_vectors)
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
        spaces[FUSED] = fused.space()
        lines.append(f"fused embeddings: {out}")
    else:
        spaces[FUSED] = EmbeddingSpace.fused(list(spaces.values()), scaled)
    weight_of = dict(zip(paths, share.tolist(), strict=True))
    lines += [comparison(aligned[0].table, protocol, spaces, weight_of) for protocol in aligned[0].protocols]
    return "\n".join(lines)
