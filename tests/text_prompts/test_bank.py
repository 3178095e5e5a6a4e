"""Laws of the prompt bank, and the shipped prompt files held to its lint."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeders import ntu
from feeders.skeleton import NTU25
from feeders.synthetic import CLASS_NAMES
from text_prompts.bank import REGIONS, ClassPrompt, PromptBank, lint, load_bank, main, packaged_banks

UCLA = (
    *("pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down"),
    *("stand up", "donning", "doffing", "throw", "carry"),
)


def prompt(name: str, **changes: object) -> ClassPrompt:
    fields = {
        "name": name,
        "synonyms": tuple(f"{name} phrased {way}" for way in ("so", "thus", "otherwise", "anew", "again")),
        "whole": f"A person does {name}.",
        "regions": {region: f"{region} during {name}" for region in REGIONS},
    }
    return ClassPrompt(**{**fields, **changes})


def bank(*prompts: ClassPrompt) -> PromptBank:
    return PromptBank("here", prompts)


def with_region(region: str, text: str) -> dict[str, str]:
    return {**prompt("run").regions, region: text}


@pytest.mark.parametrize("name", packaged_banks())
def test_shipped_files_are_lint_clean(name: str) -> None:
    assert lint(load_bank(name)) == ()


@pytest.mark.parametrize(("name", "class_names"), [("ucla", UCLA), ("demo", CLASS_NAMES), ("ntu120", ntu.CLASS_NAMES)])
def test_shipped_files_cover_exactly_the_classes_of_their_data_set(name: str, class_names: tuple[str, ...]) -> None:
    shipped = load_bank(name)
    assert {prompt.name for prompt in shipped.classes} == set(class_names)
    assert tuple(prompt.name for prompt in shipped.for_classes(class_names).classes) == class_names


@pytest.mark.parametrize("scheme", list(NTU25.schemes))
@pytest.mark.parametrize("name", packaged_banks())
def test_no_two_classes_share_a_part_text_in_any_scheme(name: str, scheme: str) -> None:
    for part in NTU25.parts(scheme).values():
        texts = load_bank(name).part_texts(part.regions, include_name=False)
        assert len(set(texts)) == len(texts)


def test_the_ntu_file_is_in_the_order_of_the_data_set() -> None:
    names = tuple(entry.name for entry in load_bank("ntu120").classes)
    assert names == ntu.CLASS_NAMES
    assert names[:60] == ntu.NTU60.class_names


@pytest.mark.parametrize("name", packaged_banks())
def test_shipped_texts_fit_clip_by_its_own_tokenizer(name: str) -> None:
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    shipped = load_bank(name)
    texts = {text for phrasings in shipped.whole_texts() for text in phrasings}
    texts |= {text for entry in shipped.classes for text in entry.regions.values()}
    for scheme in NTU25.schemes:
        for part in NTU25.parts(scheme).values():
            texts.update(shipped.part_texts(part.regions, include_name=True))
    start_and_end = 2
    assert max(len(tokenizer.encode(text)) for text in texts) + start_and_end <= tokenizer.context_length


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.sampled_from(REGIONS))
def test_a_region_is_reported_when_five_classes_share_texts_whatever_case_and_marks(
    choices: list[int], region: str
) -> None:
    def spelt(row: int) -> str:
        return f"{region}, WAY {choices[row]}" if row % 2 else f"{region} way {choices[row]}"

    plain = [prompt(f"run{row}") for row in range(len(choices))]
    issues = lint(bank(*(replace(p, regions={**p.regions, region: spelt(row)}) for row, p in enumerate(plain))))
    sharing = sum(choices.count(choice) > 1 for choice in choices)
    reported = [(issue.class_name, issue.field) for issue in issues if "fewer than" in issue.message]
    assert reported == ([(f"{sharing} of {len(choices)} classes", region)] if sharing >= 5 else [])
    assert any("shares" in issue.message for issue in issues) == (sharing > 0)


def test_classes_come_in_the_order_asked() -> None:
    both = bank(prompt("run"), prompt("swim"))
    assert [entry.name for entry in both.for_classes(["swim", "run"]).classes] == ["swim", "run"]


def test_a_class_without_prompt_is_named_with_its_near_miss() -> None:
    with pytest.raises(ValueError, match=r"'swimm' \(did you mean 'swim'\?\)"):
        bank(prompt("run"), prompt("swim")).for_classes(["run", "swimm"])


def test_a_sided_region_falls_back_to_the_unsided_one() -> None:
    plain = prompt("run")
    sided = prompt("run", regions=with_region("left_hands", "the left hand waves"))
    assert plain.region("left_hands") == plain.region("hands")
    assert sided.region("left_hands") == "the left hand waves"
    assert sided.region("right_hands") == sided.region("hands")
    with pytest.raises(ValueError, match="'run': got no text for region 'tail'"):
        plain.region("tail")


def test_part_texts_are_name_and_regions_joined_by_commas() -> None:
    assert bank(prompt("run")).part_texts(["hands", "arms"], include_name=True) == (
        "run, hands during run, arms during run",
    )
    assert bank(prompt("run")).part_texts(["hip"], include_name=False) == ("hip during run",)


def test_whole_texts_are_name_synonyms_and_sentence() -> None:
    run = prompt("run")
    assert bank(run).whole_texts() == (("run", *run.synonyms, run.whole),)
    assert bank(prompt("run", whole=" ")).whole_texts() == (("run", *run.synonyms),)


def test_a_part_is_never_described_by_nothing() -> None:
    silent = bank(prompt("run", regions=with_region("hip", " ")))
    with pytest.raises(ValueError, match=f"{silent.source}: prompt of 'run': got no text for region 'hip', only"):
        silent.part_texts(["hip"], include_name=True)


def test_a_sound_bank_has_no_issues() -> None:
    assert lint(bank(prompt("run"), prompt("swim"))) == ()


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"regions": {}}, "feet", "missing"),
        ({"synonyms": ("jog",)}, "synonyms", "1 phrasings"),
        ({"synonyms": ("jog", "Jog.", "a", "b", "c")}, "synonyms", "repeats"),
        ({"whole": " "}, "whole", "empty"),
        ({"whole": "word " * 80}, "whole", "tokens"),
        ({"regions": with_region("head", "head up.")}, "head", "stray"),
        ({"regions": with_region("head", "head  up")}, "head", "stray"),
        ({"regions": with_region("head", "head up,, down")}, "head", "stray"),
        ({"regions": with_region("head", "Feet during run")}, "feet", "repeats head"),
        ({"regions": with_region("head", "head during swim")}, "head", "shares"),
        ({"regions": with_region("left_hands", "hands during swim")}, "left_hands", "shares"),
        ({"synonyms": ("swim", "a", "b", "c", "d")}, "whole-body texts", "shares 'swim'"),
        ({"regions": {region: f"{region} " + "go " * 40 for region in REGIONS}}, "name and two regions", "tokens"),
    ],
)
def test_lint_finds(changes: dict[str, object], field: str, message: str) -> None:
    issues = lint(bank(prompt("run", **changes), prompt("swim")))
    assert any(issue.class_name == "run" and issue.field == field and message in issue.message for issue in issues)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: run\n  name: swim\n", "duplicate keys"),
        ("- name: run\n  regions: {head: a, head: b}\n", "duplicate keys"),
        ("- name: run\n  sinonyms: []\n", "did you mean 'synonyms'"),
        ("- name: run\n  regions: {hand: a}\n", "did you mean 'hands'"),
        ("- name: run\n- name: run\n", "several entries"),
        ("- name: yes\n", "got True, expected a text"),
        ("- name: run\n  synonyms: jog\n", "synonyms as a list"),
        ("- synonyms: [jog]\n", "got None, expected a text"),
        ("- run\n", "expected a mapping"),
        ("{}", "expected a list of classes"),
        ("- name: [", "unreadable YAML"),
    ],
)
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="mine.yaml") as caught:
        load_bank(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_bank_lists_the_packaged_ones() -> None:
    with pytest.raises(FileNotFoundError, match="ucla"):
        load_bank("uclaa")


def test_the_command_prints_issues_and_fails_on_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("- name: run\n")
    assert main([]) == 0
    assert main(["ucla", str(path)]) == 1
    assert "run / feet: missing" in capsys.readouterr().out
    assert main([str(tmp_path / "absent.yaml")]) == 1
