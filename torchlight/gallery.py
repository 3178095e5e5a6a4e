"""A gallery: the embeddings of those whose names are known, in one file, and who among them somebody new may be.

The file says which weights made the embeddings; embeddings of other weights mean something else and are refused.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from torchlight.arrays import check_distinct, check_texts, read_arrays, write_arrays

FORMAT = 1
Measure = Literal["part_mean", "vector"]
Index = Literal["exact", "faiss"]

_ROWS_TOGETHER = 256
_ARRAYS = ("names", "sample_id", "embedding", "present", "header")


@dataclass(frozen=True)
class Threshold:
    """From which distance on somebody is a stranger, and how often that was wrong where it was chosen.

    Args:
        distance: whoever is nearest but farther away than this is no match.
        false_accepts: share of probes, tried without their own person in the gallery, that were still taken for one.
        false_rejects: share of probes, tried with their own person there, that were farther away than this.
        probes, people: how many there were; a gallery of more people accepts more strangers.
    """

    distance: float
    false_accepts: float
    false_rejects: float
    probes: int
    people: int


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
        measure: ``part_mean``: the mean Euclidean distance of the slots that both sides show; ``vector``: the
            Euclidean distance of all slots as one vector, an absent one being zeros.
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
    checkpoint_sha: str
    measure: Measure = "part_mean"
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
        match index:
            case "exact":
                rows = self._search(embedding, present)
            case "faiss":
                rows = self._search_faiss(embedding, people)
            case _:
                assert_never(index)
        return [self._people(distance, order, people) for distance, order in rows]

    def is_stranger(self, nearest: Sequence[Match]) -> bool | None:
        """Whether the nearest is too far to be a match; None where no threshold says so."""
        return None if self.threshold is None else not nearest or nearest[0].distance > self.threshold.distance

    def refuse_others(self, checkpoint_sha: str, where: str) -> None:
        """A ValueError where other weights made this gallery."""
        if checkpoint_sha != self.checkpoint_sha:
            raise ValueError(
                f"{where}: got a gallery made by other weights ({self.checkpoint_sha[:12]}, not "
                f"{checkpoint_sha[:12]}), expected one made by those in use; enrol again (--phase enrol)"
            )

    def _people(self, distance: NDArray[np.float64], order: NDArray[np.intp], people: int) -> tuple[Match, ...]:
        found: dict[str, Match] = {}
        for row in order.tolist():
            if len(found) == people or not np.isfinite(distance[row]):
                break
            found.setdefault(self.names[row], Match(self.names[row], float(distance[row]), self.sample_id[row]))
        return tuple(found.values())

    def _search(
        self, embedding: NDArray[np.float32], present: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.intp]]]:
        for begin in range(0, len(embedding), _ROWS_TOGETHER):
            rows = slice(begin, begin + _ROWS_TOGETHER)
            for distance in distances(embedding[rows], present[rows], self.embedding, self.present, self.measure):
                yield distance, np.argsort(distance, kind="stable")

    def _search_faiss(
        self, embedding: NDArray[np.float32], people: int
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.intp]]]:
        if self.measure != "vector":
            raise ValueError(
                f"index: got faiss with measure {self.measure!r}, expected measure 'vector' or index exact"
            )
        # Among so many samples there are at least so many people.
        most = min(len(self.names), people * max(map(self.names.count, set(self.names))))
        squared, order = self._faiss_index.search(embedding.reshape(len(embedding), -1), most)
        for row, found in zip(np.sqrt(squared.clip(min=0)), order, strict=True):
            distance = np.full(len(self.names), np.inf)
            distance[found] = row
            yield distance, found

    @cached_property
    def _faiss_index(self) -> Any:
        try:
            import faiss
        except ImportError:
            raise ValueError("index: got no faiss, expected faiss-cpu; pip install 'partclip[gait]'") from None
        flat = np.ascontiguousarray(self.embedding.reshape(len(self.names), -1))
        index = faiss.IndexFlatL2(flat.shape[1])
        index.add(flat)
        return index


def distances(
    probe: NDArray[np.float32],
    probe_present: NDArray[np.bool_],
    gallery: NDArray[np.float32],
    gallery_present: NDArray[np.bool_],
    measure: Measure,
) -> NDArray[np.float64]:
    """(Q, P, D), (Q, P), (G, P, D), (G, P) -> (Q, G); infinite where no slot is shown by both."""
    if measure == "vector":
        return _euclidean(probe.reshape(len(probe), -1), gallery.reshape(len(gallery), -1))
    total, count = np.zeros((len(probe), len(gallery))), np.zeros((len(probe), len(gallery)))
    for slot in range(probe.shape[1]):
        both = probe_present[:, slot, None] & gallery_present[None, :, slot]
        total += both * _euclidean(probe[:, slot], gallery[:, slot])
        count += both
    return np.where(count > 0, total / count.clip(min=1), np.inf)


def _euclidean(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    one, other = first.astype(np.float64), second.astype(np.float64)
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.asarray(np.sqrt(squared.clip(min=0)))


def calibrate(
    distance: NDArray[np.float64], probe: NDArray[np.int64], gallery: NDArray[np.int64], false_accepts: float
) -> Threshold:
    """The largest threshold under which at most that share of strangers is accepted.

    Every probe is tried twice: as a stranger, against everybody but their own person, and as a friend.

    Shapes:
        distance: (Q, G); probe: (Q,), gallery: (G,) whose they are
    """
    is_own = probe[:, None] == gallery[None]
    if not is_own.any() or is_own.all():
        raise ValueError("threshold: got no probes of enrolled people, or of nobody else, expected both")
    strangers = np.sort(np.where(is_own, np.inf, distance).min(axis=1))
    friends = np.where(is_own, distance, np.inf).min(axis=1)[is_own.any(axis=1)]
    first_refused = strangers[min(int(false_accepts * len(strangers)), len(strangers) - 1)]
    limit = float(np.nextafter(first_refused, -np.inf))
    return Threshold(
        distance=limit,
        false_accepts=float((strangers <= limit).mean()),
        false_rejects=float((friends > limit).mean()),
        probes=len(probe),
        people=len(np.unique(gallery)),
    )


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write a gallery, whole or not at all."""
    header = {
        "format": FORMAT,
        "checkpoint_sha": gallery.checkpoint_sha,
        "measure": gallery.measure,
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
        return Gallery(
            names=tuple(arrays["names"].tolist()),
            sample_id=tuple(arrays["sample_id"].tolist()),
            embedding=arrays["embedding"].astype(np.float32),
            present=arrays["present"].astype(np.bool_),
            threshold=None if threshold is None else Threshold(**threshold),
            **{name: header[name] for name in ("checkpoint_sha", "measure", "config", "facts")},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
