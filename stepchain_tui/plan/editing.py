"""Changing the steps in the text of a plan, with the user's comments, order and layout kept.

ruamel's round trip carries out the change; of its output only the lines of the changed step are taken, because it
would lay out anew what the user wrote elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

from stepchain_tui.core.errors import UnknownStepError, UsageError
from stepchain_tui.plan.layout import Layout, round_tripper
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

    def lines(layout: Layout) -> Iterator[list[str]]:
        place = _place_of(layout.steps, step_id)
        if key not in layout.steps[place]:
            new = layout.key_lines(place, key, _written(value))
            for end in range(layout.content_end(place), layout.ends[place] + 1):
                yield [*layout.lines[:end], *new, *layout.lines[end:]]

    edited = _by_lines(text, lambda steps: change(steps[_place_of(steps, step_id)]), lines)
    return edited if edited is not None else edit_text(text, step_id, change)


def remove_step_key(text: str, step_id: str, key: str) -> str:
    """Return a plan's text with one key of one step left out; `text` itself where it is not there.

    Raises:
        UnknownStepError: There is no such step.
        UsageError: The text cannot be read.
    """

    def change(step: Any) -> None:
        step.pop(key, None)

    def lines(layout: Layout) -> Iterator[list[str]]:
        place = _place_of(layout.steps, step_id)
        start, last = layout.key_range(place, key)
        data = {key: layout.steps[place][key]}
        for end in range(layout.without_comments(start, last, data), last + 1):
            yield [*layout.lines[:start], *layout.lines[end:]]

    edited = _by_lines(text, lambda steps: change(steps[_place_of(steps, step_id)]), lines)
    return edited if edited is not None else edit_text(text, step_id, change)


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


def add_step(text: str, step: dict[str, Any], after: str | None = None) -> str:
    """Return a plan's text with one more step; comments, order and layout of the rest are kept.

    Args:
        text: The text of a plan file, YAML or JSON.
        step: The step as plain data, with its id.
        after: The step that it follows; None: it is the last one.

    Raises:
        UnknownStepError: There is no step `after`.
        UsageError: The text cannot be read, or has a step with this id.
    """

    def change(steps: list[Any]) -> None:
        if any(isinstance(other, dict) and other.get("id") == step.get("id") for other in steps):
            raise UsageError(f"there is a step '{step.get('id')}' already", hint="Give the new step another id.")
        steps.insert(len(steps) if after is None else _place_of(steps, after) + 1, _written(step))

    def lines(layout: Layout) -> Iterator[list[str]]:
        place = len(layout.starts) - 1 if after is None else _place_of(layout.steps, after)
        block = layout.block(_written(step))
        for end in range(layout.content_end(place), layout.ends[place] + 1):
            yield [*layout.lines[:end], *layout.gap, *block, *layout.lines[end:]]

    return _edit_steps(text, change, lines)


def remove_step(text: str, step_id: str) -> str:
    """Return a plan's text without one step and the comment right above it; what waits for the step is left as it is.

    Raises:
        UnknownStepError: There is no such step.
        UsageError: The text cannot be read.
    """

    def change(steps: list[Any]) -> None:
        del steps[_place_of(steps, step_id)]

    def lines(layout: Layout) -> Iterator[list[str]]:
        place = _place_of(layout.steps, step_id)
        start = layout.with_comment(place)
        for end in range(layout.content_end(place), layout.ends[place] + 1):
            above, below = layout.lines[:start], layout.lines[end:]
            while below and not below[0].strip() and (not above[-1].strip() or above[-1].startswith("steps:")):
                del below[0]
            while place and place == len(layout.steps) - 1 and not above[-1].strip():
                del above[-1]
            yield [*above, *below]

    return _edit_steps(text, change, lines)


def _edit_steps(
    text: str, change: Callable[[list[Any]], None], candidates: Callable[[Layout], Iterator[list[str]]]
) -> str:
    """Return `text` with `change` made to its list of steps: by whole lines where that comes to the same."""
    if text.lstrip().startswith("{"):
        try:
            data = json.loads(text)
        except ValueError:
            pass  # A YAML mapping in braces: the reader for YAML below takes it.
        else:
            change(_steps_of(data))
            return _json_like(text, data)
    edited = _by_lines(text, change, candidates)
    return edited if edited is not None else _round_trip(text, lambda data: change(_steps_of(data)))


def _by_lines(
    text: str, change: Callable[[list[Any]], None], candidates: Callable[[Layout], Iterator[list[str]]]
) -> str | None:
    """Return the first of the candidates that means what `change` makes of the steps; None where none does."""
    if text.lstrip().startswith("{"):
        return None
    if "\r\n" in text:
        edited = _by_lines(text.replace("\r\n", "\n"), change, candidates)
        return edited.replace("\n", "\r\n") if edited is not None else None
    try:
        root = TreeBuilder().build(text.removeprefix("\ufeff"))
    except TreeError as error:
        raise _unreadable(error.problem.message) from None
    expected = _plain_copy(root.data)
    change(_steps_of(expected))
    if expected == root.data:
        return text
    layout = Layout.of(text, root)
    for lines in candidates(layout) if layout is not None else ():
        edited = "".join(lines)
        try:
            if TreeBuilder().build(edited.removeprefix("\ufeff")).data == expected:
                return edited
        except TreeError:
            continue  # Such as a step that others repeat by its anchor.
    return None


def _edit_json(text: str, step_id: str, change: Callable[[Any], None]) -> str:
    data = json.loads(text)
    before = json.dumps(data)
    change(_find_step(data, step_id))
    return text if json.dumps(data) == before else _json_like(text, data)


def _json_like(text: str, data: Any) -> str:
    """Return `data` as JSON that is laid out like `text`."""
    indent = re.search(r"\n([ \t]+)\S", text)
    ending = text[len(text.rstrip()) :]
    return json.dumps(data, indent=indent.group(1) if indent else None, ensure_ascii=False) + ending


def _edit_yaml(text: str, step_id: str, change: Callable[[Any], None]) -> str:
    if "\r\n" in text:
        return _edit_yaml(text.replace("\r\n", "\n"), step_id, change).replace("\n", "\r\n")
    same = False

    def change_step(data: Any) -> None:
        nonlocal same
        step = _find_step(data, step_id)
        before = _plain_copy(step)
        change(step)
        same = _plain_copy(step) == before

    edited = _round_trip(text, change_step)
    return text if same else _only_this_step(text, edited, step_id)


def _round_trip(text: str, change: Callable[[Any], None]) -> str:
    """Return a YAML text after `change` was given all of it to alter in place."""
    if "\r\n" in text:
        return _round_trip(text.replace("\r\n", "\n"), change).replace("\n", "\r\n")
    from ruamel.yaml.error import YAMLError

    yaml, out = round_tripper(text), StringIO()
    try:
        data = yaml.load(text)
        change(data)
        yaml.dump(data, out)
    except (YAMLError, RecursionError) as error:
        raise _unreadable(error) from None
    return out.getvalue() if not text.startswith("\ufeff") else "\ufeff" + out.getvalue()


def _unreadable(error: object) -> UsageError:
    return UsageError(f"the plan's text cannot be read: {error}", hint="Mend its syntax first.")


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
    found = steps if isinstance(steps, list) else []
    return found[_place_of(found, step_id)]


def _place_of(steps: list[Any], step_id: str) -> int:
    for place, step in enumerate(steps):
        if isinstance(step, dict) and step.get("id") == step_id:
            return place
    raise UnknownStepError(step_id, [str(step.get("id")) for step in steps if isinstance(step, dict)])


def _steps_of(data: Any) -> list[Any]:
    steps = data.get("steps") if isinstance(data, dict) else None
    if not isinstance(steps, list):
        raise UsageError("the plan's text has no list of steps", hint="Write 'steps:' with one step first.")
    return steps


def _plain_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_copy(item) for key, item in value.items()}
    return [_plain_copy(item) for item in value] if isinstance(value, list) else value
