"""The texts of the classes as embeddings: drawn for a training batch, or one row per class for comparison.

Slot 0 speaks of the whole body and has several phrasings per class; the other slots have one text per class and part.
Frozen texts are embedded once and live in the checkpoint; tuned texts are encoded by a tower that learns.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from feeders.skeleton import Skeleton
from model.text_cache import cached_embeddings
from model.text_tower import TextConfig, build_tower, tower_digest, tower_name
from model.text_towers.contract import TextTower
from text_prompts.bank import PromptBank

logger = logging.getLogger(__name__)

_TEXTS_PER_CALL = 256  # bounds the memory of embedding a whole bank


@dataclass(frozen=True)
class TextTable:
    """Which text stands for which class and slot.

    Args:
        texts: every text once.
        where: for each text, a class and slot that uses it.
        pools: per class, the texts of slot 0.
        parts: per class, the text of each part.
    """

    texts: tuple[str, ...]
    where: tuple[str, ...]
    pools: tuple[tuple[int, ...], ...]
    parts: tuple[tuple[int, ...], ...]


def text_table(bank: PromptBank, skeleton: Skeleton, scheme: str, include_name: bool) -> TextTable:
    """The texts of a bank whose classes are in class order, for one part scheme."""
    at: dict[str, int] = {}
    where: list[str] = []

    def number(text: str, class_name: str, slot: str) -> int:
        if text not in at:
            at[text] = len(at)
            where.append(f"class {class_name!r}, slot {slot!r}")
        return at[text]

    names = [prompt.name for prompt in bank.classes]
    pools = tuple(
        tuple(number(text, name, "whole") for text in texts)
        for name, texts in zip(names, bank.whole_texts(), strict=True)
    )
    columns = [
        [
            number(text, name, part)
            for name, text in zip(names, bank.part_texts(definition.regions, include_name), strict=True)
        ]
        for part, definition in skeleton.parts(scheme).items()
    ]
    parts = tuple(tuple(column[row] for column in columns) for row in range(len(names)))
    return TextTable(tuple(at), tuple(where), pools, parts)


class ClassTexts(nn.Module, ABC):
    """Text embeddings by class and slot.

    Shapes (buffers):
        pool: (K, R) text numbers of slot 0, padded; pool_size: (K,) how many count; part: (K, P) text numbers
    """

    pool: Tensor
    pool_size: Tensor
    part: Tensor
    width: int

    def __init__(self, pool: Tensor, pool_size: Tensor, part: Tensor) -> None:
        super().__init__()
        self.register_buffer("pool", pool)
        self.register_buffer("pool_size", pool_size)
        self.register_buffer("part", part)

    @abstractmethod
    def embed(self, text: Tensor) -> Tensor:
        """(L,) text numbers -> (L, D) unit rows."""

    def draw(self, label: Tensor) -> Tensor:
        """Texts for labelled samples: slot 0 a random phrasing of the class, from torch's global generator.

        Shapes:
            label: (N,)
            returns: (N, 1+P, D)
        """
        size = self.pool_size[label]
        # MPS knows no float64, and a float32 may round up to 1.
        fine = torch.float32 if label.device.type == "mps" else torch.float64
        chance = torch.rand(len(label), dtype=torch.float64).to(fine).to(label.device)
        choice = (chance * size).long().minimum(size.long() - 1)
        text = torch.cat([self.pool[label].gather(1, choice.unsqueeze(1)), self.part[label]], dim=1)
        return self.embed(text.flatten()).view(*text.shape, -1)

    def per_class(self) -> Tensor:
        """(K, 1+P, D) unit rows; slot 0 is the direction of the mean over the class's phrasings."""
        there = torch.arange(self.pool.shape[1], device=self.pool.device) < self.pool_size.unsqueeze(1)
        text = torch.cat([self.pool, self.part], dim=1)
        embedding = self.embed(text.flatten()).view(*text.shape, -1)
        phrasings, parts = embedding.split([self.pool.shape[1], self.part.shape[1]], dim=1)
        whole = F.normalize((phrasings * there.unsqueeze(-1)).sum(dim=1), dim=-1)
        return torch.cat([whole.unsqueeze(1), parts], dim=1)


