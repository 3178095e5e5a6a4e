"""Action recognition aligned with language: a batch of clips to losses, or to class scores."""

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from feeders.batch import SkeletonBatch, mirrored
from feeders.skeleton import Skeleton
from model.class_texts import ClassTexts, TunedTexts, build_class_texts, class_texts_of_state, text_table
from model.depict import Depict
from model.dtcr import Dtcr
from model.losses import ClipLossConfig, contrastive_loss, cosine
from model.part_clip import PartClip, PartClipConfig, TextAligned
from model.parts import rows_showing
from model.text_tower import TextConfig, tower_name
from text_prompts.bank import load_bank
from torchlight.config import StrictConfig
from torchlight.distributed import gather_with_gradient
from torchlight.task import Prediction, StepOutput, Task

logger = logging.getLogger(__name__)

_TEXT_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
_SIGMOID_BIAS = -10.0  # SigLIP's initial bias: most pairs are negatives


class InferenceConfig(StrictConfig):
    """The ``inference`` section: how much the similarity to the class texts counts beside the classifier.

    Args:
        text_weight: 0 is the classifier alone; ``validation`` chooses among fixed values on validation predictions.
        mirror: predict each clip and its mirror image, and average.
    """

    text_weight: Annotated[float, Field(ge=0)] | Literal["validation"] = 0.0
    mirror: bool = False

    def check(self, has_texts: bool) -> None:
        """A ValueError where texts are to count and there are none."""
        if self.text_weight != 0 and not has_texts:
            raise ValueError(
                f"inference.text_weight: got {self.text_weight} with text.tower=none, expected 0 without texts"
            )


