"""Classification metrics against loops, and the rule for ties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlight.metrics.classification import (
    ClassificationMetrics,
    confusion_matrix,
    mean_class_accuracy,
    per_class_table,
    rank_of_truth,
    top_k,
)
from torchlight.task import Prediction


def samples(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Few levels make many ties."""
    generator = np.random.default_rng(seed)
    count, classes = generator.integers(1, 30), generator.integers(1, 8)
    return generator.integers(0, classes, count), generator.integers(0, levels, (count, classes)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 4, 1000]), k=st.integers(1, 10))
def test_top_k_equals_counting_by_hand(seed: int, levels: int, k: int) -> None:
    labels, logits = samples(seed, levels)
    right = 0
    for label, row in zip(labels, logits, strict=True):
        rivals = sum(row[other] >= row[label] for other in range(len(row)) if other != label)
        right += rivals < k
    assert top_k(labels, logits, k) == pytest.approx(100 * right / len(labels))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 4, 1000]))
def test_confusion_holds_every_sample_and_agrees_with_top1_and_mean_class(seed: int, levels: int) -> None:
    labels, logits = samples(seed, levels)
    confusion = confusion_matrix(labels, logits)
    assert confusion.shape == (logits.shape[1],) * 2
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(labels, minlength=logits.shape[1]))
    assert 100 * confusion.trace() / len(labels) == pytest.approx(top_k(labels, logits, 1))
    by_class = [top_k(labels[labels == c], logits[labels == c], 1) for c in sorted(set(labels.tolist()))]
    assert mean_class_accuracy(labels, logits) == pytest.approx(np.mean(by_class))


def test_confusion_names_the_predicted_class() -> None:
    labels, logits = np.array([0, 0, 2]), np.array([[0.0, 3, 1], [5, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(confusion_matrix(labels, logits), [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_ties_and_nan_count_against() -> None:
    labels = np.array([0, 1])
    assert top_k(labels, np.zeros((2, 3)), 1) == 0
    assert top_k(labels, np.full((2, 3), np.nan), 1) == 0
    assert top_k(labels, np.zeros((2, 3)), 3) == 100


def test_k_beyond_the_classes_is_right_for_every_sample() -> None:
    labels, logits = np.array([0, 1]), np.array([[0.0, 1], [1, 0]])
    assert top_k(labels, logits, 5) == 100


def test_order_of_samples_and_a_shift_of_logits_change_nothing() -> None:
    labels, logits = samples(3, 1000)
    order = np.random.default_rng(0).permutation(len(labels))
    metrics = ClassificationMetrics()
    assert metrics.of_arrays(labels, logits) == metrics.of_arrays(labels[order], logits[order] + 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_metric_object_gives_percent_with_intervals_around_it(dtype: torch.dtype) -> None:
    labels = torch.arange(40) % 4
    logits = torch.nn.functional.one_hot(labels, 6).to(dtype)
    logits[::5] = 0
    prediction = Prediction(tuple(map(str, range(40))), labels, {"logits": logits})
    values = ClassificationMetrics()(prediction)
    assert values["top1"] == values["mean_class"] == 80.0
    assert values["top5"] == 80.0
    for name in ("top1", "top5", "mean_class"):
        assert values[f"{name}_low"] < values[name] < values[f"{name}_high"]


def test_the_table_names_support_confusion_and_absent_classes() -> None:
    labels = np.array([0, 0, 0, 1])
    logits = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    lines = per_class_table(["wave", "walk", "sit down"], labels, logits).splitlines()
    assert lines[1].split() == ["wave", "3", "33.3", "%", "walk", "(2)"]
    assert lines[2].split() == ["walk", "1", "100.0", "%"]
    assert lines[3].split()[:4] == ["mean", "4", "66.7", "%"]
    assert lines[4].endswith("left out of the mean: sit down")
    with pytest.raises(ValueError, match="2 class names"):
        per_class_table(["a", "b"], labels, logits)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        (np.array([3]), np.zeros((1, 3))),
        (np.array([-1]), np.zeros((1, 3))),
        (np.array([0, 1]), np.zeros((1, 3))),
        (np.zeros(0, int), np.zeros((0, 3))),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, logits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        rank_of_truth(labels, logits)
