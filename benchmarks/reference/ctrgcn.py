"""CTR-GCN (Chen et al., ICCV 2021) and the BPI network on it, in the published operation order, written plainly.

Nothing here is fast. It is what `model.encoders.ctrgcn` is held against, and its parameter names are those of the
published state dicts (`model.ctrgcn.Model`, `model.cross_part.Model_lst_joint`), so that importing can be tested
without any weights.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class MaskedNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics are taken over some rows of the batch only; every row is normalised by them."""

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:  # type: ignore[override]
        """x: (R, C, A, B); counted: (R,) bool."""
        if not self.training or counted.all():
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        x_counted = x[counted]
        mean, variance = x_counted.mean((0, 2, 3)), x_counted.var((0, 2, 3), unbiased=False)
        count = x_counted.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, 0.1)
            self.running_var.lerp_(variance * count / (count - 1), 0.1)
        scale = self.weight / (variance + self.eps).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


class MaskedNorm1d(nn.BatchNorm1d):
    """The input norm; a body slot nobody fills keeps its running statistics."""

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:  # type: ignore[override]
        """x: (N, M*V*C, T); counted: (N, M) bool."""
        if not self.training or counted.all():
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        bodies = counted.shape[1]
        out = torch.zeros_like(x)
        for body in range(bodies):
            width = x.shape[1] // bodies
            slot = slice(body * width, (body + 1) * width)
            x_counted = x[counted[:, body], slot]
            if not len(x_counted):
                continue
            mean, variance = x_counted.mean((0, 2)), x_counted.var((0, 2), unbiased=False)
            count = x_counted.numel() / width
            with torch.no_grad():
                self.running_mean[slot].lerp_(mean, 0.1)
                self.running_var[slot].lerp_(variance * count / (count - 1), 0.1)
            scale = self.weight[slot] / (variance + self.eps).sqrt()
            out[:, slot] = (x[:, slot] - mean[:, None]) * scale[:, None] + self.bias[slot, None]
        return out


def _convolve(module: nn.Module, x: Tensor, counted: Tensor) -> Tensor:
    y: Tensor = module(x, counted) if isinstance(module, MaskedNorm2d | TemporalConv) else module(x)
    return y


class Chain(nn.Sequential):
    """A sequence that tells its norms which rows count."""

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:  # type: ignore[override]
        """x: (R, C, T, V)."""
        for module in self:
            x = _convolve(module, x, counted)
        return x


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    pad = (kernel + (kernel - 1) * (dilation - 1) - 1) // 2
    conv = nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1), (pad, 0), (dilation, 1))
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class TemporalConv(nn.Module):
    """Convolution over time, then batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs, kernel, stride, dilation)
        self.bn = MaskedNorm2d(outputs)

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:
        """x: (R, C, T, V)."""
        y: Tensor = self.bn(self.conv(x), counted)
        return y


class Relation(nn.Module):
    """One adjacency subset: value features, and the topology refined per channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        relation = 8 if inputs in (3, 9) else inputs // 8
        self.conv1 = _conv(inputs, relation)
        self.conv2 = _conv(inputs, relation)
        self.conv3 = _conv(inputs, outputs)
        self.conv4 = _conv(relation, outputs)

    def forward(self, x: Tensor, adjacency: Tensor, alpha: Tensor) -> Tensor:
        """x: (R, C, T, V), adjacency: (V, V)."""
        query, key = self.conv1(x).mean(2), self.conv2(x).mean(2)
        difference = torch.tanh(query.unsqueeze(-1) - key.unsqueeze(-2))
        topology = self.conv4(difference) * alpha + adjacency
        return torch.einsum("rcuv,rctv->rctu", topology, self.conv3(x))


