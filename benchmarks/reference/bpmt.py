"""BPMT 1.0 said plainly: a module for each part and one for each pair, run one after the other.

`model/encoders/bpmt.py` says how the system works; this says the same with `nn.Linear`, `nn.LayerNorm` and a softmax
over scores, for clips in which every joint is seen. The tests and `python -m benchmarks.bpmt` hold the two together.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn


class ReferenceAttention(nn.Module):
    """Multi-head attention; x: (B, L, W), memory: (B, S, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(B, L, W)."""
        query, key, value = (self._split(tokens) for tokens in (self.query(x), self.key(memory), self.value(memory)))
        score = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        heard = score.softmax(dim=-1) @ value
        outward: Tensor = self.outward(heard.transpose(1, 2).flatten(2))
        return outward

    def _split(self, tokens: Tensor) -> Tensor:
        split: Tensor = tokens.unflatten(-1, (self.heads, -1))
        return split.transpose(1, 2)


class ReferenceLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = ReferenceAttention(width, heads)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, ffn * width), nn.ReLU(), nn.Linear(ffn * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> the same."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed)
        return x + self.ffn(self.ffn_norm(x))  # type: ignore[no-any-return]


class ReferenceEncoder(nn.Sequential):
    """Layers and a last norm."""

    def __init__(self, width: int, heads: int, layers: int, ffn: int) -> None:
        super().__init__(*(ReferenceLayer(width, heads, ffn) for _ in range(layers)), nn.LayerNorm(width))


class ReferenceCross(nn.Module):
    """Cross-attention with a residual and a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = ReferenceAttention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(B, L, W)."""
        return self.norm(x + self.attention(x, memory))  # type: ignore[no-any-return]


class ReferencePart(nn.Module):
    """T1 of one part: (B, T, J, C + 1), weights beside coordinates, to (B, T, W)."""

    def __init__(self, joints: int, coordinates: int, width: int, heads: int, layers: int, ffn: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(joints * (coordinates + 1), width)
        self.encoder = ReferenceEncoder(width, heads, layers, ffn)
        self.head = nn.Linear(width, joints * coordinates)

    def forward(self, joints: Tensor) -> Tensor:
        """Encode."""
        x = self.embedding(joints.flatten(2))
        frames, width = x.shape[1:]
        angle = torch.arange(frames, device=x.device).unsqueeze(1) * 10000.0 ** -(
            torch.arange(0, width, 2, device=x.device) / width
        )
        place = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        return self.encoder(x + place.to(x.dtype))  # type: ignore[no-any-return]


class ReferencePair(nn.Module):
    """Two parts that ask each other, and their T2: twice (B, T, W) to (B, 2 * T, W)."""

    def __init__(self, sizes: tuple[int, int], coordinates: int, width: int, heads: int, layers: int, ffn: int) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(ReferenceCross(width, heads) for _ in range(2))
        self.encoder = ReferenceEncoder(width, heads, layers, ffn)
        self.heads = nn.ModuleList(nn.Linear(width, joints * coordinates) for joints in sizes)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Encode."""
        both = torch.cat([self.crosses[0](one, other), self.crosses[1](other, one)], dim=1)
        return self.encoder(both)  # type: ignore[no-any-return]


class ReferenceBpmt(nn.Module):
    """Five parts, ten pairs, and a last cross-attention for each part.

    Args:
        parts: name -> joints.
    """

    def __init__(
        self, parts: Mapping[str, Sequence[int]], coordinates: int, width: int, heads: int, layers: int, ffn: int
    ) -> None:
        super().__init__()
        self.members = [list(joints) for joints in parts.values()]
        self.coordinates = coordinates
        sizes = [len(joints) for joints in self.members]
        self.pairs = list(combinations(range(len(parts)), 2))
        network = (coordinates, width, heads, layers, ffn)
        self.parts = nn.ModuleList(ReferencePart(size, *network) for size in sizes)
        self.pair_modules = nn.ModuleList(ReferencePair((sizes[a], sizes[b]), *network) for a, b in self.pairs)
        self.crosses = nn.ModuleList(ReferenceCross(width, heads) for _ in parts)

    def first(self, pose: Tensor) -> list[Tensor]:
        """T1 of each part; pose: (B, T, V, C), returns (B, T, W) each."""
        joints = torch.cat([pose, torch.ones_like(pose[..., :1])], dim=-1)
        return [module(joints[:, :, members]) for module, members in zip(self.parts, self.members, strict=True)]

    def tokens(self, pose: Tensor) -> Tensor:
        """Fine-tuning: (B, T, V, C) -> (B, T, P, W)."""
        first = self.first(pose)
        encoded = self._encode_pairs(first)
        tokens = []
        for part, cross in enumerate(self.crosses):
            memory = [pair for (a, b), pair in zip(self.pairs, encoded, strict=True) if part in (a, b)]
            tokens.append(cross(first[part], torch.cat(memory, dim=1)))
        return torch.stack(tokens, dim=2)

    def reconstruct_parts(self, pose: Tensor) -> Tensor:
        """(1, B, T, V, C)."""
        predicted = torch.zeros_like(pose)
        heads = [module.get_submodule("head") for module in self.parts]
        for head, members, features in zip(heads, self.members, self.first(pose), strict=True):
            predicted[:, :, members] = head(features).unflatten(-1, (-1, self.coordinates)).to(predicted.dtype)
        return predicted.unsqueeze(0)

    def reconstruct_pairs(self, pose: Tensor) -> Tensor:
        """With T1 frozen: (P - 1, B, T, V, C)."""
        with torch.no_grad():
            first = self.first(pose)
        predicted = pose.new_zeros(len(self.members) - 1, *pose.shape)
        turn = [0] * len(self.members)
        for pair, module, encoding in zip(self.pairs, self.pair_modules, self._encode_pairs(first), strict=True):
            heads = (module.get_submodule(f"heads.{side}") for side in range(2))
            for part, head, tokens in zip(pair, heads, encoding.chunk(2, dim=1), strict=True):
                joints = head(tokens).unflatten(-1, (-1, self.coordinates))
                predicted[turn[part], :, :, self.members[part]] = joints.to(predicted.dtype)
                turn[part] += 1
        return predicted

    def _encode_pairs(self, first: Sequence[Tensor]) -> list[Tensor]:
        return [module(first[a], first[b]) for (a, b), module in zip(self.pairs, self.pair_modules, strict=True)]


def grouped_state(reference: ReferenceBpmt, longest: int) -> dict[str, Tensor]:
    """The reference's values (or, put in their place, gradients) under the names and in the layout of `Bpmt`.

    Parts are padded to ``longest`` joints.
    """
    coordinates = reference.coordinates
    state: dict[str, Tensor] = {}

    def linear(name: str, modules: Sequence[nn.Linear], inputs: int = 0, outputs: int = 0) -> None:
        weights, biases = [], []
        for module in modules:
            weight, bias = _value(module.weight), _value(module.bias)
            weights.append(_padded(_padded(weight.T, 0, inputs), 1, outputs))
            biases.append(_padded(bias, 0, outputs))
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.stack(weights), torch.cat(biases)

    def side_by_side(name: str, modules: Sequence[Sequence[nn.Linear]]) -> None:
        state[f"{name}.weight"] = torch.stack([torch.cat([_value(m.weight).T for m in row], 1) for row in modules])
        state[f"{name}.bias"] = torch.cat([_value(m.bias) for row in modules for m in row])

    def norm(name: str, modules: Sequence[nn.LayerNorm]) -> None:
        state[f"{name}.weight"] = torch.cat([_value(module.weight) for module in modules])
        state[f"{name}.bias"] = torch.cat([_value(module.bias) for module in modules])

    def encoder(name: str, modules: Sequence[Any]) -> None:
        *layers, last = zip(*modules, strict=True)
        for number, layer in enumerate(layers):
            at = f"{name}.layers.{number}"
            attention = [module.attention for module in layer]
            side_by_side(f"{at}.attention.inward", [(a.query, a.key, a.value) for a in attention])
            linear(f"{at}.attention.outward", [a.outward for a in attention])
            norm(f"{at}.attention_norm", [module.attention_norm for module in layer])
            linear(f"{at}.widen", [module.ffn[0] for module in layer])
            linear(f"{at}.narrow", [module.ffn[2] for module in layer])
            norm(f"{at}.ffn_norm", [module.ffn_norm for module in layer])
        norm(f"{name}.norm", last)

    def cross(name: str, modules: Sequence[ReferenceCross]) -> None:
        attention = [module.attention for module in modules]
        linear(f"{name}.attention.query", [a.query for a in attention])
        side_by_side(f"{name}.attention.inward", [(a.key, a.value) for a in attention])
        linear(f"{name}.attention.outward", [a.outward for a in attention])
        norm(f"{name}.norm", [module.norm for module in modules])

    parts: list[Any] = list(reference.parts)
    pairs: list[Any] = list(reference.pair_modules)
    crosses: list[Any] = list(reference.crosses)
    linear("frame_encoder.embedding.linear", [part.embedding for part in parts], inputs=longest * (coordinates + 1))
    encoder("frame_encoder.encoder", [part.encoder for part in parts])
    linear("frame_head", [part.head for part in parts], outputs=longest * coordinates)
    cross("pair_cross", [pair.crosses[side] for side in range(2) for pair in pairs])
    encoder("pair_encoder", [pair.encoder for pair in pairs])
    linear("pair_head", [pair.heads[side] for side in range(2) for pair in pairs], outputs=longest * coordinates)
    cross("cross", crosses)
    return state


def gradients(reference: ReferenceBpmt, longest: int) -> dict[str, Tensor]:
    """The reference's gradients in the layout of `Bpmt`; zero where there is none."""
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in reference.named_parameters()}
    values = {name: parameter.detach().clone() for name, parameter in reference.named_parameters()}
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.copy_(found[name])
        state = grouped_state(reference, longest)
        for name, parameter in reference.named_parameters():
            parameter.copy_(values[name])
    return state


def _value(parameter: Tensor) -> Tensor:
    return parameter.detach()


def _padded(tensor: Tensor, axis: int, size: int) -> Tensor:
    """Zeros behind the tensor, up to a size."""
    missing = size - tensor.shape[axis]
    if missing <= 0:
        return tensor
    shape = list(tensor.shape)
    shape[axis] = missing
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
