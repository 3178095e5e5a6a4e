"""What makes a gait run: its walks, the network that embeds walkers' body parts, and how well it finds people."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from feeders.gait.loading import EvaluationWalks, GaitDataConfig, build_gait_loaders, gait_data_set
from feeders.gait.protocols import GREW_ANSWERS, enrolled_each, grew_official, grew_submission, protocols_of, walks_of
from feeders.skeleton import Skeleton, skeleton_named
from model.gait_net import GaitNetConfig
from model.init_from import load_encoder
from model.metric_losses import GaitLossConfig
from model.tasks.gait_retrieval import CALIBRATED, Calibration, GaitRetrievalTask
from recipes.reconstruction import PretrainConfig
from torchlight.arrays import matching_order
from torchlight.atomic import write_atomically
from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig, StrictConfig
from torchlight.embeddings import EmbeddingFile, write_embeddings
from torchlight.evaluation import Evaluation
from torchlight.gallery import Index, threshold_of
from torchlight.metrics.distance import DistanceName
from torchlight.metrics.protocol import Agreeing, RetrievalProtocol, SampleTable
from torchlight.metrics.ranking import Pairing, nearest
from torchlight.metrics.reranking import MOST_SAMPLES, KReciprocal
from torchlight.metrics.retrieval import RetrievalMetrics
from torchlight.metrics.verification import verify
from torchlight.outcome import Origin
from torchlight.run_dir import RunDir
from torchlight.task import Loaders, Metric, Prediction

logger = logging.getLogger(__name__)

_SPLITS_OF_PHASE = {
    "train": ("train", "val"),
    "validate": ("val",),
    "test": ("val", "test"),
    "enrol": ("test",),
    "identify": ("test",),
}


class RetrievalConfig(StrictConfig):
    """The ``retrieval`` section: how walkers are compared.

    Args:
        distance: see `torchlight.metrics.distance`. Triplets are trained under the same kind, slot by slot, and window
            by window where ``model.window`` makes a walk the mean of several.
        false_alarms: share of strangers that identification may take for somebody, on validation people.
        reranking: also report k-reciprocal re-ranked numbers, labelled as such.
    """

    distance: DistanceName = "parts/cosine"
    false_alarms: float = Field(default=0.05, ge=0, lt=1)
    reranking: bool = False


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


@dataclass(frozen=True, eq=False)
class Asked:
    """The samples of a split and what is asked of them.

    Args:
        unanswerable: protocols beside the first in which no probe has a match, and which are therefore not asked.
    """

    table: SampleTable
    protocols: tuple[RetrievalProtocol, ...]
    unanswerable: tuple[str, ...] = ()

    def order(self, prediction: Prediction) -> np.ndarray:
        """Where the table's samples are found in a prediction."""
        return matching_order(prediction.sample_ids, "prediction", self.table.sample_id, "the data set")

    def embeddings(self, prediction: Prediction, distance: DistanceName, **facts: str) -> EmbeddingFile:
        """A prediction in the order of the table; facts are those of `EmbeddingFile`."""
        order = self.order(prediction)
        return EmbeddingFile(
            table=self.table,
            embedding=prediction.outputs["embedding"].numpy()[order],
            part_present=prediction.outputs["present"].numpy()[order],
            protocols=self.protocols,
            distance=distance,
            **facts,
        )


@dataclass(frozen=True)
class SplitMetrics:
    """The metrics of whatever split a prediction is of, told by its samples."""

    of_split: Mapping[str, RetrievalMetrics]

    def __call__(self, prediction: Prediction) -> Mapping[str, float]:
        """Metric name -> percent."""
        first = prediction.sample_ids[0]
        metrics = next(each for each in self.of_split.values() if first in each.table.sample_id)
        return metrics(prediction)


def walk_loaders(run: WalksRun, splits: Collection[str]) -> Loaders:
    """The walks of some splits; of none, what is known of the data without having them."""
    if run.train.batch_size % run.walks_each:
        raise ValueError(
            f"train.batch_size: got {run.train.batch_size}, expected a multiple of walks_each={run.walks_each}"
        )
    if not splits:
        facts = gait_data_set(run.data)
        names = {"identities": facts.class_names}
        return Loaders(None, {}, facts.name, (), facts.skeleton.name, "+".join(run.data.inputs), names)
    people = run.train.batch_size // run.walks_each
    return build_gait_loaders(
        run.data, people, run.walks_each, run.train.evaluation_batch_size, run.seed, sorted(splits)
    )


