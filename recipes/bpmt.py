"""The recipe of the transformer family: pretraining by reconstruction, stage by stage, then the main job's recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feeders.loading import ActionDataConfig, build_loaders, data_set
from feeders.skeleton import skeleton_named
from model.tasks.clip_action import ClipActionTask
from model.tasks.reconstruction import ReconstructionTask
from recipes.clip_action import ClipRun, clip_loaders, clip_metrics, clip_report, clip_task, refuse_early
from recipes.reconstruction import (
    PretrainConfig,
    StageRun,
    former_encoder,
    reconstruction,
    reconstruction_task,
    stage_fields,
    stages_of,
)
from torchlight.chain import Chain, Stage
from torchlight.checkpoint import Checkpoint
from torchlight.launch import Recipe
from torchlight.task import Loaders

_FINETUNE = "finetune"


class BpmtRun(ClipRun):
    """A skeleton-text run whose encoder is pretrained first.

    Args:
        pretrain: None, or an encoder without stages, or ``init_from``, begins with fine-tuning.
    """

    phases: tuple[str, ...] = ("all",)
    pretrain: PretrainConfig | None = None


class ReconstructionRun(StageRun):
    """One stage of pretraining on clips."""

    data: ActionDataConfig


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
        tests=_FINETUNING.phases[1:],
        description=description,
    )


def _stages(run: BpmtRun) -> Sequence[Stage[Any]]:
    names = _pretrained(run)
    if names and {"all", "pretrain"} & set(run.phases):
        refuse_early(run, ("test",) if "all" in run.phases else run.phases)
    return [
        *(Stage(name, "pretrain", _RECONSTRUCTION, _stage_run(run, names, place)) for place, name in enumerate(names)),
        Stage(_FINETUNE, _FINETUNE, _FINETUNING, run),
    ]


def _pretrained(run: BpmtRun) -> tuple[str, ...]:
    """The stages of pretraining, in order."""
    if run.pretrain is None or run.init_from is not None:
        return ()
    facts = data_set(run.data)
    return stages_of(run.model.encoder, facts.skeleton, run.data.bodies or facts.bodies)


def _stage_run(run: BpmtRun, names: Sequence[str], place: int) -> ReconstructionRun:
    assert run.pretrain is not None
    fields = stage_fields(run, run.pretrain, run.model.encoder, names, place)
    return ReconstructionRun(data=run.data, **fields)


def _finetuned(run: BpmtRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ClipActionTask:
    former = former_encoder(run, _pretrained(run), run.init_from)
    return clip_task(run.model_copy(update={"init_from": former}), loaders, checkpoint)


def _reconstruction_loaders(run: ReconstructionRun, phases: Sequence[str]) -> Loaders:
    splits = sorted({"train", *run.train.evaluated_splits})
    return build_loaders(run.data, run.train.batch_size, run.train.evaluation_batch_size, run.seed, splits)


def _reconstruction(run: ReconstructionRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ReconstructionTask:
    bodies = run.data.bodies or data_set(run.data).bodies
    return reconstruction_task(run, skeleton_named(loaders.skeleton), bodies, checkpoint)


_RECONSTRUCTION = reconstruction(ReconstructionRun, _reconstruction_loaders, _reconstruction)

_FINETUNING = Recipe(
    schema=BpmtRun,
    default_config=Path(),
    phases=("train", "validate", "test", "zeroshot"),
    build_loaders=clip_loaders,
    build_task=_finetuned,
    build_metrics=clip_metrics,
    report=clip_report,
)
