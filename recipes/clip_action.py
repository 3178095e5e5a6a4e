"""The recipe of the main job: part features of a skeleton encoder, aligned with part-level action prompts."""

from collections.abc import Sequence
from pathlib import Path

from feeders.loading import ActionDataConfig, build_loaders, data_set
from feeders.skeleton import skeleton_named
from model.losses import ClipLossConfig
from model.part_clip import PartClipConfig
from model.tasks.clip_action import ClipActionTask, InferenceConfig
from model.text_tower import TextConfig
from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig
from torchlight.launch import Recipe
from torchlight.metrics.classification import ClassificationMetrics, per_class_table
from torchlight.task import Loaders, Metric, Prediction

_SPLITS_OF_PHASE = {"train": ("train", "val"), "validate": ("val",), "test": ("val", "test")}


class ClipRun(RunConfig):
    """One skeleton-text run: its clips, the network, the words, the losses, the training."""

    data: ActionDataConfig
    model: PartClipConfig = PartClipConfig()
    text: TextConfig = TextConfig()
    loss: ClipLossConfig = ClipLossConfig()
    inference: InferenceConfig = InferenceConfig()


def clip_action(default_config: str, description: str) -> Recipe[ClipRun]:
    """The recipe behind a door; doors differ in nothing but the config they open with.

    Args:
        default_config: relative to the project's folder.
        description: what ``--help`` says.
    """
    return Recipe(
        schema=ClipRun,
        default_config=Path(__file__).parent.parent / default_config,
        phases=("train", "validate", "test"),
        build_loaders=_loaders,
        build_task=_task,
        build_metrics=_metrics,
        report=_report,
        description=description,
    )


def _loaders(run: ClipRun, phases: Sequence[str]) -> Loaders:
    splits = {split for phase in phases for split in _SPLITS_OF_PHASE[phase]} | set(run.train.evaluated_splits)
    return build_loaders(run.data, run.train.batch_size, run.train.evaluation_batch_size, run.seed, sorted(splits))


def _task(run: ClipRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ClipActionTask:
    return ClipActionTask.build(
        model=run.model,
        text=run.text,
        loss=run.loss,
        inference=run.inference,
        skeleton=skeleton_named(loaders.skeleton),
        class_names=loaders.class_names,
        bodies=run.data.bodies or data_set(run.data).bodies,
        state=None if checkpoint is None else checkpoint.weights,
    )


def _metrics(run: ClipRun, loaders: Loaders) -> Sequence[Metric]:
    return [ClassificationMetrics()]


def _report(run: ClipRun, prediction: Prediction, loaders: Loaders) -> str:
    return per_class_table(
        loaders.class_names, prediction.labels.cpu().numpy(), prediction.outputs["logits"].float().cpu().numpy()
    )
