"""CTR-GCN (Chen et al., "Channel-wise Topology Refinement Graph Convolution", ICCV 2021) in a fused formulation.

The mathematics, the layer order and the initial values are the published ones; `benchmarks/reference/ctrgcn.py` says
them plainly and the tests hold the two together. What differs is the order of the work, exact in each case:

- a row is one present body of one clip, laid out (R, C, V, T); absent bodies are not run, or run once as a
  representative;
- the relation's linear maps come after the mean over time, and all six are one product; the learned adjacency and the
  lift's bias ride along as two more relation channels, so that a topology is one product too;
- biases in front of a batch norm only move its mean: they never touch the features;
- the four temporal branches share one product; outside training every norm is folded into the weights before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from feeders.skeleton import Skeleton
from model.adjacency import spatial_graph
from model.encoders.contract import Encoder, Tokens
from torchlight.config import StrictConfig

AbsentBodies = Literal["masked", "published"]

# How many numbers at a time stay in a CPU's cache from one operation to the next; measured flat around these.
_NORM_NUMBERS = 200_000
_LISTEN_NUMBERS = 200_000
_ACCURATE = (torch.float32, torch.float64)
_HALVING = (4, 7)
"""The blocks that have half as many frames behind them."""


class CtrGcnConfig(StrictConfig):
    """Choices of the encoder.

    Attributes:
        width: channels of the first four blocks; three of twice and three of four times as many follow.
        absent_bodies: ``masked`` neither runs nor counts bodies that are not there; ``published`` counts their zeros in
            batch norm and, with weight 1, in every mean, as CTR-GCN, GAP and BPI do.
        weigh: how much a token counts in a mean: ``joints``, as its joint was seen around it, so that gaps and hidden
            joints do not count; None, as any other of a frame that is there (published).
    """

    name: Literal["ctrgcn"] = "ctrgcn"
    width: int = Field(default=64, ge=8, multiple_of=8)
    absent_bodies: AbsentBodies = "masked"
    weigh: Literal["joints"] | None = None


@dataclass(frozen=True)
class _Rows:
    """Which bodies of which clips are run.

    Shapes:
        source: (R,) position in the flattened (N, M); the present bodies, then one absent body per slot that needs it
        target: (N * M,) row that answers for a body, any where none does; None where every body is its own row
        count: (R,) how many bodies a row stands for; None where each stands for itself
    """

    source: Tensor
    target: Tensor | None
    count: Tensor | None

    @staticmethod
    def of(body_mask: Tensor, counts_absent: bool) -> "_Rows":
        present = body_mask.flatten().nonzero().flatten()
        if not len(present):
            raise ValueError("body_mask: got no body in any clip of the batch, expected at least one")
        if len(present) == body_mask.numel():
            return _Rows(present, None, None)
        target = torch.zeros(body_mask.numel(), dtype=torch.long, device=body_mask.device)
        target[present] = torch.arange(len(present), device=body_mask.device)
        if not counts_absent:
            return _Rows(present, target, None)
        # The input norm has statistics per body slot, so the zeros of two slots differ behind it.
        bodies = body_mask.shape[1]
        absent = (~body_mask).sum(0)
        slots = absent.nonzero().flatten()
        first = (~body_mask).int().argmax(0)[slots]
        row_of_slot = torch.zeros(bodies, dtype=torch.long, device=body_mask.device)
        row_of_slot[slots] = len(present) + torch.arange(len(slots), device=body_mask.device)
        target = torch.where(body_mask, target.view_as(body_mask), row_of_slot).flatten()
        count = torch.cat([torch.ones_like(present), absent[slots]])
        return _Rows(torch.cat([present, first * bodies + slots]), target, count)


class _NormActivate(torch.autograd.Function):
    """Batch norm over rows that count differently, plus residual, plus ReLU.

    Statistics and sums are in at least float32; in low precision a normed value is rounded before the residual comes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        count: Tensor | None,
        eps: float,
        has_relu: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.has_residual = residual is not None
        ctx.eps = eps
        x = x.contiguous()
        share = None
        if count is None and x.device.type not in ("cpu", "mps"):
            # One kernel; on a CPU ours, in cache-sized pieces, is quicker.
            y, mean, inverse = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
            variance = (inverse.square().reciprocal() - eps).clamp(min=0)
        else:
            share = _shares(count, x, torch.promote_types(x.dtype, torch.float32))
            row_mean, row_variance = _row_statistics(x)
            mean = (row_mean * share).sum(0)
            variance = ((row_variance + (row_mean - mean).square()) * share).sum(0)
            y = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
        if residual is not None:
            y += residual
        if has_relu:
            y.relu_()
        ctx.save_for_backward(x, y if has_relu else None, weight, mean, variance, None if count is None else share)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, mean, variance, share = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        passed = (grad if y is None else torch.ops.aten.threshold_backward(grad, y, 0)).contiguous()
        if share is None:
            grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
                passed, x, weight, None, None, mean, inverse, True, 0.0, [True, True, True]
            )
        else:
            grad_weight, grad_bias = _parameter_gradients(passed, x, mean, variance, ctx.eps)
            share = share / (x.shape[2] * x.shape[3])
            scale = weight * inverse
            if x.dtype == torch.bfloat16:
                # Rounded as the product with it is: what is taken away then fits what it is taken from.
                scale = scale.bfloat16()
            slope = -share * (scale * inverse * grad_weight)
            constant = -share * (scale * grad_bias) - slope * mean
            grad_x = _affine(x, slope, constant).addcmul_(passed, _per_channel(scale))
        residual = passed if ctx.has_residual else None
        return grad_x, grad_weight, grad_bias, torch.zeros_like(weight), residual, None, None, None


