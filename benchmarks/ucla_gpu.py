"""NW-UCLA by BPI's schedule on a GPU: joint for five seeds, the other streams for one; both splits.

    benchmarks/gpu.sh pack NW-UCLA       # where the recordings and PyPI are
    benchmarks/gpu.sh run ucla_gpu       # where the GPU is, as often as it takes: finished runs are skipped
    python -m benchmarks.ucla_gpu --table

The runs of `benchmarks.ucla`'s stage ``final`` with ``config/ucla/lst_*.yaml`` as they are, but for the packaged text
tower; results under benchmarks/results/ucla_gpu.
"""

from pathlib import Path

from benchmarks import runs, ucla
from benchmarks.measure import RESULTS
from benchmarks.runs import cell
from benchmarks.ucla import SPLITS, STREAMS

SEEDS = range(5)


class Run(ucla.Run):
    """One training by BPI's schedule."""

    work = Path("work_dir/benchmarks/ucla_gpu")
    recipe = ("--device", "0", "text.tower=minilm")

    @property
    def kept(self) -> Path:
        """Beside those of two cores, not among them."""
        return RESULTS / "ucla_gpu"


def plan() -> tuple[Run, ...]:
    """All runs, the most telling first."""
    planned = [Run("final", split, stream, 0, text=True) for stream in STREAMS for split in SPLITS]
    planned += [Run("final", split, "joint", seed, text=True) for seed in SEEDS[1:] for split in SPLITS]
    return tuple(planned)


def table() -> str:
    """Mean and spread over seeds, and the streams with equal weights, from the kept results alone."""
    lines = ["| NW-UCLA, BPI's schedule, top-1 % | published | without copies |", "|---|---|---|"]
    for stream in STREAMS:
        cells = [cell([run for run in plan() if (run.stream, run.split) == (stream, split)]) for split in SPLITS]
        lines.append(f"| {stream.replace('_', ' ')} | {' | '.join(cells)} |")
    fused = [ucla.fused_cell([run for run in plan() if (run.split, run.seed) == (split, 0)]) for split in SPLITS]
    return "\n".join([*lines, f"| four streams, equal weights | {' | '.join(fused)} |"])


if __name__ == "__main__":
    runs.main(__doc__, plan, table)
