"""The recipe of the main job: part features of a skeleton encoder, aligned with part-level action prompts."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from feeders.loading import ActionDataConfig, ClipLoader, build_loaders, data_set, learned_clips
from feeders.skeleton import Skeleton, skeleton_named
from model.encoders.cascade import CascadeConfig
from model.init_from import load_encoder
from model.losses import ClipLossConfig
from model.part_clip import PartClipConfig
from model.tasks.clip_action import ClipActionTask, InferenceConfig
from model.tasks.zero_shot import ZeroShotTask
from model.text_tower import TextConfig
from torchlight.arrays import some
from torchlight.checkpoint import Checkpoint, load_state
from torchlight.config import RunConfig, plain_config
from torchlight.distributed import is_main
from torchlight.launch import Recipe
from torchlight.metrics.classification import ClassificationMetrics, per_class_table
from torchlight.metrics.zero_shot import ZeroShotMetrics
from torchlight.optim import build_optimiser
from torchlight.task import Loaders, Metric, Prediction

logger = logging.getLogger(__name__)

# What says which clips are learned from.
_SPLIT_KEYS = ("dataset", "root", "test_on", "split", "validation_subjects", "zero_shot", "synthetic")
_SPLITS_OF_PHASE = {"train": ("train", "val"), "validate": ("val",), "test": ("val", "test"), "zeroshot": ("test",)}


class ClipRun(RunConfig):
    """One skeleton-text run: its clips, the network, the words, the losses, the training.

    Args:
        init_from: a run folder or checkpoint whose encoder this one's begins with; None begins from nothing.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {
        "pretrain": "main_bpmt.py",
        "retrieval": "main_gait.py",
        "data.inputs": "main_gait.py",
    }

    data: ActionDataConfig
    model: PartClipConfig = PartClipConfig()
    text: TextConfig = TextConfig()
    loss: ClipLossConfig = ClipLossConfig()
    inference: InferenceConfig = InferenceConfig()
    init_from: Path | None = None


def clip_action(default_config: str, description: str) -> Recipe[ClipRun]:
    """The recipe behind a door; doors differ in nothing but the config they open with.

    Args:
        default_config: relative to the project's folder.
        description: what ``--help`` says.
    """
    return Recipe(
        schema=ClipRun,
        default_config=Path(__file__).parent.parent / default_config,
        phases=("train", "validate", "test", "zeroshot"),
        build_loaders=clip_loaders,
        build_task=clip_task,
        build_metrics=clip_metrics,
        report=clip_report,
        description=description,
    )


def clip_loaders(run: ClipRun, phases: Sequence[str]) -> Loaders:
    """The splits that the phases and the training's evaluations need."""
    _check_zero_shot(run, phases)
    if "train" in phases:
        _check_clusters(run)
    splits = {split for phase in phases for split in _SPLITS_OF_PHASE[phase]} | set(run.train.evaluated_splits)
    sizes = (run.train.batch_size, run.train.evaluation_batch_size)
    loaders = build_loaders(run.data, *sizes, run.seed, sorted(splits))
    if "train" in phases and "val" not in loaders.evaluation:
        _refuse_validation(run)
    return loaders


def _refuse_validation(run: ClipRun) -> None:
    """A ValueError where a training without validation clips is to choose something on them."""
    for key, is_asked in {
        "inference.text_weight": run.inference.text_weight == "validation",
        "train.evaluate / train.select": "val" in run.train.evaluated_splits,
    }.items():
        if is_asked:
            raise ValueError(
                f"{key}: got validation with nobody held out, expected data.validation_subjects to name some"
            )


def _check_zero_shot(run: ClipRun, phases: Sequence[str]) -> None:
    """A zero-shot run is one with ``data.zero_shot``; it is tested by the phase of that name, and by no other."""
    zero_shot = run.data.zero_shot
    if zero_shot is None:
        if "zeroshot" in phases:
            known = ", ".join(data_set(run.data).zero_shot) or f"another data set: {run.data.dataset} has none"
            raise ValueError(f"data.zero_shot: got null with phase zeroshot, expected one of {known}")
        return
    if "test" in phases:
        raise ValueError(f"phases: got test with data.zero_shot={zero_shot}, expected phase zeroshot in its place")
    alone, weight = "unseen classes are known by their texts alone", run.inference.text_weight
    if run.text.tower == "none":
        raise ValueError(f"text.tower: got none with data.zero_shot={zero_shot}, expected a text tower; {alone}")
    if weight != 0:
        raise ValueError(f"inference.text_weight: got {weight} with data.zero_shot={zero_shot}, expected 0; {alone}")
    if "train" in phases and run.data.validation_subjects == ():
        logger.warning(
            "data.validation_subjects=[]: nobody is held out, so learned classes pay nothing, and among all the "
            "unseen ones are hardly ever named; null holds people out"
        )


