"""What makes a gait run: its walks, the network that embeds walkers' body parts, and what is kept of a test."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from feeders.gait.loading import GaitDataConfig, build_gait_loaders, gait_data_set
from feeders.gait.protocols import GREW_ANSWERS, grew_official, grew_submission
from feeders.skeleton import Skeleton, skeleton_named
from model.gait_net import GaitNetConfig
from model.init_from import load_encoder
from model.metric_losses import GaitLossConfig
from model.tasks.gait_retrieval import Calibration, GaitRetrievalTask
from recipes.gait_asked import RetrievalConfig, asked, cross_view_tables, metrics_of, thresholds_on
from recipes.reconstruction import PretrainConfig
from torchlight.arrays import some
from torchlight.atomic import write_atomically
from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig, StrictConfig
from torchlight.embeddings import write_embeddings
from torchlight.evaluation import Evaluation
from torchlight.gallery import Index
from torchlight.metrics.ranking import Pairing, nearest
from torchlight.outcome import Origin
from torchlight.run_dir import RunDir
from torchlight.task import Loaders, Metric, Prediction

logger = logging.getLogger(__name__)

THRESHOLDS = "thresholds"
"""Under which a checkpoint keeps those of one walk of each person enrolled, of two, and so on."""
_SPLITS_OF_PHASE = {
    "train": ("train", "val"),
    "validate": ("val",),
    "test": ("val", "test"),
    "enrol": ("test",),
    "identify": ("test",),
}


class EnrolConfig(StrictConfig):
    """The ``enrol`` section: who gets into the gallery.

    Args:
        walks: files in the data set's layout, or a store; none enrols the gallery walks of the test split.
        person: whose walks the files are, whatever their paths say.
        add: to the gallery that is there, rather than in its place.
        leave_out: people of the test split who then stay strangers.
    """

    walks: tuple[Path, ...] = ()
    person: str | None = None
    add: bool = False
    leave_out: tuple[str, ...] = ()


class IdentifyConfig(StrictConfig):
    """The ``identify`` section: who is asked for.

    Args:
        walks: files in the data set's layout, or a store; none asks for the probes of the test split.
        gallery: a gallery file; None is that of the run's folder.
        people: how many of the nearest people an answer names.
        index: ``faiss`` searches vector/... distances in a flat index.
    """

    walks: tuple[Path, ...] = ()
    gallery: Path | None = None
    people: int = Field(default=3, ge=1)
    index: Index = "exact"


class WalksRun(RunConfig):
    """Whatever learns from walks.

    Args:
        walks_each: K of a training batch of ``train.batch_size`` walks.
    """

    data: GaitDataConfig
    walks_each: int = Field(default=4, ge=2)


class GaitRun(WalksRun):
    """One gait run: its walks, the network, the losses, the comparison, the gallery.

    Args:
        init_from: a run folder or checkpoint (of actions, of a pretraining stage, of gait) whose encoder this one's
            begins with; None begins from nothing.
        pretrain: by reconstruction; None, an encoder without stages, or ``init_from`` begins with retrieval.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {"text": "main_clip_ntu.py and main_bpmt.py"}
    after_training: ClassVar[tuple[str, ...]] = ("enrol.", "identify.")
    # What an embedding, and how near another one is, depends on beside the weights.
    acts_on_embeddings: ClassVar[tuple[str, ...]] = (
        *("model.", "retrieval.distance", "data.inputs", "data.evaluation_frames", "data.gaps"),
        *("data.normalise_walk", "data.heading"),
    )

    model: GaitNetConfig = GaitNetConfig()
    loss: GaitLossConfig = GaitLossConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    enrol: EnrolConfig = EnrolConfig()
    identify: IdentifyConfig = IdentifyConfig()
    init_from: Path | None = None
    pretrain: PretrainConfig | None = None


def walk_loaders(run: WalksRun, splits: Collection[str]) -> Loaders:
    """The walks of some splits; of none, what is known of the data without having them."""
    if run.train.batch_size % run.walks_each:
        raise ValueError(
            f"train.batch_size: got {run.train.batch_size}, expected a multiple of walks_each={run.walks_each}"
        )
    if not splits:
        facts = gait_data_set(run.data)
        names = {"identities": facts.class_names}
        return Loaders(None, {}, facts.name, (), facts.skeleton.written, "+".join(run.data.inputs), names)
    people = run.train.batch_size // run.walks_each
    return build_gait_loaders(
        run.data, people, run.walks_each, run.train.evaluation_batch_size, run.seed, sorted(splits)
    )


def gait_loaders(run: GaitRun, phases: Sequence[str]) -> Loaders:
    """The walks that some phases need; a phase that is given files needs none."""
    files = {"enrol": run.enrol.walks, "identify": run.identify.walks}
    splits = {split for phase in phases if not files.get(phase) for split in _SPLITS_OF_PHASE[phase]}
    if "train" in phases:
        _refuse_one_person(run)
        splits |= set(run.train.evaluated_splits)
    loaders = walk_loaders(run, splits)
    if "train" in phases:
        for split in loaders.evaluation:
            asked(loaders, split).refuse_unanswerable(split)
    if "enrol" in phases and not run.enrol.walks:
        _refuse_others(run.enrol, asked(loaders, "test").people)
    return loaders


def _refuse_one_person(run: GaitRun) -> None:
    if run.loss.metric_weight and run.train.batch_size == run.walks_each:
        raise ValueError(
            f"train.batch_size: got {run.train.batch_size} with walks_each={run.walks_each}, one person a batch, "
            "expected two or more, as a metric loss tells people apart; raise train.batch_size or lower walks_each, or "
            "set loss.metric_weight=0"
        )


