"""Fuse the score files of several streams: ``python ensemble.py --joint-dir work_dir/joint --bone-dir work_dir/bone``.

Streams are joined by sample id. Weights are equal, given, or searched on validation scores, never on what is reported.
Runs that have embeddings instead of scores are fused for retrieval, under the protocols that their files carry:
``python ensemble.py --stream joint=work_dir/gait_joint --stream bone=work_dir/gait_bone``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from recipes.fuse_embeddings import embeddings_path, fuse_embeddings
from recipes.fuse_scores import fuse_scores
from recipes.streams import MODALITIES, data_set_name, streams_of
from torchlight.command_line import Parser
from torchlight.metrics.distance import DISTANCES
from torchlight.metrics.fusion import Normalisation


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


def run(args: argparse.Namespace) -> str:
    """Fuse whatever the streams have."""
    streams = streams_of(args)
    embeddings = {name: embeddings_path(source, args.split) for name, source in streams.items()}
    found = {name: path for name, path in embeddings.items() if path}
    if not found:
        return fuse_scores(args, streams)
    if found.keys() != streams.keys():
        others = ", ".join(streams.keys() - found.keys())
        raise ValueError(
            f"got embeddings of {', '.join(found)} and none of {others}, expected every stream to have them"
        )
    return fuse_embeddings(args, found)


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
