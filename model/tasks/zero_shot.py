"""Recognising classes that training never showed, by their texts alone."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from feeders.batch import SkeletonBatch
from model.tasks.clip_action import ClipActionTask, text_scores
from torchlight.task import Prediction

logger = logging.getLogger(__name__)

# Of the held-out clips of learned classes that are told from each other, so many may be lost to unseen classes. Where
# learned classes of the demo played the unseen ones, the best harmonic mean mostly cost 0.2 to 0.4.
_SHARE_GIVEN_UP = 0.25


class ZeroShotTask(ClipActionTask):
    """Learns some classes and scores all of them by the mean of the slots' scaled cosines to the class texts.

    The classifier is a loss in training and has no say in a prediction. Learned classes win too often against unseen
    ones, so they pay ``seen_penalty`` (calibrated stacking, Chao et al., ECCV 2016); it is 0 without validation clips.
    """

    seen_penalty: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.texts is not None, "unseen classes are known by their texts alone"
        self.register_buffer("seen_penalty", torch.tensor(0.0))

    def predict(self, batch: SkeletonBatch) -> Prediction:
        """``logits`` as calibrated, ``text`` the same without a penalty.

        Shapes (outputs):
            logits, text: (N, K); similarity: (N, 1+P, K) cosines to the class texts, NaN where a slot is absent
        """
        _, similarity = self.scores(batch)
        text = text_scores(similarity, self.network.scale())
        logits = text - self.seen_penalty * (self.output_of_class >= 0)
        return Prediction(batch.sample_id, batch.label, {"logits": logits, "text": text, "similarity": similarity})

    def calibrate(self, validation: Prediction) -> None:
        """The penalty that loses a quarter of the held-out clips told apart; 0 where that many are lost anyway."""
        text, is_learned = validation.outputs["text"], self.output_of_class.cpu() >= 0
        among_learned = text.masked_fill(~is_learned, -torch.inf)
        is_right = among_learned.argmax(dim=1) == validation.labels
        if not is_right.any():
            return
        lead = among_learned.amax(dim=1) - text.masked_fill(is_learned, -torch.inf).amax(dim=1)
        penalty = lead[is_right].quantile(_SHARE_GIVEN_UP).clamp(min=0)
        self.seen_penalty.fill_(penalty)
        logger.info("learned classes pay %.3g against unseen ones, from %d validation clips", penalty, len(validation))

    def extra_state(self) -> Mapping[str, Any]:
        """Also which classes were learned, by name, and what they pay."""
        names = self.facts["class_names"]
        learned = [names[number] for number in self.learned.tolist()]
        return {**super().extra_state(), "learned_classes": learned, "seen_penalty": float(self.seen_penalty)}
