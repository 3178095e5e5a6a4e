"""Classification metrics: top-k, mean-class accuracy, confusion, and a table per class.

One rule for ties, everywhere: they count against. A sample is right at k if fewer than k other classes score as
high as the true one, so a model that gives every class the same score is never right, nor is one that gives NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchlight.metrics.bootstrap import mean_interval

if TYPE_CHECKING:
    from torchlight.task import Prediction


@dataclass(frozen=True)
class ClassificationMetrics:
    """The metric object: ``top1``, ``top5``, ``mean_class`` in percent, each with ``_low`` and ``_high`` (95 %).

    Classes without a sample are left out of ``mean_class``; ``per_class_table`` names them.

    Args:
        topk: a k beyond the number of classes is right for every sample.
        draws: bootstrap resamples.
        output: the prediction's output that holds the logits (N, K).
    """

    topk: tuple[int, ...] = (1, 5)
    draws: int = 2000
    seed: int = 0
    output: str = "logits"

    def __call__(self, prediction: "Prediction") -> Mapping[str, float]:
        """Metric name -> percent."""
        return self.of_arrays(
            prediction.labels.cpu().numpy(), prediction.outputs[self.output].detach().float().cpu().numpy()
        )

    def of_arrays(self, labels: NDArray[np.integer[Any]], logits: NDArray[Any]) -> dict[str, float]:
        """The same of (N,) labels and (N, K) logits, as score files hold them."""
        rank = rank_of_truth(labels, logits)
        result: dict[str, float] = {}
        for k in self.topk:
            result |= self._with_interval(f"top{k}", rank < k, None)
        return result | self._with_interval("mean_class", rank < 1, labels)

    def _with_interval(
        self, name: str, right: NDArray[np.bool_], groups: NDArray[np.integer[Any]] | None
    ) -> dict[str, float]:
        return mean_interval(100.0 * right, groups, draws=self.draws, seed=self.seed).named(name)


def rank_of_truth(labels: NDArray[np.integer[Any]], logits: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) how many other classes score at least as high as the true one; 0 is right.

    Shapes:
        labels: (N,) in 0..K-1
        logits: (N, K)
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"metrics: got labels {labels.shape}, logits {logits.shape}, expected (N,), (N, K), N, K >= 1")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"metrics: got labels {labels.min()}..{labels.max()}, expected 0..{logits.shape[1] - 1}")
    truth = np.take_along_axis(logits, labels[:, None], axis=1)
    return np.asarray(logits.shape[1] - 1 - (logits < truth).sum(axis=1))


def top_k(labels: NDArray[np.integer[Any]], logits: NDArray[Any], k: int) -> float:
    """Percent of samples whose true class is among the k highest."""
    return float(100 * (rank_of_truth(labels, logits) < k).mean())


def mean_class_accuracy(labels: NDArray[np.integer[Any]], logits: NDArray[Any]) -> float:
    """Percent right, averaged over the classes that have samples."""
    confusion = confusion_matrix(labels, logits)
    support = confusion.sum(axis=1)
    return float(100 * (confusion.diagonal()[support > 0] / support[support > 0]).mean())


def predicted_class(labels: NDArray[np.integer[Any]], logits: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) the highest class; where the true class only ties for it, the other, so that it agrees with top-1."""
    others = np.array(logits, dtype=np.float64)
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return np.asarray(np.where(rank_of_truth(labels, logits) == 0, labels, others.argmax(axis=1)))


def confusion_matrix(labels: NDArray[np.integer[Any]], logits: NDArray[Any]) -> NDArray[np.int64]:
    """(K, K) samples by true class (row) and predicted class (column); every class has its row and column."""
    classes = logits.shape[1]
    cells = labels * classes + predicted_class(labels, logits)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def per_class_table(class_names: Sequence[str], labels: NDArray[np.integer[Any]], logits: NDArray[Any]) -> str:
    """A text table: each class with its support, its accuracy and the class it is most often taken for."""
    confusion = confusion_matrix(labels, logits)
    if len(class_names) != len(confusion):
        raise ValueError(f"per_class_table: got {len(class_names)} class names, expected {len(confusion)}")
    support = confusion.sum(axis=1)
    wrong = confusion - np.diag(confusion.diagonal())
    width = max(5, *(len(name) for name in class_names))
    lines = [f"{'class':<{width}}  support  accuracy  most confused with"]
    for row, name in enumerate(class_names):
        if not support[row]:
            continue
        other = int(wrong[row].argmax())
        taken = f"{class_names[other]} ({wrong[row, other]})" if wrong[row, other] else ""
        accuracy = 100 * confusion[row, row] / support[row]
        lines.append(f"{name:<{width}}  {support[row]:7d}  {accuracy:7.1f} %  {taken}".rstrip())
    absent = [name for name, count in zip(class_names, support, strict=True) if not count]
    mean = mean_class_accuracy(labels, logits)
    lines.append(f"{'mean':<{width}}  {support.sum():7d}  {mean:7.1f} %  over {(support > 0).sum()} classes")
    if absent:
        lines.append(f"without samples, left out of the mean: {', '.join(absent)}")
    return "\n".join(lines)
