"""Plans as YAML for people: keys in their usual order, a line between steps, comments above them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from stepchain_tui.plan import ACTION_KEYS, Plan, Step

_FIRST_STEP_KEYS = ("id", "name", "description", "dependencies", "when", "for_each", *ACTION_KEYS)
_PLAN_KEYS = (*(key for key in Plan.model_fields if key != "steps"), "steps")
_COMMENT_WIDTH = 72


def plan_yaml(
    data: Mapping[str, Any],
    head: Sequence[str] = (),
    above: Mapping[int, str] | None = None,
    *,
    known_keys: bool = True,
) -> str:
    """Return a plan as YAML.

    Args:
        data: The plan as plain data, with or without mistakes.
        head: Lines of the comment at its top.
        above: Comments for steps, by their position.
        known_keys: Put keys in the order in which plans are usually written; else they stay as they are.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    yaml, out = YAML(), StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 10_000  # no value is broken over lines
    root = CommentedMap(_ordered(data, _PLAN_KEYS if known_keys else ()))
    for key, value in root.items():
        root[key] = _written(value)
    steps = data.get("steps")
    if isinstance(steps, list):
        root["steps"] = sequence = CommentedSeq(
            CommentedMap(_ordered(_written(step), _step_keys() if known_keys else ()))
            if isinstance(step, Mapping)
            else step
            for step in steps
        )
        for place, _ in enumerate(steps):
            comment = (above or {}).get(place, "")
            text = ("\n" if place else "") + "\n".join(_comment_lines([comment] if comment else []))
            if text:
                sequence.yaml_set_comment_before_after_key(place, before=text, indent=2)
    yaml.dump(root, out)
    lines = [f"# {line}".rstrip() for line in _comment_lines(head)]
    return "".join(f"{line}\n" for line in lines) + out.getvalue()


def _step_keys() -> tuple[str, ...]:
    return (*_FIRST_STEP_KEYS, *(key for key in Step.model_fields if key not in _FIRST_STEP_KEYS))


def _ordered(data: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    first = {key: data[key] for key in keys if key in data}
    return {**first, **{key: value for key, value in data.items() if key not in first}}


def _written(value: Any) -> Any:
    """Return a value as YAML shows it best: text of several lines as a block."""
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, Mapping):
        return {str(key): _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, str) and "\n" in value and not value[0].isspace() and _is_plain(value):
        return LiteralScalarString(value)
    return value


def _is_plain(text: str) -> bool:
    return all(line.isprintable() and line == line.rstrip() for line in text.split("\n"))


def _comment_lines(texts: Iterable[str]) -> list[str]:
    """Return texts as the lines of a comment, without the `#`: what is not printable cannot end one."""
    import textwrap

    found: list[str] = []
    for text in texts:
        clean = "".join(letter if letter.isprintable() else " " for letter in text)
        found += textwrap.wrap(clean, _COMMENT_WIDTH) or [""]
    return found
