"""Score files: what a model says of every sample of a split, joined by sample id.

Ours are ``.npz``; the ``.pkl`` of CTR-GCN, GAP and BPI (a dict sample name -> (K,) raw logits) are read too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchlight.arrays import (
    SAID_LATER,
    agreed,
    check_distinct,
    check_texts,
    matching_order,
    read_arrays,
    some,
    write_arrays,
)
from torchlight.plain_pickle import load_plain_pickle

_EXTRA = "extra/"
_FACTS = ("dataset", "split", "modality", "checkpoint_sha", "chosen_by")


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """The scores of one model on one split; empty strings and names mean that the source did not say.

    Args:
        labels: None only where a predecessor's pickle was read.
        chosen_by: how the weights were; see `torchlight.checkpoint.Checkpoint`.
        extra: further values per sample, such as ``classifier`` and ``similarity`` alone.

    Shapes:
        sample_id: N names, all different
        logits: (N, K) raw, finite
        labels: (N,) class index
        class_names: K names
        extra: name -> (N, ...)
    """

    sample_id: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] = ()
    dataset: str = ""
    split: str = ""
    modality: str = ""
    checkpoint_sha: str = ""
    chosen_by: str = ""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.sample_id)
        check_distinct("scores", self.sample_id)
        if self.logits.ndim != 2 or self.logits.dtype != np.float32 or len(self.logits) != count or not count:
            raise ValueError(
                f"scores: got logits {self.logits.dtype} {self.logits.shape} for {count} sample ids, "
                "expected float32 (N, K) with N >= 1"
            )
        if not np.isfinite(self.logits).all():
            bad = np.flatnonzero(~np.isfinite(self.logits).all(axis=1))
            names = some(self.sample_id[row] for row in bad)
            raise ValueError(f"scores: got NaN or infinite logits for {len(bad)} samples ({names}), expected finite")
        classes = self.logits.shape[1]
        if self.class_names and len(self.class_names) != classes:
            raise ValueError(f"scores: got {len(self.class_names)} class names, expected {classes}, one per logit")
        if self.labels is not None:
            if self.labels.shape != (count,) or self.labels.dtype != np.int64:
                raise ValueError(
                    f"scores: got labels {self.labels.dtype} {self.labels.shape}, expected int64 ({count},)"
                )
            if self.labels.min() < 0 or self.labels.max() >= classes:
                span = f"{self.labels.min()}..{self.labels.max()}"
                raise ValueError(f"scores: got labels {span}, expected 0..{classes - 1}")
        for name, value in self.extra.items():
            if value.dtype.kind not in "biuf" or value.shape[:1] != (count,):
                raise ValueError(
                    f"scores: got extra {name!r} {value.dtype} {value.shape}, expected numbers ({count}, ...)"
                )


@dataclass(frozen=True, eq=False)
class AlignedScores:
    """Streams over the same samples, in the order of the first stream.

    Shapes:
        logits: (S, N, K) raw, one row of the first axis per stream
        labels: (N,); None where no stream knows them
        chosen_by: S
    """

    sample_id: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    dataset: str
    split: str
    chosen_by: tuple[str, ...]


def write_scores(path: Path, scores: ScoreFile) -> None:
    """Write a score file, whole or not at all."""
    if path.suffix != ".npz" or scores.labels is None:
        raise ValueError(f"{path}: expected a name that ends in .npz, and scores with labels")
    arrays: dict[str, Any] = {
        "sample_id": np.array(scores.sample_id, dtype=np.str_),
        "logits": scores.logits,
        "labels": scores.labels,
        "class_names": np.array(scores.class_names, dtype=np.str_),
        **{fact: np.array(getattr(scores, fact), dtype=np.str_) for fact in _FACTS},
        **{_EXTRA + name: value for name, value in scores.extra.items()},
    }
    write_arrays(path, arrays)


def read_scores(path: Path) -> ScoreFile:
    """Read a score file of ours (``.npz``) or of the predecessors (``.pkl``, without labels); neither runs code."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such score file; run the model's door with --phase test --save-score True")
    if path.suffix in (".pkl", ".pickle"):
        return _from_pickle(path)
    keys = ("sample_id", "logits", "labels", "class_names", *_FACTS)
    arrays = {**SAID_LATER, **read_arrays(path, lambda name: name in keys or name.startswith(_EXTRA))}
    if absent := [key for key in keys if key not in arrays]:
        raise ValueError(f"{path}: got a file without {', '.join(absent)}, expected a score file")
    check_texts(path, arrays, ("sample_id", "class_names"), _FACTS)
    try:
        return ScoreFile(
            sample_id=tuple(arrays["sample_id"].tolist()),
            logits=arrays["logits"],
            labels=arrays["labels"],
            class_names=tuple(arrays["class_names"].tolist()),
            **{fact: str(arrays[fact]) for fact in _FACTS},
            extra={name[len(_EXTRA) :]: value for name, value in arrays.items() if name.startswith(_EXTRA)},
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_labels(path: Path) -> Mapping[str, int]:
    """Sample id -> class index, for scores that carry no labels.

    Args:
        path: a score file of ours; the padded ``.npz`` of CTR-GCN, whose ``y_test`` names the samples ``test_0``,
            ``test_1``, ... by position; or lines of ``sample_id,label``.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such label file; give a score file, a CTR-GCN .npz or sample_id,label lines"
        )
    if path.suffix == ".npz":
        arrays = read_arrays(path, lambda name: name in ("sample_id", "labels", "y_train", "y_test"))
        if {"sample_id", "labels"} <= arrays.keys():
            names, told = arrays["sample_id"], arrays["labels"]
            if names.shape != told.shape or told.ndim != 1 or told.dtype.kind not in "iu":
                raise ValueError(
                    f"{path}: got labels {told.dtype} {told.shape} for {names.shape} names, expected whole numbers"
                )
            return dict(zip(names.tolist(), told.tolist(), strict=True))
        labels: dict[str, int] = {}
        for split in ("train", "test"):
            one_hot = arrays.get(f"y_{split}", np.zeros(0, dtype=np.int64))
            indices = one_hot.argmax(axis=1) if one_hot.ndim == 2 else one_hot.astype(np.int64)
            labels.update((f"{split}_{row}", label) for row, label in enumerate(indices.tolist()))
        if not labels:
            raise ValueError(f"{path}: got neither labels nor y_test, expected a score file or a CTR-GCN .npz")
        return labels
    try:
        rows = [line.rpartition(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        read = [(name.strip(), int(label)) for name, _, label in rows]
    except ValueError as error:
        raise ValueError(f"{path}: got {error}, expected lines of sample_id,label") from error
    found: dict[str, int] = {}
    for name, label in read:
        if found.setdefault(name, label) != label:
            raise ValueError(f"{path}: got labels {found[name]} and {label} for {name}, expected one")
    return found


def with_labels(scores: ScoreFile, labels: Mapping[str, int]) -> ScoreFile:
    """The same scores with labels looked up by sample id."""
    if absent := [name for name in scores.sample_id if name not in labels]:
        raise ValueError(f"labels: got none for {len(absent)} samples ({some(absent)}), expected one for each")
    return replace(scores, labels=np.array([labels[name] for name in scores.sample_id], dtype=np.int64))


def align(files: Sequence[ScoreFile]) -> AlignedScores:
    """Join streams by sample id.

    Raises:
        ValueError: samples, labels, class names, data set or split differ; up to five sample ids are named per side.
    """
    if not files:
        raise ValueError("align: got no score files, expected at least one")
    first = files[0]
    logits = np.empty((len(files), *first.logits.shape), dtype=np.float32)
    labels = first.labels
    for number, scores in enumerate(files):
        if scores.logits.shape[1] != logits.shape[2]:
            raise ValueError(f"align: got {scores.logits.shape[1]} classes, expected {logits.shape[2]} as in the first")
        if scores.sample_id == first.sample_id:
            logits[number], known = scores.logits, scores.labels
        else:
            order = matching_order(scores.sample_id, scores.modality, first.sample_id, first.modality)
            np.take(scores.logits, order, axis=0, out=logits[number])
            known = None if scores.labels is None else scores.labels[order]
        if labels is None:
            labels = known
        elif known is not None and not np.array_equal(labels, known):
            differing = [first.sample_id[row] for row in np.flatnonzero(labels != known)]
            raise ValueError(
                f"align: got other labels for {len(differing)} samples ({some(differing)}), expected equal"
            )
    return AlignedScores(
        sample_id=first.sample_id,
        logits=logits,
        labels=labels,
        class_names=agreed("class names", [scores.class_names for scores in files]) or (),
        dataset=agreed("data sets", [scores.dataset for scores in files]) or "",
        split=agreed("splits", [scores.split for scores in files]) or "",
        chosen_by=tuple(scores.chosen_by for scores in files),
    )


def _from_pickle(path: Path) -> ScoreFile:
    scores = load_plain_pickle(path)
    if not isinstance(scores, dict) or not scores:
        raise ValueError(f"{path}: got a {type(scores).__name__}, expected a dict sample name -> (K,) logits")
    rows = list(scores.values())
    if not all(isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind == "f" for row in rows):
        raise ValueError(f"{path}: got values that are not 1-D float arrays, expected the (K,) logits of each sample")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"{path}: got rows of different lengths, expected K logits for each sample")
    try:
        return ScoreFile(
            sample_id=tuple(str(name) for name in scores), logits=np.stack(rows).astype(np.float32), labels=None
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
