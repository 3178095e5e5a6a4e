"""Gait retrieval on KinectGait: the runs behind the README's table, one JSON and one embeddings file each.

    export PARTCLIP_DATA=...                       # the folder that holds kinect_gait/Data, and NW-UCLA for one run
    python -m benchmarks.gait_baselines            # what stands beside them, LDA above all
    python -m benchmarks.gait_runs                 # train what is not finished yet, then print the tables
    python -m benchmarks.gait_runs --minutes 100   # start no further run after that time
    python -m benchmarks.gait_runs --only ctrgcn   # only runs whose name contains this
    python -m benchmarks.gait_runs --table         # only print, from benchmarks/results/gait

A run is one call of ``main_gait.py`` with a config of ``config/kinect_gait``, whose choices were made on people held
out of Person001-100: it learns from all of these and is tested on Person101-164 once, after its last epoch. An ablation
is the headline run, with body size, at seed 0, with one thing changed. Intervals and the paired bootstrap against LDA
are over people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gait_baselines, runs
from torchlight.embeddings import EmbeddingFile, align_embeddings, read_embeddings
from torchlight.metrics.bootstrap import Interval
from torchlight.metrics.distance import EmbeddingSpace, weights_over_spread
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.retrieval import RetrievalMetrics, Trials, difference, trials_of
from torchlight.metrics.verification import Verification, verify

FOLDER = gait_baselines.FOLDER
SEEDS = (0, 1, 2)
SIZES = tuple(gait_baselines.SIZES)
# Encoder -> the stages of its pretraining, each with a folder of its own.
PRETRAINED: dict[str, tuple[str, ...]] = {"ctrgcn": (), "tlca": ("frames",), "bpmt": ("parts", "pairs"), "iip": ()}
SHOWN = ("rank1", "rank5", "mAP", "mINP")
_WORK = Path("work_dir/benchmarks/gait")


@dataclass(frozen=True)
class ActionRun(runs.Run):
    """NW-UCLA's actions by an encoder as small as the gait runs' own, for one of these to begin with."""

    work = _WORK

    @property
    def name(self) -> str:
        """There is one."""
        return "nw_ucla_actions"

    @property
    def kept(self) -> Path:
        """With the gait runs."""
        return FOLDER

    @property
    def evaluated_on(self) -> str:
        """View 3, out of interest: nothing is chosen on it."""
        return "test"

    def command(self) -> list[str]:
        """The documented door, called as a user would."""
        files = ("--config", "config/ucla/lst_joint.yaml", "--config", "config/ucla/cpu.yaml")
        return [
            *("main_clip_ucla.py", *files, "--work-dir", str(self.folder), "--phase", "train", "test"),
            *("--resume", "auto", "--device", runs.DEVICE, "--save-score"),
            *("text.tower=none", "inference.text_weight=0", "train.precision=fp32"),
            *("model.encoder.width=16", "model.encoder.weigh=joints"),
        ]


ACTIONS = ActionRun()
# Name -> what differs from the headline run.
CHANGES = {
    "bone": ("data.inputs=[bone]",),
    "joint_bone": ("data.inputs=[joint, bone]",),
    "joint_bone_motion": ("data.inputs=[joint, bone, joint_motion]",),
    "bone_angle": ("data.inputs=[bone_angle]",),
    "from_actions": (f"init_from={ACTIONS.folder}",),
    "from_actions_frozen": (f"init_from={ACTIONS.folder}", "model.freeze_encoder=true"),
    "supcon": ("loss.form=supcon",),
    "mirror": ("data.augment.mirror=0.5",),
    "turns": ("data.augment.rotation=[5, 15, 5]",),
    "no_heading": ("data.heading=none",),
}

# Changes that have every seed and both sizes.
REPEATED = ("from_actions", "bone")


@dataclass(frozen=True)
class Run(runs.Run):
    """One training of one encoder.

    Args:
        size: of `SIZES`.
        change: of `CHANGES`, or nothing.
    """

    work = _WORK
    headline = "rank1"

    encoder: str
    size: str
    change: str
    seed: int

    @property
    def name(self) -> str:
        """What it differs in."""
        return "-".join((self.encoder, self.size, self.change or "plain", str(self.seed)))

    @property
    def kept(self) -> Path:
        """Beside the baselines."""
        return FOLDER

    @property
    def evaluated_on(self) -> str:
        """Person101-164; these runs choose nothing."""
        return "test"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The stages that this run trains."""
        stages = PRETRAINED[self.encoder]
        return tuple(self.folder / stage for stage in (*stages, "finetune")) if stages else (self.folder,)

    @property
    def produced(self) -> Path:
        """Its embeddings."""
        return self.folders[-1] / "embeddings" / f"{self.evaluated_on}.npz"

    def command(self) -> list[str]:
        """The documented door, called as a user would."""
        file = f"config/kinect_gait/{self.encoder if self.size == 'with_size' else self.size}.yaml"
        phases = ("pretrain", "train", "test") if PRETRAINED[self.encoder] else ("train", "test")
        return [
            *("main_gait.py", "--config", file, "--work-dir", str(self.folder), "--phase", *phases),
            *("--resume", "auto", "--device", runs.DEVICE, "--save-score", f"seed={self.seed}"),
            *("data.validation_subjects=[]", "train.evaluate=[]", *CHANGES.get(self.change, ())),
        ]

    def numbers(self) -> dict[str, Any]:
        """The metrics under both protocols, and by how much each differs from LDA's."""
        file = read_embeddings(self.scores)
        return {
            "metrics": RetrievalMetrics(file.table, file.protocols, file.distance).of_space(file.space()),
            "minus_lda": {
                protocol.name: {name: vars(found) for name, found in against_lda([self], place).items()}
                for place, protocol in enumerate(file.protocols)
            },
            "checkpoint_sha": file.checkpoint_sha,
        }


