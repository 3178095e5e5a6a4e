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

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gait_baselines, runs
from torchlight.arrays import matching_order
from torchlight.embeddings import EmbeddingFile, read_embeddings
from torchlight.metrics.bootstrap import Interval
from torchlight.metrics.distance import EmbeddingSpace
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.retrieval import RetrievalMetrics, Trials, difference, trials_of
from torchlight.metrics.verification import Verification, verify

FOLDER = gait_baselines.FOLDER
SEEDS = (0, 1, 2)
SIZES = ("with_size", "unit_size")
# As the baselines call them.
LDA = {size: f"LDA, {title}" for size, title in zip(SIZES, gait_baselines.SIZES, strict=True)}
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
            *("main_clip_ucla.py", *files, "--work-dir", str(self.work / self.name), "--phase", "train", "test"),
            *("--resume", "auto", "--device", "cpu", "--save-score"),
            *("text.tower=none", "inference.text_weight=0", "model.encoder.width=16", "train.precision=fp32"),
        ]


ACTIONS = ActionRun()
# Name -> what differs from the headline run.
CHANGES = {
    "bone": ("data.inputs=[bone]",),
    "joint_bone": ("data.inputs=[joint, bone]",),
    "joint_bone_motion": ("data.inputs=[joint, bone, joint_motion]",),
    "bone_angle": ("data.inputs=[bone_angle]",),
    "from_actions": (f"init_from={ACTIONS.work / ACTIONS.name}",),
    "from_actions_frozen": (f"init_from={ACTIONS.work / ACTIONS.name}", "model.freeze_encoder=true"),
    "supcon": ("loss.form=supcon",),
    "mirror": ("data.augment.mirror=0.5",),
    "turns": ("data.augment.rotation=[5, 15, 5]",),
    "no_heading": ("data.heading=none",),
}


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
        folder = self.work / self.name
        return tuple(folder / stage for stage in (*stages, "finetune")) if stages else (folder,)

    @property
    def produced(self) -> Path:
        """Its embeddings."""
        return self.folders[-1] / "embeddings" / f"{self.evaluated_on}.npz"

    def command(self) -> list[str]:
        """The documented door, called as a user would."""
        file = f"config/kinect_gait/{self.encoder if self.size == 'with_size' else self.size}.yaml"
        phases = ("pretrain", "train", "test") if PRETRAINED[self.encoder] else ("train", "test")
        return [
            *("main_gait.py", "--config", file, "--work-dir", str(self.work / self.name), "--phase", *phases),
            *("--resume", "auto", "--device", "cpu", "--save-score", f"seed={self.seed}"),
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


def plan() -> tuple[runs.Run, ...]:
    """All runs, the most telling first."""
    planned: list[runs.Run] = [Run("ctrgcn", size, "", seed) for seed in SEEDS for size in SIZES]
    planned += [ACTIONS]
    planned += [Run(encoder, "with_size", "", 0) for encoder in PRETRAINED]
    planned += [Run("ctrgcn", "with_size", change, 0) for change in CHANGES]
    return tuple(dict.fromkeys(planned))


def against_lda(finished: Sequence[Run], place: int) -> dict[str, Interval]:
    """A metric of the runs' mean minus LDA's, by the paired bootstrap; the EER where there is one run.

    Args:
        finished: seeds of one run.
        place: of the protocol.
    """
    file = read_embeddings(finished[0].scores)
    lda = lda_space(file, finished[0].size)
    found = difference(mean_trials(finished, place), _trials(file, lda, place))
    if len(finished) == 1:
        verified = [_verified(file, space, place) for space in (file.space(), lda)]
        found["eer"] = verified[0].equal_error_difference(verified[1])
    return found


def lda_space(file: EmbeddingFile, size: str) -> EmbeddingSpace:
    """LDA's vectors of the samples of an embeddings file, in its order."""
    arrays = np.load(FOLDER / "baselines.npz")
    order = matching_order(arrays["sample_id"].tolist(), "the baselines", file.table.sample_id, "the run")
    vectors = arrays[LDA[size]][order][:, None]
    return EmbeddingSpace.of(vectors, np.ones(vectors.shape[:2], dtype=np.bool_), "vector/euclidean")


def mean_trials(finished: Sequence[Run], place: int) -> Trials:
    """The trials of a protocol, each of them the mean over seeds."""
    of_seed = []
    for run in finished:
        file = read_embeddings(run.scores)
        of_seed.append(_trials(file, file.space(), place))
    first = of_seed[0]
    if any(trials.table.sample_id != first.table.sample_id for trials in of_seed):
        raise ValueError("runs: got seeds with other samples, or in another order, expected the same")
    return replace(first, values={name: np.mean([t.values[name] for t in of_seed], axis=0) for name in first.values})


def table() -> str:
    """The README's tables, from the kept results alone."""
    done = [run for run in plan() if isinstance(run, Run) and run.result.exists()]
    titles = {
        "first_walk": "gallery walk 1 (64), probes the other walks (254)",
        "leave_one_out": "each of 318 walks against all others",
    }
    lines = ["Learned from Person001-100, tested on Person101-164 after the last epoch; 95 % intervals over people", ""]
    for place, (name, title) in enumerate(titles.items()):
        lines += [f"| {title} | {' | '.join(SHOWN)} | EER | Rank-1 - LDA |", "|---" * (len(SHOWN) + 3) + "|"]
        for size in SIZES:
            lines += [f"| LDA, {size.replace('_', ' ')} | {' | '.join(_lda_cells(done, size, place))} | |"]
            for seed in SEEDS:
                lines += _row(Run("ctrgcn", size, "", seed), f"CTR-GCN, {size.replace('_', ' ')}, seed {seed}", name)
            seeds = [run for run in done if (run.encoder, run.size, run.change) == ("ctrgcn", size, "")]
            if len(seeds) > 1:
                trials = mean_trials(seeds, place)
                cells = [_cell(trials.interval(metric)) for metric in SHOWN]
                cells += [f"{np.mean([_kept(run)['metrics'][_prefix(name) + 'eer'] for run in seeds]):.1f}"]
                cells += [_cell(against_lda(seeds, place)["rank1"], "+")]
                lines += [f"| mean of these {len(seeds)} | {' | '.join(cells)} |"]
        lines += [""]
    lines += [f"| with size, seed 0, one thing changed | {' | '.join(SHOWN)} | EER | Rank-1 - LDA |"]
    lines += ["|---" * (len(SHOWN) + 3) + "|"]
    ablation = [Run("ctrgcn", "with_size", change, 0) for change in ("", *CHANGES)]
    ablation += [Run(encoder, "with_size", "", 0) for encoder in PRETRAINED if encoder != "ctrgcn"]
    for run in ablation:
        title = run.change or ("nothing" if run.encoder == "ctrgcn" else f"encoder {run.encoder}")
        lines += _row(run, title.replace("_", " "), "first_walk")
    return "\n".join(lines)


def _row(run: Run, title: str, protocol: str) -> list[str]:
    """A line of numbers kept, or that there are none yet."""
    if not run.result.exists():
        return [f"| {title} | not run |" + " |" * (len(SHOWN) + 1)]
    kept = _kept(run)
    metrics = kept["metrics"]
    names = [_prefix(protocol) + name for name in (*SHOWN, "eer")]
    cells = [_cell(Interval(*(metrics[name + end] for end in ("", "_low", "_high")))) for name in names]
    cells += [_cell(Interval(**kept["minus_lda"][protocol]["rank1"]), "+")]
    return [f"| {title} | {' | '.join(cells)} |"]


def _lda_cells(done: Sequence[Run], size: str, place: int) -> list[str]:
    if not done:
        return ["not run"] * (len(SHOWN) + 1)
    file = read_embeddings(done[0].scores)
    space = lda_space(file, size)
    trials, verified = _trials(file, space, place), _verified(file, space, place)
    return [*(_cell(trials.interval(metric)) for metric in SHOWN), _cell(verified.intervals(())["eer"])]


def _trials(file: EmbeddingFile, space: EmbeddingSpace, place: int) -> Trials:
    protocol = file.protocols[place]
    pairing = Pairing.of(file.table, protocol)
    return trials_of(file.table, protocol, pairing, space.between(pairing.probe, pairing.gallery))


def _verified(file: EmbeddingFile, space: EmbeddingSpace, place: int) -> Verification:
    protocol = file.protocols[place]
    return verify(file.table, protocol, Pairing.of(file.table, protocol), space)


def _kept(run: Run) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(run.result.read_text())
    return kept


def _prefix(protocol: str) -> str:
    """Of the names of a protocol's metrics: none of the first."""
    return "" if protocol == "first_walk" else f"{protocol}/"


def _cell(found: Interval, sign: str = "") -> str:
    return f"{found.estimate:{sign}.1f} [{found.low:{sign}.1f}, {found.high:{sign}.1f}]"


if __name__ == "__main__":
    runs.main(__doc__, plan, table)
