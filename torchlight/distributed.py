"""Several processes as one: every function here is the identity when there is only one process."""

import atexit
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True on the one process that writes files and talks."""
    return rank() == 0


def launched_by_torchrun() -> bool:
    """True where the environment already says which of how many processes this is."""
    return "WORLD_SIZE" in os.environ and "LOCAL_RANK" in os.environ


def join_processes(device: torch.device, place: str = "env://", rank: int = -1, size: int = -1) -> None:
    """Meet the other processes: nccl for CUDA tensors, gloo for the rest."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # Long, as the others wait while the main process prepares data or embeds texts.
    dist.init_process_group(backend, init_method=place, rank=rank, world_size=size, timeout=timedelta(hours=3))


def leave_processes(code: int = 0) -> NoReturn:
    """End this process, with code 0 as soon as all others have come as far; one that has failed just ends.

    Neither is the group taken down nor does the interpreter end as usual: a thread of gloo's that lets go of a tensor
    then waits for the interpreter for ever (torch 2.4) or aborts (https://github.com/pytorch/pytorch/pull/179291).
    """
    try:
        if code == 0:
            barrier()
    except RuntimeError:
        code = 1  # Another one is gone, and has said why.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def barrier() -> None:
    """Wait for everybody."""
    if world_size() > 1:
        all_gather(None)


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block alone, then the others: what it prepares on disk, they find."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def all_gather(value: T) -> list[T]:
    """Everybody's value (any picklable object), in rank order, on every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: T) -> T:
    """The main process's value, on every process."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    received: T = box[0]
    return received


def broadcast_module(module: nn.Module, buffers_only: bool = False) -> None:
    """Give every process the main process's parameters and buffers."""
    if world_size() == 1:
        return
    with torch.no_grad():
        for tensor in module.buffers() if buffers_only else module.state_dict(keep_vars=True).values():
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Average gradients over processes; a gradient that nobody has stays None, as in one process.

    One flat all-reduce per data type instead of DistributedDataParallel: no wrapper around the task, and parameters
    that a step does not use need no special case.
    """
    if world_size() == 1:
        return
    by_kind: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for parameter in parameters:
        by_kind.setdefault((parameter.device, parameter.dtype), []).append(parameter)
    for (device, dtype), members in by_kind.items():
        present = torch.tensor([float(member.grad is not None) for member in members], device=device, dtype=dtype)
        pieces = [torch.zeros_like(member) if member.grad is None else member.grad for member in members]
        flat = torch.cat([present, *(piece.flatten() for piece in pieces)])
        dist.all_reduce(flat)
        anywhere, flat = flat[: len(members)].tolist(), flat[len(members) :] / world_size()
        for member, used, gradient in zip(members, anywhere, flat.split([p.numel() for p in members]), strict=True):
            member.grad = gradient.view_as(member) if used else None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: Sequence[int]) -> Tensor:
        ctx.begin, ctx.count = sum(sizes[: rank()]), len(tensor)
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        pieces = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(pieces, padded)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.begin : ctx.begin + ctx.count], None


def gather_with_gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Everybody's rows one after the other, in rank order, with gradient.

    As the engine averages gradients over processes, a loss that every process computes over all gathered rows trains
    exactly as one process on the whole batch would.

    Shapes:
        tensors: (N, ...) each, N may differ between processes, the rest may not
        returns: (sum of N, ...) each
    """
    if world_size() == 1:
        return tensors
    sizes = all_gather(len(tensors[0]))
    return tuple(_Gather.apply(tensor, sizes) for tensor in tensors)