class Lda(Run):
    """The baseline's embeddings, as of a run."""

    @property
    def scores(self) -> Path:
        """Where `benchmarks.gait_baselines` keeps them."""
        return gait_baselines.lda_file(self.size)


def plan() -> tuple[runs.Run, ...]:
    """All runs, the most telling first."""
    planned: list[runs.Run] = [Run("ctrgcn", size, "", seed) for seed in SEEDS for size in SIZES]
    planned += [ACTIONS]
    planned += [Run(encoder, "with_size", "", 0) for encoder in PRETRAINED]
    planned += [Run("ctrgcn", "with_size", change, 0) for change in CHANGES]
    planned += [Run("ctrgcn", size, change, seed) for change in REPEATED for seed in SEEDS for size in SIZES]
    return tuple(dict.fromkeys(planned))


SpaceOf = Callable[[Run, EmbeddingFile], EmbeddingSpace]


def alone(run: Run, file: EmbeddingFile) -> EmbeddingSpace:
    """A run's own embeddings."""
    return file.space()


def lda_alone(run: Run, file: EmbeddingFile) -> EmbeddingSpace:
    """LDA's embeddings of the run's samples, in its order."""
    return _beside(file, gait_baselines.lda_file(run.size))


def with_lda(run: Run, file: EmbeddingFile) -> EmbeddingSpace:
    """The run and LDA, fused."""
    return _fused(file, [alone(run, file), lda_alone(run, file)])


def with_bone_and_lda(run: Run, file: EmbeddingFile) -> EmbeddingSpace:
    """The run, the one that differs from it in looking at bones, and LDA, fused."""
    bone = _beside(file, replace(run, change="bone").scores)
    return _fused(file, [alone(run, file), bone, lda_alone(run, file)])


def with_all_and_lda(run: Run, file: EmbeddingFile) -> EmbeddingSpace:
    """Every finished seed of the run and of its bone run, and LDA, fused."""
    return _fused(file, [*(_beside(file, other.scores) for other in _all_seeds(run)), lda_alone(run, file)])


def _all_seeds(run: Run) -> list[Run]:
    others = [replace(run, seed=seed, change=change) for change in ("", "bone") for seed in SEEDS]
    return [other for other in others if other.scores.exists()]


def _beside(file: EmbeddingFile, other: Path) -> EmbeddingSpace:
    _, aligned = align_embeddings([file, read_embeddings(other)])
    return aligned.space()


def _fused(file: EmbeddingFile, spaces: Sequence[EmbeddingSpace]) -> EmbeddingSpace:
    """Distances over their spread, added, as ``ensemble.py --stream`` does."""
    pairing = Pairing.of(file.table, file.protocols[0])
    equal = np.ones(len(spaces))
    return EmbeddingSpace.fused(spaces, weights_over_spread(equal, spaces, pairing.probe, pairing.gallery))


def against_lda(finished: Sequence[Run], place: int, space_of: SpaceOf = alone) -> dict[str, Interval]:
    """A metric of the runs' mean minus LDA's, by the paired bootstrap; the EER where there is one run.

    Args:
        finished: seeds of one run.
        place: of the protocol.
        space_of: what of a run is compared.
    """
    found = difference(mean_trials(finished, place, space_of), mean_trials(finished[:1], place, lda_alone))
    if len(finished) == 1:
        verified = [_verified(finished[0], place, of) for of in (space_of, lda_alone)]
        found["eer"] = verified[0].equal_error_difference(verified[1])
    return found


