"""GaitNet, the network that tells walkers apart: skeleton encoder, one embedding per body part, identity classifiers.

The embeddings stand before and after a BNNeck (Luo et al., "Bag of tricks", CVPRW 2019): a batch norm that only the
identity classifier trains, kept apart for every part as OpenGait's SeparateBNNecks. Parts look at each other through
the same modules as on the action side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from model.encoders.build import EncoderConfig, build_encoder
from model.encoders.ctrgcn import CtrGcnConfig
from model.interaction import Interaction, PartInteraction
from model.parts import encode_slots, slots_of_parts
from torchlight.config import StrictConfig

_MOMENTUM, _EPS = 0.1, 1e-5  # torch's batch norm
_IDENTITY_SCALE = 16.0  # OpenGait, FastPoseGait: factor on the cosines to the identities


class GaitNetConfig(StrictConfig):
    """The ``model`` section of a gait run.

    Args:
        parts: a part scheme of the skeleton.
        interaction: ``cross_attention`` (BPI) or ``none``: mean over the part's slots.
        heads: attention heads per part.
        width: D of every slot's embedding.
        embedding: which one walkers are found by.
        window: walks are found by the mean direction of their windows of so many frames, which overlap by half; best
            as long as those learned from. None takes the whole walk at once.
        freeze_encoder: leave the encoder as it starts, batch statistics included, and train what stands above it.
    """

    encoder: EncoderConfig = CtrGcnConfig(weigh="joints")
    parts: str = "five_parts"
    interaction: Interaction = "none"
    heads: int = Field(default=8, ge=1)
    width: int = Field(default=64, ge=1)
    embedding: Literal["before_neck", "after_neck"] = "after_neck"
    window: int | None = Field(default=None, ge=2, multiple_of=2)
    freeze_encoder: bool = False


@dataclass(frozen=True)
class PartEmbeddings:
    """One vector per slot of each walk; slot 0 is the whole body, then the parts.

    Shapes:
        embedding: (N, P, D), 0 where a slot is absent
        present: (N, P) bool, something of the slot was seen
    """

    embedding: Tensor
    present: Tensor


@dataclass(frozen=True)
class GaitOutput:
    """What the network says of N walks; absent slots are 0 everywhere.

    Shapes:
        embedding, after_neck: (N, P, D); present: (N, P) bool
        logits: (N, P, K) over the identities learned
    """

    embedding: Tensor
    after_neck: Tensor
    logits: Tensor
    present: Tensor


class IdentityNeck(nn.Module):
    """A batch norm without bias per slot, then a cosine classifier per slot. Absent slots count in no statistic."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, slots: int, width: int, identities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(slots, width))
        self.classifier = nn.Parameter(torch.empty(slots, identities, width))
        nn.init.normal_(self.classifier, 0, width**-0.5)
        self.register_buffer("running_mean", torch.zeros(slots, width))
        self.register_buffer("running_var", torch.ones(slots, width))

    def forward(self, embedding: Tensor, present: Tensor) -> Tensor:
        """(N, P, D), (N, P) bool -> (N, P, D)."""
        counts = present.unsqueeze(-1)
        mean, variance = self._statistics(embedding, counts) if self.training else (self.running_mean, self.running_var)
        return (embedding - mean) * (variance + _EPS).rsqrt() * self.weight * counts

    def logits(self, after_neck: Tensor) -> Tensor:
        """(N, P, D) -> (N, P, K) scaled cosines to each identity's direction."""
        directions = F.normalize(self.classifier, dim=-1)
        return _IDENTITY_SCALE * torch.einsum("npd,pkd->npk", F.normalize(after_neck, dim=-1), directions)

    def _statistics(self, embedding: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        total = counts.sum(dim=0)
        mean = (embedding * counts).sum(dim=0) / total.clamp(min=1)
        variance = ((embedding - mean).square() * counts).sum(dim=0) / total.clamp(min=1)
        with torch.no_grad():
            # A slot that nobody shows in this batch keeps its running statistics.
            pace = _MOMENTUM * (total > 0)
            self.running_mean += pace * (mean - self.running_mean)
            self.running_var += pace * (variance * total / (total - 1).clamp(min=1) - self.running_var)
        return mean, variance


class GaitNet(nn.Module):
    """Walks to embeddings of the whole body and of each part.

    Args:
        identities: K, the people learned from.
        bodies: M, the most bodies a walk shows.
    """

    def __init__(self, config: GaitNetConfig, skeleton: Skeleton, identities: int, bodies: int = 1) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder, skeleton, bodies)
        if config.freeze_encoder:
            self.encoder.requires_grad_(False)
        channels = self.encoder.out_channels
        parts = slots_of_parts(skeleton, config.parts, self.encoder)
        self.slot_names = ("whole", *parts)
        self.whole_projection = nn.Linear(channels, config.width)
        self.part_interaction = PartInteraction(parts, channels, config.width, config.interaction, config.heads)
        self.neck = IdentityNeck(len(self.slot_names), config.width, identities)

    def forward(self, batch: SkeletonBatch) -> GaitOutput:
        """Everything the network says of a batch."""
        return self.judge(self.embed(batch))

    def embed(self, batch: SkeletonBatch) -> PartEmbeddings:
        """Every slot's vector as it stands before the neck."""
        slots = encode_slots(self.encoder, batch)
        parts = self.part_interaction(slots)
        present = torch.cat([slots.present.any(dim=1, keepdim=True), parts.present], dim=1)
        embedding = torch.cat([self.whole_projection(slots.whole()).unsqueeze(1), parts.features], dim=1)
        return PartEmbeddings(embedding * present.unsqueeze(-1), present)

    def judge(self, parts: PartEmbeddings) -> GaitOutput:
        """Neck and classifiers, in float32 also under autocast; in training the neck normalises by these very rows."""
        with torch.autocast(parts.embedding.device.type, enabled=False):
            embedding = parts.embedding.float()
            after_neck = self.neck(embedding, parts.present)
            return GaitOutput(embedding, after_neck, self.neck.logits(after_neck), parts.present)

    def retrieval_embedding(self, batch: SkeletonBatch) -> PartEmbeddings:
        """The vectors that walkers are found by, in float32."""
        if self.config.window is None:
            return self._found_by(batch)
        total, mass = torch.zeros(()), torch.zeros(())
        for window, seen in _windows(batch, self.config.window):
            parts = self._found_by(window)
            weight = (parts.present * seen[:, None]).unsqueeze(-1)
            total, mass = total + weight * F.normalize(parts.embedding, dim=-1), mass + weight
        return PartEmbeddings(total / mass.clamp(min=1), mass.squeeze(-1) > 0)

    def _found_by(self, batch: SkeletonBatch) -> PartEmbeddings:
        parts = self.embed(batch)
        embedding = parts.embedding.float()
        if self.config.embedding == "after_neck":
            embedding = self.neck(embedding, parts.present)
        return PartEmbeddings(embedding, parts.present)

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder is in eval mode throughout."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.encoder.eval()
        return self


def _windows(batch: SkeletonBatch, frames: int) -> Iterator[tuple[SkeletonBatch, Tensor]]:
    """Windows of walks with (N,) how many frames each shows: 0 where all of them were in the window before."""
    half = frames // 2
    for start in range(0, max(batch.frame_mask.shape[1] - half, 1), half):
        stop = start + frames
        mask = batch.frame_mask[:, start:stop]
        is_news = mask[:, half if start else 0 :].any(dim=1)
        window = replace(
            batch,
            pose=batch.pose[:, :, start:stop],
            joint_weight=batch.joint_weight[:, start:stop],
            frame_mask=mask,
        )
        yield window, mask.sum(dim=1) * is_news