class Graph(nn.Module):
    """Spatial layer: sum over subsets, batch norm, residual, ReLU."""

    def __init__(self, inputs: int, outputs: int, adjacency: Tensor) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Relation(inputs, outputs) for _ in range(len(adjacency)))
        self.PA = nn.Parameter(adjacency.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = MaskedNorm2d(outputs)
        nn.init.constant_(self.bn.weight, 1e-6)
        self.down = Chain(_conv(inputs, outputs), MaskedNorm2d(outputs)) if inputs != outputs else None

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:
        """x: (R, C, T, V)."""
        y = None
        for subset, relation in enumerate(self.convs):
            heard = relation(x, self.PA[subset], self.alpha)
            y = heard if y is None else y + heard
        residual = x if self.down is None else self.down(x, counted)
        return torch.relu(self.bn(y, counted) + residual)


class MultiScale(nn.Module):
    """Temporal layer: four branches side by side."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        width = channels // 4
        self.branches = nn.ModuleList(
            Chain(
                _conv(channels, width),
                MaskedNorm2d(width),
                nn.ReLU(),
                TemporalConv(width, width, 5, stride, dilation),
            )
            for dilation in (1, 2)
        )
        self.branches.append(
            Chain(
                _conv(channels, width),
                MaskedNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d((3, 1), (stride, 1), (1, 0)),
                MaskedNorm2d(width),
            )
        )
        self.branches.append(Chain(_conv(channels, width, stride=stride), MaskedNorm2d(width)))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:
        """x: (R, C, T, V)."""
        return torch.cat([branch(x, counted) for branch in self.branches], dim=1)


class Block(nn.Module):
    """Spatial layer, temporal layer, residual, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, adjacency: Tensor, residual: bool) -> None:
        super().__init__()
        self.gcn1 = Graph(inputs, outputs, adjacency)
        self.tcn1 = MultiScale(outputs, stride)
        self.is_plain = not residual
        changes = inputs != outputs or stride != 1
        self.residual = TemporalConv(inputs, outputs, 1, stride) if residual and changes else None

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:
        """x: (R, C, T, V)."""
        z = self.tcn1(self.gcn1(x, counted), counted)
        if self.residual is not None:
            z = z + self.residual(x, counted)
        elif not self.is_plain:
            z = z + x
        return torch.relu(z)


