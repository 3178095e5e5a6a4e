"""Optimiser, learning rate schedule and weight averaging: pure functions of the step wherever they can be."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from typing_extensions import assert_never

from torchlight.config import (
    AdamConfig,
    AdamWConfig,
    ConstantSchedule,
    CosineSchedule,
    SgdConfig,
    StepSchedule,
)
from torchlight.task import Task


def build_optimiser(task: Task, settings: SgdConfig | AdamWConfig | AdamConfig) -> Optimizer:
    """The optimiser over a task's trainable parameters, in the task's named groups.

    Every group carries ``lr_multiplier``; parameters of at most one axis (norms, biases, logit scales) have a group
    without weight decay, unless ``no_decay`` is off.
    """
    named = dict(task.parameter_groups())
    unknown = sorted(set(settings.groups) - set(named) - {"main"})
    if unknown:
        raise ValueError(f"train.optimiser.groups: got {unknown[0]!r}, expected one of {sorted({*named, 'main'})}")
    owned = {id(parameter) for members in named.values() for parameter in members}
    named["main"] = [p for p in task.parameters() if id(p) not in owned] + list(named.get("main", []))
    groups = []
    for name, members in named.items():
        trainable = [parameter for parameter in members if parameter.requires_grad]
        spared = [parameter for parameter in trainable if settings.no_decay and parameter.ndim <= 1]
        decayed = [parameter for parameter in trainable if not (settings.no_decay and parameter.ndim <= 1)]
        for parameters, weight_decay in ((decayed, settings.weight_decay), (spared, 0.0)):
            if parameters:
                multiplier = settings.groups.get(name, 1.0)
                groups.append({"params": parameters, "weight_decay": weight_decay, "lr_multiplier": multiplier})
    if not groups:
        raise ValueError("optimiser: got a task without trainable parameters, expected some")
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in task.parameters()) or None
    match settings:
        case SgdConfig():
            return _sgd(groups, settings, fused)
        case AdamWConfig():
            return AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)
        case AdamConfig():
            return Adam(groups, lr=settings.lr, betas=settings.betas, fused=fused)
        case _:
            assert_never(settings)


def _sgd(groups: Sequence[dict[str, Any]], settings: SgdConfig, fused: bool | None) -> SGD:
    """SGD whose momentum begins with zeros, so that its first step is the usual one.

    Left to itself the fused one begins with memory as it finds it where the first step overflows (fp16), and breaks
    where a parameter's first gradient comes later.
    """
    sgd = SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=fused)
    if settings.momentum:
        for parameter in (parameter for group in groups for parameter in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def learning_rate(
    schedule: ConstantSchedule | StepSchedule | CosineSchedule,
    peak: float,
    step: int,
    steps_per_epoch: int,
    epochs: int,
) -> float:
    """The learning rate of one optimiser step (counted from 0 over the whole run).

    The warm-up is linear and reaches the peak in its last epoch (or batch), as in CTR-GCN.
    """
    done = float(step // steps_per_epoch) if schedule.per == "epoch" else step / steps_per_epoch
    tick = 1.0 if schedule.per == "epoch" else 1.0 / steps_per_epoch
    if done < schedule.warmup_epochs:
        return peak * (done + tick) / schedule.warmup_epochs
    match schedule:
        case ConstantSchedule():
            return peak
        case StepSchedule():
            return peak * schedule.factor ** sum(done >= milestone for milestone in schedule.milestones)
        case CosineSchedule():
            progress = (done - schedule.warmup_epochs) / (epochs - schedule.warmup_epochs)
            return schedule.final_lr + (peak - schedule.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            assert_never(schedule)


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every group the rate times its own multiplier."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_multiplier"]


class WeightAverage:
    """An exponential moving average of a task's weights and float buffers, as a task of its own.

    The decay ramps up as (1 + n) / (10 + n) at first, so that a short run does not keep its initialisation.

    Attributes:
        task: the averaged twin; predict with it.
    """

    def __init__(self, task: Task, decay: float) -> None:
        self.task = deepcopy(task).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, task: Task, steps_done: int) -> None:
        """Move towards the task's weights, after its ``steps_done``-th optimiser step."""
        weight = 1 - min(self._decay, (1 + steps_done) / (10 + steps_done))
        pairs = [*zip(self.task.state_dict().values(), task.state_dict().values(), strict=True)]
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in moving], [current for _, current in moving], weight)
        for average, current in pairs:
            if not average.is_floating_point():
                average.copy_(current)
