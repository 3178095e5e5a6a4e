"""The recipe of the transformer family: pretraining by reconstruction, stage by stage, then the main job's recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feeders.loading import ActionDataConfig, build_loaders, data_set
from feeders.skeleton import skeleton_named
from model.encoders.build import EncoderConfig, build_encoder
from model.encoders.contract import StagedEncoder
from model.init_from import load_encoder
from model.masking import MaskConfig
from model.tasks.clip_action import ClipActionTask
from model.tasks.reconstruction import ReconstructionTask, reconstruction_errors
from recipes.clip_action import ClipRun, clip_loaders, clip_metrics, clip_report, clip_task
from torchlight.chain import Chain, Stage
from torchlight.checkpoint import Checkpoint
from torchlight.config import RunConfig, StrictConfig, TrainConfig
from torchlight.launch import Recipe
from torchlight.task import Loaders, Metric

_FINETUNE = "finetune"


class PretrainConfig(StrictConfig):
    """The ``pretrain`` section.

    Args:
        mask: what is hidden, and so what is to be told.
        train: how each stage is trained; the run's ``train`` is fine-tuning's.
    """

    mask: MaskConfig = MaskConfig()
    train: TrainConfig


class BpmtRun(ClipRun):
    """A skeleton-text run whose encoder is pretrained first.

    Args:
        pretrain: None, or an encoder without stages, or ``init_from``, begins with fine-tuning.
    """

    phases: tuple[str, ...] = ("all",)
    pretrain: PretrainConfig | None = None


class ReconstructionRun(RunConfig):
    """One stage of pretraining, as a run of its own.

    Args:
        stage: of the encoder.
        former: the stage whose encoder this one's begins with; its folder lies beside this one's.
    """

    data: ActionDataConfig
    encoder: EncoderConfig
    mask: MaskConfig
    stage: str
    former: str | None


def bpmt(default_config: str, description: str) -> Chain[BpmtRun]:
    """The chain behind the door: ``pretrain`` in as many stages as the encoder has, then ``finetune``.

    Args:
        default_config: relative to the project's folder.
        description: what ``--help`` says.
    """
    return Chain(
        schema=BpmtRun,
        default_config=Path(__file__).parent.parent / default_config,
        phases=("pretrain", _FINETUNE),
        stages=_stages,
        description=description,
    )


def _stages(run: BpmtRun) -> Sequence[Stage[Any]]:
    names = _pretrained(run)
    return [
        *(Stage(name, "pretrain", _RECONSTRUCTION, _stage_run(run, name, names)) for name in names),
        Stage(_FINETUNE, _FINETUNE, _FINETUNING, run),
    ]


def _pretrained(run: BpmtRun) -> tuple[str, ...]:
    """The stages of pretraining, in order."""
    if run.pretrain is None or run.init_from is not None:
        return ()
    facts = data_set(run.data)
    encoder = build_encoder(run.model.encoder, facts.skeleton, run.data.bodies or facts.bodies)
    return encoder.stages if isinstance(encoder, StagedEncoder) else ()


def _stage_run(run: BpmtRun, name: str, names: Sequence[str]) -> ReconstructionRun:
    assert run.pretrain is not None
    place = names.index(name)
    return ReconstructionRun(
        work_dir=run.work_dir,
        seed=run.seed,
        device=run.device,
        deterministic=run.deterministic,
        train=run.pretrain.train,
        data=run.data,
        encoder=run.model.encoder,
        mask=run.pretrain.mask,
        stage=name,
        former=names[place - 1] if place else None,
    )


def _finetuned(run: BpmtRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ClipActionTask:
    stages = _pretrained(run)
    former = Path(run.work_dir).parent / stages[-1] if stages else run.init_from
    return clip_task(run.model_copy(update={"init_from": former}), loaders, checkpoint)


def _reconstruction_loaders(run: ReconstructionRun, phases: Sequence[str]) -> Loaders:
    splits = sorted({"train", *run.train.evaluated_splits})
    return build_loaders(run.data, run.train.batch_size, run.train.evaluation_batch_size, run.seed, splits)


def _reconstruction(run: ReconstructionRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ReconstructionTask:
    skeleton = skeleton_named(loaders.skeleton)
    encoder = build_encoder(run.encoder, skeleton, run.data.bodies or data_set(run.data).bodies)
    assert isinstance(encoder, StagedEncoder)
    if checkpoint is None and run.former is not None:
        load_encoder(encoder, Path(run.work_dir).parent / run.former, skeleton)
    return ReconstructionTask(encoder, run.stage, run.mask, {"skeleton": skeleton.name})


def _reconstruction_metrics(run: ReconstructionRun, loaders: Loaders) -> Sequence[Metric]:
    return [reconstruction_errors]


_RECONSTRUCTION = Recipe(
    schema=ReconstructionRun,
    default_config=Path(),
    phases=("train",),
    build_loaders=_reconstruction_loaders,
    build_task=_reconstruction,
    build_metrics=_reconstruction_metrics,
)

_FINETUNING = Recipe(
    schema=BpmtRun,
    default_config=Path(),
    phases=("train", "validate", "test"),
    build_loaders=clip_loaders,
    build_task=_finetuned,
    build_metrics=clip_metrics,
    report=clip_report,
)