def _check_clusters(run: ClipRun) -> None:
    """DTCR's k-means term is zero for as many clips as directions."""
    dtcr = run.loss.dtcr
    if dtcr is not None and dtcr.kmeans:
        clusters = dtcr.clusters or len(data_set(run.data).class_names)
        if clusters >= run.train.batch_size:
            raise ValueError(
                f"loss.dtcr.clusters: got {clusters} for batches of {run.train.batch_size} clips, expected fewer: so "
                "many directions hold every clip"
            )


def refuse_early(run: ClipRun, phases: Sequence[str]) -> None:
    """A ValueError where the task or its optimiser cannot be: for who would pretrain for hours before."""
    _check_zero_shot(run, phases)
    _check_clusters(run)
    if run.data.validation_subjects == ():
        _refuse_validation(run)
    facts = data_set(run.data)
    bodies = run.data.bodies or facts.bodies
    task = _built(run, facts.class_names, facts.skeleton, bodies, _learned(run), None)
    build_optimiser(task, run.train.optimiser)


def _learned(run: ClipRun) -> tuple[int, ...]:
    facts = data_set(run.data)
    unseen = facts.unseen_classes(run.data.zero_shot)
    return tuple(number for number in range(len(facts.class_names)) if number not in unseen)


def _refuse_other_classes(run: ClipRun, names: Sequence[str], checkpoint: Checkpoint) -> None:
    """Weights must have learned from exactly the classes that this run may learn from."""
    expected = {names[number] for number in _learned(run)}
    learned = set(checkpoint.extra.get("learned_classes", checkpoint.class_names))
    if leaked := sorted(learned - expected):
        raise ValueError(
            f"weights: got a checkpoint that has learned from {some(leaked)} ({len(leaked)} classes that "
            f"data.zero_shot={run.data.zero_shot} keeps unseen), expected one trained with that split"
        )
    if absent := sorted(expected - learned):
        raise ValueError(
            f"weights: got a checkpoint that has not learned {some(absent)} ({len(absent)} classes), expected "
            f"all that data.zero_shot={run.data.zero_shot or 'null'} shows; test it with the split of its own config"
        )


def _refuse_seen_classes(run: ClipRun, origin: Checkpoint) -> None:
    """What an encoder begins with must not have seen a clip of an unseen class, with its label or without."""
    facts = data_set(run.data)
    hidden_then = facts.unseen_classes(origin.config.get("data", {}).get("zero_shot"))
    if leaked := sorted(facts.unseen_classes(run.data.zero_shot) - hidden_then):
        names = some(facts.class_names[number] for number in leaked)
        raise ValueError(
            f"init_from: got an encoder that has seen {names} ({len(leaked)} classes that "
            f"data.zero_shot={run.data.zero_shot} keeps unseen), expected one trained with that split"
        )


def _refuse_another_choice(run: ClipRun, checkpoint: Checkpoint) -> None:
    """The weight of the texts is chosen at the end of training, and cannot be chosen later."""
    then = checkpoint.config.get("inference", {}).get("text_weight")
    if run.inference.text_weight == "validation" and not (then == "validation" and checkpoint.calibrated):
        raise ValueError(
            "inference.text_weight: got validation with weights for which none was chosen, expected a number; a "
            "training with inference.text_weight=validation chooses one at its end"
        )


def _refuse_other_texts(run: ClipRun, checkpoint: Checkpoint) -> None:
    """Frozen texts are the checkpoint's: others that the config asks for would have no say."""
    then, now = checkpoint.config.get("text", {}), plain_config(run.text)
    if run.text.tower == "none" or not run.text.freeze:
        return
    for key in (key for key in now if now[key] != then.get(key, now[key])):
        raise ValueError(
            f"text.{key}: got {now[key]!r} with weights that have learned with {then[key]!r}, expected the same: their "
            "texts are kept with them; train anew for others"
        )


def _warn_of_learned_clips(run: ClipRun, loaders: Loaders, checkpoint: Checkpoint) -> None:
    """Clips that were learned from are no test, and another split of the same data may hold them."""
    then, now = checkpoint.config.get("data", {}), plain_config(run.data)
    if not is_main() or all(then.get(key) == now[key] for key in _SPLIT_KEYS):
        return
    try:
        learned = learned_clips(ActionDataConfig.model_validate(then))
    except (ValueError, OSError) as error:
        logger.warning("what the weights have learned from is not at hand, so this may be of it: %s", error)
        return
    for split, loader in loaders.evaluation.items():
        assert isinstance(loader, ClipLoader)
        if known := sum(digest in learned for digest in loader.digests):
            logger.warning(
                "no test: %d of the %d clips of split %s were learned from, or are copies of such",
                *(known, len(loader.digests), split),
            )


