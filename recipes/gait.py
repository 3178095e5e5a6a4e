"""The recipe of gait, whole: pretraining by reconstruction where a config asks for it, retrieval, galleries."""

from collections.abc import Sequence
from pathlib import Path

from feeders.gait.loading import gait_data_set
from feeders.skeleton import skeleton_named
from model.tasks.gait_retrieval import GaitRetrievalTask
from model.tasks.reconstruction import ReconstructionTask
from recipes.gait_gallery import enrol, identify
from recipes.gait_retrieval import (
    GaitRun,
    WalksRun,
    gait_loaders,
    gait_metrics,
    gait_report,
    gait_task,
    save_gait,
    seen_skeleton,
    walk_loaders,
)
from recipes.reconstruction import (
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


class GaitReconstructionRun(StageRun, WalksRun):
    """One stage of pretraining on walks."""


def gait(default_config: str, description: str) -> Chain[GaitRun]:
    """The chain behind the door: ``pretrain`` in as many stages as are asked for, ``train``, and what comes after.

    Args:
        default_config: relative to the project's folder.
        description: what ``--help`` says.
    """
    return Chain(
        schema=GaitRun,
        default_config=Path(__file__).parent.parent / default_config,
        phases=("pretrain", "train"),
        stages=_stages,
        tests=(*_RETRIEVAL.phases[1:], *_RETRIEVAL.own_phases),
        files_of={"enrol": "enrol.walks", "identify": "identify.walks"},
        description=description,
    )


def _stages(run: GaitRun) -> Sequence[Stage[GaitReconstructionRun] | Stage[GaitRun]]:
    names = _pretrained(run)
    return [
        *(Stage(name, "pretrain", _RECONSTRUCTION, _stage_run(run, names, place)) for place, name in enumerate(names)),
        Stage("finetune", "train", _RETRIEVAL, run, is_alone=not names),
    ]


def _pretrained(run: GaitRun) -> tuple[str, ...]:
    """The stages of pretraining, in order."""
    if run.pretrain is None or run.init_from is not None:
        return ()
    return stages_of(run.model.encoder, seen_skeleton(run.data, gait_data_set(run.data).skeleton), bodies=1)


def _stage_run(run: GaitRun, names: Sequence[str], place: int) -> GaitReconstructionRun:
    assert run.pretrain is not None
    fields = stage_fields(run, run.pretrain, run.model.encoder, names, place)
    return GaitReconstructionRun(data=run.data, walks_each=run.walks_each, **fields)


def _reconstruction_loaders(run: GaitReconstructionRun, phases: Sequence[str]) -> Loaders:
    return walk_loaders(run, {"train", *run.train.evaluated_splits})


def _reconstruction(run: GaitReconstructionRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ReconstructionTask:
    return reconstruction_task(run, seen_skeleton(run.data, skeleton_named(loaders.skeleton)), 1, checkpoint)


def _retrieval(run: GaitRun, loaders: Loaders, checkpoint: Checkpoint | None) -> GaitRetrievalTask:
    former = former_encoder(run, _pretrained(run), run.init_from)
    return gait_task(run.model_copy(update={"init_from": former}), loaders, checkpoint)


_RECONSTRUCTION = reconstruction(GaitReconstructionRun, _reconstruction_loaders, _reconstruction)
_RETRIEVAL = Recipe(
    schema=GaitRun,
    default_config=Path(),
    phases=("train", "validate", "test"),
    build_loaders=gait_loaders,
    build_task=_retrieval,
    build_metrics=gait_metrics,
    report=gait_report,
    save=save_gait,
    is_open_set=True,
    own_phases={"enrol": enrol, "identify": identify},
)
