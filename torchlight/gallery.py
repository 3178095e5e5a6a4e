"""A gallery: the embeddings of those whose names are known, in one file, and who among them somebody new may be.

The file says which weights made the embeddings; embeddings of other weights mean something else and are refused.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from torchlight.arrays import check_distinct, check_texts, read_arrays, write_arrays
from torchlight.metrics.distance import DISTANCES, DistanceName, EmbeddingDistances, EmbeddingSpace
from torchlight.metrics.protocol import Rows
from torchlight.metrics.ranking import nearest
from torchlight.metrics.verification import Verification

FORMAT = 2
Index = Literal["exact", "faiss"]

_ARRAYS = ("names", "sample_id", "embedding", "present", "header")


@dataclass(frozen=True)
class Threshold:
    """From which distance on somebody is a stranger, and how often that was wrong where it was chosen.

    Args:
        distance: whoever is nearest but farther away than this is no match.
        false_alarms: share of the probes, held against everybody but their own person, that were taken for somebody.
        detected: share of the probes whose nearest was their own person, within this distance.
        probes, people: how many there were; among more people more strangers are taken for somebody.
        walks: enrolled of each of them; among more walks too.
    """

    distance: float
    false_alarms: float
    detected: float
    probes: int
    people: int
    walks: int


@dataclass(frozen=True)
class Match:
    """A person of the gallery, with the distance to the nearest of their samples, and that sample."""

    name: str
    distance: float
    sample_id: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """Samples of known people.

    Args:
        distance: which one ranks people and the threshold is of.
        checkpoint_sha: of the weights that made the embeddings.
        config: the resolved config of their run, plain; facts: of the data, such as the data set and the slots' names.

    Shapes:
        names: G, the person of each sample; sample_id: G
        embedding: (G, P, D) finite; present: (G, P) bool
    """

    names: tuple[str, ...]
    sample_id: tuple[str, ...]
    embedding: NDArray[np.float32]
    present: NDArray[np.bool_]
    distance: DistanceName
    checkpoint_sha: str
    threshold: Threshold | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.names)
        shapes = (len(self.sample_id), self.embedding.ndim, self.embedding.shape[:1], self.present.shape)
        if not count or shapes != (count, 3, (count,), self.embedding.shape[:2]):
            raise ValueError(
                f"gallery: got {count} names, {len(self.sample_id)} samples, embeddings {self.embedding.shape}, "
                f"present {self.present.shape}, expected G >= 1, G, (G, P, D), (G, P)"
            )
        check_distinct("gallery", self.sample_id)
        if not np.isfinite(self.embedding).all():
            raise ValueError("gallery: got NaN or infinite embeddings, expected finite ones")

    def nearest(
        self, embedding: NDArray[np.float32], present: NDArray[np.bool_], people: int, index: Index = "exact"
    ) -> list[tuple[Match, ...]]:
        """The nearest people of each probe, nearest first; of equals the one enrolled first.

        Index ``faiss`` looks single vectors up in a flat index, with float32 distances.

        Shapes:
            embedding: (Q, P, D); present: (Q, P) bool
        """
        if embedding.shape[1:] != self.embedding.shape[1:]:
            raise ValueError(
                f"gallery: got probes of {embedding.shape[1:]}, expected {self.embedding.shape[1:]} slots and width"
            )
        known = len(self.names)
        space = EmbeddingSpace.of(
            np.concatenate([self.embedding, embedding]), np.concatenate([self.present, present]), self.distance
        )
        between = space.between(known + np.arange(len(embedding)), np.arange(known))
        # Among so many samples there are at least so many people.
        most = min(known, people * max(Counter(self.names).values()))
        match index:
            case "exact":
                rows, numbers = nearest(between, len(embedding), np.arange(known), most)
            case "faiss":
                rows, numbers = _nearest_by_faiss(between, most)
            case _:
                assert_never(index)
        far = space.distance(numbers)
        return [self._people(distance, order, people) for distance, order in zip(far, rows, strict=True)]

    def is_stranger(self, nearest: Sequence[Match]) -> bool | None:
        """Whether the nearest is too far to be a match; None where no threshold says so."""
        return None if self.threshold is None else not nearest or nearest[0].distance > self.threshold.distance

    def joined(self, other: "Gallery") -> "Gallery":
        """With the samples of another one behind its own; ValueError where a sample is in both."""
        return replace(
            self,
            names=self.names + other.names,
            sample_id=self.sample_id + other.sample_id,
            embedding=np.concatenate([self.embedding, other.embedding]),
            present=np.concatenate([self.present, other.present]),
        )

    def refuse_others(self, checkpoint_sha: str, where: str) -> None:
        """A ValueError where other weights made this gallery."""
        if checkpoint_sha != self.checkpoint_sha:
            raise ValueError(
                f"{where}: got a gallery made by other weights ({self.checkpoint_sha[:12]}, not "
                f"{checkpoint_sha[:12]}), expected one made by those in use; enrol again (--phase enrol)"
            )

    def _people(self, distance: NDArray[np.float64], order: Rows, people: int) -> tuple[Match, ...]:
        found: dict[str, Match] = {}
        for far, row in zip(distance.tolist(), order.tolist(), strict=True):
            if len(found) == people or not np.isfinite(far):
                break
            found.setdefault(self.names[row], Match(self.names[row], far, self.sample_id[row]))
        return tuple(found.values())


def _nearest_by_faiss(between: EmbeddingDistances, most: int) -> tuple[Rows, NDArray[np.float64]]:
    """`nearest` by an index of single vectors."""
    try:
        import faiss
    except ImportError:
        raise ValueError("index: got no faiss, expected faiss-cpu; pip install 'partclip[gait]'") from None
    space = between.space
    if len(space.ends) != 1 or not space.present.all():
        raise ValueError("index: got faiss for a mean over parts, expected a distance vector/..., or index exact")
    index = faiss.IndexFlatL2(space.vectors.shape[1])
    index.add(space.vectors[between.gallery])
    squared, order = index.search(space.vectors[between.probe], most)
    return order, squared.clip(min=0).astype(np.float64)


def threshold_of(verification: Verification, false_alarms: float, walks: int) -> Threshold:
    """The threshold that keeps to a share of false alarms on people whom nobody learned from, so many walks of each."""
    distance = verification.unknown_threshold(false_alarms)
    shares = verification.identification(distance, draws=1)
    return Threshold(
        distance=distance,
        false_alarms=shares["false_alarms"].estimate / 100,
        detected=shares["detected"].estimate / 100,
        probes=len(verification.identity),
        people=len(np.unique(verification.identity)),
        walks=walks,
    )


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write a gallery, whole or not at all."""
    header = {
        "format": FORMAT,
        "checkpoint_sha": gallery.checkpoint_sha,
        "distance": gallery.distance,
        "threshold": None if gallery.threshold is None else asdict(gallery.threshold),
        "config": gallery.config,
        "facts": gallery.facts,
    }
    arrays = {
        "names": np.array(gallery.names, dtype=np.str_),
        "sample_id": np.array(gallery.sample_id, dtype=np.str_),
        "embedding": gallery.embedding,
        "present": gallery.present,
        "header": np.array(json.dumps(header)),
    }
    write_arrays(path, arrays)


def read_gallery(path: Path) -> Gallery:
    """Read a gallery; ValueError where the file is damaged or something else."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such gallery; make it with --phase enrol")
    arrays = read_arrays(path, _ARRAYS.__contains__)
    if absent := [name for name in _ARRAYS if name not in arrays]:
        raise ValueError(f"{path}: got a file without {', '.join(absent)}, expected a gallery")
    check_texts(path, arrays, ("names", "sample_id"), ("header",))
    try:
        header = json.loads(str(arrays["header"]))
        if header["format"] != FORMAT:
            raise ValueError(f"got format {header['format']!r}, expected a gallery of format {FORMAT}")
        threshold = header["threshold"]
        if header["distance"] not in DISTANCES:
            raise ValueError(f"got distance {header['distance']!r}, expected one of {', '.join(DISTANCES)}")
        return Gallery(
            names=tuple(arrays["names"].tolist()),
            sample_id=tuple(arrays["sample_id"].tolist()),
            embedding=arrays["embedding"].astype(np.float32),
            present=arrays["present"].astype(np.bool_),
            threshold=None if threshold is None else Threshold(**threshold),
            **{name: header[name] for name in ("checkpoint_sha", "distance", "config", "facts")},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
