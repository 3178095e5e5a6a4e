"""Who is it? A batch of walks to losses, or to the embeddings that walkers are found by."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from model.gait_net import GaitNet, GaitNetConfig, PartEmbeddings
from model.metric_losses import GaitLossConfig, MetricLoss
from torchlight.distributed import gather_with_gradient
from torchlight.task import Prediction, StepOutput, Task


class GaitRetrievalTask(Task):
    """GaitNet with its losses.

    Args:
        facts: plain facts for the checkpoint.
    """

    def __init__(self, network: GaitNet, loss: GaitLossConfig, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.facts = dict(facts)

    @classmethod
    def build(
        cls, *, model: GaitNetConfig, loss: GaitLossConfig, skeleton: Skeleton, identities: Sequence[str], bodies: int
    ) -> Self:
        """Assemble a task from its config sections; label k of training is ``identities[k]``."""
        network = GaitNet(model, skeleton, len(identities), bodies)
        facts = {"skeleton": skeleton.name, "bodies": bodies, "slots": list(network.slot_names)}
        return cls(network, loss, facts)

    def training_step(self, batch: SkeletonBatch) -> StepOutput:
        """One already weighted metric loss and identity loss per slot, over the walks of all processes.

        A walk in which a part is not seen does not count for that part.
        """
        own = self.network.embed(batch)
        everyone = PartEmbeddings(gather_with_gradient(own.embedding.float()), gather_with_gradient(own.present))
        label = gather_with_gradient(batch.label)
        output = self.network.judge(everyone)
        measured = self.network.measured(output.embedding)
        losses: dict[str, Tensor] = {}
        slots = self.network.slot_names
        for row, slot in enumerate(slots):
            seen = output.present[:, row]
            if self.loss.metric_weight:
                metric = self._metric(measured[seen, row], label[seen])
                losses[f"metric/{slot}"] = self.loss.metric_weight / len(slots) * metric
            if self.loss.identity_weight:
                identity = self._identity(output.logits[seen, row], label[seen])
                losses[f"identity/{slot}"] = self.loss.identity_weight / len(slots) * identity
        hits = (output.logits.mean(dim=1).argmax(dim=1) == label).float()
        return StepOutput(losses, {"accuracy": 100 * hits.mean()})

    def predict(self, batch: SkeletonBatch) -> Prediction:
        """The embeddings that walkers are found by.

        Shapes (outputs):
            embedding: (N, P, D) float32, 0 where a slot is absent; present: (N, P) bool
        """
        parts = self.network.retrieval_embedding(batch)
        return Prediction(batch.sample_id, batch.label, {"embedding": parts.embedding, "present": parts.present})

    def extra_state(self) -> Mapping[str, Any]:
        """Skeleton, bodies and slots."""
        return self.facts

    @cached_property
    def _metric(self) -> MetricLoss:
        return MetricLoss(self.loss)

    def _identity(self, logits: Tensor, label: Tensor) -> Tensor:
        if not len(label):
            return logits.sum()
        return F.cross_entropy(logits, label, label_smoothing=self.loss.label_smoothing)