class FrozenTexts(ClassTexts):
    """Embeddings made once; they are part of the state dict, so nothing else is needed to test or predict.

    Args:
        embedding: (texts, D) unit rows.
    """

    embedding: Tensor

    def __init__(self, pool: Tensor, pool_size: Tensor, part: Tensor, embedding: Tensor) -> None:
        super().__init__(pool, pool_size, part)
        self.register_buffer("embedding", embedding)
        self.width = embedding.shape[1]

    def embed(self, text: Tensor) -> Tensor:
        """Look the rows up."""
        return self.embedding[text]


class TunedTexts(ClassTexts):
    """Embeddings of a tower that learns: each distinct text of a call is encoded once, all in one call.

    Args:
        texts: what the text numbers stand for.
    """

    def __init__(self, pool: Tensor, pool_size: Tensor, part: Tensor, texts: Sequence[str], tower: TextTower) -> None:
        super().__init__(pool, pool_size, part)
        self.texts = tuple(texts)
        self.tower = tower
        self.width = tower.width
        self._per_class: tuple[tuple[int, ...], Tensor] | None = None

    def train(self, mode: bool = True) -> Self:
        """Forget what was kept: fused optimisers change weights without raising their version."""
        self._per_class = None
        return super().train(mode)

    def embed(self, text: Tensor) -> Tensor:
        """Encode the distinct texts."""
        distinct, back = text.unique(return_inverse=True)
        embedding: Tensor = self.tower.encode([self.texts[number] for number in distinct.tolist()])[back]
        return embedding

    def per_class(self) -> Tensor:
        """As ever; without gradients kept between calls, until weights are loaded or `train` or `eval` is called."""
        if torch.is_grad_enabled():
            return super().per_class()
        weights = tuple(value for p in self.tower.parameters() for value in (p.data_ptr(), p._version))
        if self._per_class is None or self._per_class[0] != weights:
            self._per_class = weights, super().per_class()
        per_class: Tensor = self._per_class[1]
        return per_class


def build_class_texts(config: TextConfig, table: TextTable, load_weights: bool = True) -> ClassTexts:
    """Embed a bank's texts once, or wrap the tower that will be tuned.

    ``load_weights`` is for tuned towers: False where a checkpoint will bring them.
    """
    numbers = _numbers(table)
    if not config.freeze:
        tower = build_tower(config, load_weights)
        _check_lengths(tower, table)
        return TunedTexts(*numbers, table.texts, tower)

    def embed() -> Tensor:
        tower = build_tower(config)
        _check_lengths(tower, table)
        logger.info("embedding %d texts with %s", len(table.texts), tower_name(config))
        # Alike in length, so that padding to the longest costs little.
        order = sorted(range(len(table.texts)), key=lambda number: len(table.texts[number]))
        chunks = [order[start : start + _TEXTS_PER_CALL] for start in range(0, len(order), _TEXTS_PER_CALL)]
        with torch.no_grad():
            rows = torch.cat([tower.encode([table.texts[number] for number in chunk]) for chunk in chunks])
        return torch.empty_like(rows).index_copy(0, torch.tensor(order), rows)

    return FrozenTexts(*numbers, cached_embeddings(tower_digest(config), table.texts, embed))


def class_texts_of_state(state: Mapping[str, Tensor], prefix: str) -> FrozenTexts | None:
    """Frozen texts in the shapes of a checkpoint, to be filled by loading it; None where it has none."""
    names = ("pool", "pool_size", "part", "embedding")
    if any(prefix + name not in state for name in names):
        return None
    return FrozenTexts(*(state[prefix + name].clone() for name in names))


def _numbers(table: TextTable) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(pool) for pool in table.pools)
    padded = [[*pool, *[pool[0]] * (longest - len(pool))] for pool in table.pools]
    parts = torch.tensor(table.parts, dtype=torch.long)  # also where no class has any
    return torch.tensor(padded), torch.tensor([len(pool) for pool in table.pools]), parts


def _check_lengths(tower: TextTower, table: TextTable) -> None:
    for text, where, count in zip(table.texts, table.where, tower.token_counts(table.texts), strict=True):
        if count > tower.context:
            raise ValueError(
                f"text.prompts, {where}: got a text of {count} tokens, expected at most {tower.context}; "
                f"shorten {text[:60]!r}..."
            )
