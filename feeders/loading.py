"""From a data config to the batches of a run: split, drawn, moved, seeded and sharded.

A batch is a pure function of (config, seed, epoch, batch number), whatever the number of workers.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from typing_extensions import assert_never

from feeders.batch import SkeletonBatch
from feeders.batch_loader import BatchLoader
from feeders.blended import Steps
from feeders.crop import CropConfig, Sampling, TimeGrid, resample, time_grid
from feeders.dataset import (
    DataSet,
    announce,
    canonical_split,
    split_index,
    usual_validation,
    wanted_splits,
    warn_of_copies,
)
from feeders.demo import demo_data
from feeders.draws import permutation
from feeders.locate import open_store, own_store
from feeders.modality import Modality, Root, ancestors, to_modality
from feeders.normalise import by_body, by_image
from feeders.ntu import NTU60, NTU120
from feeders.own import Field as SplitField
from feeders.own import own_data
from feeders.penn import PENN
from feeders.reading import read_frames, read_resampled, read_stepped
from feeders.skeletics import SKELETICS
from feeders.skeleton import Skeleton
from feeders.store import Store
from feeders.synthetic import SyntheticConfig
from feeders.transforms import (
    Align,
    AugmentConfig,
    Centre,
    Moves,
    Normalise,
    align,
    augment,
    centre,
    drawn_moves,
    min_max,
)
from feeders.ucla import UCLA
from torchlight.config import StrictConfig
from torchlight.distributed import rank, world_size
from torchlight.seed import sample_seed
from torchlight.task import Loaders

logger = logging.getLogger(__name__)


class ActionDataConfig(StrictConfig):
    """Which clips a run sees, and how.

    Args:
        dataset: ``store`` is any store, say of your own data, at ``root``; ``test_on`` is then its split.
        root: a store or raw recordings, relative to PARTCLIP_DATA where that is set, else to ``data``;
            None for the data set's usual place. The demo then makes its own.
        test_on: field -> values of the clips to test on, as ``{subject: [4, 5]}``; for ``dataset=store`` alone.
        split: a protocol of the data set, also by the field's abbreviation (``xsub``); None for its first.
        validation_subjects: whom to hold out of training as split ``val``; None for the data set's habit, [] for none.
        zero_shot: a zero-shot split of the data set; its unseen classes are then in split ``test`` alone.
        modality, hops, bone_root: see `feeders.modality`; hops counts for ``relative`` only.
        frames: T of every batch.
        sampling: ``published_ucla`` draws whole frames as the published NW-UCLA feeder does; ``crop`` has no say then.
        centre, align: see `feeders.transforms`; ``augment`` comes next.
        normalise: ``image`` and ``body`` units come before all that (`feeders.normalise`), ``min_max`` after it.
        bodies: M of every batch; None for what the data set may show.
        repeat: passes over the training clips in one epoch, each with draws of its own.
        workers: processes that fetch batches; 0 fetches in this one.
        synthetic: what the demo's recordings are.
    """

    dataset: Literal["ucla", "ntu60", "ntu120", "penn", "skeletics", "demo", "store"]
    root: Path | None = None
    test_on: Mapping[SplitField, tuple[int, ...]] = Field(default_factory=dict)
    split: Annotated[str, AfterValidator(canonical_split)] | None = None
    validation_subjects: tuple[int, ...] | None = None
    zero_shot: str | None = None
    modality: Modality = "joint"
    hops: int = Field(default=1, ge=1)
    bone_root: Root = "zero"
    frames: int = Field(default=64, ge=1)
    sampling: Sampling = "linear"
    crop: CropConfig = CropConfig()
    centre: Centre = "first_frame"
    align: Align = "none"
    augment: AugmentConfig = AugmentConfig()
    normalise: Normalise = "none"
    bodies: int | None = Field(default=None, ge=1, le=16)
    repeat: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    synthetic: SyntheticConfig = SyntheticConfig()


def data_set(data: ActionDataConfig) -> DataSet:
    """The facts of the config's data set."""
    if data.test_on and data.dataset != "store":
        raise ValueError(
            f"data.test_on: got it with data.dataset={data.dataset}, expected data.split, or dataset=store"
        )
    match data.dataset:
        case "ucla":
            return UCLA
        case "ntu60":
            return NTU60
        case "ntu120":
            return NTU120
        case "penn":
            return PENN
        case "skeletics":
            return SKELETICS
        case "demo":
            return demo_data(data.synthetic)
        case "store":
            return own_data(own_store(data.root), data.test_on)
        case _:
            assert_never(data.dataset)


