"""From a gait data config to the batches of a run: people apart, P x K walks to learn from, every walk once to test.

A batch is a pure function of (config, seed, epoch, batch number), and no walk looks different for its batch mates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from typing_extensions import assert_never

from feeders.batch import SkeletonBatch, hide
from feeders.batch_loader import BatchLoader
from feeders.casia_b import CASIA_B
from feeders.dataset import DataSet, Protocol, announce, usual_validation, wanted_splits, warn_of_copies
from feeders.demo_gait import demo_walkers
from feeders.gait.splits import ViewFilter, gait_splits
from feeders.gait.transforms import Heading, Input, NormaliseWalk, face_ahead, gait_inputs, normalise_walk
from feeders.gait.walk_time import Gaps, Window, drawn_window, extents, middle_window, seen_frames, whole_walk
from feeders.gait3d import GAIT3D
from feeders.grew import GREW
from feeders.kinect_gait import KINECT_GAIT
from feeders.locate import open_store, own_store
from feeders.oumvlp_pose import OUMVLP_POSE
from feeders.reading import read_resampled
from feeders.sampler import IdentitySampler
from feeders.skeleton import Skeleton
from feeders.store import Store
from feeders.synthetic.walkers import WalkersConfig
from feeders.transforms import AugmentConfig, augment
from torchlight.config import StrictConfig
from torchlight.distributed import rank, world_size
from torchlight.seed import sample_seed
from torchlight.task import Loaders

Pace = Annotated[float, Field(gt=0.0)]


def _rising(pace: tuple[float, float]) -> tuple[float, float]:
    if pace[0] > pace[1]:
        raise ValueError("expected the slowest first")
    return pace


def _odd(frames: int) -> int:
    if frames % 2 == 0:
        raise ValueError(f"got {frames}, expected an odd number, so that a frame is in the middle")
    return frames


class GaitDataConfig(StrictConfig):
    """Which walks a run sees, and how.

    Args:
        dataset: ``store`` is any store, say of your own walkers, at ``root``; its split is by names.
        root: a store or raw recordings, relative to PARTCLIP_DATA where that is set, else to ``data``;
            None for the data set's usual place. The demo then makes its own.
        split: a protocol of the data set; None for its first.
        test_people, validation_people: identities to test on, and to choose on; for ``dataset=store`` alone.
        validation_subjects: whom to hold out of training as split ``val``; None for the data set's habit, [] for none.
        views: the filter of training people by camera views.
        inputs: what the network sees, as channels one after the other.
        frames: T of a training batch, in source frames at speed 1.
        evaluation_frames: T of an evaluation batch, the middle of each walk; ``all`` shows whole walks, masked up to
            the next multiple of ``frames``, and longer ones in smaller batches.
        gaps: see `feeders.gait.walk_time`.
        speed: how much faster a training walk is shown, drawn between these.
        normalise_walk, heading: see `feeders.gait.transforms`; before ``augment``, whose noise and scale are in the
            units that they leave.
        heading_window: frames, an odd number, that the heading of a frame is the mean of.
        repeat: passes over the people in one epoch, times what shows as many walks as there are.
        workers: processes that fetch batches; 0 fetches in this one.
        synthetic: what the demo's recordings are.
    """

    dataset: Literal["kinect_gait", "gait3d", "casia_b", "oumvlp_pose", "grew", "demo_gait", "store"]
    root: Path | None = None
    split: str | None = None
    test_people: tuple[str, ...] = ()
    validation_people: tuple[str, ...] = ()
    validation_subjects: tuple[int, ...] | None = None
    views: ViewFilter = ViewFilter()
    inputs: tuple[Input, ...] = Field(default=("joint",), min_length=1)
    frames: int = Field(default=60, ge=2)
    evaluation_frames: Annotated[int, Field(ge=2)] | Literal["all"] = "all"
    gaps: Gaps = "keep"
    speed: Annotated[tuple[Pace, Pace], AfterValidator(_rising)] = (1.0, 1.0)
    normalise_walk: NormaliseWalk = "unit_size"
    heading: Heading = "none"
    heading_window: Annotated[int, Field(ge=1), AfterValidator(_odd)] = 15
    augment: AugmentConfig = AugmentConfig()
    repeat: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    synthetic: WalkersConfig = WalkersConfig()


def gait_data_set(data: GaitDataConfig) -> DataSet:
    """The facts of the config's data set."""
    if (data.test_people or data.validation_people) and data.dataset != "store":
        raise ValueError(
            f"data.test_people: got it with data.dataset={data.dataset}, expected data.split, or dataset=store"
        )
    if data.validation_people and data.validation_subjects is not None:
        raise ValueError("data.validation_subjects: got it beside data.validation_people, expected one of them")
    match data.dataset:
        case "kinect_gait":
            return KINECT_GAIT
        case "gait3d":
            return GAIT3D
        case "casia_b":
            return CASIA_B
        case "oumvlp_pose":
            return OUMVLP_POSE
        case "grew":
            return GREW
        case "demo_gait":
            return demo_walkers(data.synthetic)
        case "store":
            return _own_walkers(own_store(data.root), data)
        case _:
            assert_never(data.dataset)


