"""A text tower without meaning or weights, for tests: every word hashes to a row of a fixed random table."""

import hashlib
import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.text_towers.contract import TextTower

logger = logging.getLogger(__name__)

_WORDS = 4096


class ToyTower(TextTower):
    """Mean of the words' random vectors: equal words give near texts, synonyms do not."""

    width = 64
    context = 77

    def __init__(self) -> None:
        super().__init__()
        logger.warning("text.tower=toy hashes words and knows no language; it is for tests only")
        table = torch.randn(_WORDS, self.width, generator=torch.Generator().manual_seed(0))
        self.words = nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="mean")

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(_words(text)) for text in texts]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Mean word vector of each text, unit length."""
        rows = [
            [int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % _WORDS for word in _words(text)]
            for text in texts
        ]
        device = self.words.weight.device
        starts = torch.tensor([0, *(len(row) for row in rows)][:-1], device=device).cumsum(0)
        return F.normalize(self.words(torch.tensor(sum(rows, []), device=device), starts), dim=-1)


def _words(text: str) -> list[str]:
    return text.lower().replace(",", " ").split()
