"""What a trained action network says of clips of one's own; of a run it needs its folder, and neither data nor texts.

    predictor = Predictor.load("work_dir/demo/joint")
    clips = predictor.read(["wave.skeleton", "more_clips"])   # or [predictor.clip("wave", joints)]
    for answer in predictor.scores(clips).answers(): ...
    predictor.embeddings(clips).embedding                     # (N, 1+P, D)

Clips go the way of the run's own test clips: the same store, the same pipeline, the same evaluation.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from typing_extensions import Self

from feeders.batch import SkeletonBatch
from feeders.clip_files import clip_reader, recording_of, stores_of
from feeders.loading import ClipLoader, Pipeline
from feeders.skeleton import Skeleton
from feeders.store import Recording, check
from model.tasks.clip_action import ClipActionTask
from recipes.answers import Scores, fused
from recipes.bpmt import BpmtRun
from recipes.clip_action import ClipRun, trained_task
from recipes.streams import CHAIN_ENDS_IN
from torchlight.arrays import check_distinct, some
from torchlight.checkpoint import Checkpoint, load_checkpoint
from torchlight.config import SelectBest
from torchlight.devices import resolve_devices
from torchlight.evaluation import predict
from torchlight.run_dir import RunDir
from torchlight.task import Prediction, StepOutput, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What is seen of clips, in their order, as vectors beside those of the class texts.

    Args:
        slots: ``whole``, then the parts; the names of axis S.

    Shapes:
        embedding: (N, S, D), not normalised; present: (N, S) bool, something was seen of the part
    """

    clips: tuple[str, ...]
    slots: tuple[str, ...]
    embedding: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained run, ready to be asked; `load` makes one.

    Args:
        bodies: how many people of a clip are looked at.
    """

    run: ClipRun
    class_names: tuple[str, ...]
    skeleton: Skeleton
    bodies: int
    task: ClipActionTask
    device: torch.device

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Self:
        """The run in a folder, of a chain its last one, with the weights that it selects.

        On a GPU torch's convolutions are kept from TF32 from now on, as in every run of ours.

        Raises:
            FileNotFoundError: there is none, with the command that trains one.
            ValueError: it is not a run that recognises actions, or its file is damaged.
        """
        path = _checkpoint_in(Path(folder))
        checkpoint = load_checkpoint(path)
        run = _config(checkpoint, path)
        (place,) = resolve_devices([device])
        if place.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
        task = trained_task(run, checkpoint, str(path)).to(place).eval()
        return cls(run, checkpoint.class_names, task.skeleton, checkpoint.extra["bodies"], task, place)

    def read(self, places: Iterable[Path | str], image: tuple[int, int] | None = None) -> list[Recording]:
        """The clips of files, folders, zips and stores; a warning for each that is none, and it is left out.

        See `feeders.clip_files.ClipReader` for which files these are. ``image`` is the width and height, in pixels, of
        the image that arrays and tables are positions in, if they are.
        """
        needs_image = self.run.data.normalise == "image"
        reader = clip_reader(self.run.data.dataset, self.skeleton, image, needs_image=needs_image)
        return reader.read(map(Path, places))

    def clip(self, name: str, joints: NDArray[np.number]) -> Recording:
        """An array of joints, (T, V, C) or (T, M, V, C), as a clip; see `feeders.clip_files.recording_of`."""
        return recording_of(name, joints, self.skeleton)

    def scores(self, clips: Sequence[Recording]) -> Scores:
        """Score clips with different names; what is said of one does not depend on the others.

        Random generators are seeded, as in every test.
        """
        outputs = self._asked(self.task, clips)
        if "similarity" in outputs:
            slots = self.task.network.slot_names
            similarity = np.where(self._seen(clips)[:, :, None], outputs["similarity"], np.float32(np.nan))
        else:
            slots, similarity = (), np.empty((len(clips), 0, len(self.class_names)), dtype=np.float32)
        return Scores(_names(clips), self.class_names, slots, outputs["logits"], similarity)

    def embeddings(self, clips: Sequence[Recording]) -> Embeddings:
        """Embed clips with different names; ValueError where the run knows no texts, and so nothing to embed beside."""
        if not self.task.network.has_text:
            raise ValueError(
                "embeddings: got a run without texts (text.tower=none), expected one that learned with some"
            )
        outputs = self._asked(_Embedding(self.task), clips)
        present = outputs["present"].astype(np.bool_) & self._seen(clips)
        return Embeddings(_names(clips), self.task.network.slot_names, outputs["embedding"], present)

    def _seen(self, clips: Sequence[Recording]) -> NDArray[np.bool_]:
        """(N, S) whether any joint of a slot is seen; a network that does not look at weights would speak of it."""
        parts = [list(part.joints) for part in self.skeleton.parts(self.run.model.parts).values()]
        rows, joints_V = [], len(self.skeleton.joints)
        for clip in clips:
            seen_V = np.zeros(joints_V, dtype=np.bool_)
            for body in clip.bodies[: self.bodies]:
                seen_V |= True if body.joint_weight is None else (body.joint_weight > 0).any(axis=0)
            rows.append([True, *(seen_V[joints].any() for joints in parts)])
        return np.array(rows, dtype=np.bool_)

    def _asked(self, task: Task, clips: Sequence[Recording]) -> dict[str, NDArray[np.float32]]:
        """What a task says of clips, in their order."""
        names = _names(clips)
        if not names:
            raise ValueError("clips: got none, expected at least one")
        check_distinct("clips", names)
        for clip in clips:
            check(clip, len(self.skeleton.joints), self.skeleton.coordinates, classes=1)
        if crowded := [clip.sample_id for clip in clips if len(clip.bodies) > self.bodies]:
            logger.warning(
                "%d clips show more people than the %d that are looked at, the first: %s",
                *(len(crowded), self.bodies, some(crowded)),
            )
        run, pieces = self.run, list[Prediction]()
        with stores_of(clips, self.skeleton) as stores:
            for store in stores:
                pipeline = Pipeline(store, self.skeleton, run.data.model_copy(update={"workers": 0}), self.bodies)
                everything = np.arange(len(store))
                loader = ClipLoader(pipeline, everything, run.train.evaluation_batch_size, run.seed, is_training=False)
                pieces.append(predict(task, loader, "clips", self.device, run.train.precision))
        said = Prediction.join(pieces)
        row = {name: number for number, name in enumerate(said.sample_ids)}
        order = [row[name] for name in names]
        return {name: output.numpy()[order] for name, output in said.outputs.items()}


class _Embedding(Task):
    """Predicts what a task's network embeds."""

    def __init__(self, task: ClipActionTask) -> None:
        super().__init__()
        self.network = task.network

    def training_step(self, batch: SkeletonBatch) -> StepOutput:
        """Nothing is learned from it."""
        raise NotImplementedError

    def predict(self, batch: SkeletonBatch) -> Prediction:
        """``embedding`` (N, 1+P, D) and ``present`` (N, 1+P)."""
        text = self.network(batch).text
        return Prediction(batch.sample_id, batch.label, {"embedding": text.embedding, "present": text.present})