def mean_trials(finished: Sequence[Run], place: int, space_of: SpaceOf = alone) -> Trials:
    """The trials of a protocol, each of them the mean over seeds."""
    of_seed = []
    for run in finished:
        file = read_embeddings(run.scores)
        protocol = file.protocols[place]
        pairing = Pairing.of(file.table, protocol)
        distances = space_of(run, file).between(pairing.probe, pairing.gallery)
        of_seed.append(trials_of(file.table, protocol, pairing, distances))
    first = of_seed[0]
    if any(trials.table.sample_id != first.table.sample_id for trials in of_seed):
        raise ValueError("runs: got seeds with other samples, or in another order, expected the same")
    return replace(first, values={name: np.mean([t.values[name] for t in of_seed], axis=0) for name in first.values})


def table() -> str:
    """The README's tables, from the kept embeddings alone."""
    titles = ("gallery walk 1 (64), probes the other walks (254)", "each of 318 walks against all others")
    lines = ["Learned from Person001-100, tested on Person101-164 after the last epoch; 95 % intervals over people", ""]
    for place, title in enumerate(titles):
        lines += _head(title)
        for size in SIZES:
            shown = size.replace("_", " ")
            seeds = [Run("ctrgcn", size, "", seed) for seed in SEEDS]
            lines.append(_row(f"LDA, {shown}", [Lda("lda", size, "", 0)], place))
            lines += [_row(f"CTR-GCN, {shown}, seed {run.seed}", [run], place) for run in seeds]
            lines.append(_row("mean of these", seeds, place))
            lines.append(_row("mean of these, each fused with LDA", seeds, place, with_lda))
            both = [run for run in seeds if replace(run, change="bone").scores.exists()]
            lines.append(_row("mean of these, each fused with its bone run and LDA", both, place, with_bone_and_lda))
            title = f"{len(_all_seeds(seeds[0]))} finished runs of joints and of bones, and LDA, fused"
            lines.append(_row(title, seeds[:1], place, with_all_and_lda))
            for change in REPEATED:
                changed = [replace(run, change=change) for run in seeds]
                lines.append(_row(f"{change.replace('_', ' ')}, mean", changed, place))
                lines.append(_row(f"{change.replace('_', ' ')}, mean, each fused with LDA", changed, place, with_lda))
        lines.append("")
    lines += _head("with size, seed 0, one thing changed")
    ablation = [Run("ctrgcn", "with_size", change, 0) for change in ("", *CHANGES)]
    ablation += [Run(encoder, "with_size", "", 0) for encoder in PRETRAINED if encoder != "ctrgcn"]
    for run in ablation:
        title = run.change or ("nothing" if run.encoder == "ctrgcn" else f"encoder {run.encoder}")
        lines.append(_row(title.replace("_", " "), [run], 0))
    lines += [_row(f"{run.encoder}, fused with LDA", [run], 0, with_lda) for run in ablation if not run.change]
    return "\n".join(lines)


def _head(title: str) -> list[str]:
    return [f"| {title} | {' | '.join(SHOWN)} | EER | Rank-1 - LDA |", "|---" * (len(SHOWN) + 3) + "|"]


def _row(title: str, runs: Sequence[Run], place: int, space_of: SpaceOf = alone) -> str:
    """The numbers of a run, or of the mean over those of its seeds that are finished."""
    finished = [run for run in runs if run.scores.exists()]
    if not finished:
        return f"| {title} | not run |" + " |" * (len(SHOWN) + 1)
    trials = mean_trials(finished, place, space_of)
    errors = [_verified(run, place, space_of).intervals(())["eer"] for run in finished]
    eer = _cell(errors[0]) if len(errors) == 1 else f"{np.mean([error.estimate for error in errors]):.1f}"
    count = f" ({len(finished)})" if len(runs) > 1 else ""
    cells = [*(_cell(trials.interval(metric)) for metric in SHOWN), eer]
    cells.append("" if isinstance(runs[0], Lda) else _cell(against_lda(finished, place, space_of)["rank1"], "+"))
    return f"| {title}{count} | {' | '.join(cells)} |"


def _verified(run: Run, place: int, space_of: SpaceOf) -> Verification:
    file = read_embeddings(run.scores)
    protocol = file.protocols[place]
    return verify(file.table, protocol, Pairing.of(file.table, protocol), space_of(run, file))


def _cell(found: Interval, sign: str = "") -> str:
    return f"{found.estimate:{sign}.1f} [{found.low:{sign}.1f}, {found.high:{sign}.1f}]"


if __name__ == "__main__":
    runs.main(__doc__, plan, table)
