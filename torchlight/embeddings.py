"""Embeddings files: what a model makes of every sample of a split, with all that it takes to rank them.

A file carries its protocols and the columns that they speak of, so evaluating or fusing runs needs no data set.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torchlight.arrays import SAID_LATER, agreed, check_texts, matching_order, read_arrays, some, write_arrays
from torchlight.metrics.distance import DISTANCES, DistanceName, EmbeddingSpace
from torchlight.metrics.protocol import RetrievalProtocol, SampleTable

_COLUMN, _NAMES, _ROLE = "column/", "names/", "role/"
_FACTS = ("dataset", "split", "modality", "checkpoint_sha", "chosen_by", "distance", "protocols")
_LISTS = ("sample_id", "identity_names")


@dataclass(frozen=True, eq=False)
class EmbeddingFile:
    """The embeddings of one model on one split.

    Args:
        table: the samples, in the order of the embeddings.
        distance: how these embeddings are to be compared.
        protocols: the first is the headline.
        chosen_by: how the weights were; see `torchlight.checkpoint.Checkpoint`.

    Shapes:
        embedding: (N, P, D) float32, finite; what it holds where a part is absent does not matter
        part_present: (N, P) bool
    """

    table: SampleTable
    embedding: NDArray[np.float32]
    part_present: NDArray[np.bool_]
    protocols: tuple[RetrievalProtocol, ...]
    distance: DistanceName = "parts/euclidean"
    dataset: str = ""
    split: str = ""
    modality: str = ""
    checkpoint_sha: str = ""
    chosen_by: str = ""

    def __post_init__(self) -> None:
        count = len(self.table)
        if self.embedding.ndim != 3 or self.embedding.dtype != np.float32 or len(self.embedding) != count or not count:
            raise ValueError(
                f"embeddings: got {self.embedding.dtype} {self.embedding.shape} for {count} sample ids, "
                "expected float32 (N, P, D) with N >= 1"
            )
        if self.part_present.dtype != np.bool_ or self.part_present.shape != self.embedding.shape[:2]:
            raise ValueError(
                f"embeddings: got part_present {self.part_present.dtype} {self.part_present.shape}, "
                f"expected bool {self.embedding.shape[:2]}"
            )
        is_bad = ~np.isfinite(self.embedding).all(axis=(1, 2))
        if is_bad.any():
            names = some(self.table.sample_id[row] for row in np.flatnonzero(is_bad))
            raise ValueError(f"embeddings: got NaN or infinity for {is_bad.sum()} samples ({names}), expected finite")
        if self.distance not in DISTANCES:
            raise ValueError(f"embeddings: got distance {self.distance!r}, expected one of {', '.join(DISTANCES)}")
        protocols = [protocol.name for protocol in self.protocols]
        if not protocols or len(set(protocols)) < len(protocols):
            raise ValueError(f"embeddings: got protocols {protocols}, expected at least one, each name once")
        for protocol in self.protocols:
            if len(protocol.role) != count:
                raise ValueError(f"embeddings: got {len(protocol.role)} roles in {protocol.name}, expected {count}")
            for column in (*sum(protocol.exclude, ()), *filter(None, (protocol.groups, protocol.cells))):
                self.table.column(column)

    def space(self, distance: DistanceName | None = None) -> EmbeddingSpace:
        """The embeddings under their distance, or another."""
        return EmbeddingSpace.of(self.embedding, self.part_present, distance or self.distance)

    def take(self, rows: NDArray[np.intp]) -> "EmbeddingFile":
        """These samples, in this order."""
        return EmbeddingFile(
            table=self.table.take(rows),
            embedding=self.embedding[rows],
            part_present=self.part_present[rows],
            protocols=tuple(p.take(rows) for p in self.protocols),
            **{fact: getattr(self, fact) for fact in _FACTS if fact != "protocols"},
        )


def is_embeddings_file(path: Path) -> bool:
    """Whether a file says that it holds embeddings; whether it is whole is for `read_embeddings` to find out."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "embedding.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def write_embeddings(path: Path, embeddings: EmbeddingFile) -> None:
    """Write an embeddings file, whole or not at all."""
    table = embeddings.table
    rules = json.dumps([protocol.rules() for protocol in embeddings.protocols])
    facts = {fact: getattr(embeddings, fact) for fact in _FACTS} | {"protocols": rules}
    write_arrays(
        path,
        {
            "sample_id": np.array(table.sample_id, dtype=np.str_),
            "embedding": embeddings.embedding,
            "part_present": embeddings.part_present,
            "identity": table.identity,
            "identity_names": np.array(table.identity_names, dtype=np.str_),
            **{_COLUMN + name: value for name, value in table.columns.items()},
            **{_NAMES + name: np.array(names, dtype=np.str_) for name, names in table.column_names.items()},
            **{_ROLE + protocol.name: protocol.role for protocol in embeddings.protocols},
            **{fact: np.array(value, dtype=np.str_) for fact, value in facts.items()},
        },
    )


