"""How far apart two embeddings are, for many pairs at once, and exactly.

A distance is exact here when it is taken of the float32 vectors in float64, pair by pair, so that equal vectors are
equally far whatever stands around them. Products of matrices are fast and not exact; they come with a bound on their
error, and whatever they cannot tell apart is taken pair by pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from torchlight.metrics.protocol import Rows

# ``parts``: the mean distance of the parts that both sides show. ``vector``: one vector, the parts one after the other.
# ``cosine``: 1 - cos, which is half the squared Euclidean distance of vectors of length 1.
DistanceName = Literal["parts/euclidean", "parts/cosine", "vector/euclidean", "vector/cosine"]
DISTANCES: tuple[DistanceName, ...] = ("parts/euclidean", "parts/cosine", "vector/euclidean", "vector/cosine")

_CELLS = {np.dtype(np.float32): 1 << 24, np.dtype(np.float64): 1 << 22}
_PAIR_NUMBERS = 1 << 22


class Distances(Protocol):
    """Probes against a gallery, in places: probe i and gallery item j.

    The numbers order pairs as their distances do; `EmbeddingSpace.distance` makes a distance of a number.
    """

    @property
    def chunk(self) -> int:
        """How many probes to ask for at once."""
        ...

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
        """(C, G) of probes start to stop, to be written on, and (C,) how far off an entry of each row may be."""
        ...

    def exact(self, probe: Rows, item: Rows) -> NDArray[np.float64]:
        """(n,) of pairs of places."""
        ...


@dataclass(frozen=True, eq=False)
class EmbeddingSpace:
    """N embeddings with a distance: a weighted mean over blocks of the vector that both sides have.

    A block is a part of a stream, or the whole vector. A pair without a common block is infinitely far apart.

    Shapes:
        vectors: (N, D) float32
        present: (N, B) bool
        weight: (B,) float64, of each block
        ends: (B,) where each block ends among the D
    """

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]
    weight: NDArray[np.float64]
    ends: NDArray[np.int64]
    is_cosine: bool

    @classmethod
    def of(cls, embedding: NDArray[np.float32], present: NDArray[np.bool_], name: DistanceName) -> Self:
        """Embeddings (N, P, D) of which (N, P) are there, under a named distance."""
        over, _, kind = name.partition("/")
        samples, parts, width = embedding.shape
        if broken := np.count_nonzero(~(np.isfinite(embedding).all(axis=2) | ~present).all(axis=1)):
            raise ValueError(f"{name}: got {broken} of {samples} embeddings that are not finite, expected numbers")
        if over == "vector":
            if not present.all():
                raise ValueError(
                    f"{name}: got {(~present.all(axis=1)).sum()} samples without some part, expected every part; "
                    f"use parts/{kind}"
                )
            embedding, parts, width = embedding.reshape(samples, 1, -1), 1, parts * width
            present = np.ones((samples, 1), dtype=np.bool_)
        if kind == "cosine":
            embedding = _of_length_one(embedding, present)
        return cls(
            vectors=np.ascontiguousarray(embedding.reshape(samples, -1)),
            present=present,
            weight=np.ones(parts),
            ends=width * np.arange(1, parts + 1),
            is_cosine=kind == "cosine",
        )

    @classmethod
    def fused(cls, spaces: Sequence["EmbeddingSpace"], weights: NDArray[np.float64]) -> Self:
        """The weighted mean of the distances of several streams; a stream's weight is shared out among its blocks."""
        if len({space.is_cosine for space in spaces}) > 1:
            raise ValueError("fused: got both euclidean and cosine distances, expected one kind")
        offsets = np.cumsum([0, *(space.vectors.shape[1] for space in spaces[:-1])])
        return cls(
            vectors=np.concatenate([space.vectors for space in spaces], axis=1),
            present=np.concatenate([space.present for space in spaces], axis=1),
            weight=np.concatenate([w * s.weight / s.weight.sum() for w, s in zip(weights, spaces, strict=True)]),
            ends=np.concatenate([space.ends + offset for space, offset in zip(spaces, offsets, strict=True)]),
            is_cosine=spaces[0].is_cosine,
        )

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(B,) where each block begins."""
        return np.concatenate([[0], self.ends[:-1]])

    @property
    def is_rooted(self) -> bool:
        """Whether a block counts by its distance; one alone, or a cosine, counts by its square, in the same order."""
        return not self.is_cosine and len(self.ends) > 1

    def distance(self, number: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance that stands behind a number of `Distances`."""
        if self.is_cosine:
            return number / 2
        return number if self.is_rooted else np.sqrt(number)

    def spread(self, probe: Rows, gallery: Rows, most: int = 1000) -> float:
        """The standard deviation of the distances of rows to rows, of evenly chosen ``most`` on either side."""
        few = [rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)] for rows in (probe, gallery)]
        distance = self.distance(np.maximum(self.between(*few).rows(0, len(few[0]))[0], 0))
        return float(distance[np.isfinite(distance)].std())

    def between(self, probe: Rows, gallery: Rows, *, is_double: bool = False) -> "EmbeddingDistances":
        """The distances of rows to rows; ``is_double`` for an error below 1e-7 of the longest vector."""
        return EmbeddingDistances(self, probe, gallery, is_double)


def weights_over_spread(
    weights: NDArray[np.float64],
    spaces: Sequence[EmbeddingSpace],
    probe: Rows,
    gallery: Rows,
    *,
    of_vectors: bool = False,
) -> NDArray[np.float64]:
    """(S,) weights under which streams count alike, however far apart each holds its walks (`EmbeddingSpace.spread`).

    They are for the distances of `fused`, or for the squares that joined vectors add up; a cosine is a square.

    Raises:
        ValueError: a stream holds all of them equally far apart.
    """
    spreads = np.array([space.spread(probe, gallery) for space in spaces])
    if not (spreads > 0).all():
        got = " ".join(f"{spread:.3g}" for spread in spreads)
        raise ValueError(f"spread: got {got}, expected distances that differ in every stream; or --scale none")
    is_square = of_vectors and not spaces[0].is_cosine
    return np.asarray(weights / (spreads**2 if is_square else spreads))