def ask(predictors: Sequence[Predictor], places: Sequence[Path | str], image: tuple[int, int] | None = None) -> Scores:
    """What runs say together of the clips at some places; see `Predictor.read` and `recipes.answers.fused`.

    ValueError where no clip can be read, or the runs do not tell the same classes apart on one skeleton.
    """
    first, *others = predictors
    for other in others:
        if other.class_names != first.class_names or other.skeleton != first.skeleton:
            raise ValueError(
                f"runs: got one of {len(first.class_names)} classes on {first.skeleton.name} and one of "
                f"{len(other.class_names)} on {other.skeleton.name}, expected the same classes and skeleton"
            )
    clips = first.read(places, image)
    if not clips:
        raise ValueError(f"{places[0]}: got no clip that can be read, expected one at least")
    return fused([predictor.scores(clips) for predictor in predictors])


def _names(clips: Sequence[Recording]) -> tuple[str, ...]:
    return tuple(clip.sample_id for clip in clips)


def _checkpoint_in(folder: Path) -> Path:
    for place in (folder, folder / CHAIN_ENDS_IN):
        for path in (RunDir(place).best, RunDir(place).last):
            if path.is_file():
                return path
    config = RunDir(folder).config
    known = f"--config {config}" if config.is_file() else f"--config config/demo/joint.yaml --work-dir {folder}"
    raise FileNotFoundError(
        f"{folder}: got no trained run, expected a folder with one; train it: python main_clip_ntu.py {known}"
    )


def _config(checkpoint: Checkpoint, path: Path) -> ClipRun:
    """The config of an action run; ValueError where the checkpoint is of something else."""
    kept = checkpoint.config
    if "walks_each" in kept:
        raise ValueError(f"{path}: got a gait run, expected one of actions; main_gait.py --phase identify asks it")
    if "stage" in kept or not {"bodies", "class_names"} <= checkpoint.extra.keys():
        raise ValueError(f"{path}: got a run without classes, as a stage of pretraining, expected one of actions")
    try:
        run = BpmtRun.model_validate(kept)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: got config {key} {first['input']!r}, expected otherwise: {first['msg']}") from None
    if isinstance(run.train.select, SelectBest) and path.name != RunDir(path.parent).best.name:
        raise FileNotFoundError(f"{RunDir(path.parent).best}: no such checkpoint, which the run has chosen as its best")
    return run
