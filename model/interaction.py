"""How body parts look at each other: one cross-attention per part, from its slots to the slots of the other parts.

The interaction of BPI (Body-Part-Interactions, 2024): attention with biases and no output projection, a residual with
the query tokens, LayerNorm, the mean over the part's slots, and a linear layer into the text space.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import assert_never

from model.parts import SlotFeatures, weighted_mean

Interaction = Literal["cross_attention", "none"]


@dataclass(frozen=True)
class PartFeatures:
    """One vector per part, ready to be compared with its text.

    Shapes:
        features: (N, P, D)
        present: (N, P) bool, at least one slot of the part was seen
        attention: part -> (N, heads, own slots, slots of the other parts), rows sum to 1; only where asked for
    """

    features: Tensor
    present: Tensor
    attention: Mapping[str, Tensor] | None


class PartHead(nn.Module, ABC):
    """The slots of one part to one vector in text space."""

    own: Tensor

    def __init__(self, channels: int, width: int, own: tuple[int, ...]) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, width)
        self.register_buffer("own", torch.tensor(own), persistent=False)

    @abstractmethod
    def forward(self, slots: SlotFeatures, with_attention: bool) -> tuple[Tensor, Tensor | None]:
        """(N, D) and, where asked for and where there is any, the attention map."""


class MeanHead(PartHead):
    """The mean over the part's present slots, without looking at other parts (as LST and GAP)."""

    def forward(self, slots: SlotFeatures, with_attention: bool) -> tuple[Tensor, Tensor | None]:
        """Pool and project; there is no attention map."""
        mean = weighted_mean(slots.features[:, self.own], slots.present[:, self.own])
        projected: Tensor = self.projection(mean)
        return projected, None


class CrossAttentionHead(PartHead):
    """The part's slots ask those of the other parts; absent slots are neither asked nor averaged.

    Args:
        others: slots of all other parts, one after another; a slot two of them share stands there twice, as in BPI.
    """

    others: Tensor

    def __init__(self, channels: int, width: int, own: tuple[int, ...], others: tuple[int, ...], heads: int) -> None:
        super().__init__(channels, width, own)
        if channels % heads:
            raise ValueError(f"model.heads: got {heads}, expected a divisor of the encoder's {channels} channels")
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.register_buffer("others", torch.tensor(others), persistent=False)

    def forward(self, slots: SlotFeatures, with_attention: bool) -> tuple[Tensor, Tensor | None]:
        """Attend, pool and project."""
        own, others = slots.features[:, self.own], slots.features[:, self.others]
        query, key, value = self._split(self.query(own)), self._split(self.key(others)), self._split(self.value(others))
        # Where no other part is there, attention has nothing to add; an all-masked softmax would be NaN.
        somebody = slots.present[:, self.others].any(dim=1)
        visible = (slots.present[:, self.others] | ~somebody.unsqueeze(1))[:, None, None, :]
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        heard = heard.transpose(1, 2).flatten(2) * somebody[:, None, None]
        mixed = self.norm(own + heard)
        projected: Tensor = self.projection(weighted_mean(mixed, slots.present[:, self.own]))
        if not with_attention:
            return projected, None
        score: Tensor = (query @ key.transpose(-2, -1)).float() / math.sqrt(query.shape[-1])
        return projected, score.masked_fill(~visible, float("-inf")).softmax(dim=-1)

    def _split(self, tokens: Tensor) -> Tensor:
        """(N, S, C) -> (N, heads, S, C / heads)."""
        samples, slots, _ = tokens.shape
        return tokens.view(samples, slots, self.heads, -1).transpose(1, 2)


class PartInteraction(nn.ModuleDict):
    """One independent head per part, under the part's name.

    Args:
        parts: part name -> its slots; their order is the order of axis P.
        channels: C' of the slots.
        width: D of the text space.
        interaction: ``cross_attention`` (BPI), or ``none``: mean and linear layer only (LST, GAP).
    """

    def __init__(
        self, parts: Mapping[str, tuple[int, ...]], channels: int, width: int, interaction: Interaction, heads: int
    ) -> None:
        heads_by_part: dict[str, nn.Module] = {}
        for part, own in parts.items():
            match interaction:
                case "cross_attention":
                    others = tuple(slot for other, slots in parts.items() if other != part for slot in slots)
                    heads_by_part[part] = CrossAttentionHead(channels, width, own, others, heads)
                case "none":
                    heads_by_part[part] = MeanHead(channels, width, own)
                case _:
                    assert_never(interaction)
        super().__init__(heads_by_part)
        self.width = width

    def forward(self, slots: SlotFeatures, with_attention: bool = False) -> PartFeatures:
        """Every part's vector.

        Shapes:
            slots: features (N, S, C'), weight (N, S)
        """
        heads = cast(Mapping[str, PartHead], dict(self.items()))
        outputs = {part: head(slots, with_attention) for part, head in heads.items()}
        maps = {part: attention for part, (_, attention) in outputs.items() if attention is not None}
        if not heads:
            nothing = slots.features.new_zeros(len(slots.features), 0, self.width)
            return PartFeatures(nothing, nothing[..., 0].bool(), maps if with_attention else None)
        return PartFeatures(
            features=torch.stack([features for features, _ in outputs.values()], dim=1),
            present=torch.stack([slots.present[:, head.own].any(dim=1) for head in heads.values()], dim=1),
            attention=maps if with_attention else None,
        )
