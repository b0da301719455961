"""Writing plan files: whole or not at all, never over another's change, with the user's comments and order kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import StepChainError, UnknownStepError, UsageError


class PlanFileChangedError(StepChainError):
    """Signals a plan file that somebody else changed after it was read; nothing was written."""

    kind = "plan_changed"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was changed on disk after it was read", hint="Load it again, or save under another name."
        )
        self.path = path


def text_hash(text: str) -> str:
    """Return the hash of a plan's text, to be given to `save_plan_text` later."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def save_plan_text(path: Path, text: str, expected_hash: str | None) -> None:
    """Write `text` to `path` whole or not at all; the file's permissions stay, and a link stays a link.

    Args:
        path: The plan file.
        text: What to write.
        expected_hash: `text_hash` of what the file held when it was read; None: write over whatever is there.

    Raises:
        PlanFileChangedError: The file holds something else by now, or is gone.
        UsageError: The folder or the file cannot be written.
    """
    target = path.resolve()
    try:
        if expected_hash is not None and _current_hash(target) != expected_hash:
            raise PlanFileChangedError(path)
        _replace(target, text.encode("utf-8"))
    except (OSError, UnicodeEncodeError) as error:
        raise UsageError(
            f"cannot write {path}: {error}", hint="Check the folder's permissions and free space."
        ) from None


def _current_hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes) -> None:
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644 & ~_umask() if mode is None else mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


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
    return out.getvalue() if not text.startswith("\ufeff") else "\ufeff" + out.getvalue()


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
