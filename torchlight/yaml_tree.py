"""YAML files as plain trees: ``base:`` includes, deep merging and ``section.key=value`` overrides.

Scalars follow YAML 1.2, not PyYAML's 1.1: ``1e-3`` is a number, ``no`` and ``2024-01-01`` are words.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Tree = dict[str, Any]

_SCALARS = (
    ("null", r"(~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)\Z", list("-+0123456789")),
    (
        "float",
        r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars above; a key given twice is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ValueError(f"line {line}: got key {key!r}, expected a name")
            if key in seen:
                raise ValueError(f"line {line}: got key {key!r} twice, expected once")
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes exactly what the loader above would not read back as a string."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds exotic line breaks (\x85, \u2028) into spaces unless they are written as escapes.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern, _first in _SCALARS:
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse_yaml(text: str, where: str) -> Any:
    """The plain value of a YAML text; ``where`` opens the error message."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{where}: line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None


def format_yaml(tree: Mapping[str, Any]) -> str:
    """YAML text that ``parse_yaml`` reads back as an equal tree, keys in their order."""
    text: str = yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def read_tree(path: Path, including: tuple[Path, ...] = ()) -> Tree:
    """One YAML file with what its ``base:`` names (a path or a list, relative to the file) merged below it."""
    path = path.resolve()
    if path in including:
        chain = " -> ".join(file.name for file in (*including, path))
        raise ValueError(f"{path}: base: got a cycle {chain}, expected none")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        reader = f"; named by {including[-1]}" if including else ""
        raise FileNotFoundError(f"{path}: no such config file{reader}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from None
    own = parse_yaml(text, str(path))
    own = {} if own is None else own
    if not isinstance(own, dict):
        raise ValueError(f"{path}: got a {type(own).__name__}, expected sections (key: value)")
    bases = own.pop("base", None) or []
    tree: Tree = {}
    for base in [bases] if isinstance(bases, str) else bases:
        if not isinstance(base, str):
            raise ValueError(f"{path}: base: got {base!r}, expected a path or a list of paths")
        tree = merge(tree, read_tree(path.parent / base, (*including, path)))
    return merge(tree, own)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """``above`` over ``below``: mappings merge key by key, unless their ``name`` differs."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def override_tree(overrides: Sequence[str]) -> Tree:
    """The tree that ``section.key=value`` tokens describe together, whatever their order; values are YAML."""
    tree: Tree = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise ValueError(f"override: got {override!r}, expected section.key=value")
        section = tree
        for key in keys[:-1]:
            inner = section.get(key)
            section[key] = section = inner if isinstance(inner, dict) else {}
        section[keys[-1]] = parse_yaml(text, f"override {path}")
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """Dotted key -> leaf value; what ``section.key=value`` would name."""
    leaves: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
