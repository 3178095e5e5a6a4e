"""BPMT 2.0: the IIP-Transformer (Wang et al., arXiv 2110.13385), whose tokens are body parts.

Joints are embedded one by one, the joints of a part become one token, and tokens attend to each other within a frame
and then along time (inter-part), while a linear map looks at the joints inside each token (intra-part). A class token
attends to all tokens and is attended by all; it is the feature of the whole body.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from feeders.skeleton import Skeleton
from model.encoders.attention import AttentionKind, attend, positions
from model.encoders.cascade import TransformerConfig
from model.encoders.contract import Encoder, Tokens
from model.encoders.rows import BodyRows, JointGroups


class IipConfig(TransformerConfig):
    """IIP-Transformer.

    Args:
        joint_width: channels of an embedded joint.
        parts: a scheme of the skeleton.
    """

    name: Literal["iip"] = "iip"
    layers: int = Field(default=4, ge=1)
    joint_width: int = Field(default=32, ge=1)
    parts: str = "five_parts_disjoint"


class SeenNorm(nn.BatchNorm1d):
    """Batch norm of (K, C) that has to do with batches of one or none: these are normed as in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """(K, C) -> (K, C)."""
        uses_batch = self.training and len(x) > 1
        statistics = (self.running_mean, self.running_var)
        return functional.batch_norm(x, *statistics, self.weight, self.bias, uses_batch, 0.1, self.eps)


class JointEmbedding(nn.Module):
    """Two linear maps, each with a batch norm and a ReLU, of the joints that are seen; the others are zero."""

    def __init__(self, coordinates: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(coordinates + 1, width), SeenNorm(width), nn.ReLU(), nn.Linear(width, width), SeenNorm(width)
        )

    def forward(self, rows: BodyRows) -> Tensor:
        """(R, T, V, joint width) of coordinates and weights."""
        seen = rows.weight.flatten().nonzero().flatten()
        joints = torch.cat([rows.pose, rows.weight.unsqueeze(-1)], dim=-1)
        embedded: Tensor = self.layers(joints.flatten(0, 2).index_select(0, seen)).relu()
        home = embedded.new_zeros(rows.weight.numel(), self.width)
        return home.index_copy(0, seen, embedded).view(*rows.weight.shape, -1)


class PartAttention(nn.Module):
    """Intra-inter-part attention of part tokens and the class token, along parts or along time."""

    def __init__(self, width: int, heads: int, kind: AttentionKind) -> None:
        super().__init__()
        self.heads = heads
        self.kind: AttentionKind = kind
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        self.intra = nn.Linear(width, width)

    def forward(self, x: Tensor, whole: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of one line ask their line and the class token; the class token asks all tokens and itself.

        Shapes:
            x: (R, A, L, W), A lines of L tokens; whole: (R, 1, W); seen: (R, A, L) bool
            returns: what to add to x and to whole
        """
        query, key, value = self.inward(x).chunk(3, dim=-1)
        whole_query, whole_key, whole_value = self.inward(whole).chunk(3, dim=-1)
        always = torch.ones_like(seen[:, :, :1])

        def with_whole(tokens: Tensor, of_whole: Tensor) -> Tensor:
            each_line = of_whole.unsqueeze(1).expand(-1, tokens.shape[1], -1, -1)
            return torch.cat([each_line, tokens], dim=2).flatten(0, 1)

        heard = self._attend(
            query.flatten(0, 1),
            with_whole(key, whole_key),
            with_whole(value, whole_value),
            seen.flatten(0, 1),
            torch.cat([always, seen], dim=2).flatten(0, 1),
        )
        heard_by_whole = self._attend(
            whole_query,
            torch.cat([whole_key, key.flatten(1, 2)], dim=1),
            torch.cat([whole_value, value.flatten(1, 2)], dim=1),
            None,
            torch.cat([always[:, 0], seen.flatten(1)], dim=1),
        )
        return self.outward(heard.view(x.shape)) + self.intra(value), self.outward(heard_by_whole)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, asking: Tensor | None, visible: Tensor) -> Tensor:
        """(B, L, W), (B, S, W) twice -> (B, L, W)."""
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        return attend(query, key, value, asking, visible, self.kind).transpose(1, 2).flatten(2)


class IipLayer(nn.Module):
    """Attention within frames, attention along time, and a map of each token, shared by part and class tokens."""

    def __init__(self, config: IipConfig) -> None:
        super().__init__()
        width = config.width
        self.spatial = PartAttention(width, config.heads, config.attention)
        self.temporal = PartAttention(width, config.heads, config.attention)
        self.ffn = nn.Sequential(nn.Linear(width, config.ffn * width), nn.ReLU(), nn.Linear(config.ffn * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, whole: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """x: (R, T, P, W), whole: (R, 1, W), seen: (R, T, P)."""
        added = self.spatial(x, whole, seen)
        x, whole = self._settle(0, x, added[0]), self._settle(0, whole, added[1])
        added = self.temporal(x.transpose(1, 2), whole, seen.transpose(1, 2))
        x, whole = self._settle(1, x, added[0].transpose(1, 2)), self._settle(1, whole, added[1])
        return self._settle(2, x, self.ffn(x)), self._settle(2, whole, self.ffn(whole))

    def _settle(self, number: int, x: Tensor, added: Tensor) -> Tensor:
        return self.norms[number](x + self.dropout(added))  # type: ignore[no-any-return]


class Iip(Encoder):
    """A token is a part of one body in one frame; bodies do not see each other."""

    slots_are_parts = True

    def __init__(self, config: IipConfig, skeleton: Skeleton) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ValueError(f"encoder.heads: got {config.heads}, expected a divisor of the width {config.width}")
        parts = {name: part.joints for name, part in skeleton.parts(config.parts).items()}
        if not parts:
            raise ValueError(f"encoder.parts: got {config.parts!r}, expected a scheme with parts")
        self.slots = tuple(parts)
        self.out_channels = config.width
        self.layout = (len(skeleton.joints), skeleton.coordinates)
        self.joint_embedding = JointEmbedding(skeleton.coordinates, config.joint_width)
        self.groups = JointGroups(list(parts.values()), len(skeleton.joints))
        self.part_embedding = nn.Linear(self.groups.longest * config.joint_width, config.width)
        self.part_name = nn.Parameter(torch.randn(len(parts), config.width) * 0.02)
        self.whole = nn.Parameter(torch.randn(config.width) * 0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(IipLayer(config) for _ in range(config.layers))

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        """Encode a batch; see `Encoder`. ``whole`` is the mean over bodies of their class tokens."""
        rows = BodyRows.of(pose, joint_weight, body_mask, frame_mask, self.layout)
        seen = self.groups(rows.weight).any(dim=-1)
        x = self.part_embedding(self.groups(self.joint_embedding(rows)).flatten(3)).relu()
        place = positions(rows.is_frame.cumsum(dim=1) - 1, x.shape[-1]).to(x.dtype).unsqueeze(2)
        x = self.dropout(x + place + self.part_name)
        whole = self.whole.expand(len(x), 1, -1)
        for layer in self.layers:
            x, whole = layer(x, whole, seen)
        weight = rows.spread(seen).to(pose.dtype)
        is_there = weight.any(dim=3).any(dim=2).unsqueeze(-1)
        bodies = (rows.spread(whole.squeeze(1)) * is_there).sum(dim=1) / is_there.sum(dim=1).clamp(min=1)
        return Tokens(rows.spread(x).permute(0, 4, 2, 3, 1), weight.permute(0, 2, 3, 1), bodies)