def _row_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (R, C) of each row and channel, in at least float32."""
    if x.dtype not in _ACCURATE and x.device.type == "cpu":
        none = torch.zeros(x.shape[0] * x.shape[1], dtype=torch.float32)
        mean, variance = torch.batch_norm_update_stats(_row_by_row(x), none, none, 0.0)
        return mean.view(x.shape[:2]), variance.view(x.shape[:2])
    mean = x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    pieces = zip(*(part.split(_rows_together(x, _NORM_NUMBERS)) for part in (x, mean[:, :, None, None])), strict=True)
    squares = [torch.linalg.vector_norm(piece - middle, dim=(2, 3)).square() for piece, middle in pieces]
    return mean, torch.cat(squares) / (x.shape[2] * x.shape[3])


def _parameter_gradients(grad: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Gradients (C,) of a norm's weight and bias, from that of its output."""
    if x.device.type == "cpu":
        # One pass over both, which also reads low precision without a copy.
        rows = (part.repeat(len(x)) for part in (mean, variance))
        arguments = (_row_by_row(grad), _row_by_row(x), None, *rows, None, None, False, eps, [False, True, True])
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(*arguments)
        return of_weight.view(len(x), -1).sum(0), of_bias.view(len(x), -1).sum(0)
    # Elsewhere torch's own does not leave the input's gradient out.
    of_bias = grad.sum((0, 2, 3), dtype=mean.dtype)
    product = (grad.to(mean.dtype) * x).sum((0, 2, 3))
    return (product - mean * of_bias) * (variance + eps).rsqrt(), of_bias


def _row_by_row(x: Tensor) -> Tensor:
    """(R, C, V, T) -> (1, R * C, V, T): torch's batch norm then sees each row's channels by themselves."""
    return x.flatten(0, 1).unsqueeze(0)


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Stretch and move each row's channels by (R, C) numbers, rounded once to the precision of x."""
    none = torch.zeros_like(scale).flatten()
    made = torch.native_batch_norm(_row_by_row(x), scale.flatten(), shift.flatten(), none, none + 1, False, 0.0, 0.0)
    return made[0].view_as(x)