def read_embeddings(path: Path) -> EmbeddingFile:
    """Read an embeddings file; ValueError says what is wrong with it, and nothing in it is run."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such embeddings file; run the model's door with --phase test")
    arrays = {**SAID_LATER, **read_arrays(path, lambda name: True)}
    keys = (*_LISTS, "embedding", "part_present", "identity", *_FACTS)
    if absent := [key for key in keys if key not in arrays]:
        raise ValueError(f"{path}: got a file without {', '.join(absent)}, expected an embeddings file")
    check_texts(path, arrays, (*_LISTS, *(name for name in arrays if name.startswith(_NAMES))), _FACTS)
    try:
        return EmbeddingFile(
            table=SampleTable(
                sample_id=tuple(arrays["sample_id"].tolist()),
                identity=arrays["identity"],
                columns={n[len(_COLUMN) :]: value for n, value in arrays.items() if n.startswith(_COLUMN)},
                identity_names=tuple(arrays["identity_names"].tolist()),
                column_names={n[len(_NAMES) :]: tuple(v.tolist()) for n, v in arrays.items() if n.startswith(_NAMES)},
            ),
            embedding=arrays["embedding"],
            part_present=arrays["part_present"],
            protocols=tuple(
                RetrievalProtocol(
                    **{**rules, "exclude": tuple(map(tuple, rules["exclude"]))}, role=arrays[_ROLE + rules["name"]]
                )
                for rules in json.loads(str(arrays["protocols"]))
            ),
            **{fact: str(arrays[fact]) for fact in _FACTS if fact != "protocols"},  # type: ignore[arg-type]
        )
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"got {error!r}, expected the rules of protocols"
        raise ValueError(f"{path}: {reason}") from error


def align_embeddings(files: Sequence[EmbeddingFile]) -> tuple[EmbeddingFile, ...]:
    """Streams over the same samples, each in the order of the first.

    Raises:
        ValueError: samples, identities, protocols, data set or split differ.
    """
    if not files:
        raise ValueError("align: got no embeddings files, expected at least one")
    first = files[0]
    aligned = []
    for file in files:
        ids = file.table.sample_id
        aligned.append(file.take(matching_order(ids, file.modality, first.table.sample_id, first.modality)))
        if not np.array_equal(_names(aligned[-1]), _names(first)):
            differing = np.flatnonzero(_names(aligned[-1]) != _names(first))
            names = some(first.table.sample_id[row] for row in differing)
            raise ValueError(f"align: got other identities for {len(differing)} samples ({names}), expected equal")
        for one, other in zip_longest(first.protocols, aligned[-1].protocols):
            if not (one and other) or one.rules() != other.rules() or not np.array_equal(one.role, other.role):
                unlike, known = (each.name if each else "none" for each in (other, one))
                raise ValueError(
                    f"align: got another protocol {unlike} in {file.modality or 'a stream'} than {known} in "
                    f"{first.modality or 'the first'}, expected the same in every stream"
                )
    agreed("data sets", [file.dataset for file in files])
    agreed("splits", [file.split for file in files])
    return tuple(aligned)


def concatenated(
    files: Sequence[EmbeddingFile],
    distance: DistanceName,
    weights: NDArray[np.float64],
    modality: str,
    chosen_by: str = "",
) -> EmbeddingFile:
    """Aligned streams as one vector per sample, each stream times the root of its weight, shared out among its parts.

    Under a cosine distance every part, or whole vector, is brought to length 1 first: half the squared distance of
    two vectors is then the fused distance of `EmbeddingSpace.fused`.

    Raises:
        ValueError: a part is absent, as there is nothing to put in its place.
    """
    spaces = [file.space(distance) for file in files]
    if absent := sum(int((~space.present.all(axis=1)).sum()) for space in spaces):
        raise ValueError(f"concatenated: got {absent} samples without some part, expected every part; fuse distances")
    vectors = [np.sqrt(w / len(space.ends)) * space.vectors for w, space in zip(weights, spaces, strict=True)]
    joined = np.concatenate(vectors, axis=1).astype(np.float32)[:, None]
    return replace(
        files[0],
        embedding=joined,
        part_present=np.ones(joined.shape[:2], dtype=np.bool_),
        distance="vector/euclidean",
        modality=modality,
        checkpoint_sha="",
        chosen_by=chosen_by,
    )


def _names(file: EmbeddingFile) -> NDArray[np.str_]:
    return np.array([file.table.value_name("identity", int(code)) for code in file.table.identity])
