from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import model.class_texts
from feeders.skeleton import KINECT20
from model.class_texts import (
    ClassTexts,
    TextTable,
    TunedTexts,
    build_class_texts,
    class_texts_of_state,
    text_table,
)
from model.text_cache import cache_file
from model.text_tower import TextConfig, build_tower, tower_digest
from model.text_towers.toy import ToyTower
from text_prompts.bank import load_bank

PROMPTS = str(Path(__file__).parent / "prompts.yaml")
NAMES = ("wave", "jump", "sit down")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path))


def _table() -> TextTable:
    return text_table(load_bank(PROMPTS).for_classes(NAMES), KINECT20, "torso_arms_legs", include_name=True)


def _texts(freeze: bool = True) -> ClassTexts:
    return build_class_texts(TextConfig(tower="toy", prompts=PROMPTS, freeze=freeze), _table())


class CountingTower(ToyTower):
    calls: list[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.calls.append(tuple(texts))
        return super().encode(texts)


def test_the_table_holds_each_text_once_in_class_order() -> None:
    table = _table()
    assert len(set(table.texts)) == len(table.texts)
    assert [table.texts[number] for number in table.pools[0]] == list(
        load_bank(PROMPTS).for_classes(NAMES).whole_texts()[0]
    )
    assert table.texts[table.parts[1][2]] == "jump, legs push off, feet leave the floor"


@pytest.mark.parametrize("freeze", [True, False])
def test_slot_0_draws_every_phrasing_of_the_class_and_no_other(freeze: bool) -> None:
    torch.manual_seed(0)
    texts, table, tower = _texts(freeze), _table(), ToyTower()
    drawn = texts.draw(torch.zeros(200, dtype=torch.long))
    pool = tower.encode([table.texts[number] for number in table.pools[0]])
    which = (drawn[:, 0] @ pool.T).argmax(dim=1)
    assert sorted(which.unique().tolist()) == list(range(len(pool)))
    torch.testing.assert_close(drawn[:, 0], pool[which])
    parts = tower.encode([table.texts[number] for number in table.parts[0]])
    torch.testing.assert_close(drawn[:, 1:], parts.expand(200, -1, -1))


def test_the_draw_follows_torchs_seed() -> None:
    texts, label = _texts(), torch.arange(3).repeat(20)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(texts.draw(label))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("freeze", [True, False])
def test_a_class_is_the_mean_direction_of_its_phrasings(freeze: bool) -> None:
    texts, table, tower = _texts(freeze), _table(), ToyTower()
    per_class = texts.per_class()
    assert per_class.shape == (3, 4, 64)
    for k, pool in enumerate(table.pools):
        mean = tower.encode([table.texts[number] for number in pool]).mean(dim=0)
        torch.testing.assert_close(per_class[k, 0], normalize(mean, dim=0))


def test_a_tuned_tower_encodes_each_text_of_a_batch_once_in_one_call() -> None:
    texts, tower = _texts(freeze=False), CountingTower()
    assert isinstance(texts, TunedTexts)
    texts.tower = tower
    texts.draw(torch.tensor([0, 0, 1, 0, 1, 1]))
    (call,) = tower.calls
    assert len(set(call)) == len(call) <= 6 + 2 * 3


def test_tuned_class_texts_are_kept_until_the_tower_changes() -> None:
    texts, tower = _texts(freeze=False), CountingTower()
    assert isinstance(texts, TunedTexts)
    texts.tower = tower
    with torch.no_grad():
        first = texts.per_class()
        calls = len(tower.calls)
        assert torch.equal(texts.per_class(), first)
        assert len(tower.calls) == calls
        tower.words.weight.mul_(torch.rand_like(tower.words.weight))
        changed = texts.per_class()
        assert not torch.equal(changed, first)
    # The fused optimisers do not raise the version of what they change.
    optimiser = torch.optim.SGD(texts.train().parameters(), lr=1.0, fused=True)
    texts.per_class().square()[..., 0].sum().backward()
    optimiser.step()
    with torch.no_grad():
        assert not torch.equal(texts.eval().per_class(), changed)


def test_frozen_texts_have_no_parameters_and_come_back_from_their_state() -> None:
    texts = _texts()
    assert not list(texts.parameters())
    state = {f"texts.{name}": value for name, value in texts.state_dict().items()}
    empty = class_texts_of_state(state, "texts.")
    assert empty is not None
    assert torch.equal(empty.per_class(), texts.per_class())
    assert class_texts_of_state({}, "texts.") is None


def test_a_cached_bank_needs_no_model_and_a_damaged_file_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    config, table = TextConfig(tower="minilm", prompts=PROMPTS), _table()
    monkeypatch.setattr(model.class_texts, "build_tower", lambda _: ToyTower())
    made = build_class_texts(config, table).per_class()

    def no_model(_: TextConfig) -> ToyTower:
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(model.class_texts, "build_tower", no_model)
    assert torch.equal(build_class_texts(config, table).per_class(), made)

    digest = tower_digest(config)
    assert digest is not None
    file = cache_file(digest, table.texts)
    file.write_bytes(file.read_bytes()[:-100])
    monkeypatch.setattr(model.class_texts, "build_tower", lambda _: ToyTower())
    assert torch.equal(build_class_texts(config, table).per_class(), made)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PARTCLIP_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(model.class_texts, "build_tower", lambda _: ToyTower())
    assert build_class_texts(TextConfig(tower="minilm"), _table()).width == 64


def test_texts_and_towers_have_files_of_their_own() -> None:
    files = {cache_file(digest, texts) for digest in ("a", "b") for texts in (("x", "y"), ("y", "x"), ("xy",))}
    assert len(files) == 6


def test_a_text_longer_than_the_tower_reads_is_refused_by_class_and_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyTower, "context", 8)
    with pytest.raises(ValueError, match=r"class 'wave', slot 'whole': got a text of 10 tokens, expected at most 8"):
        _texts()


def test_building_no_tower_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"text\.tower: got none"):
        build_tower(TextConfig(tower="none"))
