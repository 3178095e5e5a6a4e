"""The text side of any open_clip model; causal CLIP transformers run packed.

Packed: the texts' tokens stand one after another without padding in every layer but attention, each text cut after
its end-of-text token. Under a causal mask no later token is ever seen, so texts that begin alike share the tokens of
their beginning, and outputs and gradients equal the padded ones.
"""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.text_towers.contract import TextTower, WeightsUnavailableError

logger = logging.getLogger(__name__)


class OpenClipTower(TextTower):
    """An open_clip text transformer with its tokenizer.

    Args:
        model: a name of ``open_clip.list_models()``, or ``hf-hub:owner/name``.
        pretrained: one of the model's tags, a local weights file, or ``none`` for random weights. A tag brings its
            activation (QuickGELU) along; for a local file of OpenAI's weights choose the ``-quickgelu`` model.
        load_weights: False where a checkpoint brings the weights.
    """

    def __init__(self, model: str, pretrained: str, load_weights: bool = True) -> None:
        super().__init__()
        text, tokenizer = _load(model, pretrained, load_weights)
        self.text = text
        self.tokenizer = tokenizer
        self.context = int(text.context_length)
        self.packed = _can_be_packed(_transformer_of(text))
        with torch.no_grad():
            self.width = int(self.encode(["width"]).shape[1])

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with the two that frame it."""
        if hasattr(self.tokenizer, "encode"):
            return [len(self.tokenizer.encode(text)) + 2 for text in texts]
        return [len(self.tokenizer.tokenizer(text).input_ids) for text in texts]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """All texts in one call."""
        tokens = self.tokenizer(list(texts)).to(next(self.parameters()).device)
        embedding = encode_packed(_transformer_of(self.text), tokens) if self.packed else self.text.encode_text(tokens)
        return F.normalize(embedding.float(), dim=-1)


def encode_packed(text: Any, tokens: Tensor) -> Tensor:
    """What ``encode_text`` gives for a causal transformer, computing nothing twice and nothing after the end of a text.

    Args:
        text: an open_clip ``CLIP`` or ``TextTransformer`` for which ``_can_be_packed`` holds.

    Shapes:
        tokens: (n, context) token ids, zero-padded
        returns: (n, D)
    """
    tokens, text_of = tokens.unique(dim=0, return_inverse=True)  # in order: texts that begin alike are neighbours
    end = tokens.argmax(dim=1) if _pool(text) == "argmax" else (tokens == _end_token(text)).int().argmax(dim=1)
    longest = int(end.max()) + 1
    tokens = tokens[:, :longest]
    kept = torch.arange(longest, device=tokens.device) <= end.unsqueeze(1)
    is_new = torch.ones_like(kept)
    is_new[1:] = (tokens[1:] != tokens[:-1]).cumsum(dim=1) > 0
    packed = (is_new & kept).flatten().nonzero().squeeze(1)
    # Where each position's token is packed: at the first text with the same beginning. Padding may be anywhere: a
    # causal mask hides it.
    place = torch.zeros_like(tokens).flatten().index_copy(0, packed, torch.arange(len(packed), device=tokens.device))
    place = place.view_as(tokens).cummax(dim=0).values
    last = place.gather(1, end.unsqueeze(1)).squeeze(1)
    x: Tensor = text.token_embedding(tokens.flatten()[packed]) + text.positional_embedding[packed % longest]
    blocks = text.transformer.resblocks
    for number, block in enumerate(blocks, start=1):
        heard = _attend(block.attn, block.ln_1(x), place, packed)
        if number == len(blocks):  # nothing after the last attention mixes tokens: only the ends are still needed
            x, heard = x[last], heard[last]
        x = x + block.ls_1(block.attn.out_proj(heard))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    x = text.ln_final(x[text_of])
    match text.text_projection:
        case None:
            return x
        case nn.Linear() as projection:
            x = projection(x)
        case matrix:
            x = x @ matrix
    return x


def _attend(attention: nn.MultiheadAttention, x: Tensor, place: Tensor, packed: Tensor) -> Tensor:
    """Causal self-attention of packed tokens (total, W); padding stands behind every real token, so none sees it."""
    projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    padded = projected.index_select(0, place.flatten())
    query, key, value = padded.view(*place.shape, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    heard = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return heard.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, packed)


def _load(model: str, pretrained: str, load_weights: bool) -> tuple[Any, Any]:
    """The model without its image side, and its tokenizer."""
    import open_clip

    is_random = not load_weights or pretrained == "none"
    if load_weights and pretrained == "none":
        logger.warning("text.pretrained=none: %s has RANDOM weights and knows no language", model)
    if ":" not in model:
        _check_names(model, None if is_random else pretrained)
    try:
        tokenizer = open_clip.get_tokenizer(model)
        text = open_clip.create_model(
            model,
            pretrained=None if is_random else pretrained,
            load_weights=not is_random,
            force_quick_gelu=open_clip.get_pretrained_cfg(model, pretrained).get("quick_gelu", False),
        )
    except Exception as error:  # the hub's client, the network and the file system each raise their own
        raise WeightsUnavailableError("open_clip", f"{model}/{pretrained}", error) from error
    for image_side in ("visual", "logit_scale", "logit_bias"):
        if hasattr(text, image_side):
            delattr(text, image_side)
    return text, tokenizer


def _check_names(model: str, pretrained: str | None) -> None:
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3) or known[:3]
        raise ValueError(f"text.model: got {model!r}, expected a name that open_clip knows, such as {near}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is not None and pretrained not in tags and not Path(pretrained).is_file():
        raise ValueError(
            f"text.pretrained: got {pretrained!r}, expected one of {tags}, an existing weights file, or none; "
            "text.tower=minilm needs no download"
        )


def _transformer_of(text: Any) -> Any:
    """The module that holds the text transformer: the model itself, or its ``text`` where it has one."""
    return text.text if hasattr(text, "text") else text


def _pool(text: Any) -> str:
    return str(getattr(text, "text_pool_type", getattr(text, "pool_type", "argmax")))


def _end_token(text: Any) -> int:
    return int(getattr(text, "text_eos_id", getattr(text, "eos_id", 2)))


def _can_be_packed(text: Any) -> bool:
    """Causal, pooled at the end-of-text token, and made of blocks in the published layout."""
    from open_clip.transformer import ResidualAttentionBlock

    return (
        getattr(text, "attn_mask", None) is not None
        and getattr(text, "cls_emb", None) is None
        and _pool(text) in ("argmax", "eos")
        and all(
            type(block) is ResidualAttentionBlock and isinstance(block.attn, nn.MultiheadAttention)
            for block in text.transformer.resblocks
        )
    )