def _shares(count: Tensor | None, x: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, 1) part of the batch that a row stands for."""
    if count is None:
        return torch.full((len(x), 1), 1 / len(x), dtype=dtype, device=x.device)
    return (count.to(dtype) / count.sum()).unsqueeze(1)


def _per_channel(value: Tensor) -> Tensor:
    return value.view(1, -1, 1, 1)


class _Norm(nn.Module):
    """Batch norm of (R, C, V, T) features, told what it is followed by and which bias was left out in front of it."""

    momentum = 0.1
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(
        self, x: Tensor, offset: Tensor, count: Tensor | None, residual: Tensor | None = None, has_relu: bool = True
    ) -> Tensor:
        """Training: ReLU(norm(x + offset) + residual), by the batch's statistics."""
        y, mean, variance = _NormActivate.apply(x, self.weight, self.bias, offset, residual, count, self.eps, has_relu)
        total = (len(x) if count is None else count.sum()) * x.shape[2] * x.shape[3]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_((mean + offset).to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * (total / (total - 1))).to(self.running_var.dtype), self.momentum)
        return y  # type: ignore[no-any-return]

    def folded(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluation: (C,) scale and shift with norm(x + offset) = scale * x + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias + (offset - self.running_mean) * scale


class _InputNorm(nn.Module):
    """Batch norm with statistics of its own for every body slot, joint and coordinate, published order (M, V, C)."""

    momentum = 0.1
    eps = 1e-5

    def __init__(self, bodies: int, joints: int, coordinates: int) -> None:
        super().__init__()
        self.shape = (bodies, joints, coordinates)
        size = bodies * joints * coordinates
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, counted: Tensor) -> Tensor:
        """Normalise x (N, M, V, C, T) over the clips that count in a slot; counted: (N, M)."""
        if self.training:
            frames = x.shape[-1]
            weight = counted.to(x.dtype)[:, :, None, None, None]
            total = weight.sum(0) * frames
            mean = (x * weight).sum((0, 4), keepdim=True)[0] / total.clamp(min=1)
            variance = ((x - mean).square() * weight).sum((0, 4), keepdim=True)[0] / total.clamp(min=1)
            with torch.no_grad():
                # A slot that nobody fills in this batch keeps its running statistics.
                pace = self.momentum * (total > 0).expand_as(mean).flatten()
                unbiased = variance * total / (total - 1).clamp(min=1)
                self.num_batches_tracked += 1
                self.running_mean += pace * (mean.flatten() - self.running_mean)
                self.running_var += pace * (unbiased.flatten() - self.running_var)
        else:
            mean, variance = self.running_mean.view(*self.shape, 1), self.running_var.view(*self.shape, 1)
        scale = self.weight.view(*self.shape, 1) * (variance + self.eps).rsqrt()
        return (x - mean) * scale + self.bias.view(*self.shape, 1)


def _mix(weight: Tensor, x: Tensor) -> Tensor:
    """The same linear map (C', C) over the channels of x (R, C, V, T), or of (R, C, V)."""
    mixed: Tensor = _Mix.apply(weight.to(x.dtype), x.flatten(2))
    return mixed.view(len(x), len(weight), *x.shape[2:])


class _Mix(torch.autograd.Function):
    """`_through`, in its gradient too."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(matrix, x)
        return _through(matrix, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        matrix, x = ctx.saved_tensors
        return torch.bmm(grad, x.mT).sum(0), _through(matrix.t(), grad)


class _Uses(NamedTuple):
    """A block's input, once for each use, and its mean over time; the uses' gradients are added up in one pass.

    Shapes:
        heard, passed, around: (R, C, V, T); still: (R, C, V), in at least float32
    """

    heard: Tensor
    passed: Tensor
    around: Tensor
    still: Tensor

    @staticmethod
    def of(x: Tensor) -> "_Uses":
        """x: (R, C, V, T)."""
        return _Uses(*_Fork.apply(x))


class _Fork(torch.autograd.Function):
    """See `_Uses`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        still = x.mean(3, dtype=torch.promote_types(x.dtype, torch.float32))
        return x.view_as(x), x.view_as(x), x.view_as(x), still

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor:
        *uses, still = [grad for grad in grads if grad is not None]
        total = torch.empty_like(uses[0])
        step = _rows_together(total, _NORM_NUMBERS)
        share = (still / total.shape[3]).to(total.dtype).unsqueeze(3)
        for home, mean, first, *others in zip(*(part.split(step) for part in (total, share, *uses)), strict=True):
            torch.add(first, mean, out=home)
            for other in others:
                home += other
        return total