def build_gait_loaders(
    data: GaitDataConfig,
    people: int,
    walks_each: int,
    evaluation_batch_size: int,
    seed: int,
    want: Sequence[str] = ("train", "val", "test"),
) -> Loaders:
    """The loaders of the wanted splits; batch sizes are per process.

    In training a label is the place of the walker among the training people, whose names are ``class_names``; in
    evaluation, and in ``meta["identity"]`` always, it is the place among all people, ``extra["identities"]``.

    Args:
        data: section ``data`` of the config.
        people: P of a training batch.
        walks_each: K of one.
        evaluation_batch_size: of walks of ``data.frames`` frames; longer ones come in smaller batches.
        seed: of the run.
        want: the splits that are asked for; ``val`` is left out where nobody is held out.

    Raises:
        FileNotFoundError: no recordings; ValueError: a wanted split has no walks, or the config does not fit the data.
    """
    facts = gait_data_set(data)
    protocol = facts.protocol(data.split)
    store = open_store(facts, data.root, data.synthetic)
    if data.normalise_walk == "keep_size" and store.header.units == "pixels":
        raise ValueError(
            "data.normalise_walk: got keep_size for positions in pixels, expected unit_size: a crop's scale is the "
            "camera's, not the walker's"
        )
    held_out = data.validation_subjects
    if held_out is None:
        held_out = () if data.views.held_out else usual_validation(store.index, protocol, facts)
    splits = gait_splits(store.index, protocol, held_out, data.views)
    clips, title = splits.clips, announce(facts, data.split, splits.clips, splits.left_out)
    wanted = wanted_splits(clips, want, "data.split", store.folder)
    if data.dataset == "store":
        warn_of_copies(store.index, clips, store.folder)
    pipeline = GaitPipeline(store, facts.skeleton, data)
    learned = np.unique(store.index.label[clips["train"]])
    return Loaders(
        train=TrainingWalks(pipeline, clips["train"], people, walks_each, seed) if "train" in wanted else None,
        evaluation={
            name: EvaluationWalks(pipeline, clips[name], evaluation_batch_size) for name in wanted if name != "train"
        },
        dataset=title,
        class_names=tuple(facts.class_names[label] for label in learned),
        skeleton=facts.skeleton.written,
        modality="+".join(data.inputs),
        extra={"identities": facts.class_names, "clips": {name: len(walks) for name, walks in clips.items()}},
    )


@dataclass(frozen=True)
class GaitPipeline:
    """Clip numbers and moments in, a batch out: the walk from the store to what the network sees."""

    store: Store
    skeleton: Skeleton
    data: GaitDataConfig

    def training(self, samples: np.ndarray, seeds: np.ndarray) -> SkeletonBatch:
        """Drawn windows, disturbed by each walk's own seed. Shapes: samples, seeds: (N,)."""
        data = self.data
        window = drawn_window(self._frames_of(samples), data.frames, data.gaps, data.speed, seeds)
        return self._batch(samples, window, seeds)

    def evaluation(self, samples: np.ndarray, frames: int) -> SkeletonBatch:
        """Whole walks of up to so many frames, or their middles; nothing is drawn."""
        choose = whole_walk if self.data.evaluation_frames == "all" else middle_window
        return self._batch(samples, choose(self._frames_of(samples), frames, self.data.gaps), None)

    def _frames_of(self, samples: np.ndarray) -> list[np.ndarray]:
        return [seen_frames(self.store, int(sample)) for sample in samples]

    def _batch(self, samples: np.ndarray, window: Window, seeds: np.ndarray | None) -> SkeletonBatch:
        data = self.data
        read = read_resampled(self.store, self.skeleton, samples, window.grid, bodies=1)
        inside = torch.from_numpy(window.inside)
        batch = replace(
            hide(read, ~inside[:, :, None]),
            frame_mask=inside,
            meta={**read.meta, "identity": read.label} | ({} if seeds is None else {"seed": torch.from_numpy(seeds)}),
        )
        batch = normalise_walk(batch, self.skeleton, data.normalise_walk)
        batch = face_ahead(batch, self.skeleton, data.heading, data.heading_window)
        if seeds is not None:
            batch = augment(batch, data.augment, self.skeleton, seeds)
        return gait_inputs(batch, self.skeleton, data.inputs)


