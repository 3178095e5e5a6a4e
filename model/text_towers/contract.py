"""The contract every text tower obeys, CLIP or sentence encoder, frozen or tuned."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class TextTower(nn.Module, ABC):
    """Texts to unit vectors.

    Attributes:
        width: D of the embeddings.
        context: the most tokens a text may have, start and end tokens included.
    """

    width: int
    context: int

    @abstractmethod
    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut, start and end tokens included."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Tensor:
        """(n, D) rows of unit length, gradients attached; a text's row does not depend on the other texts."""


class WeightsUnavailableError(FileNotFoundError):
    """The weights of a text tower cannot be had here; the message names the way out."""

    def __init__(self, tower: str, wanted: str, reason: BaseException | str) -> None:
        what = " ".join(str(reason).split())[:200]
        super().__init__(
            f"text.tower={tower}: got no weights for {wanted} ({what}), expected a reachable hub, a filled cache or a "
            "local path; text.tower=minilm needs neither network nor other overrides"
        )
