"""Who is it? A batch of walks to losses, or to the embeddings that walkers are found by."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from model.gait_net import GaitNet, GaitNetConfig, PartEmbeddings
from model.metric_losses import GaitLossConfig, MetricLoss
from model.parts import rows_showing
from torchlight.distributed import gather_with_gradient
from torchlight.task import Prediction, StepOutput, Task

Calibration = Callable[[Prediction], Sequence[tuple[float, ...]]]
"""Predictions of people held out of training -> the rows of numbers fixed on them, `CALIBRATED` at most."""
CALIBRATED = (8, 6)


class GaitRetrievalTask(Task):
    """GaitNet with its losses.

    Args:
        is_cosine: walkers are found by cosines, so the triplets are of embeddings of length 1.
        learned: names of the people that training shows, in the order of their labels.
        calibration: rows that are kept with the weights, NaN until they are fixed on validation people.
        facts: plain facts for the checkpoint.
    """

    calibrated: Tensor

    def __init__(
        self,
        network: GaitNet,
        loss: GaitLossConfig,
        is_cosine: bool,
        learned: Sequence[str],
        calibration: Calibration,
        facts: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.is_cosine = is_cosine
        self.calibration = calibration
        self.facts = {**facts, "slots": list(network.slot_names), "learned_classes": list(learned)}
        self.register_buffer("calibrated", torch.full(CALIBRATED, torch.nan))

    @classmethod
    def build(
        cls,
        *,
        model: GaitNetConfig,
        loss: GaitLossConfig,
        is_cosine: bool,
        skeleton: Skeleton,
        learned: Sequence[str],
        bodies: int,
        calibration: Calibration,
    ) -> Self:
        """Assemble a task from its config sections; a walk shows at most ``bodies`` bodies."""
        network = GaitNet(model, skeleton, len(learned), bodies)
        return cls(network, loss, is_cosine, learned, calibration, {"skeleton": skeleton.name, "bodies": bodies})

    def training_step(self, batch: SkeletonBatch) -> StepOutput:
        """One already weighted metric loss and identity loss per slot, over the walks of all processes.

        A walk in which a part is not seen does not count for that part.
        """
        own = self.network.embed(batch)
        embedding, present, label = gather_with_gradient(own.embedding.float(), own.present, batch.label)
        output = self.network.judge(PartEmbeddings(embedding, present))
        embedding = F.normalize(output.embedding, dim=-1) if self.is_cosine else output.embedding
        losses: dict[str, Tensor] = {}
        slots = self.network.slot_names
        for row, (slot, seen) in enumerate(zip(slots, rows_showing(output.present), strict=True)):
            if self.loss.metric_weight:
                metric = self._metric(embedding[seen, row], label[seen])
                losses[f"metric/{slot}"] = self.loss.metric_weight / len(slots) * metric
            if self.loss.identity_weight:
                identity = self._identity(output.logits[seen, row], label[seen])
                losses[f"identity/{slot}"] = self.loss.identity_weight / len(slots) * identity
        is_right = output.logits.mean(dim=1).argmax(dim=1) == label
        return StepOutput(losses, {"accuracy": 100 * is_right.float().mean()})

    def predict(self, batch: SkeletonBatch) -> Prediction:
        """The embeddings that walkers are found by.

        Shapes (outputs):
            embedding: (N, P, D) float32, 0 where a slot is absent; present: (N, P) bool
        """
        parts = self.network.retrieval_embedding(batch)
        return Prediction(batch.sample_id, batch.label, {"embedding": parts.embedding, "present": parts.present})

    def calibrate(self, validation: Prediction) -> None:
        """Fix and keep what may be chosen on people held out of training."""
        self.calibrated.fill_(torch.nan)
        for row, numbers in zip(self.calibrated, self.calibration(validation), strict=False):
            row.copy_(torch.tensor(numbers))

    def extra_state(self) -> Mapping[str, Any]:
        """Skeleton, bodies, slots, and who was learned from."""
        return self.facts

    @cached_property
    def _metric(self) -> MetricLoss:
        return MetricLoss(self.loss)

    def _identity(self, logits: Tensor, label: Tensor) -> Tensor:
        if not len(label):
            return logits.sum()
        return F.cross_entropy(logits, label, label_smoothing=self.loss.label_smoothing)
