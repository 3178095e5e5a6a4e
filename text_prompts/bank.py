"""Front door: what every action looks like in words. Prompt files in, strings out; nothing here knows a text model.

A prompt file is YAML, one entry per class with ``name``, ``synonyms``, ``whole`` and ``regions``; README.md beside this
file explains the schema. ``python -m text_prompts.bank [FILE_OR_NAME ...]`` lints files and exits 1 on any issue.
"""

import argparse
import difflib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

REGIONS = ("head", "hands", "arms", "hip", "legs", "feet")
_SIDED = tuple(f"{side}_{region}" for side in ("left", "right") for region in REGIONS)
_PACKAGE = Path(__file__).parent
_FEWEST_SYNONYMS = 5
_MANY_SHARING = 5  # classes that share a region's text, from where the region as a whole is reported
_MOST_TOKENS = 75  # CLIP: 77 with the start and end tokens
_LETTERS_A_TOKEN = 6
_STRAY = re.compile(r"^\W|[^\w).]$|\s{2}|[\r\n\t]|\s[,.;:!?]|[,.;:!?]{2}|[\u00a0\ufffd]")


@dataclass(frozen=True)
class ClassPrompt:
    """One action in words: its name, other phrasings, a sentence for the body, a text for each body region."""

    name: str
    synonyms: tuple[str, ...]
    whole: str
    regions: Mapping[str, str]

    def region(self, name: str) -> str:
        """Text of a region; ``left_hands`` falls back to ``hands`` where the sides do not differ."""
        side, _, rest = name.partition("_")
        for key in (name, rest) if side in ("left", "right") else (name,):
            if self.regions.get(key, "").strip():
                return self.regions[key]
        there = [key for key, text in self.regions.items() if text.strip()]
        raise ValueError(f"prompt of {self.name!r}: got no text for region {name!r}, only {sorted(there)}")


@dataclass(frozen=True)
class PromptBank:
    """The prompts of a set of classes, in class order: row k of every text table is class k."""

    source: str
    classes: tuple[ClassPrompt, ...]

    def for_classes(self, class_names: Sequence[str]) -> "PromptBank":
        """The same bank in a data set's class order; ValueError names the classes without a prompt."""
        prompts = {prompt.name: prompt for prompt in self.classes}
        missing = [_with_near_miss(name, prompts) for name in class_names if name not in prompts]
        if missing:
            raise ValueError(f"{self.source}: got no prompt for {', '.join(missing)}, expected one per class")
        return PromptBank(self.source, tuple(prompts[name] for name in class_names))

    def whole_texts(self) -> tuple[tuple[str, ...], ...]:
        """Per class, the phrasings of the whole action that training draws from: name, synonyms, sentence if any."""
        phrasings = ((prompt.name, *prompt.synonyms, prompt.whole) for prompt in self.classes)
        return tuple(tuple(text for text in texts if text.strip()) for texts in phrasings)

    def part_texts(self, regions: Sequence[str], include_name: bool) -> tuple[str, ...]:
        """Per class, the text of a body part that covers these regions: ``name, region text, region text``."""
        try:
            return tuple(
                ", ".join(([prompt.name] if include_name else []) + [prompt.region(region) for region in regions])
                for prompt in self.classes
            )
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None


@dataclass(frozen=True)
class LintIssue:
    """Something in a prompt file that would teach a model the wrong thing, and where it stands."""

    class_name: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.class_name} / {self.field}: {self.message}"


def packaged_banks() -> tuple[str, ...]:
    """Names of the prompt files that come with the project."""
    return tuple(sorted(path.stem for path in _PACKAGE.glob("*.yaml")))


def load_bank(name_or_path: str) -> PromptBank:
    """Read a packaged bank by name (``ucla``) or a user's YAML file by path.

    The structure is checked here (ValueError with file and class); the quality of the texts is ``lint``'s.
    """
    path = _PACKAGE / f"{name_or_path}.yaml" if name_or_path in packaged_banks() else Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(
            f"prompts: got {name_or_path!r}, expected a packaged bank {packaged_banks()} or the path of a YAML file; "
            "text_prompts/README.md shows how to write one"
        )
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: got unreadable YAML, expected a prompt file; {' '.join(str(error).split())}"
        ) from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: got {type(entries).__name__}, expected a list of classes ('- name: ...')")
    classes = tuple(_parse_class(f"{path}, entry {number}", entry) for number, entry in enumerate(entries, start=1))
    names = [prompt.name for prompt in classes]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: got several entries for {repeated}, expected one per class")
    return PromptBank(str(path), classes)


def lint(bank: PromptBank) -> tuple[LintIssue, ...]:
    """Everything wrong with the texts of a bank: missing, empty, repeated, confusable, too long, badly punctuated.

    Length is an upper estimate of CLIP tokens (a word costs one per six letters begun, a mark one) of the longest
    part text that may be asked for, the name with its two longest regions; the text tower counts exactly.
    """
    issues: list[LintIssue] = []
    for prompt in bank.classes:
        issues += _lint_class(prompt)
    issues += _lint_confusable(bank)
    return tuple(issues)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [key.value for key, _ in node.value]
        if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"duplicate keys {repeated}", node.start_mark)
        return super().construct_mapping(node, deep)


def _with_near_miss(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=2)
    return f"{name!r} (did you mean {' or '.join(map(repr, near))}?)" if near else repr(name)