def _refuse_others(enrol: EnrolConfig, people: Sequence[str]) -> None:
    """A ValueError before hours of training, where the test split's people are not to be enrolled as is said."""
    if enrol.person is not None:
        raise ValueError("enrol.person: got it without walks, expected files of that person: --phase enrol FILE ...")
    if unknown := sorted(set(enrol.leave_out) - set(people)):
        raise ValueError(f"enrol.leave_out: got {unknown[0]!r}, expected some of {some(people, 10)}")


def seen_skeleton(data: GaitDataConfig, skeleton: Skeleton) -> Skeleton:
    """The skeleton as a network sees it: with as many coordinates as the inputs have channels."""
    return replace(skeleton, coordinates=len(data.inputs) * skeleton.coordinates)


def gait_task(run: GaitRun, loaders: Loaders, checkpoint: Checkpoint | None) -> GaitRetrievalTask:
    """The task of a run: its encoder from ``init_from``, unless a checkpoint's weights will be loaded."""
    if checkpoint is not None and "calibrated" in checkpoint.weights:
        raise ValueError(
            "weights: got a checkpoint that keeps thresholds among them, as former versions did, expected them beside; "
            "train again, or begin with its encoder (init_from=FILE)"
        )
    skeleton = skeleton_named(loaders.skeleton)
    task = GaitRetrievalTask.build(
        model=run.model,
        loss=run.loss,
        is_cosine=run.retrieval.distance.endswith("cosine"),
        skeleton=seen_skeleton(run.data, skeleton),
        learned=loaders.class_names if checkpoint is None else checkpoint.class_names,
        bodies=1,
        calibration=_calibration(run, loaders),
    )
    encoder, origin = task.network.encoder, checkpoint
    if checkpoint is None and run.init_from is not None:
        origin = load_encoder(encoder, run.init_from, run.model.encoder, skeleton)
    elif checkpoint is None and (run.model.freeze_encoder or getattr(run.model.encoder, "t1", "tuned") != "tuned"):
        raise ValueError(
            "model: got an encoder that stands still though nothing has trained it, expected init_from=RUN, or "
            "freeze_encoder=false and t1=tuned"
        )
    met = set() if origin is None else _people_met(origin)
    own = {f"{_data_set(loaders.dataset)}/{person}" for person in task.facts["learned_classes"]}
    task.facts = {**task.facts, "people_met": sorted(met - own)}
    for split in loaders.evaluation:
        if split == "test" or not run.data.views.held_out:
            _warn_of_familiar_people(loaders, split, met)
    return task


def _people_met(checkpoint: Checkpoint) -> set[str]:
    """``data set/person`` of everybody who was learned from, also by the runs that this one began with."""
    if "walks_each" not in checkpoint.config:
        return set()  # Of actions.
    dataset = _data_set(checkpoint.dataset)
    return {f"{dataset}/{person}" for person in checkpoint.class_names} | set(checkpoint.extra.get("people_met", ()))


def _data_set(title: str) -> str:
    return title.partition("/")[0]


def _warn_of_familiar_people(loaders: Loaders, split: str, met: Collection[str]) -> None:
    """Finding people who were learned from is another, easier task than finding strangers."""
    people, dataset = asked(loaders, split).people, _data_set(loaders.dataset)
    if familiar := [person for person in people if f"{dataset}/{person}" in met]:
        logger.warning(
            "a closed set: %d of the %d people of split %s were learned from, such as %s",
            *(len(familiar), len(people), split, familiar[0]),
        )


def _calibration(run: GaitRun, loaders: Loaders) -> Calibration:
    def fixed(validation: Prediction) -> Mapping[str, Any]:
        # Other views of people who were learned from tell nothing of strangers.
        is_told = not run.data.views.held_out
        thresholds = thresholds_on(validation, asked(loaders, "val"), run.retrieval) if is_told else []
        return {THRESHOLDS: [asdict(threshold) for threshold in thresholds]}

    return fixed


def gait_metrics(run: GaitRun, loaders: Loaders) -> Sequence[Metric]:
    """How well the people of each split are found."""
    return metrics_of(run.retrieval, loaders)


def gait_report(run: GaitRun, test: Prediction, loaders: Loaders) -> str:
    """The cross-view tables of the test split."""
    return cross_view_tables(asked(loaders, "test"), test, run.retrieval.distance)


def save_gait(run: GaitRun, result: Evaluation, loaders: Loaders, origin: Origin, run_dir: RunDir) -> Path:
    """Write the embeddings of a split, with all that it takes to rank them, and what GREW's server asks for."""
    file = asked(loaders, result.split).embeddings(
        result.prediction,
        run.retrieval.distance,
        dataset=loaders.dataset,
        split=result.split,
        modality=loaders.modality,
        **asdict(origin),
    )
    path = run_dir.embeddings(result.split)
    write_embeddings(path, file)
    official = grew_official(file.table)
    if loaders.dataset.startswith("grew/") and len(official.probes) and len(official.gallery) >= GREW_ANSWERS:
        pairing = Pairing.of(file.table, official)
        distances = file.space().between(pairing.probe, pairing.gallery)
        excluded = pairing.excluded(file.table, official)
        found, _ = nearest(distances, len(pairing.probe), pairing.gallery, GREW_ANSWERS, excluded)
        answers = grew_submission(file.table, pairing.probe, found)
        write_atomically(path.with_name(f"{result.split}-submission.csv"), answers.encode())
    return path