def build_loaders(
    data: ActionDataConfig,
    batch_size: int,
    evaluation_batch_size: int,
    seed: int,
    want: Sequence[str] = ("train", "val", "test"),
) -> Loaders:
    """The loaders of the wanted splits; batch sizes are per process.

    ``val`` is left out where no subjects are held out of training.

    Raises:
        FileNotFoundError: no recordings; ValueError: a wanted split has no clips, or the config does not fit the data.
    """
    facts = data_set(data)
    store, splits = _split(data, facts)
    unseen = facts.unseen_classes(data.zero_shot)
    title = announce(facts, data.split, splits)
    wanted = wanted_splits(splits, want, "data.test_on" if data.test_on else "data.split", store.folder)
    _warn_of_what_harms(data, store, splits)
    if unseen and "test" in wanted:
        _demand_unseen(data, store, splits["test"], unseen)
    pipeline = Pipeline(store, facts.skeleton, data, data.bodies or facts.bodies)
    loaders = {
        name: ClipLoader(
            pipeline, splits[name], batch_size if name == "train" else evaluation_batch_size, seed, name == "train"
        )
        for name in wanted
    }
    return Loaders(
        train=loaders.pop("train", None),
        evaluation=loaders,
        dataset=title,
        class_names=facts.class_names,
        skeleton=facts.skeleton.written,
        modality=data.modality,
        extra={
            "clips": {name: len(samples) for name, samples in splits.items()},
        },
    )


def learned_clips(data: ActionDataConfig) -> frozenset[bytes]:
    """The digests of the clips that a run learns from; errors as of `build_loaders`."""
    store, splits = _split(data, data_set(data))
    return frozenset(store.index.digest[splits["train"]].tolist())


def _split(data: ActionDataConfig, facts: DataSet) -> tuple[Store, Mapping[str, np.ndarray]]:
    protocol, store = facts.protocol(data.split), open_store(facts, data.root, data.synthetic)
    held_out = data.validation_subjects
    if held_out is None:
        held_out = usual_validation(store.index, protocol, facts)
    return store, split_index(store.index, protocol, held_out, facts.unseen_classes(data.zero_shot))


def _demand_unseen(data: ActionDataConfig, store: Store, test: np.ndarray, unseen: Collection[int]) -> None:
    """Some of the tested clips are of the classes that nobody learned."""
    if not np.isin(store.index.label[test], sorted(unseen)).any():
        raise ValueError(
            f"data.zero_shot: got no test clips of the classes that {data.zero_shot} keeps unseen in {store.folder}, "
            "expected some"
        )


def _warn_of_what_harms(data: ActionDataConfig, store: Store, splits: Mapping[str, np.ndarray]) -> None:
    """Say what nobody would notice: copies in a store of one's own, and numbers that a network learns badly from."""
    if data.dataset == "store":
        warn_of_copies(store.index, splits, store.folder)
    if store.header.units == "pixels" and data.normalise == "none":
        logger.warning(
            "data.normalise: got none for positions in pixels, from which networks learn badly, expected image "
            "(it needs the clips' width and height) or body"
        )