def _parse_class(where: str, entry: object) -> ClassPrompt:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: got {entry!r}, expected a mapping with name, synonyms, whole and regions")
    _check_keys(where, entry, ("name", "synonyms", "whole", "regions"))
    name = _text(f"{where}, name", entry.get("name"))
    if not name.strip():
        raise ValueError(f"{where}: got an empty name, expected the data set's class name")
    where = f"{where} ({name})"
    synonyms, regions = entry.get("synonyms", []), entry.get("regions", {})
    if not isinstance(synonyms, list) or not isinstance(regions, dict):
        raise ValueError(f"{where}: got {entry!r}, expected synonyms as a list and regions as a mapping")
    _check_keys(f"{where}, regions", regions, REGIONS + _SIDED)
    return ClassPrompt(
        name=name,
        synonyms=tuple(_text(f"{where}, synonyms", synonym) for synonym in synonyms),
        whole=_text(f"{where}, whole", entry.get("whole", "")),
        regions={region: _text(f"{where}, {region}", text) for region, text in regions.items()},
    )


def _check_keys(where: str, mapping: Mapping[object, object], expected: Sequence[str]) -> None:
    if unknown := [str(key) for key in mapping if key not in expected]:
        hints = ", ".join(_with_near_miss(key, dict.fromkeys(expected)) for key in unknown)
        raise ValueError(f"{where}: got unknown key {hints}, expected only {list(expected)}")


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: got {value!r}, expected a text; quote it if YAML reads it as something else")
    return value


def _fields(prompt: ClassPrompt) -> Iterator[tuple[str, str]]:
    yield "name", prompt.name
    yield from (("synonyms", synonym) for synonym in prompt.synonyms)
    yield "whole", prompt.whole
    yield from prompt.regions.items()


def _plain(text: str) -> str:
    """A text as a reader compares it: words only."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _token_estimate(text: str) -> int:
    words = re.findall(r"\w+", text)
    return sum(-(-len(word) // _LETTERS_A_TOKEN) for word in words) + len(re.findall(r"[^\w\s]", text))


def _lint_class(prompt: ClassPrompt) -> Iterator[LintIssue]:
    for region in REGIONS:
        if region not in prompt.regions:
            yield LintIssue(prompt.name, region, "missing")
    if len(prompt.synonyms) < _FEWEST_SYNONYMS:
        yield LintIssue(
            prompt.name, "synonyms", f"{len(prompt.synonyms)} phrasings, at least {_FEWEST_SYNONYMS} needed"
        )
    seen: dict[str, str] = {}
    for field, text in _fields(prompt):
        plain = _plain(text)
        if not plain:
            yield LintIssue(prompt.name, field, "empty")
            continue
        if plain in seen:
            yield LintIssue(prompt.name, field, f"repeats {seen[plain]}: {text!r}")
        seen.setdefault(plain, field)
        if _STRAY.search(text) or (field != "whole" and text.endswith(".")):
            yield LintIssue(prompt.name, field, f"stray punctuation, or white space in {text!r}")
    longest = ", ".join([prompt.name, *sorted(prompt.regions.values(), key=_token_estimate)[-2:]])
    for field, text in (*_fields(prompt), ("name and two regions", longest)):
        if _token_estimate(text) > _MOST_TOKENS:
            yield LintIssue(prompt.name, field, f"about {_token_estimate(text)} tokens, at most {_MOST_TOKENS}")


def _lint_confusable(bank: PromptBank) -> Iterator[LintIssue]:
    """Texts that stand for two classes at once, which a contrastive loss would pull both ways."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    used = {region for prompt in bank.classes for region in prompt.regions}
    for prompt in bank.classes:
        for text in {_plain(text) for text in (prompt.name, *prompt.synonyms, prompt.whole)}:
            owners["whole-body texts", text].append(prompt.name)
        for region in (region for region in REGIONS + _SIDED if region in used):
            if region in prompt.regions or region.partition("_")[2] in prompt.regions:
                owners[region, _plain(prompt.region(region))].append(prompt.name)
    sharing: Counter[str] = Counter()
    for (field, text), names in owners.items():
        if text and len(names) > 1:
            sharing[field] += len(names)
            yield LintIssue(names[0], field, f"shares {text!r} with {', '.join(names[1:])}")
    for region in (region for region in REGIONS + _SIDED if sharing[region] >= _MANY_SHARING):
        share = f"{sharing[region]} of {len(bank.classes)} classes"
        yield LintIssue(share, region, f"share a text with another class, fewer than {_MANY_SHARING} may")


def main(arguments: Sequence[str] | None = None) -> int:
    """Lint prompt files, all packaged ones by default; the exit code is 1 where there is an issue."""
    parser = argparse.ArgumentParser(prog="python -m text_prompts.bank", description="Check prompt files.")
    parser.add_argument("files", nargs="*", default=list(packaged_banks()), help="packaged names or YAML files")
    found = 0
    for name in parser.parse_args(arguments).files:
        try:
            bank = load_bank(name)
        except (ValueError, OSError) as error:
            sys.stdout.write(f"{error}\n")
            found += 1
            continue
        issues = lint(bank)
        found += len(issues)
        sys.stdout.writelines(f"{bank.source}: {issue}\n" for issue in issues)
        sys.stdout.write(f"{bank.source}: {len(bank.classes)} classes, {len(issues)} issues\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