class TrainingWalks(BatchLoader):
    """P x K batches of one process, labelled by the place of the walker among the training people."""

    def __init__(self, pipeline: GaitPipeline, samples: np.ndarray, people: int, clips: int, seed: int) -> None:
        super().__init__(pipeline.data.workers)
        self._pipeline, self._samples, self._seed = pipeline, samples, seed
        learned, label = np.unique(pipeline.store.index.label[samples], return_inverse=True)
        self._label = label
        passes = max(round(len(samples) / (len(learned) * clips)), 1) * pipeline.data.repeat
        self._sampler = IdentitySampler(label, people, clips, passes, seed, rank(), world_size())

    def __len__(self) -> int:
        return len(self._sampler)

    def batch(self, epoch: int, number: int) -> SkeletonBatch:
        """One batch of one epoch."""
        walks, places = self._sampler.batch(epoch, number)
        batch = self._pipeline.training(self._samples[walks], sample_seed(self._seed, epoch, places))
        return replace(batch, label=torch.from_numpy(self._label[walks]))


class EvaluationWalks(BatchLoader):
    """Every walk of a split once, on one process; walks in a batch have the same T, which no batch mate changes.

    Attributes:
        samples: (N,) clip numbers of the whole split.
    """

    def __init__(self, pipeline: GaitPipeline, samples: np.ndarray, batch_size: int) -> None:
        super().__init__(pipeline.data.workers)
        if batch_size < 1:
            raise ValueError(f"evaluation batch size: got {batch_size}, expected at least 1")
        self.pipeline, self.samples, self._batch_size = pipeline, samples, batch_size

    def __len__(self) -> int:
        return len(self._batches)

    def batch(self, epoch: int, number: int) -> SkeletonBatch:
        """One batch, the same in every epoch."""
        samples, frames = self._batches[number]
        return self.pipeline.evaluation(samples, frames)

    @cached_property
    def _batches(self) -> list[tuple[np.ndarray, int]]:
        data = self.pipeline.data
        own = self.samples[rank() :: world_size()]
        if data.evaluation_frames == "all":
            length = extents(self.pipeline.store, own, data.gaps)
            # Walks of a length side by side: an encoder may run these together.
            order = np.argsort(length, kind="stable")
            own, frames = own[order], -(-length[order] // data.frames) * data.frames
        else:
            frames = np.full(len(own), data.evaluation_frames)
        batches = []
        for count in np.unique(frames):
            walks = own[frames == count]
            size = max(self._batch_size * data.frames // int(count), 1) if count > data.frames else self._batch_size
            batches += [(walks[start : start + size], int(count)) for start in range(0, len(walks), size)]
        return batches


def _own_walkers(store: Store, data: GaitDataConfig) -> DataSet:
    """The facts of a store of one's own, people told apart by their names."""
    names = store.header.class_names
    pairs = set(zip(store.index.label.tolist(), store.index.subject.tolist(), strict=True))
    subject = {names[label]: subject for label, subject in pairs}
    if not len(pairs) == len(subject) == len(set(subject.values())):
        raise ValueError(f"{store.folder}: got classes that are not one subject each, expected identities as classes")
    unknown = sorted({*data.test_people, *data.validation_people} - set(subject))
    if unknown or not data.test_people:
        some = ", ".join(sorted(subject)[:10]) + (" …" if len(subject) > 10 else "")
        raise ValueError(f"data.test_people: got {unknown or 'nobody'}, expected some of {some}")
    if both := sorted({*data.test_people} & {*data.validation_people}):
        raise ValueError(f"data.validation_people: got {both}, who are tested on, expected others")
    test, everyone = frozenset(subject[name] for name in data.test_people), frozenset(subject.values())
    return DataSet(
        name=store.header.dataset,
        skeleton=store.skeleton,
        class_names=names,
        protocols=MappingProxyType({"own": Protocol({"subject": everyone - test}, {"subject": test})}),
        root="",
        bodies=1,
        validation_subjects=tuple(subject[name] for name in data.validation_people),
    )
