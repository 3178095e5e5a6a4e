"""The contract between the runtime and whatever it trains: a task turns a batch into named losses or predictions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import Self


class Batch(Protocol):
    """What the engine needs of a batch: its size, and how to move it."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        ...


class Loader(Protocol):
    """Batches of one split. Pure: the same epoch number gives the same batches, from any position."""

    def __len__(self) -> int:
        """Batches per epoch on this process."""
        ...

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Any]:
        """Batches of an epoch, starting at a position so that a resumed run can go on in its middle."""
        ...


@dataclass(frozen=True)
class Loaders:
    """The splits of a run and the facts of its data that checkpoints and score files carry.

    Args:
        train: None where a phase needs no training data.
        evaluation: split name ("val", "test") -> loader; every sample once, sharded over processes without repeats.
        dataset, class_names, skeleton, modality: self-description; ``extra`` holds what only some recipes need.
    """

    train: Loader | None
    evaluation: Mapping[str, Loader]
    dataset: str
    class_names: tuple[str, ...]
    skeleton: str
    modality: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepOutput:
    """One training step: named scalar losses, which the engine sums, and scalars that are only logged."""

    losses: Mapping[str, Tensor]
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What a task says about some samples.

    Shapes:
        sample_ids: N names
        labels: (N,) int64
        outputs: name -> (N, ...) tensor; classification tasks give "logits" (N, K)
    """

    sample_ids: tuple[str, ...]
    labels: Tensor
    outputs: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.sample_ids)

    @staticmethod
    def join(pieces: Sequence["Prediction"]) -> "Prediction":
        """Concatenate over samples; all pieces carry the same outputs."""
        if not pieces:
            raise ValueError("Prediction.join: got no predictions, expected at least one; is the split empty?")
        return Prediction(
            sample_ids=tuple(name for piece in pieces for name in piece.sample_ids),
            labels=torch.cat([piece.labels for piece in pieces]),
            outputs={key: torch.cat([piece.outputs[key] for piece in pieces]) for key in pieces[0].outputs},
        )


class Metric(Protocol):
    """A pure function of predictions: metric name (without the split) -> value in percent."""

    def __call__(self, prediction: Prediction) -> Mapping[str, float]:
        """Metric name -> value."""
        ...


class Task(nn.Module, ABC):
    """A network with its losses. Losses may own parameters, so a task is one module and one state dict."""

    @abstractmethod
    def training_step(self, batch: Any) -> StepOutput:
        """Losses of one batch, gradients attached."""

    @abstractmethod
    def predict(self, batch: Any) -> Prediction:
        """Predictions of one batch; called in eval mode without gradients."""

    def calibrate(self, validation: Prediction) -> None:
        """Fix what may be chosen on validation predictions only (kept in state dict or facts). Default: nothing."""

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Named groups that may have a learning rate of their own; what is not named here is in group ``main``."""
        return {}

    def extra_state(self) -> Mapping[str, Any]:
        """Plain facts that make the checkpoint self-describing: class names, skeleton, part names."""
        return {}
