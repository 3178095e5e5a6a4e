"""Training: epochs, optimiser steps, evaluation, selection and saving. The house's only ``.backward()`` is here."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchlight.checkpoint import Checkpoint, Progress, load_checkpoint, load_state, save_checkpoint
from torchlight.config import RunConfig, SelectBest, plain_config
from torchlight.distributed import (
    all_gather,
    average_gradients,
    barrier,
    broadcast_module,
    is_main,
    rank,
    world_size,
)
from torchlight.evaluation import autocast, evaluate, predict
from torchlight.log import LossMeter, ScalarWriter
from torchlight.metrics.bootstrap import ENDS
from torchlight.optim import WeightAverage, build_optimiser, learning_rate, set_learning_rate
from torchlight.progress import progress_bar
from torchlight.run_dir import RunDir
from torchlight.seed import sample_seed, seed_all
from torchlight.task import Loader, Loaders, Metric, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Epoch:
    """What one pass over the training data gave."""

    means: Mapping[str, float]
    rate: float
    seconds: float
    clips_per_second: float


class Engine:
    """Trains a task as its config says and leaves checkpoints, metric rows and scalars in the run folder.

    Every step's randomness is seeded from (seed, epoch, batch, process) alone and every learning rate is a function of
    the step, so going on from a checkpoint equals never having stopped.

    Args:
        task: the network; moved to the device.
        metrics: pure functions of predictions, applied to every evaluated split.
    """

    def __init__(
        self,
        task: Task,
        loaders: Loaders,
        metrics: Sequence[Metric],
        run: RunConfig,
        device: torch.device,
        run_dir: RunDir,
    ) -> None:
        self._run, self._device, self._run_dir = run, device, run_dir
        self._loaders, self._metrics = loaders, metrics
        self._train_loader = _checked(loaders, run)
        self._task = task.to(device)
        broadcast_module(task)
        self._parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
        self._optimiser = build_optimiser(task, run.train.optimiser)
        self._scaler = torch.amp.GradScaler(device.type, enabled=run.train.precision == "fp16")
        decay = run.train.ema_decay
        self._average = None if decay is None else WeightAverage(task, decay)
        self._steps_per_epoch = math.ceil(len(self._train_loader) / run.train.accumulate)
        self._progress = Progress()
        self._best: tuple[tuple[float, int], ...] = ()
        self._meter = LossMeter()

    def fit(self) -> None:
        """Train to the last epoch, from the start or from where `restore` stands; ends with the calibrated files."""
        completed = self._progress.epoch
        if is_main():
            self._run_dir.keep_rows(lambda row: row["epoch"] <= completed)
        train = self._run.train
        if train.schedule.warmup_epochs > train.epochs:
            logger.warning(
                "train.schedule: got %d warm-up epochs for %d epochs; the learning rate stays below its peak",
                train.schedule.warmup_epochs,
                train.epochs,
            )
        scalars = ScalarWriter(self._run_dir.tensorboard, self._progress.step)
        try:
            for epoch in range(self._progress.epoch, train.epochs):
                self._report(epoch, self._train_epoch(epoch, scalars), scalars)
                self._evaluate(epoch, scalars)
                self._progress = Progress(epoch=epoch + 1, batch=0, step=self._progress.step)
                self._meter = LossMeter()
                self._save(self._run_dir.last)
        finally:
            scalars.close()
        if isinstance(train.select, SelectBest):
            kept = [self._run_dir.best_of_epoch(epoch) for _, epoch in self._best] if train.keep_best > 1 else []
            for path in (self._run_dir.best, *kept):
                self._calibrate(path)
        self._calibrate(self._run_dir.last)

    @property
    def _judged(self) -> Task:
        """What is evaluated: the moving average where there is one."""
        return self._task if self._average is None else self._average.task

    def _train_epoch(self, epoch: int, scalars: ScalarWriter) -> _Epoch:
        train, batches, first = self._run.train, len(self._train_loader), self._progress.batch
        self._task.train()
        seed_all(sample_seed(self._run.seed, epoch, rank()))
        began, clips = time.perf_counter(), 0
        with progress_bar(f"epoch {epoch + 1}/{train.epochs}", batches, done=first) as bar:
            position = first
            for batch in self._train_loader.epoch(epoch, first):
                group_begin = position - position % train.accumulate
                group_size = min(train.accumulate, batches - group_begin)
                self._backward(batch, epoch, position, group_size)
                position += 1
                clips += len(batch) * world_size()
                if position == group_begin + group_size:
                    self._step(scalars)
                if position % train.log_every == 0:
                    scalars.add({f"train_step/{k}": v for k, v in self._meter.flush().items()}, self._progress.step)
                    bar.set_postfix({"clips/s": f"{clips / (time.perf_counter() - began):.0f}"})
                bar.update()
                self._progress = replace(self._progress, batch=position)
                if self._is_saving_step(position, group_begin + group_size):
                    self._save(self._run_dir.last)
        assert position == batches, f"the training loader gave {position} batches and announced {batches}"
        means = self._meter.means()
        seconds = time.perf_counter() - began
        rate = self._rate(self._progress.step - 1)
        return _Epoch(means, rate, seconds, clips / max(seconds, 1e-9))

    def _backward(self, batch: Any, epoch: int, position: int, group_size: int) -> None:
        seed_all(sample_seed(self._run.seed, epoch, (position + 1) * world_size() + rank()))
        batch = batch.to(self._device)
        with autocast(self._device, self._run.train.precision):
            output = self._task.training_step(batch)
        total = torch.stack([loss.float() for loss in output.losses.values()]).sum()
        self._scaler.scale(total / group_size).backward()
        self._meter.add(output, total, batch, epoch, position)

    def _step(self, scalars: ScalarWriter) -> None:
        train, step = self._run.train, self._progress.step
        rate = self._rate(step)
        set_learning_rate(self._optimiser, rate)
        average_gradients(self._parameters)
        self._scaler.unscale_(self._optimiser)
        if train.clip_gradient is not None:
            norm = nn.utils.clip_grad_norm_(self._parameters, train.clip_gradient)
            if (step + 1) % train.log_every == 0:
                scalars.add({"train_step/gradient_norm": float(norm)}, step + 1)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self._task, step)
        self._progress = replace(self._progress, step=step + 1)

    def _rate(self, step: int) -> float:
        train = self._run.train
        return learning_rate(train.schedule, train.optimiser.lr, step, self._steps_per_epoch, train.epochs)

    def _is_saving_step(self, position: int, group_end: int) -> bool:
        every = self._run.train.save_every_steps
        at_step = position == group_end and position < len(self._train_loader)
        return every is not None and at_step and self._progress.step % every == 0

    def _report(self, epoch: int, result: _Epoch, scalars: ScalarWriter) -> None:
        """The epoch's row, scalars and log line."""
        values = {f"train/{name}": value for name, value in result.means.items()}
        speed = {"lr": result.rate, "clips_per_second": result.clips_per_second, "epoch_seconds": result.seconds}
        self._add_row(epoch, "train", {**values, **speed})
        scalars.add({**values, **speed}, self._progress.step)
        left = result.seconds * (self._run.train.epochs - epoch - 1)
        logger.info(
            "epoch %d/%d: loss %.4f, lr %.3g, %.0f clips/s, %.1f s, %s left",
            *(epoch + 1, self._run.train.epochs, result.means["loss"], result.rate),
            *(result.clips_per_second, result.seconds, f"{left / 60:.0f} min" if left >= 120 else f"{left:.0f} s"),
        )

    def _evaluate(self, epoch: int, scalars: ScalarWriter) -> None:
        train = self._run.train
        every, is_last = train.evaluate_every, epoch + 1 == train.epochs
        if not is_last and (every == 0 or (epoch + 1) % every != 0):
            return
        values: dict[str, float] = {}
        for split in train.evaluated_splits:
            loader = self._loaders.evaluation[split]
            result = evaluate(self._judged, loader, self._metrics, split, self._device, train.precision)
            self._add_row(epoch, split, result.values)
            scalars.add(result.values, self._progress.step)
            shown = ", ".join(f"{name} {value:.2f}" for name, value in result.values.items() if _is_point(name))
            logger.info("epoch %d/%d: %s", epoch + 1, train.epochs, shown)
            values |= result.values
        if isinstance(train.select, SelectBest):
            self._select(train.select, epoch, values)

    def _select(self, select: SelectBest, epoch: int, values: Mapping[str, float]) -> None:
        if select.metric not in values:
            raise ValueError(f"train.select.metric: got {select.metric!r}, expected one of {sorted(values)}")
        value = values[select.metric]
        sign = -1 if select.goal == "max" else 1
        # Of equal epochs the earlier is the better one.
        ranking = sorted(
            (*self._best, (value, epoch + 1)), key=lambda entry: (math.isnan(entry[0]), sign * entry[0], entry[1])
        )
        kept, dropped = ranking[: self._run.train.keep_best], ranking[self._run.train.keep_best :]
        self._best = tuple(kept)
        warning = "; chosen on TEST" if select.split == "test" else ""
        chosen_by = f"best {select.metric} = {value:.2f} at epoch {epoch + 1} of {self._run.train.epochs}{warning}"
        if self._run.train.keep_best > 1 and (value, epoch + 1) in kept:
            self._save(self._run_dir.best_of_epoch(epoch + 1), chosen_by)
        if kept[0] == (value, epoch + 1):
            self._save(self._run_dir.best, chosen_by)
        for _, old in dropped:
            if is_main():
                self._run_dir.best_of_epoch(old).unlink(missing_ok=True)

    def _add_row(self, epoch: int, split: str, values: Mapping[str, float]) -> None:
        if is_main():
            self._run_dir.add_row({"epoch": epoch + 1, "split": split, "seed": self._run.seed, **values})

    def _save(self, path: Path, chosen_by: str | None = None) -> None:
        """Write the state as it is between two steps: all of it, or, of a chosen epoch, only what predicts."""
        self._meter.flush()
        broadcast_module(self._task, buffers_only=True)
        broadcast_module(self._judged, buffers_only=True)
        sums = all_gather(self._meter.sums)
        training = {"optimiser": self._optimiser.state_dict(), "scaler": self._scaler.state_dict(), "sums": sums}
        if not is_main():
            return
        progress, epochs = self._progress, self._run.train.epochs
        if chosen_by is not None:
            # A chosen epoch is complete, though the run has not gone on to the next one yet.
            progress = Progress(epoch=progress.step // self._steps_per_epoch, step=progress.step)
        save_checkpoint(
            path,
            Checkpoint(
                task=self._task.state_dict(),
                average=None if self._average is None else self._average.task.state_dict(),
                training=training if chosen_by is None else None,
                progress=progress,
                best=self._best,
                seed=self._run.seed,
                processes=world_size(),
                chosen_by=chosen_by or f"last: after {progress.epoch} of {epochs} epochs, nothing chosen",
                calibrated=False,
                config=plain_config(self._run),
                dataset=self._loaders.dataset,
                class_names=self._loaders.class_names,
                skeleton=self._loaders.skeleton,
                modality=self._loaders.modality,
                extra=self._task.extra_state(),
            ),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint stood; a ValueError where training cannot go on from it."""
        if checkpoint.training is None:
            raise ValueError("resume: got a checkpoint without training state, expected last.pt")
        if checkpoint.processes != world_size():
            raise ValueError(
                f"resume: got {world_size()} processes, expected {checkpoint.processes} as the run was started with"
            )
        load_state(self._task, checkpoint.task, "resume")
        if self._average is not None and checkpoint.average is not None:
            load_state(self._average.task, checkpoint.average, "resume (moving average)")
        fused = [group["fused"] for group in self._optimiser.param_groups]
        self._optimiser.load_state_dict(dict(checkpoint.training["optimiser"]))
        for group, own in zip(self._optimiser.param_groups, fused, strict=True):
            group["fused"] = own  # A matter of this device, not of the one that the run began on.
        self._scaler.load_state_dict(dict(checkpoint.training["scaler"]))
        self._meter = LossMeter({name: list(sums) for name, sums in checkpoint.training["sums"][rank()].items()})
        self._progress, self._best = checkpoint.progress, checkpoint.best

    def _calibrate(self, path: Path) -> None:
        """Let the task fix what it chooses on validation predictions, for the weights in a file, and keep it there."""
        barrier()
        checkpoint = load_checkpoint(path)
        load_state(self._judged, checkpoint.weights, str(path))
        is_calibrating = type(self._task).calibrate is not Task.calibrate
        if checkpoint.calibrated or not is_calibrating or "val" not in self._loaders.evaluation:
            return
        precision = self._run.train.precision
        validation = predict(self._judged, self._loaders.evaluation["val"], "val", self._device, precision)
        if is_main():
            self._judged.calibrate(validation)
            state = self._judged.state_dict()
            fixed = replace(checkpoint, calibrated=True, extra=self._judged.extra_state())
            fixed = replace(fixed, task=state) if checkpoint.average is None else replace(fixed, average=state)
            save_checkpoint(path, fixed)
        broadcast_module(self._judged)


def _checked(loaders: Loaders, run: RunConfig) -> Loader:
    """The training loader, once everything that a run can be wrong about beforehand is right."""
    if loaders.train is None or len(loaders.train) == 0:
        raise ValueError(
            "train: got no batch of training data, expected some; is train.batch_size above the clips there are?"
        )
    if len(set(all_gather(len(loaders.train)))) > 1:
        raise ValueError("train: got processes with different numbers of batches, expected the same on each")
    for split in run.train.evaluated_splits:
        if split not in loaders.evaluation:
            raise ValueError(
                f"train.evaluate / train.select: got split {split!r}, expected one of {sorted(loaders.evaluation)}; "
                "there is a val where somebody is held out of training"
            )
    return loaders.train


def _is_point(name: str) -> bool:
    return not name.endswith(ENDS)
