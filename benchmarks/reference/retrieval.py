"""Retrieval metrics by brute force: every list is sorted whole, every number is a plain loop over Python floats.

What `torchlight.metrics.retrieval` and `.verification` are held against, and, in `full_matrix`, how the field's
evaluators go about it (fast-reid, OpenGait): one matrix of all distances, sorted row by row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Vector = Sequence[float]
Distance = Callable[[int, int], float]


@dataclass(frozen=True)
class Outcome:
    """One probe's share of the metrics, between 0 and 1."""

    rank: dict[int, float]
    average_precision: float
    inverse_negative_penalty: float


def squared(one: Vector, other: Vector) -> float:
    """The squared distance of two vectors."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def euclidean(one: Vector, other: Vector) -> float:
    """The distance of two vectors."""
    return math.sqrt(squared(one, other))


def cosine(one: Vector, other: Vector) -> float:
    """1 - cos of two vectors."""
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return 1 - dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def mean_over_parts(
    one: Sequence[Vector],
    other: Sequence[Vector],
    present_one: Sequence[bool],
    present_other: Sequence[bool],
    distance: Callable[[Vector, Vector], float],
) -> float:
    """The mean distance of the parts that both have; infinite where there is none."""
    distances = [
        distance(a, b) for a, b, is_a, is_b in zip(one, other, present_one, present_other, strict=True) if is_a and is_b
    ]
    return sum(distances) / len(distances) if distances else math.inf


def ranked(probe: int, gallery: Sequence[int], distance: Distance, is_match: Callable[[int, int], bool]) -> list[bool]:
    """Whether each of the gallery is a match, nearest first; of equally near ones, the matches last."""
    order = sorted(gallery, key=lambda item: (distance(probe, item), is_match(probe, item)))
    return [is_match(probe, item) for item in order]


def outcome(matches: Sequence[bool], ranks: Sequence[int]) -> Outcome | None:
    """The metrics of one ranked list; None where nothing matches."""
    places = [place for place, is_match in enumerate(matches, start=1) if is_match]
    if not places:
        return None
    return Outcome(
        rank={k: float(any(matches[:k])) for k in ranks},
        average_precision=sum(found / place for found, place in enumerate(places, start=1)) / len(places),
        inverse_negative_penalty=len(places) / places[-1],
    )


def roc(genuine: Sequence[float], others: Sequence[float]) -> list[tuple[float, float]]:
    """(FPR, TPR) at every distance there is, as a threshold, and at one that accepts nothing."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*genuine, *others}):
        false = sum(distance <= threshold for distance in others) / len(others)
        points.append((false, sum(distance <= threshold for distance in genuine) / len(genuine)))
    return points


def equal_error(points: Sequence[tuple[float, float]]) -> float:
    """The smallest rate that one threshold keeps both errors to."""
    return min(max(false, 1 - true) for false, true in points)


def true_positive_at(points: Sequence[tuple[float, float]], rate: float) -> float:
    """The highest TPR with no more than this FPR."""
    return max(true for false, true in points if false <= rate)


def k_reciprocal(distance: np.ndarray, probes: int, k1: int, k2: int, share: float) -> np.ndarray:
    """Re-ranked distances (P, G) of squared distances (P + G, P + G), by the sets of the paper."""
    count = len(distance)
    scaled = [[float(value) / max(float(v) for v in row) for value in row] for row in distance]
    order = [sorted(range(count), key=row.__getitem__) for row in scaled]

    def reciprocal(sample: int, k: int) -> set[int]:
        return {other for other in order[sample][: k + 1] if sample in order[other][: k + 1]}

    weights = []
    for sample in range(count):
        near = reciprocal(sample, k1)
        members = set(near)
        for member in near:
            half = reciprocal(member, round(k1 / 2))
            if len(half & near) > 2 / 3 * len(half):
                members |= half
        row = [math.exp(-scaled[sample][other]) if other in members else 0.0 for other in range(count)]
        weights.append([value / sum(row) for value in row])
    averaged = [[sum(weights[n][j] for n in order[s][:k2]) / k2 for j in range(count)] for s in range(count)]
    result = np.empty((probes, count - probes))
    for probe in range(probes):
        for item in range(probes, count):
            pairs = list(zip(averaged[probe], averaged[item], strict=True))
            jaccard = 1 - sum(min(pair) for pair in pairs) / sum(max(pair) for pair in pairs)
            result[probe, item - probes] = (1 - share) * jaccard + share * scaled[probe][item]
    return result


def full_matrix(
    probe: np.ndarray, gallery: np.ndarray, probe_identity: np.ndarray, gallery_identity: np.ndarray
) -> tuple[float, float, float]:
    """Rank-1, mAP and mINP, percent, from all distances (P, G) float32 and their argsort; ties as they fall."""
    squares = np.square(probe).sum(axis=1)[:, None] + np.square(gallery).sum(axis=1)[None]
    distance = np.sqrt(np.maximum(squares - 2 * probe @ gallery.T, 0))
    order = np.argsort(distance, axis=1)
    matches = (gallery_identity[order] == probe_identity[:, None]).astype(np.int32)
    first, precision, penalty = [], [], []
    for row in matches:
        if not row.any():
            continue
        found = row.cumsum()
        places = np.flatnonzero(row)
        first.append(row[0])
        precision.append((found / (1 + np.arange(len(row))) * row).sum() / row.sum())
        penalty.append(found[places[-1]] / (1 + places[-1]))
    return tuple(float(100 * np.mean(values)) for values in (first, precision, penalty))  # type: ignore[return-value]
