"""What is done in a clip of one's own? Ask a trained run, or several, which are fused as equals.

    python predict.py --work-dir work_dir/demo/joint my_clip.skeleton more_clips
    python predict.py --work-dir work_dir/demo/joint --work-dir work_dir/demo/bone my_clip.npy

A clip is a raw file of the run's data set; an array of joints in .npy, (frames, joints, coordinates) or (frames,
people, joints, coordinates), NaN where nothing is seen; a table in .csv; or in a store. docs/library.md says more.
"""

import json
import logging
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recipes.answers import table
from recipes.predict import Predictor, ask
from torchlight.atomic import write_atomically
from torchlight.command_line import Parser
from torchlight.run_dir import RunDir

_SHOWN = 20  # clips on the screen; the file has all


def parse(argv: Sequence[str] | None) -> Namespace:
    """The command line."""
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="FILE", help="files; folders and zips of them; stores")
    parser.add_argument("--work-dir", action="append", required=True, type=Path, metavar="RUN", help="a trained run")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes said of each clip (5)")
    parser.add_argument("--device", default="cpu", help="auto, cpu or a CUDA index (cpu)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="a JSON line a clip (predicted.jsonl in the first run)"
    )
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="of the image that .npy and .csv are in"
    )
    args = parser.parse_args(argv)
    if args.top < 1 or min(args.image_size or (1,)) < 1:
        raise ValueError(f"--top, --image-size: got {args.top} and {args.image_size}, expected 1 at least")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; bad input is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    try:
        args = parse(argv)
        predictors = [Predictor.load(run, args.device) for run in args.work_dir]
        answers = ask(predictors, args.clips, args.image_size and tuple(args.image_size)).answers(args.top)
        out = args.out or RunDir(args.work_dir[0]).predicted
        write_atomically(out, "".join(json.dumps(asdict(answer)) + "\n" for answer in answers).encode())
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(table(answers[:_SHOWN]))
    print(f"{len(answers)} clips; all answers: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
