from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlight.config import (
    AdamWConfig,
    CosineSchedule,
    RunConfig,
    SelectBest,
    SgdConfig,
    StepSchedule,
    StrictConfig,
    TrainConfig,
    config_differences,
    dump_config,
    load_config,
    plain_config,
)
from torchlight.yaml_tree import format_yaml, merge, override_tree, parse_yaml, read_tree

MINIMAL = """
work_dir: here
train:
  epochs: 9
  batch_size: 4
  optimiser: {name: sgd, lr: 1e-1}
  schedule: {name: step, milestones: [2, 3]}
"""


class Data(StrictConfig):
    modality: str = "joint"
    root: str | None = "somewhere"


class Run(RunConfig):
    data: Data = Data()


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def loaded(minimal: Path, *overrides: str) -> Run:
    return load_config(Run, [minimal], overrides)


def refusal(minimal: Path, *overrides: str) -> str:
    with pytest.raises(ValueError, match=r"config|override") as caught:
        loaded(minimal, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


positive = st.floats(min_value=1e-12, max_value=1e12)
words = st.text(min_size=0, max_size=12)
optimisers = st.one_of(
    st.builds(SgdConfig, name=st.just("sgd"), lr=positive, groups=st.dictionaries(words, positive, max_size=2)),
    st.builds(AdamWConfig, name=st.just("adamw"), lr=positive),
)
schedules = st.one_of(
    st.builds(StepSchedule, name=st.just("step"), milestones=st.lists(st.integers()).map(tuple), factor=positive),
    st.builds(CosineSchedule, name=st.just("cosine"), per=st.sampled_from(["epoch", "batch"])),
)
runs = st.builds(
    Run,
    work_dir=words,
    seed=st.integers(min_value=0, max_value=2**63),
    device=st.sampled_from([("cpu",), ("0", "1"), ("auto",)]),
    data=st.builds(Data, modality=words, root=st.none() | words),
    train=st.builds(
        TrainConfig,
        epochs=st.integers(min_value=1, max_value=99),
        batch_size=st.integers(min_value=1),
        optimiser=optimisers,
        schedule=schedules,
        select=st.builds(SelectBest, name=st.just("best"), metric=st.just("val/top1")),
        clip_gradient=st.none() | positive,
        evaluate=st.lists(words, max_size=3).map(tuple),
    ),
)


@settings(max_examples=40, deadline=None)
@given(runs)
def test_a_dumped_config_loads_to_an_equal_one(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.mktemp("dump") / "config.yaml"
    path.write_text(dump_config(run), encoding="utf-8")
    assert load_config(Run, [path], []) == run
    assert config_differences(run, plain_config(run)) == {}


def test_a_key_that_a_saved_config_did_not_know_had_its_default(minimal: Path) -> None:
    run = loaded(minimal)
    saved = plain_config(run)
    saved["train"] = {key: value for key, value in saved["train"].items() if key not in ("accumulate", "precision")}
    assert config_differences(run, saved) == {}
    later = run.model_copy(update={"train": run.train.model_copy(update={"accumulate": 3})})
    assert config_differences(later, saved) == {"train.accumulate": (3, run.train.accumulate)}


def test_a_saved_config_that_does_not_fit_any_more_is_compared_as_it_is(minimal: Path) -> None:
    run = loaded(minimal)
    saved = plain_config(run)
    assert config_differences(run, {**saved, "gone": 1}) == {"gone": (None, 1)}


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(words, trees, max_size=4))
def test_yaml_of_a_plain_tree_reads_back_equal(tree: dict[str, object]) -> None:
    assert parse_yaml(format_yaml(tree), "tree") == tree


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", ".001", "+1e-3", "0.001"])
def test_every_spelling_of_a_float_is_a_number(minimal: Path, text: str) -> None:
    assert loaded(minimal, f"train.optimiser.lr={text}").train.optimiser.lr == 1e-3


@pytest.mark.parametrize("word", ["no", "on", "yes", "2024-01-01", "12:30", "e5", "1_000", "010", "<<"])
def test_words_stay_words(minimal: Path, word: str) -> None:
    assert loaded(minimal, f"data.modality={word}").data.modality == word


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_null_is_allowed_where_the_schema_allows_it(minimal: Path, text: str) -> None:
    assert loaded(minimal, f"data.root={text}").data.root is None


def test_an_unknown_key_is_refused_with_a_suggestion(minimal: Path) -> None:
    assert refusal(minimal, "data.modalty=bone") == "config: data.modalty: unknown key; did you mean 'modality'?"
    assert "did you mean 'milestones'" in refusal(minimal, "train.schedule.milestone=[1]")
    assert "did you mean 'momentum'" in refusal(minimal, "train.optimiser.momentun=0.5")
    assert "expected one of modality, root" in refusal(minimal, "data.zzz=1")


def test_a_wrong_value_names_key_got_and_expected(minimal: Path) -> None:
    assert refusal(minimal, "train.epochs=many").startswith(
        "config: train.epochs: got 'many', expected a valid integer"
    )
    assert refusal(minimal, "train.optimiser.lr=-1") == "config: train.optimiser.lr: got -1, expected greater than 0"
    assert "train.schedule.name: got 'stairs', expected one of 'constant', 'step'" in refusal(
        minimal, "train.schedule.name=stairs"
    )
    assert "train.optimiser.lr: missing" in refusal(minimal, "train.optimiser.name=adamw")
    assert "train.evaluate.1: got 3" in refusal(minimal, "train.evaluate=[val, 3]")
    assert "(and 1 more)" in refusal(minimal, "train.epochs=many", "seed=-1")


@pytest.mark.parametrize("override", ["seed=[1", "=3", "train..epochs=3", "a: b"])
def test_a_malformed_override_is_refused(minimal: Path, override: str) -> None:
    assert "override" in refusal(minimal, override)


def test_overrides_do_not_depend_on_their_order(minimal: Path) -> None:
    tokens = [
        "train.select.name=best",
        "train.select.metric=val/top1",
        "train.optimiser.lr=1",
        "train.optimiser.name=adamw",
    ]
    assert loaded(minimal, *tokens) == loaded(minimal, *reversed(tokens))


def test_another_name_replaces_a_section_and_the_same_name_merges_into_it(minimal: Path) -> None:
    assert merge({"a": {"name": "x", "p": 1}}, {"a": {"name": "y", "q": 2}}) == {"a": {"name": "y", "q": 2}}
    assert merge({"a": {"name": "x", "p": 1}}, {"a": {"q": 2}}) == {"a": {"name": "x", "p": 1, "q": 2}}
    run = loaded(minimal, "train.schedule.name=cosine")
    assert run.train.schedule == CosineSchedule(name="cosine")


def test_bases_are_relative_to_the_file_that_names_them_and_lie_below_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "root.yaml").write_text("a: 1\nb: {c: 1, d: 1}")
    (tmp_path / "side.yaml").write_text("b: {d: 2}")
    leaf = tmp_path / "deep" / "leaf.yaml"
    leaf.write_text("base: [../root.yaml, ../side.yaml]\nb: {e: 3}")
    assert read_tree(leaf) == {"a": 1, "b": {"c": 1, "d": 2, "e": 3}}


