"""Attention and transformer layers that carry G independent sets of parameters and run them as one product.

A group is a body part, or a pair of parts: it has weights of its own and meets the others nowhere. Features of all
groups are one tensor (G, B, L, W); G = 1 is the ordinary transformer. Attention is the scaled dot product (Vaswani et
al., NeurIPS 2017), or Flow attention (Wu et al., "Flowformer", ICML 2022), whose cost is linear in L.

Tokens that are not seen influence nobody: they are no keys, and in Flow attention, where queries compete, they do not
count as queries. They still ask, and a query that finds no key at all hears zero.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import assert_never

AttentionKind = Literal["sdpa", "flow"]
NormPlace = Literal["pre", "post"]

_FLOW_EPSILON = 1e-6  # as in thuml/Flowformer


def attend(
    query: Tensor, key: Tensor, value: Tensor, asking: Tensor | None, visible: Tensor | None, kind: AttentionKind
) -> Tensor:
    """What each query hears of the visible keys.

    Shapes:
        query: (B, H, L, d); key, value: (B, H, S, d)
        asking: (B, L) bool, queries that compete with each other; visible: (B, S) bool; None where all do or are
        returns: (B, H, L, d), also for queries that do not compete; zero where no key is visible
    """
    # Flow attention divides by sums; on a CPU the fused kernel's gradient took 17 times as long in bfloat16.
    is_accurate = kind == "flow" or query.device.type == "cpu"
    dtype = torch.promote_types(query.dtype, torch.float32) if is_accurate else query.dtype
    with torch.autocast(query.device.type, enabled=False):
        inputs = (query.to(dtype), key.to(dtype), value.to(dtype))
        match kind:
            case "sdpa":
                heard = _dot_product(*inputs, visible)
            case "flow":
                heard = _flow(*inputs, asking, visible)
            case _:
                assert_never(kind)
    return heard.to(value.dtype)


def _dot_product(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    if visible is None:
        return functional.scaled_dot_product_attention(query, key, value)
    # A softmax over nothing would be NaN: who finds no key looks at all of them, and what is heard is dropped.
    somebody = visible.any(dim=1, keepdim=True)
    shown = (visible | ~somebody)[:, None, None, :]
    heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=shown)
    return heard * somebody[:, :, None, None]


def _flow(query: Tensor, key: Tensor, value: Tensor, asking: Tensor | None, visible: Tensor | None) -> Tensor:
    """Queries and keys are sources and sinks of a flow that is conserved, so both sides have to compete for it."""
    query, key = query.sigmoid(), key.sigmoid()
    asks = torch.ones_like(query[..., :1]) if asking is None else asking[:, None, :, None].to(query)
    shown = torch.ones_like(key[..., :1]) if visible is None else visible[:, None, :, None].to(query)
    key, value = key * shown, value * shown
    queries, keys = asks.sum(dim=2, keepdim=True), shown.sum(dim=2, keepdim=True)

    def flow(tokens: Tensor, total: Tensor) -> Tensor:
        return ((tokens + _FLOW_EPSILON) * (total + _FLOW_EPSILON)).sum(dim=-1, keepdim=True)

    incoming = flow(query, key.sum(dim=2, keepdim=True))
    outgoing = flow(key, (query * asks).sum(dim=2, keepdim=True))
    arriving = flow(query, (key / outgoing).sum(dim=2, keepdim=True))
    leaving = flow(key, (query * asks / incoming).sum(dim=2, keepdim=True))
    allocation = (arriving * queries / keys.clamp(min=1)).sigmoid()
    leaving = leaving.clamp(-1, 1).masked_fill(shown == 0, torch.finfo(leaving.dtype).min)
    memory = key.mT @ (value * leaving.softmax(dim=2) * keys)
    return (query / incoming) @ memory * allocation


def positions(place: Tensor, width: int) -> Tensor:
    """Sinusoids of a frame's place in its clip, for any number of frames.

    Shapes:
        place: (...) int or float
        returns: (..., width) float32
    """
    octave = torch.arange(0, width, 2, device=place.device) / width
    angle = place.unsqueeze(-1) * 10000.0**-octave  # Vaswani et al.: wavelengths from 2 pi to 10000 times that
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[..., :width]


class GroupedNorm(nn.Module):
    """Layer norm with a scale and a shift of its own for each group."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.groups = groups
        # Flat, as what has one axis has no weight decay.
        self.weight = nn.Parameter(torch.ones(groups * width))
        self.bias = nn.Parameter(torch.zeros(groups * width))

    def forward(self, x: Tensor) -> Tensor:
        """(G, ..., W) -> the same shape."""
        weight, bias = self.affine()
        return (self.plain(x).flatten(1, -2) * weight + bias).view(x.shape)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, (G, 1, W) each."""
        return self.weight.view(self.groups, 1, -1), self.bias.view(self.groups, 1, -1)

    @staticmethod
    def plain(x: Tensor) -> Tensor:
        """The norm before scale and shift."""
        return functional.layer_norm(x, x.shape[-1:])


class GroupedLinear(nn.Module):
    """One linear map for each group, all in one product."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups * outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, norm: GroupedNorm | None = None, has_relu: bool = False) -> Tensor:
        """(G, ..., inputs) -> (G, ..., outputs), of the normed x where a norm is given, and a ReLU where one is asked.

        The norm's scale and shift are multiplied into the weights, which are smaller than the features.
        """
        weight, bias = self.weight, self.bias.view(len(self.weight), 1, -1)
        if norm is not None:
            scale, shift = norm.affine()
            x, bias = norm.plain(x), torch.baddbmm(bias, shift, weight)
            weight = scale.mT * weight  # type: ignore[assignment]
        y = torch.baddbmm(bias, x.flatten(1, -2), weight)
        return (y.relu_() if has_relu else y).view(*x.shape[:-1], -1)


