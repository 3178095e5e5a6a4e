"""Who is learned from and who is tested on: disjoint people, and the thesis' filter by camera views, done right.

BPMT's "camera-view-aware filtering" keeps people seen by enough cameras and holds a share of each one's cameras out: a
closed set, the same people from other views, to choose on. Testing stays on the protocol's people, whom nobody learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from feeders.dataset import Protocol, split_index
from feeders.draws import permutation
from feeders.store import StoreIndex
from torchlight.config import StrictConfig
from torchlight.seed import sample_seed


class ViewFilter(StrictConfig):
    """Which people of the training side are learned from, and from which views. Everybody and all by default.

    Args:
        first_people: only so many of the training people, the first by number; None for all.
        least_cameras: leave out people with fewer cameras (BPMT: 3 or 5).
        held_out: share of each one's cameras, drawn, that becomes split ``val`` (BPMT: 0.25); at least one camera.
        seed: of that draw.
    """

    first_people: int | None = Field(default=None, ge=2)
    least_cameras: int = Field(default=1, ge=1)
    held_out: float = Field(default=0.0, ge=0.0, lt=1.0)
    seed: int = 0


@dataclass(frozen=True)
class GaitSplits:
    """Clip numbers of "train", "val" and "test", and the people that the filter left out, by reason."""

    clips: Mapping[str, np.ndarray]
    left_out: Mapping[str, int]


def gait_splits(
    index: StoreIndex, protocol: Protocol, validation_subjects: Sequence[int], views: ViewFilter
) -> GaitSplits:
    """The splits of a protocol. Validation people are held out before the filter acts, which is on training alone.

    Raises:
        ValueError: validation people are asked for beside held out views, or nobody is left to learn from.
    """
    if views.held_out and len(validation_subjects):
        raise ValueError(
            "data.views.held_out: got it beside validation people, expected one of them; set "
            "data.validation_subjects=[] for the same people from other views"
        )
    if views.held_out and views.least_cameras < 2:
        raise ValueError(
            f"data.views.least_cameras: got {views.least_cameras}, expected at least 2 where held_out keeps one away"
        )
    splits = dict(split_index(index, protocol, validation_subjects))
    train = splits["train"]
    if not len(train):
        return GaitSplits(splits, {})
    pairs = np.unique(np.stack([index.subject[train], index.camera[train]], axis=1), axis=0)
    people, first = np.unique(pairs[:, 0], return_index=True)
    cameras_of = dict(zip(people.tolist(), np.split(pairs[:, 1], first[1:]), strict=True))
    kept = list(cameras_of)[: views.first_people]
    enough = [person for person in kept if len(cameras_of[person]) >= views.least_cameras]
    if not enough:
        raise ValueError(f"data.views: got nobody with {views.least_cameras} cameras among {len(kept)}, expected some")
    train = train[np.isin(index.subject[train], enough)]
    if views.held_out:
        away = {(person, camera) for person in enough for camera in _held_out(cameras_of[person], person, views)}
        walks = zip(index.subject[train].tolist(), index.camera[train].tolist(), strict=True)
        is_away = np.array([walk in away for walk in walks])
        train, splits["val"] = train[~is_away], train[is_away]
    splits["train"] = train
    left_out = {"beyond the first people": len(people) - len(kept), "too few cameras": len(kept) - len(enough)}
    return GaitSplits(splits, {reason: count for reason, count in left_out.items() if count})


def _held_out(cameras: np.ndarray, person: int, views: ViewFilter) -> list[int]:
    """The cameras of a person that are not learned from; BPMT learns from the integer part of the rest."""
    learned = max(int((1.0 - views.held_out) * len(cameras)), 1)
    drawn: list[int] = cameras[permutation(sample_seed(views.seed, 0, person), len(cameras))[learned:]].tolist()
    return drawn
