"""P people times K walks a batch: the order in which metric learning is shown its walks.

An epoch is some passes over the people in a new order each; in a pass every person who gets a turn shows K walks, which
follow each other in an order of the person's own. So everybody has the same share, whoever has K walks or more shows K
different ones at a time, all walks of a person are shown equally often, and only who has fewer repeats some.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feeders.draws import permutation
from torchlight.seed import sample_seed


@dataclass(frozen=True)
class IdentitySampler:
    """Batches of P * K places in a list of walks: pure in seed, epoch and batch number.

    The walks of a person stand together in a batch. People who get no turn in a pass, fewer than P, are others each
    time. Of ``world`` processes each takes every ``world``-th batch; all have equally many.

    Args:
        people: P, clips: K.
        passes: over the people in an epoch.

    Shapes:
        label: (N,) whose walk each is
    """

    label: np.ndarray
    people: int
    clips: int
    passes: int
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.people < 1 or self.clips < 1 or self.passes < 1:
            raise ValueError(f"sampler: got {self.people} people and {self.clips} clips a batch, expected at least 1")
        if not len(self):
            raise ValueError(
                f"train.batch_size / walks_each: got {self.people} for each of {self.world} processes and "
                f"{len(self._walks)} people to train on, expected no more than there are; lower train.batch_size or "
                "raise walks_each"
            )

    def __len__(self) -> int:
        return self.passes * self._per_pass // self.world

    def batch(self, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of this process.

        Shapes:
            returns: (P * K,) places in the list of walks; (P * K,) a number of each that no other in the epoch has
        """
        place = number * self.world + self.rank
        turn, part = divmod(place, self._per_pass)
        drawn = permutation(self._drawn_seed(epoch, turn), len(self._walks))
        chosen = drawn[part * self.people : (part + 1) * self.people]
        walks = np.concatenate([self._shown(epoch, turn, person) for person in chosen])
        return walks, place * len(walks) + np.arange(len(walks))

    def _shown(self, epoch: int, turn: int, person: int) -> np.ndarray:
        own = self._walks[person]
        order = permutation(self._drawn_seed(epoch, self.passes + person), len(own))
        shown: np.ndarray = own[order[(turn * self.clips + np.arange(self.clips)) % len(own)]]
        return shown

    def _drawn_seed(self, epoch: int, what: int) -> int:
        # From the far end, so that orders share their seeds with no walk.
        return sample_seed(self.seed, epoch, (1 << 62) + what)

    @property
    def _per_pass(self) -> int:
        return len(self._walks) // self.people

    @cached_property
    def _walks(self) -> list[np.ndarray]:
        """The places of each person's walks."""
        order = np.argsort(self.label, kind="stable")
        _, first = np.unique(self.label[order], return_index=True)
        return np.split(order, first[1:])
