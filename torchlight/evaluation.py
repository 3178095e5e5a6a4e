"""Predict a split on every process and measure the whole of it once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from torchlight.arrays import check_distinct
from torchlight.config import Precision
from torchlight.distributed import all_gather, broadcast_module, from_main, is_main
from torchlight.progress import progress_bar
from torchlight.seed import seed_all
from torchlight.task import Loader, Metric, Prediction, Task

_AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Evaluation:
    """A split's predictions, ordered by sample id, and their metrics (named ``split/metric``, in percent)."""

    split: str
    values: Mapping[str, float]
    prediction: Prediction


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The mixed precision of a forward pass; the same code path when it is off."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, dtype=_AUTOCAST[precision] if enabled else None, enabled=enabled)


def evaluate(
    task: Task, loader: Loader, metrics: Sequence[Metric], split: str, device: torch.device, precision: Precision
) -> Evaluation:
    """Metrics of a split over all processes' shards; every process gets the same answer."""
    prediction = predict(task, loader, split, device, precision)
    values: dict[str, float] = {}
    if is_main():
        for metric in metrics:
            values |= {f"{split}/{name}": float(value) for name, value in metric(prediction).items()}
    return Evaluation(split, from_main(values), prediction)


@torch.no_grad()
def predict(task: Task, loader: Loader, split: str, device: torch.device, precision: Precision) -> Prediction:
    """A split's predictions on the CPU in float32, in the order of their sample ids, whatever the number of processes.

    Raises:
        ValueError: the split is empty, or a sample was predicted twice.
    """
    # What a process keeps for itself (running statistics) must not depend on which shard it saw.
    broadcast_module(task, buffers_only=True)
    was_training = task.training
    task.eval()
    # A fixed seed, so that a task which draws while predicting gives the same answer in every run.
    seed_all(0)
    pieces = []
    for batch in progress_bar(split, len(loader), batches=loader.epoch(0)):
        with autocast(device, precision):
            piece = task.predict(batch.to(device))
        outputs = {name: _to_host(output) for name, output in piece.outputs.items()}
        pieces.append(Prediction(piece.sample_ids, _to_host(piece.labels), outputs))
    task.train(was_training)
    joined = Prediction.join(list(chain.from_iterable(all_gather(pieces))))
    check_distinct(split, joined.sample_ids)
    return _take(joined, sorted(range(len(joined)), key=joined.sample_ids.__getitem__))


def _to_host(output: Tensor) -> Tensor:
    return output.float().cpu() if output.is_floating_point() else output.cpu()


def _take(prediction: Prediction, order: Sequence[int]) -> Prediction:
    rows = torch.tensor(order)
    return Prediction(
        sample_ids=tuple(prediction.sample_ids[row] for row in order),
        labels=prediction.labels[rows],
        outputs={name: output[rows] for name, output in prediction.outputs.items()},
    )
