"""PartClip, the assembled network: skeleton encoder, classifier, whole-body head and one head per interacting part."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from feeders.batch import SkeletonBatch
from feeders.skeleton import Skeleton
from model.encoders.build import EncoderConfig, build_encoder
from model.encoders.ctrgcn import CtrGcnConfig
from model.interaction import Interaction, PartInteraction
from model.parts import Pooling, SlotFeatures, encode_slots, slots_of_parts
from torchlight.config import StrictConfig

_INITIAL_LOG_SCALE = math.log(1 / 0.07)  # CLIP (Radford et al., 2021): initial temperature 0.07
_MAX_LOG_SCALE = math.log(100)  # CLIP: the cosines are never multiplied by more than 100


class PartClipConfig(StrictConfig):
    """The ``model`` section of a run.

    Args:
        parts: a part scheme of the skeleton; ``whole`` has no parts, and only the whole body meets texts.
        interaction: ``cross_attention`` (BPI) or ``none`` (mean over the part's slots, as LST and GAP).
        heads: attention heads per part.
        pooling: the whole body, for the classifier and its texts: the ``mean`` of all tokens, or ``concat``: the slots'
            means side by side (BPMT 1.0).
        dropout: before the classifier, in training.
        head: the classifier; ``mlp`` has one hidden layer of the encoder's width.
    """

    encoder: EncoderConfig = CtrGcnConfig()
    parts: str = "torso_arms_legs"
    interaction: Interaction = "cross_attention"
    heads: int = Field(default=8, ge=1)
    pooling: Pooling = "mean"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    head: Literal["linear", "mlp"] = "linear"


@dataclass(frozen=True)
class TextAligned:
    """The skeleton's side of the skeleton-text comparison; slot 0 is the whole body, then the parts.

    Shapes:
        embedding: (N, 1+P, D), not normalised
        present: (N, 1+P) bool, something of the slot was seen
        scale: (1+P,) factor on each slot's cosines: exponentiated, at most 100
        attention: part -> (N, heads, own slots, slots of the other parts); only where asked for
    """

    embedding: Tensor
    present: Tensor
    scale: Tensor
    attention: Mapping[str, Tensor] | None


@dataclass(frozen=True)
class PartClipOutput:
    """What the network says of N clips.

    Shapes:
        logits: (N, K) of the classifier
        text: None where the network was built without text
    """

    logits: Tensor
    text: TextAligned | None


class PartClip(nn.Module):
    """Skeletons to class logits and to text-aligned embeddings of the whole body and of each part.

    Args:
        classes: K.
        bodies: M, the most bodies a clip has.
        text_width: D of the text tower; None builds no text heads and no temperatures.
    """

    def __init__(
        self, config: PartClipConfig, skeleton: Skeleton, classes: int, bodies: int, text_width: int | None
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, skeleton, bodies)
        channels = self.encoder.out_channels
        parts = slots_of_parts(skeleton, config.parts, self.encoder)
        self.slot_names = ("whole", *parts)
        self.dropout = nn.Dropout(config.dropout)
        self.pooling: Pooling = config.pooling
        self.whole_channels = channels * (len(self.encoder.slots) if config.pooling == "concat" else 1)
        is_mlp = config.head == "mlp"
        last = nn.Linear(channels if is_mlp else self.whole_channels, classes)
        nn.init.normal_(last.weight, 0, math.sqrt(2 / classes))  # as CTR-GCN publishes it
        self.classifier = nn.Sequential(nn.Linear(self.whole_channels, channels), nn.GELU(), last) if is_mlp else last
        self.has_text = text_width is not None
        if text_width is not None:
            self.whole_projection = nn.Linear(self.whole_channels, text_width)
            self.part_interaction = PartInteraction(parts, channels, text_width, config.interaction, config.heads)
            self.logit_scale = nn.Parameter(torch.full((len(self.slot_names),), _INITIAL_LOG_SCALE))

    def forward(self, batch: SkeletonBatch, with_attention: bool = False) -> PartClipOutput:
        """Everything the network says of a batch, on request with the attention maps."""
        slots = self._slots(batch)
        whole = slots.whole(self.pooling)
        logits = self.classifier(self.dropout(whole))
        if not self.has_text:
            return PartClipOutput(logits, None)
        parts = self.part_interaction(slots, with_attention)
        text = TextAligned(
            embedding=torch.cat([self.whole_projection(whole).unsqueeze(1), parts.features], dim=1),
            present=torch.cat([slots.present.any(dim=1, keepdim=True), parts.present], dim=1),
            scale=self.scale(),
            attention=parts.attention,
        )
        return PartClipOutput(logits, text)

    def whole(self, batch: SkeletonBatch) -> Tensor:
        """(N, whole_channels) what the encoder says of each clip as a whole."""
        return self._slots(batch).whole(self.pooling)

    def classify(self, batch: SkeletonBatch) -> Tensor:
        """(N, K) the classifier's logits alone."""
        logits: Tensor = self.classifier(self.dropout(self.whole(batch)))
        return logits

    def _slots(self, batch: SkeletonBatch) -> SlotFeatures:
        return encode_slots(self.encoder, batch)

    def scale(self) -> Tensor:
        """(1+P,) factors on the cosines. Clamped in place: past the limit a clamp alone would have no gradient back."""
        if self.training:
            with torch.no_grad():
                self.logit_scale.clamp_(max=_MAX_LOG_SCALE)
            return self.logit_scale.exp()
        return self.logit_scale.clamp(max=_MAX_LOG_SCALE).exp()