class _GraphLayer(nn.Module):
    """Joints hear each other through three adjacencies, each learned and refined per channel by the pose itself."""

    def __init__(self, inputs: int, outputs: int, graph: Tensor, is_first: bool) -> None:
        super().__init__()
        subsets = len(graph)
        # CTR-GCN: an eighth of the channels relate, but 8 where the input is raw coordinates, as of several inputs.
        self.relation_channels = 8 if is_first or inputs % 8 else inputs // 8
        self.adjacency = nn.Parameter(graph.clone())
        self.relation_strength = nn.Parameter(torch.zeros(1))
        self.query = _linear(inputs, self.relation_channels, copies=subsets)
        self.key = _linear(inputs, self.relation_channels, copies=subsets)
        self.value = _linear(inputs, outputs, copies=subsets)
        self.lift = _linear(self.relation_channels, outputs, copies=subsets)
        self.norm = _Norm(outputs)
        nn.init.constant_(self.norm.weight, 1e-6)
        self.widen = _linear(inputs, outputs) if inputs != outputs else None
        self.widen_norm = _Norm(outputs) if inputs != outputs else None

    def forward(self, x: _Uses, count: Tensor | None) -> Tensor:
        """x: (R, C, V, T) -> (R, C', V, T)."""
        residual = x.passed
        if self.training:
            if self.widen is not None and self.widen_norm is not None:
                residual = self.widen_norm(_mix(self.widen.weight, residual), self.widen.bias, count, has_relu=False)
            y = self._listen(x, None, None)
            return self.norm(y, torch.zeros_like(self.norm.bias), count, residual)  # type: ignore[no-any-return]
        scale, shift = self.norm.folded(torch.zeros_like(self.norm.bias))
        if self.widen is not None and self.widen_norm is not None:
            widen_scale, widen_shift = self.widen_norm.folded(self.widen.bias)
            residual = _mix(self.widen.weight * widen_scale.unsqueeze(1), residual)
            shift = shift + widen_shift
        return self._listen(x, scale, residual + _per_channel(shift.to(residual.dtype))).relu_()

    def _listen(self, x: _Uses, scale: Tensor | None, start: Tensor | None) -> Tensor:
        """Add up start + scale * sum over subsets of topology x values."""
        rows, _, joints, _ = x.heard.shape
        outputs = len(self.norm.bias)
        subsets, hidden = len(self.adjacency), self.relation_channels
        related = _mix(torch.cat([self.query.weight, self.key.weight]), x.still)
        related = related + torch.cat([self.query.bias, self.key.bias]).unsqueeze(1)
        query, key = related.view(rows, 2, subsets, hidden, joints).permute(1, 2, 0, 3, 4)
        difference = torch.tanh(query.unsqueeze(3) - key.unsqueeze(4)).flatten(3)
        graph = self.adjacency.mT.reshape(subsets, 1, 1, -1).expand(-1, rows, -1, -1).to(difference)
        features = torch.cat([difference, graph, torch.ones_like(graph)], dim=2)
        strength = self.relation_strength
        lift = torch.cat(
            [
                strength * self.lift.weight.view(subsets, outputs, hidden),
                torch.ones_like(self.lift.bias).view(subsets, outputs, 1),
                strength * self.lift.bias.view(subsets, outputs, 1),
            ],
            dim=2,
        )
        if scale is not None:
            lift = lift * scale.unsqueeze(1)
        # A value's bias reaches a joint with the sum of the weights that it listens with.
        heard = torch.matmul(lift.unsqueeze(1), features.view(*features.shape[:3], joints, joints).sum(3))
        offset = (heard * self.value.bias.view(subsets, 1, outputs, 1)).sum(0).unsqueeze(3)
        weight = self.value.weight.view(subsets, outputs, -1).transpose(0, 1).flatten(0, 1)
        weight, lift, features, offset = (part.to(x.heard.dtype) for part in (weight, lift, features, offset))
        parts = (x.heard, weight, lift, features, offset, start, torch.is_grad_enabled())
        return _Listen.apply(*parts)  # type: ignore[no-any-return]


