"""One input: from what a person typed to the value a step gets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepchain_tui.plan.expression_values import suggest
from stepchain_tui.plan.kinds import InputType
from stepchain_tui.plan.models import InputSpec
from stepchain_tui.plan.problems import Location, Mistake, shown

_TRUE = frozenset(("true", "yes", "y", "on", "1"))
_FALSE = frozenset(("false", "no", "n", "off", "0"))


def coerce_input(spec: InputSpec, value: Any, base: Path) -> Any:
    """Return `value`, as typed or as a Python value, in the type of `spec`; a path is made absolute from `base`.

    Raises:
        ValueError: It does not fit; the text says what was expected.
    """
    match spec.type:
        case InputType.NUMBER:
            return _number(value)
        case InputType.INTEGER:
            return _integer(value)
        case InputType.BOOLEAN:
            return _boolean(value)
        case InputType.CHOICE:
            return _choice(value, spec.choices or [])
        case InputType.PATH:
            return _path(value, base)
        case _:
            if not isinstance(value, str | int | float):
                raise ValueError("expected text")
            return value if isinstance(value, str) else _scalar_text(value)


def _scalar_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> int | float:
    if isinstance(value, str) and len(value) <= 400:
        text = value.strip()
        try:
            value = int(text)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                raise ValueError(f"expected a number, got {shown(text)}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a number, got {shown(value)}")
    return value


def _integer(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError(f"expected a whole number, got {shown(value)}")
    return int(number)


def _boolean(value: Any) -> bool:
    word = _scalar_text(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"expected true or false, got {shown(value)}")


def _choice(value: Any, choices: list[Any]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    for choice in choices:
        if _scalar_text(choice) == _scalar_text(value):
            return choice
    words = [_scalar_text(choice) for choice in choices]
    meant = suggest(str(value), words)
    raise ValueError(
        f"expected one of {', '.join(words)}, got {shown(value)}" + (f" (did you mean '{meant}'?)" if meant else "")
    )


def _path(value: Any, base: Path) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"expected a path, got {shown(value)}")
    try:
        return str(base / Path(value).expanduser())
    except RuntimeError:
        raise ValueError(f"there is no home folder for {shown(value)}") from None


def spec_mistakes(location: Location, spec: Any) -> Iterator[Mistake]:
    """Yield what is wrong with an input, or a field of a question, in plain data."""
    if not isinstance(spec, dict):
        return
    kind, choices = spec.get("type", "text"), spec.get("choices")
    if kind == "choice" and not choices:
        yield Mistake(location, "an input of type choice needs 'choices'")
        return
    if kind != "choice" and choices is not None:
        yield Mistake((*location, "choices"), f"'choices' are for type choice, not for {kind}", on_key=True)
    default = spec.get("default")
    if default is None:
        return
    if kind == "secret":
        yield Mistake(
            (*location, "default"), "a secret has no default: plan files are not a place for secrets", on_key=True
        )
        return
    try:
        coerce_input(InputSpec.model_validate({"type": kind, "choices": choices}), default, Path())
    except ValueError as error:
        if type(error) is ValueError:
            yield Mistake((*location, "default"), str(error))
