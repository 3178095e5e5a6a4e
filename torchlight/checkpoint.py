"""Checkpoints: the whole state of a run in one self-describing file, written atomically, read without running code."""

import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchlight.arrays import some
from torchlight.atomic import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Progress:
    """How far a run is: completed epochs, batches into the next one, optimiser steps so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A task's weights, how they came about and, where training may go on from here, everything it needs for that.

    The engine's randomness is a function of seed, epoch and batch, so there are no generator states to keep.

    Args:
        task: state dict; average: the state dict of its exponential moving average, None without one.
        training: optimiser and gradient scaler states, running means of the epoch; None where training cannot go on.
        best: (value, epoch) of the best epochs so far, best first.
        processes: how many processes trained.
        chosen_by: how the weights were selected, e.g. ``best val/top1 = 93.10 at epoch 12 of 30``.
        calibrated: ``Task.calibrate`` has been called on these weights.
        config: the resolved config of the run, plain.
        extra: what the task says of itself.
    """

    task: Mapping[str, Tensor]
    average: Mapping[str, Tensor] | None
    training: Mapping[str, Any] | None
    progress: Progress
    best: tuple[tuple[float, int], ...]
    seed: int
    processes: int
    chosen_by: str
    calibrated: bool
    config: Mapping[str, Any]
    dataset: str
    class_names: tuple[str, ...]
    skeleton: str
    modality: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The state dict to predict with: the moving average where there is one."""
        return self.task if self.average is None else self.average


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one step; on a full disk the old file survives and the OSError says so."""
    content = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    progress = checkpoint.progress
    content = _plain({**content, "format": FORMAT, "progress": (progress.epoch, progress.batch, progress.step)})
    # Through memory: torch's own file writer reports a full disk as a RuntimeError from C++.
    memory = io.BytesIO()
    torch.save(content, memory)
    write_atomically(path, memory.getvalue())


def demand_checkpoint(path: Path) -> None:
    """A FileNotFoundError where there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; train first (--phase train) or give --weights FILE")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Nothing in the file is executed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged, holds code, or is not a checkpoint of ours.
    """
    demand_checkpoint(path)
    # Read first: torch's reader reports a cut-off file as an OSError, as if the disk had failed.
    file = io.BytesIO(path.read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: refused: got a pickle with more than tensors and plain values in it (it could run code), or a "
            "damaged file; expected a checkpoint of this program"
        ) from None
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        reason = str(error).strip().split("\n")[0].partition(". ")[0]
        raise ValueError(f"{path}: got an unreadable file ({reason}), expected a checkpoint") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else None
        raise ValueError(f"{path}: got format {version!r}, expected a checkpoint of format {FORMAT}")
    known = {item.name for item in fields(Checkpoint)}
    if missing := sorted(known - set(content)):
        raise ValueError(f"{path}: got a checkpoint without {', '.join(missing)}, expected all of {sorted(known)}")
    content = {name: content[name] for name in known}
    content["progress"] = Progress(*content["progress"])
    content["best"] = tuple((float(value), int(epoch)) for value, epoch in content["best"])
    content["class_names"] = tuple(content["class_names"])
    return Checkpoint(**content)


def load_state(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict whose keys and shapes all fit; else a ValueError with the difference."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    left_over = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    kinds = (("missing", missing), ("left over", left_over), ("of another shape", reshaped))
    if any(names for _, names in kinds):
        difference = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in kinds if names)
        raise ValueError(f"{where}: the weights do not fit the network: {difference}")
    module.load_state_dict(state)


def _plain(value: Any) -> Any:
    """Only what ``weights_only`` loading accepts: tensors, dicts, lists and scalars."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"checkpoint: got a {type(value).__name__}, expected tensors, mappings, sequences and scalars")
