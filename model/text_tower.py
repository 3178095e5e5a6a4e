"""Which text tower a run uses: its config, its construction, and the digest its cached embeddings go by."""

import hashlib
from pathlib import Path
from typing import Literal

from typing_extensions import assert_never

from model.text_towers.contract import TextTower
from torchlight.config import StrictConfig


class TextConfig(StrictConfig):
    """The ``text`` section of a run.

    Args:
        tower: ``none`` trains the classifier alone; ``minilm`` and ``toy`` ignore ``model`` and ``pretrained``.
        model: an open_clip model name, or for ``transformers`` a hub name or local folder.
        pretrained: open_clip only: a tag, a local weights file, or ``none`` (random weights, for benchmarks).
        prompts: name of a packaged prompt bank, or the path of one.
        include_name: begin every part text with the class name.
        freeze: embed the texts once; otherwise the tower is trained too.
    """

    tower: Literal["open_clip", "transformers", "minilm", "toy", "none"] = "open_clip"
    model: str = "ViT-B-32"
    pretrained: str = "openai"
    prompts: str = ""
    include_name: bool = True
    freeze: bool = True


def build_tower(config: TextConfig, load_weights: bool = True) -> TextTower:
    """Construct the tower, in eval mode; its library is imported here and not before.

    ``load_weights`` is False where a checkpoint will bring them.
    """
    match config.tower:
        case "open_clip":
            from model.text_towers.open_clip_tower import OpenClipTower

            tower: TextTower = OpenClipTower(config.model, config.pretrained, load_weights)
        case "transformers":
            from model.text_towers.transformers_tower import TransformersTower

            tower = TransformersTower(config.model, load_weights=load_weights)
        case "minilm":
            from model.text_towers.transformers_tower import minilm_tower

            tower = minilm_tower(load_weights)
        case "toy":
            from model.text_towers.toy import ToyTower

            tower = ToyTower()
        case "none":
            raise ValueError("text.tower: got none, expected a tower; a run without text builds none")
        case _:
            assert_never(config.tower)
    return tower.eval()


def tower_name(config: TextConfig) -> str:
    """The tower in words, for checkpoints and logs: ``open_clip:ViT-B-32/openai``."""
    match config.tower:
        case "open_clip":
            return f"open_clip:{config.model}/{config.pretrained}"
        case "transformers":
            return f"transformers:{config.model}"
        case _:
            return config.tower


def tower_digest(config: TextConfig) -> str | None:
    """What tells two towers' embeddings apart, without building one; None where they may not be cached.

    A tower read from local files goes by their content, one from a hub by its name.
    """
    match config.tower:
        case "open_clip" if config.pretrained == "none":
            return None
        case "toy" | "none":
            return None
        case "open_clip":
            return _digest(tower_name(config), Path(config.pretrained))
        case "transformers":
            return _digest(tower_name(config), Path(config.model))
        case "minilm":
            from model.text_towers.transformers_tower import MINILM_SHA256

            return f"minilm:{MINILM_SHA256}"
        case _:
            assert_never(config.tower)


def _digest(name: str, path: Path) -> str:
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    content = hashlib.sha256()
    for file in (file for file in files if file.is_file()):
        content.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    return f"{name}:{content.hexdigest()}" if files else name
