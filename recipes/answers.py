"""What is said of clips: scores of every class, the answers that follow from them, and several runs' scores as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchlight.metrics.fusion import fuse, normalised


@dataclass(frozen=True)
class Class:
    """A class, and how probable it is."""

    name: str
    probability: float


@dataclass(frozen=True)
class Text:
    """The class whose text is nearest to what was seen of a part, and the cosine of the two."""

    name: str
    cosine: float


@dataclass(frozen=True)
class Answer:
    """What is said of a clip.

    Args:
        classes: the most probable first.
        parts: slot (``whole``, then the parts) -> the nearest text, None where nothing was seen of the part; empty
            where a run knows no texts.
    """

    clip: str
    classes: tuple[Class, ...]
    parts: Mapping[str, Text | None]


@dataclass(frozen=True, eq=False)
class Scores:
    """How clips are scored, in their order.

    Shapes:
        logits: (N, K) as the run's inference has them, the texts' say included
        similarity: (N, S, K) cosines to the class texts, by slot; NaN where nothing was seen of a part
    """

    clips: tuple[str, ...]
    class_names: tuple[str, ...]
    slots: tuple[str, ...]
    logits: NDArray[np.float32]
    similarity: NDArray[np.float32]

    def answers(self, top: int = 5) -> list[Answer]:
        """The ``top`` most probable classes of each clip, and the text nearest to each of its parts."""
        probability = normalised(self.logits, "softmax")
        best = np.argsort(-probability, axis=1, kind="stable")[:, :top]
        return [
            Answer(
                clip=clip,
                classes=tuple(Class(self.class_names[k], float(probability[row, k])) for k in best[row]),
                parts={slot: self._nearest(self.similarity[row, place]) for place, slot in enumerate(self.slots)},
            )
            for row, clip in enumerate(self.clips)
        ]

    def _nearest(self, similarity: NDArray[np.float32]) -> Text | None:
        if np.isnan(similarity).all():
            return None
        return Text(self.class_names[int(similarity.argmax())], float(similarity.max()))


def fused(streams: Sequence[Scores]) -> Scores:
    """Several runs' scores of the same clips as one: the mean of their probabilities, as `ensemble.py` has it.

    Of the parts that all of them know, the mean of their cosines.
    """
    first, *others = streams
    if not others:
        return first
    if any((other.clips, other.class_names) != (first.clips, first.class_names) for other in others):
        raise ValueError("fused: got scores of different clips or classes, expected the same in the same order")
    slots = tuple(slot for slot in first.slots if all(slot in other.slots for other in others))
    cosines = [stream.similarity[:, [stream.slots.index(slot) for slot in slots]] for stream in streams]
    return Scores(
        clips=first.clips,
        class_names=first.class_names,
        slots=slots,
        logits=fuse(np.stack([stream.logits for stream in streams]), np.ones(len(streams)), "softmax"),
        similarity=np.mean(cosines, axis=0),
    )


def table(answers: Sequence[Answer]) -> str:
    """A line for what each clip shows and, where a run knows texts, one for what each part of it looks like."""
    lines = [f"{'clip':<{_width(answers)}}  class, probability in percent; nearest text of each part, cosine"]
    for answer in answers:
        classes = ", ".join(f"{each.name} {100 * each.probability:.1f}" for each in answer.classes)
        lines.append(f"{answer.clip:<{_width(answers)}}  {classes}")
        said = (
            f"{part}: {text.name} {text.cosine:.2f}" if text else f"{part}: -" for part, text in answer.parts.items()
        )
        lines += [f"{'':<{_width(answers)}}  {', '.join(said)}"] if answer.parts else []
    return "\n".join(lines)


def _width(answers: Sequence[Answer]) -> int:
    """Of the column of names."""
    return max(len("clip"), *(len(answer.clip) for answer in answers))