class GroupedAttention(nn.Module):
    """Multi-head attention, of the tokens among themselves or to a memory.

    Args:
        heads: divisor of the width.
    """

    def __init__(self, groups: int, width: int, heads: int, kind: AttentionKind, is_cross: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"encoder.heads: got {heads}, expected a divisor of the width {width}")
        self.heads = heads
        self.kind: AttentionKind = kind
        self.query = GroupedLinear(groups, width, width) if is_cross else None
        self.inward = GroupedLinear(groups, width, (2 if is_cross else 3) * width)
        self.outward = GroupedLinear(groups, width, width)

    def forward(
        self,
        x: Tensor,
        seen: Tensor | None,
        norm: GroupedNorm | None = None,
        memory: Tensor | None = None,
        memory_seen: Tensor | None = None,
    ) -> Tensor:
        """Attend, after a norm of x if one is given.

        Shapes:
            x: (G, B, L, W); memory: (G, B, S, W)
            seen: (G, B, L) bool; memory_seen: (G, B, S) bool; None where all are seen
        """
        if self.query is None:
            query, key, value = self._split(self.inward(x, norm), 3)
            memory_seen = seen
        else:
            assert memory is not None
            (query,) = self._split(self.query(x, norm), 1)
            key, value = self._split(self.inward(memory), 2)
        asking, visible = (None if mask is None else mask.flatten(0, 1) for mask in (seen, memory_seen))
        heard = attend(query, key, value, asking, visible, self.kind)
        return self.outward(heard.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]

    def _split(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        """(G, B, L, count * W) -> count times (G * B, heads, L, W / heads), without a copy."""
        return x.view(-1, x.shape[2], count, self.heads, x.shape[-1] // (count * self.heads)).transpose(1, 3).unbind(2)


class GroupedLayer(nn.Module):
    """Self-attention and a two-layer map, each with a residual, normed before or after.

    Dropout acts on what is added to the residual. The attention map has none, as the fused kernels on a CPU know none.
    """

    def __init__(
        self, groups: int, width: int, heads: int, ffn: int, dropout: float, kind: AttentionKind, norm: NormPlace
    ) -> None:
        super().__init__()
        self.is_pre = norm == "pre"
        self.attention = GroupedAttention(groups, width, heads, kind)
        self.widen = GroupedLinear(groups, width, ffn * width)
        self.narrow = GroupedLinear(groups, ffn * width, width)
        self.attention_norm = GroupedNorm(groups, width)
        self.ffn_norm = GroupedNorm(groups, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(G, B, L, W) -> the same shape; seen: (G, B, L) or None."""
        if self.is_pre:
            x = x + self.dropout(self.attention(x, seen, self.attention_norm))
            return x + self.dropout(self.narrow(self.widen(x, self.ffn_norm, has_relu=True)))  # type: ignore[no-any-return]
        x = self.attention_norm(x + self.dropout(self.attention(x, seen)))
        return self.ffn_norm(x + self.dropout(self.narrow(self.widen(x, has_relu=True))))  # type: ignore[no-any-return]


class GroupedEncoder(nn.Module):
    """Layers one after another; pre-norm layers end with one more norm."""

    def __init__(
        self,
        groups: int,
        width: int,
        heads: int,
        layers: int,
        *,
        ffn: int,
        dropout: float,
        kind: AttentionKind,
        norm: NormPlace,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GroupedLayer(groups, width, heads, ffn, dropout, kind, norm) for _ in range(layers))
        self.norm = GroupedNorm(groups, width) if norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(G, B, L, W) -> the same shape; seen: (G, B, L) or None."""
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x)  # type: ignore[no-any-return]


class GroupedCross(nn.Module):
    """Cross-attention as in the cascades of this family: query + what it hears of the memory, normed."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float, kind: AttentionKind) -> None:
        super().__init__()
        self.attention = GroupedAttention(groups, width, heads, kind, is_cross=True)
        self.norm = GroupedNorm(groups, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None, memory: Tensor, memory_seen: Tensor | None) -> Tensor:
        """x: (G, B, L, W), memory: (G, B, S, W) -> (G, B, L, W); masks as in `GroupedAttention`."""
        heard = self.attention(x, seen, memory=memory, memory_seen=memory_seen)
        return self.norm(x + self.dropout(heard))  # type: ignore[no-any-return]
