"""Zero-shot metrics: clips of classes that were not learned, against each other and against the learned ones.

Shares are over clips, as in the skeleton literature; a tie counts against, as in `classification`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchlight.metrics.bootstrap import harmonic_interval, mean_interval
from torchlight.metrics.classification import rank_of_truth

if TYPE_CHECKING:
    from torchlight.task import Prediction


@dataclass(frozen=True)
class ZeroShotMetrics:
    """The metric object; all in percent, each measured one with ``_low`` and ``_high`` (95 %).

    ``zsl_top1``: clips of unseen classes among the unseen classes; ``seen_top1``: those of seen classes among the seen.
    ``gzsl_seen``, ``gzsl_unseen``, ``harmonic``: either kind among all classes, and their harmonic mean; with
    ``plain_`` before it, of the output ``text``, which has no penalty on seen classes. ``zsl_chance`` and
    ``gzsl_chance`` are guesses. What needs clips of a kind that is not there is left out.

    Args:
        unseen: numbers of the unseen classes.
        draws: bootstrap resamples.
    """

    unseen: tuple[int, ...]
    draws: int = 2000
    seed: int = 0

    def __call__(self, prediction: "Prediction") -> Mapping[str, float]:
        """Metric name -> percent."""
        arrays = (prediction.labels, prediction.outputs["logits"].float(), prediction.outputs["text"].float())
        return self.of_arrays(*(array.detach().cpu().numpy() for array in arrays))

    def of_arrays(self, labels: NDArray[np.integer[Any]], logits: NDArray[Any], text: NDArray[Any]) -> dict[str, float]:
        """The same of (N,) labels, (N, K) calibrated logits and (N, K) plain scores."""
        classes = logits.shape[1]
        is_unseen = np.isin(np.arange(classes), self.unseen)
        of_unseen = is_unseen[labels]
        values: dict[str, float] = {}
        if of_unseen.any():
            values |= self._mean("zsl_top1", _right_among(labels[of_unseen], text[of_unseen], is_unseen))
            values["zsl_chance"] = 100 / len(self.unseen)
        if not of_unseen.all():
            values |= self._mean("seen_top1", _right_among(labels[~of_unseen], text[~of_unseen], ~is_unseen))
        for prefix, scores in (("", logits), ("plain_", text)):
            right = rank_of_truth(labels, scores) < 1
            kinds = {"gzsl_seen": right[~of_unseen], "gzsl_unseen": right[of_unseen]}
            for name, of_kind in kinds.items():
                if len(of_kind):
                    values |= self._mean(prefix + name, of_kind)
            if all(map(len, kinds.values())):
                interval = harmonic_interval(*(100.0 * of_kind for of_kind in kinds.values()), **self._how)
                values |= interval.named(prefix + "harmonic")
        return values | {"gzsl_chance": 100 / classes}

    @property
    def _how(self) -> dict[str, int]:
        return {"draws": self.draws, "seed": self.seed}

    def _mean(self, name: str, right: NDArray[np.bool_]) -> dict[str, float]:
        return mean_interval(100.0 * right, **self._how).named(name)


def _right_among(
    labels: NDArray[np.integer[Any]], scores: NDArray[Any], is_candidate: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(N,) whether the true class, itself a candidate, is the highest candidate."""
    place = np.cumsum(is_candidate) - 1
    return rank_of_truth(place[labels], scores[:, is_candidate]) < 1
