"""Default texts for classes that nobody has written prompts for: templates around the class names, nothing more.

    python -m text_prompts.generate < names.txt > text_prompts/mine.yaml      # one class name a line

What comes out passes the lint, but tells classes apart by their names alone: of what head or feet do it says nothing.
Write your own texts where that matters; `README.md` beside this file explains the schema.
"""

import sys
from collections.abc import Sequence

import yaml

SYNONYMS = (
    "a person busy with {name}",
    "someone doing {name}",
    "a human action: {name}",
    "the body movement of {name}",
    "an activity called {name}",
)
WHOLE = "A person moves as people do during {name}."
REGIONS = {
    "head": "head and gaze during {name}",
    "hands": "hands and fingers during {name}",
    "arms": "arms and shoulders during {name}",
    "hip": "hips and trunk during {name}",
    "legs": "legs and knees during {name}",
    "feet": "feet and ankles during {name}",
}


def generated(class_names: Sequence[str]) -> str:
    """A prompt file in YAML for these classes, in their order; ValueError where names repeat or are empty."""
    names = [name.strip() for name in class_names]
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(f"class names: got {names}, expected names that differ and are not empty")
    entries = [
        {
            "name": name,
            "synonyms": [template.format(name=name) for template in SYNONYMS],
            "whole": WHOLE.format(name=name),
            "regions": {region: template.format(name=name) for region, template in REGIONS.items()},
        }
        for name in names
    ]
    header = "# Generated from the class names by `python -m text_prompts.generate`: do not edit, write your own.\n"
    return header + yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000)


def main() -> int:
    """Names from the standard input to a prompt file on the standard output."""
    try:
        sys.stdout.write(generated(sys.stdin.read().splitlines()))
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