@dataclass(frozen=True)
class Pipeline:
    """Clip numbers and seeds in, a batch out: the walk from the store to what the network sees."""

    store: Store
    skeleton: Skeleton
    data: ActionDataConfig
    bodies: int

    def __post_init__(self) -> None:
        # Once, as the compiled reader takes the skeleton's joints for the store's without looking.
        shape, expected = self.store.arrays()[0].shape[1:], (len(self.skeleton.joints), self.skeleton.coordinates)
        if shape != expected:
            raise ValueError(
                f"{self.store.folder}: got poses of shape {shape}, expected {expected} for {self.skeleton.name}"
            )

    def batch(self, samples: np.ndarray, seeds: np.ndarray | None) -> SkeletonBatch:
        """One batch; without seeds nothing is drawn and nothing augmented.

        Shapes:
            samples: (N,) clip numbers; seeds: (N,)
        """
        data = self.data
        lengths = self.store.index.frames[samples]
        grid = time_grid(lengths, data.frames, data.sampling, data.crop, seeds)
        if data.normalise != "none":
            whole = np.broadcast_to(np.arange(lengths.max()), (len(samples), lengths.max()))
            batch = read_frames(self.store, samples, whole, self.bodies)
            return self._seen(self._normalised(batch, samples, grid, seeds))
        # Nothing below looks beyond the chosen frames, so only these are read; compiled in one pass where it can be.
        steps = self._steps(len(samples), seeds)
        if steps is not None:
            stepped = read_stepped(self.store, self.skeleton, samples, grid, self.bodies, steps)
            if stepped is not None:
                return stepped
        read = read_resampled(self.store, self.skeleton, samples, grid, self.bodies)
        return self._seen(self._move(read, seeds))

    def _steps(self, clips: int, seeds: np.ndarray | None) -> Steps | None:
        """What `_move` and `_seen` do, for the compiled way; None where they do more than it knows."""
        data, settings = self.data, self.data.augment
        (centre_joint, *others), *_ = self.skeleton.origin
        if data.align != "none" or others or (seeds is not None and settings.disturbs):
            return None
        hops = {"bone": 1, "bone_motion": 1, "relative": data.hops}.get(data.modality, 0)
        return Steps(
            centre=data.centre,
            centre_joint=centre_joint,
            moves=Moves.none(clips) if seeds is None else drawn_moves(settings, seeds),
            ancestor=ancestors(self.skeleton, hops, data.bone_root),
            is_motion=data.modality.endswith("motion"),
        )

    def _normalised(
        self, batch: SkeletonBatch, samples: np.ndarray, grid: TimeGrid, seeds: np.ndarray | None
    ) -> SkeletonBatch:
        """Clips move in units of ``image`` or ``body``; ``min_max`` stretches what was moved."""
        if self.data.normalise == "min_max":
            return resample(min_max(self._move(batch, seeds, self.store.index.frames[samples])), grid)
        if self.data.normalise == "image":
            index = self.store.index
            size = torch.from_numpy(np.stack([index.width[samples], index.height[samples]], axis=1))
            batch = by_image(batch, size)
        else:
            batch = by_body(batch, self.skeleton)
        return self._move(resample(batch, grid), seeds)

    def _seen(self, batch: SkeletonBatch) -> SkeletonBatch:
        data = self.data
        return to_modality(batch, self.skeleton, data.modality, data.hops, data.bone_root)

    def _move(self, batch: SkeletonBatch, seeds: np.ndarray | None, lengths: np.ndarray | None = None) -> SkeletonBatch:
        batch = align(centre(batch, self.skeleton.origin, self.data.centre), self.skeleton, self.data.align)
        return batch if seeds is None else augment(batch, self.data.augment, self.skeleton, seeds, lengths)


class ClipLoader(BatchLoader):
    """Batches of one split on this process.

    Training epochs are shuffled and end with the last full batch, the same number on every process; a split smaller
    than a batch is one batch. Evaluation keeps the store's order and shows every clip to exactly one process.
    """

    def __init__(self, pipeline: Pipeline, samples: np.ndarray, batch_size: int, seed: int, is_training: bool) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size: got {batch_size}, expected at least 1")
        super().__init__(pipeline.data.workers)
        self._pipeline, self._samples, self._seed = pipeline, samples, seed
        self._batch_size, self._is_training = batch_size, is_training
        self._rank, self._world = rank(), world_size()
        self._shuffled = -1, np.arange(0)
        share = self._epoch_samples // self._world
        if is_training and not share:
            raise ValueError(
                f"training: got {self._epoch_samples} clips, expected one for each of {self._world} processes"
            )
        own = share if is_training else len(range(self._rank, len(samples), self._world))
        self._batches = max(own // batch_size, 1) if is_training else -(-own // batch_size)

    @property
    def digests(self) -> list[bytes]:
        """What tells the content of the split's clips, of all processes, from any other's."""
        digests: list[bytes] = self._pipeline.store.index.digest[self._samples].tolist()
        return digests

    @property
    def _epoch_samples(self) -> int:
        return len(self._samples) * (self._pipeline.data.repeat if self._is_training else 1)

    def __len__(self) -> int:
        return self._batches

    def batch(self, epoch: int, number: int) -> SkeletonBatch:
        """One batch of one epoch."""
        order = self._order(epoch)[self._rank :: self._world]
        if self._is_training:
            order = order[: self._epoch_samples // self._world]
        places = order[number * self._batch_size : (number + 1) * self._batch_size]
        seeds = sample_seed(self._seed, epoch, places) if self._is_training else None
        batch = self._pipeline.batch(self._samples[places % len(self._samples)], seeds)
        return batch if seeds is None else replace(batch, meta={**batch.meta, "seed": torch.from_numpy(seeds)})

    def _order(self, epoch: int) -> np.ndarray:
        """Places in an epoch: clip + pass * clips. The last epoch asked for is kept, as each batch asks."""
        if not self._is_training:
            return np.arange(len(self._samples))
        if self._shuffled[0] != epoch:
            # One past the last place, so that the shuffle shares its seed with no sample.
            seed = sample_seed(self._seed, epoch, self._epoch_samples)
            self._shuffled = epoch, permutation(seed, self._epoch_samples)
        return self._shuffled[1]
