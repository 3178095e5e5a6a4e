"""Losses that bring walks of one person together and keep those of others away, by pytorch-metric-learning.

Every loss takes one slot (the whole body or one part) of a batch of P people times K walks.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import assert_never

from torchlight.config import StrictConfig

MetricForm = Literal["batch_hard", "all_valid", "supcon"]


class GaitLossConfig(StrictConfig):
    """The ``loss`` section: a metric loss on embeddings plus cross-entropy over the identities learned.

    Args:
        form: the triplet loss of each anchor's hardest positive and negative, averaged over anchors (``batch_hard``,
            Hermans et al., 2017), of all triplets that violate the margin (``all_valid``), or ``supcon`` (Khosla et
            al., 2020).
        margin: of the triplets; temperature: of ``supcon``.
        metric_weight, identity_weight: factors of the two, each first averaged over the slots; 0 leaves one out.
        label_smoothing: of the cross-entropy.
    """

    form: MetricForm = "batch_hard"
    margin: float = Field(default=0.3, gt=0)
    temperature: float = Field(default=0.1, gt=0)
    metric_weight: float = Field(default=1.0, ge=0)
    identity_weight: float = Field(default=1.0, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class MetricLoss:
    """One slot's metric loss in the form asked for, in float32 also under autocast.

    Shapes:
        embedding: (N, D), as its Euclidean distance is meant; label: (N,) int64
        returns: scalar; 0 where no two walks of a person, or no two people, are there
    """

    def __init__(self, config: GaitLossConfig) -> None:
        package = _package()
        distance = package.distances.LpDistance(normalize_embeddings=False)
        self.miner: Any = None
        match config.form:
            case "batch_hard":
                self.miner = package.miners.BatchHardMiner(distance=distance)
                reducer = package.reducers.MeanReducer()
                self.loss = package.losses.TripletMarginLoss(config.margin, distance=distance, reducer=reducer)
            case "all_valid":
                reducer = package.reducers.AvgNonZeroReducer()
                self.loss = package.losses.TripletMarginLoss(config.margin, distance=distance, reducer=reducer)
            case "supcon":
                self.loss = package.losses.SupConLoss(config.temperature)
            case _:
                assert_never(config.form)

    def __call__(self, embedding: Tensor, label: Tensor) -> Tensor:
        """The loss of a batch; the order of its rows has no say."""
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.float()
            if len(label.unique()) < 2:
                return embedding.sum() * 0
            pairs = None if self.miner is None else self.miner(embedding, label)
            loss: Tensor = self.loss(embedding, label, pairs)
            return loss


def _package() -> Any:
    try:
        import pytorch_metric_learning as package
        import pytorch_metric_learning.distances
        import pytorch_metric_learning.losses
        import pytorch_metric_learning.miners
        import pytorch_metric_learning.reducers
    except ImportError:
        raise ValueError(
            "loss: got no pytorch-metric-learning, expected it for training on walks; pip install 'partclip[gait]'"
        ) from None
    return package
