"""What loaders share: batches by (epoch, number), each fetched here or by worker processes, from any position on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from feeders.batch import SkeletonBatch


class BatchLoader(ABC):
    """Batches that are a pure function of epoch and number.

    Args:
        workers: processes that fetch batches; 0 fetches in this one.
    """

    def __init__(self, workers: int) -> None:
        self._worker_count = workers

    def __getstate__(self) -> dict[str, Any]:
        # A loader goes to its workers, not they with it.
        return {name: value for name, value in vars(self).items() if name not in ("_places", "_workers")}

    @abstractmethod
    def __len__(self) -> int:
        """Batches per epoch on this process."""

    @abstractmethod
    def batch(self, epoch: int, number: int) -> SkeletonBatch:
        """One batch of one epoch."""

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[SkeletonBatch]:
        """Batches of an epoch from a position on."""
        numbers = range(first_batch, len(self))
        if self._worker_count == 0:
            return (self.batch(epoch, number) for number in numbers)
        self._places.now = [(epoch, number) for number in numbers]
        return iter(self._workers)

    @cached_property
    def _places(self) -> "_Places":
        return _Places()

    @cached_property
    def _workers(self) -> "DataLoader[SkeletonBatch]":
        return DataLoader(
            _Batches(self),
            sampler=self._places,
            batch_size=None,
            num_workers=self._worker_count,
            persistent_workers=True,
            # Its own generator: starting workers must not move the global one, on which dropout depends.
            generator=torch.Generator(),
        )


class _Places(Sampler[tuple[int, int]]):
    """The (epoch, batch) pairs that the worker processes fetch next."""

    now: Sequence[tuple[int, int]] = ()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


class _Batches(Dataset[SkeletonBatch]):
    """A loader's batches by (epoch, batch), for worker processes."""

    def __init__(self, loader: BatchLoader) -> None:
        self._loader = loader

    def __getitem__(self, place: tuple[int, int]) -> SkeletonBatch:
        return self._loader.batch(*place)
