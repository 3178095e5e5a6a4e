"""Pretraining by reconstruction, whatever the main job is: each stage a run that begins where the one before ended."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from feeders.skeleton import Skeleton
from model.encoders.build import EncoderConfig, build_encoder
from model.encoders.contract import StagedEncoder
from model.init_from import load_encoder
from model.masking import MaskConfig
from model.tasks.reconstruction import ReconstructionTask, reconstruction_errors
from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig, StrictConfig, TrainConfig
from torchlight.launch import Recipe
from torchlight.task import Loaders, Metric


class PretrainConfig(StrictConfig):
    """The ``pretrain`` section.

    Args:
        mask: what is hidden, and so what is to be told.
        train: how each stage is trained; the run's ``train`` is fine-tuning's.
    """

    mask: MaskConfig = MaskConfig()
    train: TrainConfig


class StageRun(RunConfig):
    """One stage of pretraining, as a run of its own.

    Args:
        stage: of the encoder.
        former: the stage whose encoder this one's begins with; its folder lies beside this one's.
    """

    # What fine-tuning does with T1.
    after_training: ClassVar[tuple[str, ...]] = ("encoder.t1",)

    encoder: EncoderConfig
    mask: MaskConfig
    stage: str
    former: str | None


S = TypeVar("S", bound=StageRun)


def stages_of(encoder: EncoderConfig, skeleton: Skeleton, bodies: int) -> tuple[str, ...]:
    """The stages in which an encoder is pretrained, in order."""
    built = build_encoder(encoder, skeleton, bodies)
    return built.stages if isinstance(built, StagedEncoder) else ()


def former_encoder(run: RunConfig, stages: Sequence[str], init_from: Path | None) -> Path | None:
    """Where the main run's encoder comes from: the last stage's folder beside its own, else what it was told."""
    return Path(run.work_dir).parent / stages[-1] if stages else init_from


def stage_fields(
    run: RunConfig, pretrain: PretrainConfig, encoder: EncoderConfig, stages: Sequence[str], place: int
) -> dict[str, Any]:
    """What the run of a stage shares with the main run, and what it is of itself."""
    return {
        **{name: getattr(run, name) for name in ("work_dir", "seed", "device", "deterministic")},
        "train": pretrain.train,
        "mask": pretrain.mask,
        "encoder": encoder,
        "stage": stages[place],
        "former": stages[place - 1] if place else None,
    }


def reconstruction(
    schema: type[S],
    loaders: Callable[[S, Sequence[str]], Loaders],
    task: Callable[[S, Loaders, Checkpoint | None], ReconstructionTask],
) -> Recipe[S]:
    """The recipe of a stage."""
    return Recipe(
        schema=schema,
        default_config=Path(),
        phases=("train",),
        build_loaders=loaders,
        build_task=task,
        build_metrics=_metrics,
    )


def reconstruction_task(
    run: StageRun, skeleton: Skeleton, bodies: int, checkpoint: Checkpoint | None
) -> ReconstructionTask:
    """The task of a stage: its encoder from the former one, unless a checkpoint's weights will be loaded."""
    encoder = build_encoder(run.encoder, skeleton, bodies)
    assert isinstance(encoder, StagedEncoder)
    if checkpoint is None and run.former is not None:
        load_encoder(encoder, Path(run.work_dir).parent / run.former, run.encoder, skeleton)
    return ReconstructionTask(encoder, run.stage, run.mask, {"skeleton": skeleton.name})


def _metrics(run: StageRun, loaders: Loaders) -> Sequence[Metric]:
    return [reconstruction_errors]
