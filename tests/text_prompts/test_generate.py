"""Generated prompts, and the packaged files held to the data sets that they are of."""

from pathlib import Path

import pytest

from feeders import penn, skeletics
from feeders.dataset import DataSet
from text_prompts.bank import lint, load_bank
from text_prompts.generate import generated


@pytest.mark.parametrize(("bank", "facts"), [("penn", penn.PENN), ("skeletics152", skeletics.SKELETICS)])
def test_a_packaged_file_has_every_class_of_its_data_set_in_order(bank: str, facts: DataSet) -> None:
    prompts = load_bank(bank)
    assert tuple(entry.name for entry in prompts.classes) == facts.class_names
    assert lint(prompts) == ()


def test_part_texts_tell_classes_apart_without_their_names() -> None:
    prompts, skeleton = load_bank("penn"), penn.PENN.skeleton
    for scheme in skeleton.schemes:
        for part in skeleton.parts(scheme).values():
            assert len(set(prompts.part_texts(part.regions, include_name=False))) == len(penn.CLASS_NAMES)


def test_the_shipped_defaults_are_what_the_command_makes() -> None:
    shipped = Path(load_bank("skeletics152").source).read_text(encoding="utf-8")
    assert shipped == generated(skeletics.CLASS_NAMES)


def test_generated_prompts_pass_the_lint_and_hold_odd_names(tmp_path: Path) -> None:
    names = ["yes", "punching person (boxing)", "null", "drink: water", "3"]
    path = tmp_path / "mine.yaml"
    path.write_text(generated(names), encoding="utf-8")
    bank = load_bank(str(path))
    assert [entry.name for entry in bank.classes] == names
    assert lint(bank) == ()


@pytest.mark.parametrize("names", [[], ["run", " "], ["run", "run "]])
def test_names_that_are_empty_or_repeat_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="expected names that differ"):
        generated(names)