def clip_task(run: ClipRun, loaders: Loaders, checkpoint: Checkpoint | None) -> ClipActionTask:
    """The task of a run: its encoder from ``init_from``, unless a checkpoint's weights will be loaded."""
    if checkpoint is not None and checkpoint.class_names == loaders.class_names:
        _refuse_other_classes(run, loaders.class_names, checkpoint)
        _refuse_other_texts(run, checkpoint)
    if checkpoint is not None and "train" not in run.phases:
        _refuse_another_choice(run, checkpoint)
        _warn_of_learned_clips(run, loaders, checkpoint)
    skeleton = skeleton_named(loaders.skeleton)
    bodies = run.data.bodies or data_set(run.data).bodies
    state = None if checkpoint is None else checkpoint.weights
    task = _built(run, loaders.class_names, skeleton, bodies, _learned(run), state)
    if checkpoint is None and run.init_from is not None:
        origin = load_encoder(task.network.encoder, run.init_from, run.model.encoder, skeleton)
        if origin.class_names == loaders.class_names:
            _refuse_seen_classes(run, origin)
        if origin.modality != run.data.modality:
            logger.warning("init_from: it has learned %s, and goes on with %s", origin.modality, run.data.modality)
    elif checkpoint is None and isinstance(run.model.encoder, CascadeConfig) and run.model.encoder.t1 != "tuned":
        raise ValueError(
            f"model.encoder.t1: got {run.model.encoder.t1} of an encoder that nothing has trained, expected init_from, "
            "a pretraining (main_bpmt.py --phase all), or t1=tuned"
        )
    return task


def trained_task(run: ClipRun, checkpoint: Checkpoint, where: str) -> ClipActionTask:
    """The task that a checkpoint is of, with its weights: ``run`` is its config, ``where`` its place, for errors.

    No data is asked for, nor a text model where texts were frozen.
    """
    learned = checkpoint.extra.get("learned_classes", checkpoint.class_names)
    numbers = tuple(map(checkpoint.class_names.index, learned))
    skeleton, bodies = skeleton_named(checkpoint.skeleton), checkpoint.extra["bodies"]
    task = _built(run, checkpoint.class_names, skeleton, bodies, numbers, checkpoint.weights)
    load_state(task, checkpoint.weights, where)
    return task


def _built(
    run: ClipRun,
    class_names: Sequence[str],
    skeleton: Skeleton,
    bodies: int,
    learned: Sequence[int],
    state: Mapping[str, Tensor] | None,
) -> ClipActionTask:
    build = ClipActionTask.build if run.data.zero_shot is None else ZeroShotTask.build
    return build(
        model=run.model,
        text=run.text,
        loss=run.loss,
        inference=run.inference,
        skeleton=skeleton,
        class_names=class_names,
        bodies=bodies,
        state=state,
        learned=learned,
        modality=run.data.modality,
    )


def clip_metrics(run: ClipRun, loaders: Loaders) -> Sequence[Metric]:
    """Accuracies; of a zero-shot run, those of the unseen classes among them."""
    unseen = data_set(run.data).unseen_classes(run.data.zero_shot)
    return [ZeroShotMetrics(tuple(sorted(unseen)))] if unseen else [ClassificationMetrics()]


def clip_report(run: ClipRun, prediction: Prediction, loaders: Loaders) -> str:
    """Every class by name."""
    names, labels = loaders.class_names, prediction.labels.cpu().numpy()
    logits = prediction.outputs["logits"].float().cpu().numpy()
    table = per_class_table(names, labels, logits)
    unseen = sorted(data_set(run.data).unseen_classes(run.data.zero_shot))
    if not unseen:
        return table
    text = prediction.outputs["text"].float().cpu().numpy()
    of_unseen = np.isin(labels, unseen)
    return "\n".join(
        [
            f"unseen classes of {run.data.zero_shot} among themselves, chance {100 / len(unseen):.2f} %",
            per_class_table(
                [names[number] for number in unseen],
                np.searchsorted(unseen, labels[of_unseen]),
                text[of_unseen][:, unseen],
            ),
            f"every class among all, chance {100 / len(names):.2f} %; learned classes pay {(text - logits).max():.3g}, "
            "fixed on validation clips of learned classes ('plain': nothing)",
            table,
        ]
    )
