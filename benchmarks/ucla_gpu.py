"""NW-UCLA by BPI's schedule at half its length, on a GPU: joint for five seeds, the other streams for one; both splits.

    benchmarks/gpu.sh pack ucla_gpu                        # where the recordings and PyPI are
    benchmarks/gpu.sh run                                  # where the GPU is; this comes last there
    BENCH_DEVICE=0 python -m benchmarks.ucla_gpu --table   # what has come back, without a GPU too

The runs of `benchmarks.ucla`'s stage ``final`` with ``config/ucla/lst_*.yaml``, but for the packaged text tower and the
length: 50 epochs of 5 passes, the rate lowered after 40 and 45, in place of 100, 80 and 90.

Expected and not measured: a step is about 5,000 operations, 5 to 7 microseconds each to launch, so BPI's 16,000 steps
take 6 to 10 minutes where a process has the GPU to itself, and these 3 to 5. A call has ten minutes, other things come
first in it, and a checkpoint (19 MiB) is larger than a file that comes back: half fits, the whole may not. Processes
that wait for their launches gain little from sharing a GPU, so one run at a time, the most telling first: one or two a
call.
"""

from pathlib import Path

from benchmarks import runs, ucla
from benchmarks.measure import RESULTS
from benchmarks.runs import cell
from benchmarks.ucla import SPLITS, STREAMS

SEEDS = range(5)


class Run(ucla.Run):
    """One training by half of BPI's schedule."""

    work = Path("work_dir/benchmarks/ucla_half")
    recipe = ("text.tower=minilm", "train.epochs=50", "train.schedule.milestones=[40, 45]")

    @property
    def kept(self) -> Path:
        """Beside those of two cores, not among them."""
        return RESULTS / "ucla_half"


def plan() -> tuple[Run, ...]:
    """All runs, the most telling first."""
    planned = [Run("final", split, stream, 0, text=True) for stream in STREAMS for split in SPLITS]
    planned += [Run("final", split, "joint", seed, text=True) for seed in SEEDS[1:] for split in SPLITS]
    return tuple(planned)


def table() -> str:
    """Mean and spread over seeds, and the streams with equal weights, from the kept results alone."""
    lines = ["| NW-UCLA, half of BPI's schedule, top-1 % | published | without copies |", "|---|---|---|"]
    for stream in STREAMS:
        cells = [cell([run for run in plan() if (run.stream, run.split) == (stream, split)]) for split in SPLITS]
        lines.append(f"| {stream.replace('_', ' ')} | {' | '.join(cells)} |")
    fused = [ucla.fused_cell([run for run in plan() if (run.split, run.seed) == (split, 0)]) for split in SPLITS]
    return "\n".join([*lines, f"| four streams, equal weights | {' | '.join(fused)} |"])


if __name__ == "__main__":
    runs.main(__doc__, plan, table)
