"""Changing one step in the text of a plan, with the user's comments, order and layout kept.

ruamel's round trip carries out the change; of its output only the lines of the changed step are taken, because it
would lay out anew what the user wrote elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO
from typing import Any

from stepchain_tui.core.errors import UnknownStepError, UsageError
from stepchain_tui.plan.tree import Node, TreeBuilder, TreeError


def set_step_key(text: str, step_id: str, key: str, value: Any) -> str:
    """Return a plan's text with one key of one step set; comments, order and quotes of the rest are kept.

    Args:
        text: The text of a plan file, YAML or JSON.
        step_id: The step.
        key: The key to set; put at the step's end where it is new.
        value: Plain data.

    Raises:
        UnknownStepError: There is no such step.
        UsageError: The text cannot be read.
    """

    def change(step: Any) -> None:
        step[key] = value if type(step) is dict else _written(value)

    return edit_text(text, step_id, change)


def remove_step_key(text: str, step_id: str, key: str) -> str:
    """Return a plan's text with one key of one step left out; `text` itself where it is not there.

    Raises:
        UnknownStepError: There is no such step.
        UsageError: The text cannot be read.
    """

    def change(step: Any) -> None:
        step.pop(key, None)

    return edit_text(text, step_id, change)


def edit_text(text: str, step_id: str, change: Callable[[Any], None]) -> str:
    """Return a plan's text after `change` was given the mapping of one step to alter in place.

    Raises:
        UnknownStepError: There is no such step.
        UsageError: The text cannot be read.
    """
    if text.lstrip().startswith("{"):
        try:
            return _edit_json(text, step_id, change)
        except ValueError:
            pass  # A YAML mapping in braces: the reader for YAML below takes it.
    return _edit_yaml(text, step_id, change)


def _edit_json(text: str, step_id: str, change: Callable[[Any], None]) -> str:
    data = json.loads(text)
    before = json.dumps(data)
    change(_find_step(data, step_id))
    if json.dumps(data) == before:
        return text
    indent = re.search(r"\n([ \t]+)\S", text)
    ending = text[len(text.rstrip()) :]
    return json.dumps(data, indent=indent.group(1) if indent else None, ensure_ascii=False) + ending


def _edit_yaml(text: str, step_id: str, change: Callable[[Any], None]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if "\r\n" in text:
        return _edit_yaml(text.replace("\r\n", "\n"), step_id, change).replace("\n", "\r\n")
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    mapping, sequence, offset = _indentation(text)
    yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
    out = StringIO()
    try:
        data = yaml.load(text)
        step = _find_step(data, step_id)
        before = _plain_copy(step)
        change(step)
        if _plain_copy(step) == before:
            return text
        yaml.dump(data, out)
    except (YAMLError, RecursionError) as error:
        raise UsageError(f"the plan's text cannot be read: {error}", hint="Mend its syntax first.") from None
    edited = out.getvalue() if not text.startswith("\ufeff") else "\ufeff" + out.getvalue()
    return _only_this_step(text, edited, step_id)


def _only_this_step(text: str, edited: str, step_id: str) -> str:
    """Return `text` with the lines of one step taken from `edited`; `edited` where that does not mean the same."""
    try:
        before, after = _step_lines(text, step_id), _step_lines(edited, step_id)
        if before is None or after is None:
            return edited
        old, new = text.splitlines(keepends=True), edited.splitlines(keepends=True)
        merged = "".join([*old[: before[0]], *new[after[0] : after[1]], *old[before[1] :]])
        same = TreeBuilder().build(merged).data == TreeBuilder().build(edited).data
    except TreeError:
        return edited
    return merged if same else edited


def _step_lines(text: str, step_id: str) -> tuple[int, int] | None:
    """Return the first line of a step and the line after its last, counted from 0."""
    root = TreeBuilder().build(text)
    starts = sorted(value.line for _, value in (root.pairs or {}).values())
    steps: list[Node] = (root.pairs or {})["steps"][1].items or []
    for place, step in enumerate(steps):
        if isinstance(step.data, dict) and step.data.get("id") == step_id:
            following = [other.line for other in steps[place + 1 : place + 2]]
            following += [line for line in starts if line > step.line]
            return step.line, min(following, default=len(text.splitlines()))
    return None


def _written(value: Any) -> Any:
    """Return `value` as YAML shows it best: text of several lines as a block."""
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, str) and "\n" in value and _fits_block(value):
        return LiteralScalarString(value)
    return value


def _fits_block(text: str) -> bool:
    lines = text.split("\n")
    return not text[0].isspace() and all(line.isprintable() and line == line.rstrip() for line in lines)


def _find_step(data: Any, step_id: str) -> Any:
    steps = data.get("steps") if isinstance(data, dict) else None
    found = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    for step in found:
        if step.get("id") == step_id:
            return step
    raise UnknownStepError(step_id, [str(step.get("id")) for step in found])


def _plain_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_copy(item) for key, item in value.items()}
    return [_plain_copy(item) for item in value] if isinstance(value, list) else value


def _indentation(text: str) -> tuple[int, int, int]:
    """Return how `text` indents mappings, the items of lists, and the dashes of lists."""
    dash = re.search(r"^steps:[^\n]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)-( +)\S", text, re.MULTILINE)
    offset = len(dash.group(1)) if dash else 2
    gap = len(dash.group(2)) if dash else 1
    nested = re.search(r"^( +)[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\n\1( +)[^\s#-]", text, re.MULTILINE)
    mapping = len(nested.group(2)) if nested else 2
    return mapping, offset + 1 + gap, offset
