"""What is asked of a split of walks: its protocols, how well embeddings answer them, and who is then a stranger."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from feeders.gait.loading import EvaluationWalks
from feeders.gait.protocols import enrolled_each, protocols_of, walks_of
from torchlight.arrays import matching_order
from torchlight.config import StrictConfig
from torchlight.embeddings import EmbeddingFile
from torchlight.gallery import Threshold, threshold_of
from torchlight.metrics.distance import DistanceName
from torchlight.metrics.protocol import Agreeing, RetrievalProtocol, SampleTable
from torchlight.metrics.ranking import Pairing
from torchlight.metrics.reranking import MOST_SAMPLES, KReciprocal
from torchlight.metrics.retrieval import RetrievalMetrics, cross_table, trials_of
from torchlight.metrics.verification import verify
from torchlight.task import Loaders, Metric, Prediction

logger = logging.getLogger(__name__)

# So many walks of each person enrolled have a threshold of their own; more of them have that of so many.
_MOST_ENROLLED = 8


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


@dataclass(frozen=True, eq=False)
class Asked:
    """The samples of a split and what is asked of them.

    Args:
        unanswerable: protocols beside the first in which no probe has a match, and which are therefore not asked.
    """

    table: SampleTable
    protocols: tuple[RetrievalProtocol, ...]
    unanswerable: tuple[str, ...] = ()

    @property
    def people(self) -> list[str]:
        """The names of those who are known to walk there, sorted."""
        codes = np.unique(self.table.identity[self.table.identity >= 0]).tolist()
        return sorted(self.table.value_name("identity", code) for code in codes)

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

    def refuse_unanswerable(self, split: str) -> None:
        """A ValueError before hours of training, where the walks to choose on cannot be ranked after them."""
        protocol, people = self.protocols[0], len(np.unique(self.table.identity))
        matches = _matches(self.table, protocol)
        if people < 2 or not matches:
            raise ValueError(
                f"data: got {people} people in split {split} and {matches} pairs of walks of one of them under "
                f"protocol {protocol.name}, expected two people and a pair; hold other people out, or nobody"
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


def _matches(table: SampleTable, protocol: RetrievalProtocol) -> int:
    """How many pairs of a protocol are of one person."""
    probe, gallery = protocol.probes, protocol.gallery
    row, item = Agreeing(table, ("identity",), probe, gallery).pairs(0, len(probe))
    return int((~protocol.is_excluded(table, probe[row], gallery[item])).sum())


@dataclass(frozen=True)
class SplitMetrics:
    """The metrics of whatever split a prediction is of, told by its samples."""

    of_split: Mapping[str, RetrievalMetrics]

    def __call__(self, prediction: Prediction) -> Mapping[str, float]:
        """Metric name -> percent."""
        first = prediction.sample_ids[0]
        metrics = next(each for each in self.of_split.values() if first in each.table.sample_id)
        return metrics(prediction)


def metrics_of(retrieval: RetrievalConfig, loaders: Loaders) -> Sequence[Metric]:
    """Rank-k, mAP, mINP and EER of each split under its protocols, and re-ranked where that is asked for."""
    ways = (None, KReciprocal()) if retrieval.reranking else (None,)
    everything = {split: asked(loaders, split) for split in loaders.evaluation}
    for split, walks in everything.items():
        for protocol in walks.unanswerable:
            logger.warning("%s: no probe has a match under protocol %s, which is left out", split, protocol)
        if retrieval.reranking and len(walks.table) > MOST_SAMPLES:
            raise ValueError(
                f"retrieval.reranking: got {len(walks.table)} walks in split {split}, expected at most {MOST_SAMPLES}: "
                "it compares them all"
            )
    return [
        SplitMetrics(
            {
                split: RetrievalMetrics(each.table, each.protocols, retrieval.distance, reranking=way)
                for split, each in everything.items()
            }
        )
        for way in ways
    ]


def cross_view_tables(walks: Asked, prediction: Prediction, distance: DistanceName) -> str:
    """Rank-1 of every view that asks against every view that is searched, where a protocol holds them apart."""
    space = walks.embeddings(prediction, distance).space()
    tables = []
    for protocol in walks.protocols:
        if protocol.cells:
            pairing = Pairing.of(walks.table, protocol)
            trials = trials_of(walks.table, protocol, pairing, space.between(pairing.probe, pairing.gallery))
            groups = {f", {name}": trials.within(code) for name, code in trials.groups().items()}
            for name, each in (groups or {"": trials}).items():
                tables.append(f"rank1 of {protocol.name}{name}, by {protocol.cells}\n{cross_table(each, 'rank1')}")
    return "\n".join(tables)


def thresholds_on(validation: Prediction, walks: Asked, retrieval: RetrievalConfig) -> list[Threshold]:
    """For one walk of each person enrolled, for two, and so on, while half of the people have one left to ask."""
    table, space = walks.table, walks.embeddings(validation, retrieval.distance).space()
    walks_of_each = np.unique(table.identity, return_counts=True)[1]
    fixed = []
    for count in range(1, _MOST_ENROLLED + 1):
        protocol = enrolled_each(table, count)
        if 2 * (walks_of_each > count).sum() < len(walks_of_each) or not _matches(table, protocol):
            break
        verification = verify(table, protocol, Pairing.of(table, protocol), space)
        fixed.append(threshold_of(verification, retrieval.false_alarms, count))
    return fixed