class _Listen(torch.autograd.Function):
    """residual + offset + sum over subsets k of topology_k x (weight_k x), with topology_k = lift_k x features_k.

    A channel's K topologies lie under each other, and so do its K values: the sum over subsets is the inner sum of one
    product. A few rows are worked on at a time, so that a topology is used while it is in cache. Topologies and values
    are kept for the gradient alone.

    Shapes:
        x: (R, C, V, T); weight: (C' * K, C); lift: (K, C', H); features: (K, R, H, V * V) as [sending, receiving joint]
        offset: (R, C', V, 1); residual: (R, C', V, T) or None
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        lift: Tensor,
        features: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        has_grad: bool,
    ) -> Tensor:
        rows, _, joints, frames = x.shape
        y = x.new_empty(rows, lift.shape[1], joints, frames)
        topologies = x.new_empty(rows, lift.shape[1], len(lift), joints**2) if has_grad else None
        values = x.new_empty(rows, len(weight), joints * frames) if has_grad else None
        step = _rows_together(x, _LISTEN_NUMBERS)
        inputs = zip(x.flatten(2).split(step), features.split(step, dim=1), offset.split(step), strict=True)
        optional = zip(*(_pieces(tensor, step) for tensor in (residual, topologies, values)), strict=False)
        for (piece, feature, constant), home, (extra, *kept) in zip(inputs, y.split(step), optional, strict=False):
            if extra is None:
                home.copy_(constant)
            else:
                torch.add(extra, constant, out=home)
            parts = [_through(matrix, part) for matrix, part in zip(lift, feature, strict=True)]
            topology = torch.stack(parts, dim=2, out=kept[0]).view(-1, len(lift) * joints, joints)
            value = torch.bmm(_each(weight, piece), piece, out=kept[1]).view(-1, len(lift) * joints, frames)
            home.flatten(0, 1).baddbmm_(topology.mT, value)
        ctx.save_for_backward(x, weight, lift, features, topologies, values)
        ctx.has_residual = residual is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, lift, features, topologies, values = ctx.saved_tensors
        subsets, (joints, frames) = len(lift), x.shape[2:]
        grad = grad.contiguous()
        grad_x, grad_features = torch.empty_like(x), torch.empty_like(features)
        step = _rows_together(x, _LISTEN_NUMBERS)
        # One sum per row of a piece; the rows are added at the end.
        weight_sums = weight.new_zeros(step, *weight.shape)
        lift_sums = lift.new_zeros(subsets, step, *lift.shape[1:])
        by_row = (x.flatten(2), grad, topologies, values, grad_x.flatten(2))
        by_subset = (features.split(step, dim=1), grad_features.split(step, dim=1))
        pieces = zip(*(tensor.split(step) for tensor in by_row), *by_subset, strict=True)
        for piece, come, topology, value, home, feature, feature_home in pieces:
            heard, rows = come.flatten(0, 1), len(piece)
            grad_value = torch.bmm(topology.view(-1, subsets * joints, joints), heard).view(value.shape)
            weight_sums[:rows].baddbmm_(grad_value, piece.mT)
            torch.bmm(_each(weight.t(), piece), grad_value, out=home)
            grad_topology = torch.bmm(value.view(len(heard), -1, frames), heard.mT).view(topology.shape)
            for subset in range(subsets):
                part = grad_topology[:, :, subset]
                if part.dtype not in _ACCURATE:
                    # Float32 is read where it stands; this would be copied for each of the two products.
                    part = part.contiguous()
                lift_sums[subset, :rows].baddbmm_(part, feature[subset].mT)
                torch.bmm(_each(lift[subset].t(), piece), part, out=feature_home[subset])
        residual = grad if ctx.has_residual else None
        return grad_x, weight_sums.sum(0), lift_sums.sum(1), grad_features, grad.sum(3, keepdim=True), residual, None


def _pieces(tensor: Tensor | None, step: int) -> Iterable[Tensor | None]:
    """A few rows at a time; of nothing, nothing as often as asked."""
    return repeat(None) if tensor is None else tensor.split(step)


def _rows_together(x: Tensor, numbers: int) -> int:
    """Rows that are worked on at a time: about so many numbers on a CPU, for its cache; all in low precision."""
    if x.device.type != "cpu" or x.dtype not in _ACCURATE:
        return len(x)
    return min(len(x), max(1, round(numbers / x[0].numel())))


def _each(matrix: Tensor, rows: Tensor) -> Tensor:
    # A turned matrix would be copied and turned anew for every row in bfloat16.
    return matrix.contiguous().expand(len(rows), -1, -1)


def _through(matrix: Tensor, x: Tensor) -> Tensor:
    """The same matrix (C', C) times x (R, C, L)."""
    return torch.bmm(_each(matrix, x), x)


class _PoolTime(torch.autograd.Function):
    """Maximum over a frame and its two neighbours; of equal ones the earliest takes the gradient, as in max-pooling.

    Clips are put in one long row with -inf between them, so that each step is one pass over contiguous memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        frames = x.shape[3]
        padded = functional.pad(x, (0, 1), value=-torch.inf)
        line = padded.flatten()
        pairs = torch.maximum(line[:-1], line[1:])
        best = line.clone()
        best[0] = pairs[0]
        torch.maximum(pairs[:-1], pairs[1:], out=best[1:-1])
        ctx.save_for_backward(line, best)
        ctx.shape, ctx.stride = padded.shape, stride
        return best.view(padded.shape)[..., :frames:stride].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        line, best = ctx.saved_tensors
        frames = ctx.shape[3] - 1
        spread = grad.new_zeros(ctx.shape)
        spread[..., : frames : ctx.stride] = grad
        left = spread.flatten()
        is_winner = torch.empty_like(left)
        torch.eq(line[:-1], best[1:], out=is_winner[1:])
        is_winner[0] = 0
        earlier = left * is_winner
        left -= earlier
        torch.eq(line, best, out=is_winner)
        grad_line = left * is_winner
        left -= grad_line
        grad_line[:-1] += earlier[1:]
        grad_line[1:] += left[:-1]
        return grad_line.view(ctx.shape)[..., :frames], None


class _TemporalLayer(nn.Module):
    """Four views of time side by side: two convolutions (near, far), a maximum, and the frame itself."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        width = channels // 4
        self.stride = stride
        self.reduce = _linear(channels, width, copies=4)
        self.reduce_norm = _Norm(3 * width)
        self.near = _convolution(width, dilation=1, stride=stride)
        self.far = _convolution(width, dilation=2, stride=stride)
        self.norm = _Norm(channels)
        for norm in (self.reduce_norm, self.norm):
            nn.init.normal_(norm.weight, 1.0, 0.02)

    def forward(self, y: Tensor, residual: Tensor | None, count: Tensor | None) -> Tensor:
        """ReLU(branches of y (R, C, V, T) + residual (R, C, V, T'))."""
        width, stride = y.shape[1] // 4, self.stride
        weight, offset, point_offset = self.reduce.weight, self.reduce.bias[: 3 * width], self.reduce.bias[3 * width :]
        offsets = torch.cat([self.near.bias, self.far.bias, torch.zeros_like(point_offset), point_offset])  # type: ignore[list-item]
        if not self.training:
            reduce_scale, reduce_shift = self.reduce_norm.folded(offset)
            scale, shift = self.norm.folded(offsets)
            weight = weight * torch.cat([reduce_scale, scale[3 * width :]]).unsqueeze(1)
        if stride == 1:
            reduced, point = _mix(weight, y).split((3 * width, width), dim=1)
        else:
            reduced = _mix(weight[: 3 * width], y)
            point = _mix(weight[3 * width :], y[..., ::stride])
        if self.training:
            hidden = self.reduce_norm(reduced, offset, count)
            near_weight, far_weight = self.near.weight, self.far.weight
        else:
            hidden = (reduced + _per_channel(reduce_shift.to(y.dtype))).relu_()
            near_weight = self.near.weight * scale[:width, None, None, None]
            far_weight = self.far.weight * scale[width : 2 * width, None, None, None]
        near, far, pooled = hidden.split(width, dim=1)
        near = functional.conv2d(near, near_weight.to(y.dtype), None, (1, stride), (0, 2), (1, 1))
        far = functional.conv2d(far, far_weight.to(y.dtype), None, (1, stride), (0, 4), (1, 2))
        pooled = _PoolTime.apply(pooled, stride)
        if self.training:
            z = torch.cat([near, far, pooled, point], dim=1)
            return self.norm(z, offsets, count, residual)  # type: ignore[no-any-return]
        pooled = pooled * _per_channel(scale[2 * width : 3 * width].to(y.dtype))
        z = torch.cat([near, far, pooled, point], dim=1) + _per_channel(shift.to(y.dtype))
        return (z if residual is None else z + residual).relu_()


class _Block(nn.Module):
    """Graph layer, temporal layer, and a way around both."""

    def __init__(self, inputs: int, outputs: int, stride: int, graph: Tensor, is_first: bool) -> None:
        super().__init__()
        self.stride = stride
        self.is_first = is_first
        self.graph = _GraphLayer(inputs, outputs, graph, is_first)
        self.temporal = _TemporalLayer(outputs, stride)
        has_map = not is_first and (inputs != outputs or stride != 1)
        self.shortcut = _linear(inputs, outputs) if has_map else None
        self.shortcut_norm = _Norm(outputs) if has_map else None

    def forward(self, x: Tensor, count: Tensor | None) -> Tensor:
        """x: (R, C, V, T) -> (R, C', V, T')."""
        uses = _Uses.of(x)
        return self.temporal(self.graph(uses, count), self._around(uses.around, count), count)  # type: ignore[no-any-return]

    def _around(self, x: Tensor, count: Tensor | None) -> Tensor | None:
        if self.is_first:
            return None
        if self.shortcut is None or self.shortcut_norm is None:
            return x
        x = x[..., :: self.stride]
        if self.training:
            y = _mix(self.shortcut.weight, x)
            return self.shortcut_norm(y, self.shortcut.bias, count, has_relu=False)  # type: ignore[no-any-return]
        scale, shift = self.shortcut_norm.folded(self.shortcut.bias)
        y = _mix(self.shortcut.weight * scale.unsqueeze(1), x)
        return y + _per_channel(shift.to(y.dtype))


def _linear(inputs: int, outputs: int, copies: int = 1) -> nn.Linear:
    """Parameters of `copies` maps under each other, each with the published start: Kaiming-normal fan-out, no bias."""
    linear = nn.Linear(inputs, copies * outputs)
    nn.init.normal_(linear.weight, 0.0, (2 / outputs) ** 0.5)
    nn.init.zeros_(linear.bias)
    return linear


def _convolution(channels: int, dilation: int, stride: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, channels, (1, 5), (1, stride), (0, 2 * dilation), (1, dilation))
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _working_dtype(x: Tensor) -> torch.dtype:
    """What autocast, if it is on, makes of a product; asked in a way that every torch version and device answers."""
    return functional.linear(x.new_zeros(1, 1), x.new_zeros(1, 1)).dtype


class CtrGcn(Encoder):
    """Ten blocks of pose-dependent graph convolution and multi-scale temporal convolution; a token is a joint.

    ``joint_weight`` is not seen: the network sees coordinates as they are, and at most weighs its tokens by it. Frames
    outside ``frame_mask`` run as they are and get weight 0; but outside training, those behind a clip's last frame do
    not run, as if it were alone. In ``published`` mode they do.

    Args:
        config: width and treatment of absent bodies.
        skeleton: its tree is the start of every learned adjacency; its joints are the slots.
        bodies: M; the input norm keeps statistics of its own for each.
    """

    def __init__(self, config: CtrGcnConfig, skeleton: Skeleton, bodies: int = 2) -> None:
        super().__init__()
        self.absent_bodies: AbsentBodies = config.absent_bodies
        self.weighs_joints = config.weigh == "joints"
        self.slots = skeleton.joints
        self.slots_are_parts = False
        self.time_stride = 4
        self.input_norm = _InputNorm(bodies, len(skeleton.joints), skeleton.coordinates)
        graph = torch.as_tensor(spatial_graph(skeleton), dtype=torch.get_default_dtype())
        widths = [config.width] * 4 + [2 * config.width] * 3 + [4 * config.width] * 3
        self.blocks = nn.ModuleList(
            _Block(inputs, outputs, 2 if index in _HALVING else 1, graph, is_first=index == 0)
            for index, (inputs, outputs) in enumerate(zip([skeleton.coordinates, *widths], widths, strict=False))
        )
        self.out_channels = widths[-1]

    def forward(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        """Encode a batch; see `Encoder`. In ``published`` mode an absent body has tokens and weight like any other."""
        is_padded = not self.training and self.absent_bodies == "masked" and not bool(frame_mask[:, -1].all())
        if is_padded and bool(body_mask.any()):
            return self._each_to_its_end(pose, joint_weight, body_mask, frame_mask)
        clips, coordinates, _, joints, bodies = pose.shape
        if (bodies, joints, coordinates) != self.input_norm.shape:
            raise ValueError(
                f"pose: got {coordinates} coordinates, {joints} joints, {bodies} bodies, expected "
                f"{self.input_norm.shape[2]}, {self.input_norm.shape[1]}, {self.input_norm.shape[0]}"
            )
        counts_absent = self.absent_bodies == "published"
        rows = _Rows.of(body_mask, counts_absent)
        counted = torch.ones_like(body_mask) if counts_absent else body_mask
        x = (pose * body_mask[:, None, None, None, :]).permute(0, 4, 3, 1, 2)
        x = self.input_norm(x, counted).transpose(2, 3).flatten(0, 1).index_select(0, rows.source)
        x = x.to(_working_dtype(x))
        with torch.autocast(x.device.type, enabled=False):
            for block in self.blocks:
                x = block(x, rows.count)
        if rows.target is not None:
            x = x.index_select(0, rows.target)
        features = x.view(clips, bodies, *x.shape[1:])
        if not counts_absent and rows.target is not None:
            features = features * body_mask[:, :, None, None, None]
        kept = functional.max_pool1d(frame_mask.to(pose).unsqueeze(1), self.time_stride, ceil_mode=True)[:, 0]
        weight = kept[:, :, None, None] * counted.to(kept)[:, None, None, :]
        weight = weight.expand(-1, -1, joints, -1)
        if self.weighs_joints:
            weight = weight * _seen_around(joint_weight, frame_mask, self.time_stride)
        return Tokens(features.permute(0, 2, 4, 3, 1), weight)

    def _each_to_its_end(self, pose: Tensor, joint_weight: Tensor, body_mask: Tensor, frame_mask: Tensor) -> Tokens:
        """Clips of a length together, without the frames behind them; what shows nobody is zero."""
        clips, _, frames, joints, bodies = pose.shape
        end = (frame_mask * torch.arange(1, frames + 1, device=pose.device)).amax(dim=1) * body_mask.any(dim=1)
        places = -(-frames // self.time_stride)
        features = pose.new_zeros(clips, self.out_channels, places, joints, bodies)
        weight = joint_weight.new_zeros(clips, places, joints, bodies)
        for length in end[end > 0].unique().tolist():
            rows = (end == length).nonzero().flatten()
            tokens = self(
                pose[rows, :, :length], joint_weight[rows, :length], body_mask[rows], frame_mask[rows, :length]
            )
            features = features.to(tokens.features.dtype)
            features[rows, :, : tokens.features.shape[2]] = tokens.features
            weight[rows, : tokens.weight.shape[1]] = tokens.weight
        return Tokens(features, weight)


def _seen_around(joint_weight: Tensor, frame_mask: Tensor, stride: int) -> Tensor:
    """(N, T', V, M) the mean of (N, T, V, M) over those of every ``stride`` frames that are part of the clip."""
    inside = frame_mask.to(joint_weight)[:, :, None, None]
    rest = -inside.shape[1] % stride
    total, count = (
        functional.pad(each, (0, 0, 0, 0, 0, rest)).unflatten(1, (-1, stride)).sum(dim=2)
        for each in (joint_weight * inside, inside)
    )
    mean: Tensor = total / count.clamp(min=1)
    return mean