def test_including_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(ValueError, match=r"cycle a.yaml -> b.yaml -> a.yaml"):
        read_tree(tmp_path / "a.yaml")


def test_a_missing_base_is_named_with_who_wanted_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: gone.yaml")
    with pytest.raises(FileNotFoundError, match=r"gone.yaml: no such config file; named by .*a.yaml"):
        read_tree(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [1", "- 1", "a: {b: 1, b: 1}", "1: 2", "a: !!python/object:os.x {}"]
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match="a.yaml") as caught:
        read_tree(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(["a", "b.c", "b.d", "e.f.g"]), st.integers() | st.booleans() | st.none()))
def test_overrides_say_what_nested_yaml_says(leaves: dict[str, object]) -> None:
    naive: dict[str, object] = {}
    for key, value in leaves.items():
        *sections, last = key.split(".")
        here = naive
        for section in sections:
            here = here.setdefault(section, {})  # type: ignore[assignment]
        here[last] = value
    assert override_tree([f"{key}={yaml.safe_dump(value).split()[0]}" for key, value in leaves.items()]) == naive


@pytest.mark.parametrize(
    ("given_as", "names"), [("0", ("0",)), ("[0, 1]", ("0", "1")), ("0 1", ("0", "1")), ("cpu", ("cpu",))]
)
def test_devices_may_be_written_as_a_number_a_list_or_words(minimal: Path, given_as: str, names: tuple[str]) -> None:
    assert loaded(minimal, f"device={given_as}").device == names


def test_a_config_cannot_be_changed(minimal: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded(minimal).seed = 3  # type: ignore[misc]