def gait_loaders(run: GaitRun, phases: Sequence[str]) -> Loaders:
    """The walks that some phases need; a phase that is given files needs none."""
    files = {"enrol": run.enrol.walks, "identify": run.identify.walks}
    splits = {split for phase in phases if not files.get(phase) for split in _SPLITS_OF_PHASE[phase]}
    if "train" not in phases:
        return walk_loaders(run, splits)
    if run.loss.metric_weight and run.train.batch_size == run.walks_each:
        raise ValueError(
            f"train.batch_size: got {run.train.batch_size} with walks_each={run.walks_each}, one person a batch, "
            "expected two or more, as a metric loss tells people apart; raise train.batch_size or lower walks_each, or "
            "set loss.metric_weight=0"
        )
    loaders = walk_loaders(run, splits | set(run.train.evaluated_splits))
    for split in loaders.evaluation:
        _refuse_unanswerable(asked(loaders, split), split)
    return loaders


def _refuse_unanswerable(walks: Asked, split: str) -> None:
    """A ValueError before hours of training, where the walks to choose on cannot be ranked after them."""
    protocol = walks.protocols[0]
    people, matches = len(np.unique(walks.table.identity)), _matches(walks.table, protocol)
    if people < 2 or not matches:
        raise ValueError(
            f"data: got {people} people in split {split} and {matches} pairs of walks of one of them under "
            f"protocol {protocol.name}, expected two people and a pair; hold other people out, or nobody"
        )


def _matches(table: SampleTable, protocol: RetrievalProtocol) -> int:
    """How many pairs of a protocol are of one person."""
    probe, gallery = protocol.probes, protocol.gallery
    row, item = Agreeing(table, ("identity",), probe, gallery).pairs(0, len(probe))
    return int((~protocol.is_excluded(table, probe[row], gallery[item])).sum())


def seen_skeleton(data: GaitDataConfig, skeleton: Skeleton) -> Skeleton:
    """The skeleton as a network sees it: with as many coordinates as the inputs have channels."""
    return replace(skeleton, coordinates=len(data.inputs) * skeleton.coordinates)


def gait_task(run: GaitRun, loaders: Loaders, checkpoint: Checkpoint | None) -> GaitRetrievalTask:
    """The task of a run: its encoder from ``init_from``, unless a checkpoint's weights will be loaded."""
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
    table, dataset = asked(loaders, split).table, _data_set(loaders.dataset)
    people = {table.value_name("identity", int(code)) for code in np.unique(table.identity)}
    if familiar := sorted(person for person in people if f"{dataset}/{person}" in met):
        logger.warning(
            "a closed set: %d of the %d people of split %s were learned from, such as %s",
            *(len(familiar), len(people), split, familiar[0]),
        )


def asked(loaders: Loaders, split: str) -> Asked:
    """What is asked of a split."""
    loader = loaders.evaluation[split]
    assert isinstance(loader, EvaluationWalks)
    store = loader.pipeline.store
    walks = walks_of(store, loader.samples)
    first, *others = protocols_of(store.header.dataset, walks)
    matched = {protocol.name: _matches(walks, protocol) > 0 for protocol in others}
    kept = (first, *(protocol for protocol in others if matched[protocol.name]))
    return Asked(walks, kept, tuple(name for name, is_matched in matched.items() if not is_matched))


def _calibration(run: GaitRun, loaders: Loaders) -> Calibration:
    def thresholds(validation: Prediction) -> list[tuple[float, ...]]:
        """For one walk of each person enrolled, for two, and so on, while half of the people have one left to ask."""
        if run.data.views.held_out:
            # Other views of people who were learned from tell nothing of strangers.
            return []
        walks = asked(loaders, "val")
        table, space = walks.table, walks.embeddings(validation, run.retrieval.distance).space()
        walks_of = np.unique(table.identity, return_counts=True)[1]
        fixed = []
        for count in range(1, CALIBRATED[0] + 1):
            protocol = enrolled_each(table, count)
            if 2 * (walks_of > count).sum() < len(walks_of) or not _matches(table, protocol):
                break
            verification = verify(table, protocol, Pairing.of(table, protocol), space)
            fixed.append(astuple(threshold_of(verification, run.retrieval.false_alarms, count)))
        return fixed

    return thresholds


def gait_metrics(run: GaitRun, loaders: Loaders) -> Sequence[Metric]:
    """Rank-k, mAP, mINP and EER of each split under its protocols, and re-ranked where that is asked for."""
    ways = (None, KReciprocal()) if run.retrieval.reranking else (None,)
    everything = {split: asked(loaders, split) for split in loaders.evaluation}
    for split, walks in everything.items():
        for protocol in walks.unanswerable:
            logger.warning("%s: no probe has a match under protocol %s, which is left out", split, protocol)
        if run.retrieval.reranking and len(walks.table) > MOST_SAMPLES:
            raise ValueError(
                f"retrieval.reranking: got {len(walks.table)} walks in split {split}, expected at most {MOST_SAMPLES}: "
                "it compares them all"
            )
    return [
        SplitMetrics(
            {
                split: RetrievalMetrics(each.table, each.protocols, run.retrieval.distance, reranking=way)
                for split, each in everything.items()
            }
        )
        for way in ways
    ]


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