class EmbeddingDistances:
    """Distances within an `EmbeddingSpace`: float32 products for a single block, float64 otherwise."""

    def __init__(self, space: EmbeddingSpace, probe: Rows, gallery: Rows, is_double: bool = False) -> None:
        self.space, self.probe, self.gallery = space, probe, gallery
        self._dtype = np.dtype(np.float64 if is_double or len(space.ends) > 1 else np.float32)
        self._longest = np.sqrt(self._squares(gallery).max(axis=0, initial=0.0))
        self._only = self._gallery_side(0) if len(space.ends) == 1 else None
        self._is_whole = bool(space.present.all())

    @property
    def chunk(self) -> int:
        """How many rows fit into the working memory."""
        return max(1, min(1024, _CELLS[self._dtype] // max(1, len(self.gallery))))

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
        """See `Distances`; the bound holds for any order of summation."""
        space, rows = self.space, self.probe[start:stop]
        error = self._error(rows)
        if self._only is not None:
            apart = self._probe_side(rows, 0) @ self._only.T
            if not self._is_whole:
                apart[~(space.present[rows] & space.present[self.gallery, 0])] = np.inf
            return apart, error
        total = np.zeros((len(rows), len(self.gallery)))
        for block, weight in enumerate(space.weight):
            apart = self._probe_side(rows, block) @ self._gallery_side(block).T
            if space.is_rooted:
                np.sqrt(np.maximum(apart, 0, out=apart), out=apart)
            apart *= np.where(space.present[rows, None, block] & space.present[self.gallery, block], weight, 0.0)
            total += apart
        mass = (space.present[rows] * space.weight) @ space.present[self.gallery].T.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(mass > 0, total / mass, np.inf), error

    def exact(self, probe: Rows, item: Rows) -> NDArray[np.float64]:
        """See `Distances`."""
        space, size = self.space, max(1, _PAIR_NUMBERS // self.space.vectors.shape[1])
        result = np.empty(len(probe))
        for start in range(0, len(probe), size):
            one, other = self.probe[probe[start : start + size]], self.gallery[item[start : start + size]]
            apart = space.vectors[one].astype(np.float64)
            apart -= space.vectors[other]
            apart *= apart
            block = np.add.reduceat(apart, space.starts, axis=1)
            if space.is_rooted:
                np.sqrt(block, out=block)
            weight = (space.present[one] & space.present[other]) * space.weight
            mass = weight.sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                result[start : start + size] = np.where(mass > 0, (weight * block).sum(axis=1) / mass, np.inf)
        return result

    def _squares(self, rows: Rows) -> NDArray[np.float64]:
        """(n, B) squared length of each block."""
        return np.add.reduceat(np.square(self.space.vectors[rows], dtype=np.float64), self.space.starts, axis=1)

    def _sides(self, rows: Rows, block: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The vectors of a block, their squared lengths, and ones."""
        vectors = self.space.vectors[rows, self.space.starts[block] : self.space.ends[block]].astype(self._dtype)
        square = np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True).astype(self._dtype)
        return vectors, square, np.ones_like(square)

    def _probe_side(self, rows: Rows, block: int) -> NDArray[Any]:
        """(C, D + 2): with the gallery's side, |p - g|² is one product, without a pass over it for the squares."""
        vectors, square, one = self._sides(rows, block)
        return np.concatenate([-2 * vectors, square, one], axis=1)

    def _gallery_side(self, block: int) -> NDArray[Any]:
        vectors, square, one = self._sides(self.gallery, block)
        return np.concatenate([vectors, one, square], axis=1)

    def _error(self, rows: Rows) -> NDArray[np.float64]:
        """(C,) bound on the error of a row.

        A product of D + 2 numbers is off by less than (D + 2) u (|p| + |g|)² (u, half a unit in the last place; Higham,
        Accuracy and Stability of Numerical Algorithms, 3.1), its rounded squares by a few u more. A root of what is off
        by e is off by √e at most.
        """
        width = np.diff(self.space.ends, prepend=0)
        unit = np.finfo(self._dtype).eps / 2
        bound = (width + 16) * unit * np.square(np.sqrt(self._squares(rows)) + self._longest)
        return np.asarray((np.sqrt(bound) if self.space.is_rooted else bound).max(axis=1) * 1.01)


class GivenDistances:
    """Distances that are a matrix already, such as re-ranked ones; equal entries are ties."""

    def __init__(self, matrix: NDArray[np.floating[Any]]) -> None:
        self.matrix = matrix

    @property
    def chunk(self) -> int:
        """As many rows as a chunk of products has."""
        return max(1, min(1024, _CELLS[np.dtype(np.float32)] // max(1, int(self.matrix.shape[1]))))

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
        """See `Distances`."""
        return self.matrix[start:stop].copy(), np.zeros(stop - start)

    def exact(self, probe: Rows, item: Rows) -> NDArray[np.float64]:
        """See `Distances`."""
        return self.matrix[probe, item].astype(np.float64)


def _of_length_one(embedding: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    length = np.sqrt(np.square(embedding, dtype=np.float64).sum(axis=2, keepdims=True))
    if (none := (length[..., 0] == 0) & present).any():
        raise ValueError(f"cosine: got {none.any(axis=1).sum()} samples with a vector of length 0, expected none")
    return np.asarray(embedding / np.where(length > 0, length, 1), dtype=np.float32)