class ReferenceCtrGcn(nn.Module):
    """The published classifier.

    Args:
        classes: K.
        adjacency: (3, V, V) float64 start of every learned adjacency.
        coordinates: C of the input.
        bodies: M.
        width: channels of the first blocks.
        is_masked: absent bodies stay out of every statistic and mean (ours); False counts their zeros (published).
    """

    def __init__(
        self,
        classes: int,
        adjacency: np.ndarray,
        coordinates: int = 3,
        bodies: int = 2,
        width: int = 64,
        is_masked: bool = False,
    ) -> None:
        super().__init__()
        self.is_masked = is_masked
        graph = torch.as_tensor(adjacency, dtype=torch.get_default_dtype())
        self.data_bn = MaskedNorm1d(bodies * graph.shape[1] * coordinates)
        widths = [width] * 4 + [2 * width] * 3 + [4 * width] * 3
        inputs = coordinates
        for number, outputs in enumerate(widths, start=1):
            stride = 2 if number in (5, 8) else 1
            self.add_module(f"l{number}", Block(inputs, outputs, stride, graph, residual=number > 1))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / classes))

    def tokens(self, pose: Tensor, body_mask: Tensor) -> Tensor:
        """(N, C, T, V, M) and (N, M) -> (N, C', T', V, M)."""
        clips, channels, frames, joints, bodies = pose.shape
        pose = pose * body_mask[:, None, None, None, :].to(pose)
        counted = body_mask if self.is_masked else torch.ones_like(body_mask)
        x = self.data_bn(pose.permute(0, 4, 3, 1, 2).reshape(clips, bodies * joints * channels, frames), counted)
        x = x.view(clips, bodies, joints, channels, frames).permute(0, 1, 3, 4, 2)
        x = x.reshape(clips * bodies, channels, frames, joints)
        for number in range(1, 11):
            x = self.get_submodule(f"l{number}")(x, counted.reshape(-1))
        tokens: Tensor = x.view(clips, bodies, *x.shape[1:]).permute(0, 2, 3, 4, 1)
        return tokens

    def pool(self, tokens: Tensor, body_mask: Tensor) -> Tensor:
        """Mean over time, joints, then persons: all of them, or those present."""
        features = tokens.mean((2, 3))
        if not self.is_masked:
            return features.mean(2)
        present = body_mask[:, None].to(features)
        return (features * present).sum(2) / present.sum(2)

    def forward(self, pose: Tensor, body_mask: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.fc(self.pool(self.tokens(pose, body_mask), body_mask))
        return logits


class CrossAttention(nn.Module):
    """One part's joints ask the others': 8 heads, residual, LayerNorm, mean over joints, projection."""

    def __init__(self, channels: int, text_width: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.wq = nn.Linear(channels, channels)
        self.wk = nn.Linear(channels, channels)
        self.wv = nn.Linear(channels, channels)
        self.layer_norm = nn.LayerNorm(channels, eps=1e-6)
        self.proj = nn.Linear(channels, text_width)

    def forward(self, own: Tensor, others: Tensor) -> Tensor:
        """own: (N, J, C), others: (N, J', C) -> (N, D)."""
        query, key, value = self.wq(own), self.wk(others), self.wv(others)
        size = own.shape[2] // self.heads
        answers = []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            score = query[..., part] @ key[..., part].transpose(1, 2) * size**-0.5
            answers.append(score.softmax(-1) @ value[..., part])
        described: Tensor = self.proj(self.layer_norm(torch.cat(answers, -1) + own).mean(1))
        return described


class CrossParts(nn.Module):
    """The three modules CA1 (torso), CA2 (arms), CA3 (legs)."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.CA1 = CrossAttention(channels, text_width)
        self.CA2 = CrossAttention(channels, text_width)
        self.CA3 = CrossAttention(channels, text_width)


class ReferenceBpi(ReferenceCtrGcn):
    """BPI's `Model_lst_joint`: CTR-GCN, a whole-body head, and three cross-attention part heads.

    Args:
        parts: joints of torso, arms, legs.
        text_width: D.
        The rest as in `ReferenceCtrGcn`.
    """

    def __init__(
        self,
        classes: int,
        adjacency: np.ndarray,
        parts: Sequence[Sequence[int]],
        text_width: int = 512,
        bodies: int = 2,
        width: int = 64,
        is_masked: bool = False,
    ) -> None:
        super().__init__(classes, adjacency, bodies=bodies, width=width, is_masked=is_masked)
        self.parts = [list(part) for part in parts]
        # CLIP: initial temperature 0.07.
        self.logit_scale = nn.Parameter(torch.full((1, 1 + len(parts)), math.log(1 / 0.07)))
        self.linear_head = nn.ModuleDict({"ViT-B/32": nn.Linear(4 * width, text_width)})
        self.cross_part = CrossParts(4 * width, text_width)

    def describe(self, pose: Tensor, body_mask: Tensor) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """Logits (N, K), whole body (N, D), torso, arms and legs (N, D each), temperatures after exp."""
        tokens = self.tokens(pose, body_mask)
        pooled = self.pool(tokens, body_mask)
        if self.is_masked:
            present = body_mask[:, None, None].to(tokens)
            joints = (tokens.mean(2) * present).sum(3) / present.sum(3)
        else:
            joints = tokens.mean((2, 4))
        joints = joints.transpose(1, 2)
        described = []
        for index, part in enumerate(self.parts):
            rest = [joint for other, joints_of in enumerate(self.parts) if other != index for joint in joints_of]
            attention = self.cross_part.get_submodule(f"CA{index + 1}")
            described.append(attention(joints[:, part], joints[:, rest]))
        return self.fc(pooled), self.linear_head["ViT-B/32"](pooled), described, self.logit_scale.exp()
