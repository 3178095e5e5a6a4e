"""The recipe of gait, whole: pretraining by reconstruction where a config asks for it, retrieval, galleries."""

from collections.abc import Sequence
from pathlib import Path

from feeders.gait_loading import gait_data_set
from feeders.skeleton import skeleton_named
from model.encoders.build import EncoderConfig, build_encoder
from model.encoders.contract import StagedEncoder
from model.init_from import load_encoder
from model.masking import MaskConfig
from model.tasks.gait_retrieval import GaitRetrievalTask
from model.tasks.reconstruction import ReconstructionTask, reconstruction_errors
from recipes.gait_gallery import enrol, identify
from recipes.gait_retrieval import (
    GaitRun,
    WalksRun,
    gait_loaders,
    gait_metrics,
    gait_task,
    save_gait,
    seen_skeleton,
    walk_loaders,
)
from torchlight.chain import Chain, Stage
from torchlight.checkpoint import Checkpoint
from torchlight.launch import Recipe
from torchlight.task import Loaders, Metric


class GaitReconstructionRun(WalksRun):
    """One stage of pretraining, as a run of its own.

    Args:
        stage: of the encoder.
        former: the stage whose encoder this one's begins with; its folder lies beside this one's.
    """

    encoder: EncoderConfig
    mask: MaskConfig
    stage: str
    former: str | None


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
        *(Stage(name, "pretrain", _RECONSTRUCTION, _stage_run(run, name, names)) for name in names),
        Stage("finetune", "train", _RETRIEVAL, run, is_alone=not names),
    ]


def _pretrained(run: GaitRun) -> tuple[str, ...]:
    """The stages of pretraining, in order."""
    if run.pretrain is None or run.init_from is not None:
        return ()
    encoder = build_encoder(run.model.encoder, seen_skeleton(run.data, gait_data_set(run.data).skeleton), bodies=1)
    return encoder.stages if isinstance(encoder, StagedEncoder) else ()


def _stage_run(run: GaitRun, name: str, names: Sequence[str]) -> GaitReconstructionRun:
    assert run.pretrain is not None
    place = names.index(name)
    return GaitReconstructionRun(
        work_dir=run.work_dir,
        seed=run.seed,
        device=run.device,
        deterministic=run.deterministic,
        train=run.pretrain.train,
        data=run.data,
        walks_each=run.walks_each,
        encoder=run.model.encoder,
        mask=run.pretrain.mask,
        stage=name,
        former=names[place - 1] if place else None,
    )


def _reconstruction_loaders(run: GaitReconstructionRun, phases: Sequence[str]) -> Loaders:
    return walk_loaders(run, {"train", *run.train.evaluated_splits})


def _reconstruction(run: GaitReconstructionRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ReconstructionTask:
    skeleton = skeleton_named(loaders.skeleton)
    encoder = build_encoder(run.encoder, seen_skeleton(run.data, skeleton), bodies=1)
    assert isinstance(encoder, StagedEncoder)
    if checkpoint is None and run.former is not None:
        load_encoder(encoder, Path(run.work_dir).parent / run.former, skeleton)
    return ReconstructionTask(encoder, run.stage, run.mask, {"skeleton": skeleton.name})


def _reconstruction_metrics(run: GaitReconstructionRun, loaders: Loaders) -> Sequence[Metric]:
    return [reconstruction_errors]


def _retrieval(run: GaitRun, loaders: Loaders, checkpoint: Checkpoint | None) -> GaitRetrievalTask:
    stages = _pretrained(run)
    former = Path(run.work_dir).parent / stages[-1] if stages else run.init_from
    return gait_task(run.model_copy(update={"init_from": former}), loaders, checkpoint)


_RECONSTRUCTION = Recipe(
    schema=GaitReconstructionRun,
    default_config=Path(),
    phases=("train",),
    build_loaders=_reconstruction_loaders,
    build_task=_reconstruction,
    build_metrics=_reconstruction_metrics,
)
_RETRIEVAL = Recipe(
    schema=GaitRun,
    default_config=Path(),
    phases=("train", "validate", "test"),
    build_loaders=gait_loaders,
    build_task=_retrieval,
    build_metrics=gait_metrics,
    save=save_gait,
    is_open_set=True,
    own_phases={"enrol": enrol, "identify": identify},
)