class ClipActionTask(Task):
    """PartClip with its texts and losses.

    Args:
        texts: None trains and uses the classifier alone.
        facts: plain facts for the checkpoint.
        learned: numbers of the classes that training shows, one output of the classifier each.
        auxiliaries: (network, batch, the classifier's right outputs) -> further losses, in training alone.
    """

    calibrated_text_weight: Tensor
    learned: Tensor
    output_of_class: Tensor

    def __init__(
        self,
        network: PartClip,
        skeleton: Skeleton,
        texts: ClassTexts | None,
        loss: ClipLossConfig,
        inference: InferenceConfig,
        facts: Mapping[str, Any],
        learned: Sequence[int],
        auxiliaries: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.skeleton = skeleton
        self.texts = texts
        self.loss = loss
        self.auxiliaries = nn.ModuleList(auxiliaries)
        self.facts = dict(facts)
        self.inference = inference
        self.register_buffer("calibrated_text_weight", torch.tensor(0.0))
        self.register_buffer("learned", torch.tensor(learned), persistent=False)
        # -1, which no loss takes for a class, where a class is not to be learned.
        output_of_class = torch.full((len(self.facts["class_names"]),), -1)
        output_of_class[self.learned] = torch.arange(len(learned))
        self.register_buffer("output_of_class", output_of_class, persistent=False)
        if texts is not None and loss.form == "sigmoid":
            self.contrast_bias = nn.Parameter(torch.full((len(network.slot_names),), _SIGMOID_BIAS))

    @classmethod
    def build(
        cls,
        *,
        model: PartClipConfig,
        text: TextConfig,
        loss: ClipLossConfig,
        inference: InferenceConfig,
        skeleton: Skeleton,
        class_names: Sequence[str],
        bodies: int,
        state: Mapping[str, Tensor] | None = None,
        learned: Sequence[int] | None = None,
        modality: str = "joint",
    ) -> Self:
        """Assemble a task from its config sections; a clip has at most ``bodies`` bodies.

        ``learned`` are the numbers of the classes that training shows, None for all. ``state`` is the state dict that
        will be loaded afterwards, if any: frozen texts then take their shapes from it and neither prompts nor a text
        model are needed; a tuned tower is built without reading its weights.
        """
        texts = None if text.tower == "none" else _texts(model, text, skeleton, class_names, state)
        inference.check(texts is not None)
        learned = range(len(class_names)) if learned is None else learned
        network = PartClip(model, skeleton, len(learned), bodies, None if texts is None else texts.width)
        facts = {
            "class_names": list(class_names),
            "skeleton": skeleton.name,
            "bodies": bodies,
            "slots": list(network.slot_names),
            "text_tower": tower_name(text),
        }
        auxiliaries: list[nn.Module] = []
        if loss.depict is not None:
            auxiliaries.append(Depict(loss.depict, len(learned)))
        if loss.dtcr is not None:
            channels, is_motion = network.whole_channels, modality.endswith("motion")
            auxiliaries.append(Dtcr(loss.dtcr, channels, len(learned), is_motion))
        return cls(network, skeleton, texts, loss, inference, facts, learned, auxiliaries)

    @property
    def text_weight(self) -> float:
        """What the class texts count beside the classifier: as configured, or as calibrated (0 until then)."""
        chosen = self.inference.text_weight
        return float(self.calibrated_text_weight) if chosen == "validation" else chosen

    def training_step(self, batch: SkeletonBatch) -> StepOutput:
        """Cross-entropy, one already weighted contrastive loss per slot, and what auxiliary tasks add."""
        output = self.network(batch)
        logits, target = output.logits.float(), self.output_of_class[batch.label]
        losses = {
            "classification": F.cross_entropy(logits, target, label_smoothing=self.loss.label_smoothing),
        }
        scalars = {"accuracy": 100 * (logits.argmax(dim=1) == target).float().mean()}
        if output.text is not None:
            losses |= self._contrast(output.text, batch.label)
            scale = output.text.scale.detach()
            scalars |= {f"scale/{slot}": scale[row] for row, slot in enumerate(self.network.slot_names)}
        for auxiliary in self.auxiliaries:
            losses |= auxiliary(self.network, batch, target)
        return StepOutput(losses, scalars)

    def predict(self, batch: SkeletonBatch) -> Prediction:
        """``logits`` as chosen for inference, (N, K); with texts also ``classifier`` alone and ``similarity``.

        Shapes (outputs):
            logits, classifier: (N, K); similarity: (N, 1+P, K) cosines to the class texts, NaN where a slot is absent
        """
        classifier, similarity = self.scores(batch)
        outputs = {"logits": classifier}
        if self.texts is not None:
            fused = fuse(classifier, similarity, self.network.scale(), self.text_weight)
            outputs = {"logits": fused, "classifier": classifier, "similarity": similarity}
        return Prediction(batch.sample_id, batch.label, outputs)

    def scores(self, batch: SkeletonBatch) -> tuple[Tensor, Tensor]:
        """Classifier logits and cosines to the class texts, averaged over the mirror image where that is asked for.

        Shapes:
            returns: (N, learned classes) and (N, 1+P, K), NaN where a slot is absent; without texts that is
                (N, 0, learned classes)
        """
        classifier, similarity = self._scores_of(batch)
        if self.inference.mirror:
            of_image = self._scores_of(mirrored(batch, self.skeleton))
            classifier, similarity = (classifier + of_image[0]) / 2, torch.stack([similarity, of_image[1]]).nanmean(0)
        return classifier, similarity

    def _scores_of(self, batch: SkeletonBatch) -> tuple[Tensor, Tensor]:
        output = self.network(batch)
        classifier = output.logits.float()
        if output.text is None:
            return classifier, classifier.new_zeros(len(batch), 0, classifier.shape[1])
        return classifier, self._similarity(output.text)

    def calibrate(self, validation: Prediction) -> None:
        """Choose the weight of the texts by top-1 on validation predictions; of equals, the smallest."""
        if self.inference.text_weight != "validation":
            return
        classifier, similarity = validation.outputs["classifier"], validation.outputs["similarity"]
        scale = self.network.scale().detach().to(classifier.device)
        correct = {
            weight: int((fuse(classifier, similarity, scale, weight).argmax(dim=1) == validation.labels).sum())
            for weight in _TEXT_WEIGHTS
        }
        best = max(_TEXT_WEIGHTS, key=lambda weight: (correct[weight], -weight))
        self.calibrated_text_weight.fill_(best)
        logger.info(
            "inference.text_weight = %g, chosen on %d validation clips: %d correct, %d by the classifier alone",
            *(best, len(validation), correct[best], correct[0.0]),
        )

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """A tuned text tower is the group ``text``."""
        return {"text": list(self.texts.tower.parameters())} if isinstance(self.texts, TunedTexts) else {}

    def extra_state(self) -> Mapping[str, Any]:
        """Class names, skeleton, slots, text tower, and the weight the texts have at inference."""
        return {**self.facts, "text_weight": self.text_weight}

    def _contrast(self, aligned: TextAligned, label: Tensor) -> dict[str, Tensor]:
        """``contrast/<slot>``; a clip in which a part is not seen does not count for that part."""
        assert self.texts is not None
        embedding, present = aligned.embedding, aligned.present
        is_prototype = self.loss.form == "prototype"
        if is_prototype:
            text, label = self.texts.draw(self.learned), self.output_of_class[label]
        else:
            text = self.texts.draw(label)
            embedding, text, present, label = gather_with_gradient(embedding, text, present, label)
        slots = self.network.slot_names
        losses = {}
        for row, (slot, seen) in enumerate(zip(slots, rows_showing(present), strict=True)):
            loss = contrastive_loss(
                self.loss.form,
                embedding[seen, row],
                text[:, row] if is_prototype else text[seen, row],
                label[seen],
                aligned.scale[row],
                self.contrast_bias[row] if self.loss.form == "sigmoid" else None,
            )
            losses[f"contrast/{slot}"] = self.loss.contrast_weight / len(slots) * loss
        return losses

    def _similarity(self, aligned: TextAligned) -> Tensor:
        assert self.texts is not None
        text = self.texts.per_class()
        columns = [cosine(aligned.embedding[:, row], text[:, row]) for row in range(text.shape[1])]
        return torch.stack(columns, dim=1).masked_fill(~aligned.present.unsqueeze(-1), torch.nan)


def fuse(classifier: Tensor, similarity: Tensor, scale: Tensor, text_weight: float) -> Tensor:
    """Class scores: log-probabilities of the classifier plus the weighted mean of the present slots' scaled cosines.

    Shapes:
        classifier: (N, K) logits, returned as they are where ``text_weight`` is 0
        similarity: (N, 1+P, K); scale: (1+P,)
        returns: (N, K)
    """
    if text_weight == 0:
        return classifier
    return classifier.log_softmax(dim=1) + text_weight * text_scores(similarity, scale)


def text_scores(similarity: Tensor, scale: Tensor) -> Tensor:
    """(N, 1+P, K) cosines and (1+P,) factors -> (N, K): the mean of the present slots' scaled cosines, or 0."""
    return (scale.float()[:, None] * similarity).nanmean(dim=1).nan_to_num(0)


def _texts(
    model: PartClipConfig,
    text: TextConfig,
    skeleton: Skeleton,
    class_names: Sequence[str],
    state: Mapping[str, Tensor] | None,
) -> ClassTexts:
    if state is not None and text.freeze:
        kept = class_texts_of_state(state, "texts.")
        if kept is None:
            raise ValueError(
                "weights: got a checkpoint without text embeddings, expected them; text.tower=none runs it"
            )
        if len(kept.pool) != len(class_names):
            raise ValueError(
                f"weights: got texts of {len(kept.pool)} classes, expected {len(class_names)} as in the data"
            )
        return kept
    bank = load_bank(text.prompts).for_classes(class_names)
    table = text_table(bank, skeleton, model.parts, text.include_name)
    return build_class_texts(text, table, load_weights=state is None)
