"""A tiny recipe on random data: a linear network with dropout and batch norm, so that randomness and buffers matter."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig, StrictConfig
from torchlight.distributed import rank, world_size
from torchlight.launch import Recipe, launch
from torchlight.seed import sample_seed
from torchlight.task import Loaders, Metric, Prediction, StepOutput, Task

CLASSES, WIDTH = 3, 5


class ToyData(StrictConfig):
    clips: int = 24
    test_clips: int = 11
    nan_at: str | None = None
    pause: float = 0.0
    kill_at: str | None = None
    workers: int = 0


class ToyModel(StrictConfig):
    dropout: float = 0.2
    batch_norm: bool = True


class ToyRun(RunConfig):
    data: ToyData = ToyData()
    model: ToyModel = ToyModel()


@dataclass(frozen=True)
class ToyBatch:
    x: Tensor
    label: Tensor
    sample_id: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sample_id)

    def to(self, device: torch.device) -> "ToyBatch":
        return replace(self, x=self.x.to(device), label=self.label.to(device))


def clips(split: str, count: int) -> ToyBatch:
    generator = torch.Generator().manual_seed({"train": 1, "val": 2, "test": 3}[split])
    label = torch.randint(CLASSES, (count,), generator=generator)
    x = torch.randn(count, WIDTH, generator=generator)
    x[torch.arange(count), label] += 1.5
    return ToyBatch(x, label, tuple(f"{split}{i:03d}" for i in range(count)))


def take(data: ToyBatch, rows: Sequence[int]) -> ToyBatch:
    return ToyBatch(data.x[list(rows)], data.label[list(rows)], tuple(data.sample_id[i] for i in rows))


@dataclass(frozen=True)
class ToyTrain:
    data: ToyBatch
    batch_size: int
    seed: int
    settings: ToyData

    def __len__(self) -> int:
        return len(self.data) // (self.batch_size * world_size())

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[ToyBatch]:
        torch.rand(3)  # an honest loader may draw from the global generator as it starts
        order = torch.randperm(
            len(self.data), generator=torch.Generator().manual_seed(sample_seed(self.seed, epoch, 0))
        ).tolist()
        for position in range(first_batch, len(self)):
            time.sleep(self.settings.pause)
            if self.settings.kill_at == f"{epoch}/{position}" and not Path(os.environ["KILLED"]).exists():
                Path(os.environ["KILLED"]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            begin = (position * world_size() + rank()) * self.batch_size
            batch = take(self.data, order[begin : begin + self.batch_size])
            if self.settings.nan_at == f"{epoch}/{position}":
                batch = replace(batch, x=batch.x * torch.nan)
            yield batch


@dataclass(frozen=True)
class ToySplit:
    data: ToyBatch
    batch_size: int

    def __len__(self) -> int:
        return -(-len(range(rank(), len(self.data), world_size())) // self.batch_size)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[ToyBatch]:
        own = range(rank(), len(self.data), world_size())
        for begin in range(0, len(own), self.batch_size):
            yield take(self.data, own[begin : begin + self.batch_size])


class ToyTask(Task):
    def __init__(self, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH) if batch_norm else nn.Identity()
        self.hidden = nn.Linear(WIDTH, 8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, CLASSES)
        self.unused = nn.Parameter(torch.ones(2, 2))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("threshold", torch.full((), -1.0))

    def logits(self, x: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.hidden(self.norm(x))))
        logits: Tensor = self.head(hidden) * self.logit_scale.exp()
        return logits

    def training_step(self, batch: ToyBatch) -> StepOutput:
        loss = nn.functional.cross_entropy(self.logits(batch.x), batch.label)
        return StepOutput({"classification": loss}, {"scale": self.logit_scale.exp()})

    def predict(self, batch: ToyBatch) -> Prediction:
        logits = self.logits(batch.x)
        return Prediction(batch.sample_id, batch.label, {"logits": logits})

    def calibrate(self, validation: Prediction) -> None:
        self.threshold.fill_(float(validation.outputs["logits"].mean()))

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"head": list(self.head.parameters())}

    def extra_state(self) -> Mapping[str, Any]:
        return {"parts": ("arms", "legs"), "width": WIDTH}


def accuracy(prediction: Prediction) -> Mapping[str, float]:
    hits = (prediction.outputs["logits"].argmax(1) == prediction.labels).float()
    top1 = 100 * float(hits.mean())
    return {"top1": top1, "top1_low": top1 - 1, "top1_high": top1 + 1, "count": float(len(prediction))}


def build_loaders(run: ToyRun, phases: Sequence[str]) -> Loaders:
    train = run.train
    return Loaders(
        train=ToyTrain(clips("train", run.data.clips), train.batch_size, run.seed, run.data),
        evaluation={
            split: ToySplit(clips(split, run.data.test_clips), train.evaluation_batch_size) for split in ("val", "test")
        },
        dataset="toy",
        class_names=("sit", "stand", "wave"),
        skeleton="none",
        modality="joint",
    )


def build_task(run: ToyRun, loaders: Loaders, checkpoint: Checkpoint | None) -> Task:
    return ToyTask(run.model.dropout, run.model.batch_norm)


def build_metrics(run: ToyRun, loaders: Loaders) -> Sequence[Metric]:
    return [accuracy]


def report(run: ToyRun, prediction: Prediction, loaders: Loaders) -> str:
    return f"classes: {', '.join(loaders.class_names)}"


RECIPE = Recipe(
    schema=ToyRun,
    default_config=Path(__file__).parent / "toy.yaml",
    phases=("train", "validate", "test"),
    build_loaders=build_loaders,
    build_task=build_task,
    build_metrics=build_metrics,
    report=report,
    description="toy",
)

if __name__ == "__main__":
    launch(RECIPE)
