"""Expressions in plans: `{{ ... }}` anywhere in a value.

Alone in its text an expression keeps the type of its value; beside other text it is rendered, JSON for all that is not
text. There are no statements, no calls and no Python attributes, and one evaluation does a bounded amount of work.
`CHAIN_RESULT` stands for the output of the last listed dependency; only what the plan's author wrote is searched for
it and for braces, never a value that came from a step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from stepchain_tui.plan.expression_compile import Expression, Use, compile_expression
from stepchain_tui.plan.expression_values import (
    ExpressionError,
    MissingValueError,
    Scope,
    check_text,
    render,
)

__all__ = (
    "CHAIN_RESULT",
    "ExpressionError",
    "MissingValueError",
    "Template",
    "as_text",
    "compile_condition",
    "compile_template",
    "substitute_chain_result",
)

CHAIN_RESULT = "CHAIN_RESULT"
_CHAIN = re.compile(r"\bCHAIN_RESULT\b")
_STATEMENT = re.compile(r"\{%-?\s*(?:if|for|set|macro|include|import|from|block|extends|call|filter|raw|with|do)\b")
_KEPT_ESCAPES = frozenset("\\'\"abfnrtvxNuU\n")
_CACHED_LENGTH = 20_000
_ABSENT = object()
_NONE = frozenset[str]()
Resolve = Callable[[Scope], Any]


class Template:
    """A value with the expressions in it, compiled.

    Attributes:
        source: The value as it was given.
        uses: The names its expressions read, in order: `("steps", "fetch", "output")`.
        references: Ids of the steps it uses.
        secrets: Names it reads as `secrets.NAME`.
        is_constant: It has no expressions; `resolve` returns `source` itself.
        uses_chain_result: `CHAIN_RESULT` stands in its text.
    """

    __slots__ = ("_resolve", "is_constant", "references", "secrets", "source", "uses", "uses_chain_result")

    def __init__(self, source: Any, resolve: Resolve | None, uses: tuple[Use, ...], uses_chain_result: bool) -> None:
        self.source = source
        self.uses = uses
        self.uses_chain_result = uses_chain_result
        self.is_constant = resolve is None
        self.references = frozenset(str(use[1]) for use in uses if use[0] == "steps") if uses else _NONE
        self.secrets = frozenset(str(use[1]) for use in uses if use[0] == "secrets") if uses else _NONE
        self._resolve = resolve

    @property
    def uses_item(self) -> bool:
        """Whether it needs an item of `for_each`."""
        return any(use[0] in ("item", "index") for use in self.uses)

    def resolve(self, context: Mapping[str, Any], chain_result: Any = _ABSENT) -> Any:
        """Return the value with its expressions carried out.

        Args:
            context: `steps` (id to output, status, error), `inputs`, `item`, `index`, `secrets`, `run`; plain mappings.
            chain_result: What `CHAIN_RESULT` stands for; left as written where this is not given.

        Raises:
            ExpressionError: A name is missing, a value does not fit, or the work is too much.
        """
        if self.uses_chain_result and chain_result is not _ABSENT:
            return (self._resolve or _structure(self.source)[0] or _plain(self.source))(Scope(context, (chain_result,)))
        return self.source if self._resolve is None else self._resolve(Scope(context))

    def __repr__(self) -> str:
        return f"Template({self.source!r})"


def compile_template(value: Any) -> Template:
    """Return the compiled form of a JSON value: text, or lists and mappings with text anywhere in them.

    Raises:
        ExpressionError: An expression in it cannot be read.
    """
    if isinstance(value, str):
        return _text_template(value)
    try:
        resolve, uses, chained = _structure(value)
    except RecursionError:
        raise ExpressionError("a value is nested too deeply") from None
    return Template(value, resolve if uses or _has_expression(value) else None, tuple(dict.fromkeys(uses)), chained)


def compile_condition(value: Any) -> Template:
    """Return the compiled form of a `when` or `for_each`: one `{{ expression }}`, a list, true or false.

    Raises:
        ExpressionError: It is anything else.
    """
    if not isinstance(value, str):
        return compile_template(value)
    template = _text_template(value)
    if not _is_lone(value):
        shown = value.strip()
        raise ExpressionError(f"expected one expression and nothing else, as in {{{{ {shown[:60] or '...'} }}}}")
    return template


def substitute_chain_result(value: Any, output: Any) -> Any:
    """Return `value`, a plan's own value, with `output` where `CHAIN_RESULT` stands: whole, in text, or nested."""
    return _plain(value)(Scope({}, (output,)))


def as_text(value: Any) -> str:
    """Return `value` as it stands in text: text as it is, everything else as JSON.

    For what must be text although an expression alone keeps its type: words of a command, variables, paths.

    Raises:
        ExpressionError: It is larger than 10 MB.
    """
    return check_text(render(Scope({}), value))


def walk_text(value: Any, location: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every text within `value` that may hold an expression or `CHAIN_RESULT`, with where it stands."""
    if isinstance(value, str):
        if "{{" in value or "{%" in value or CHAIN_RESULT in value:
            yield location, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk_text(item, (*location, key))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from walk_text(item, (*location, place))


def _has_expression(value: Any) -> bool:
    return any("{{" in text for _, text in walk_text(value))


def _structure(value: Any) -> tuple[Resolve | None, tuple[Use, ...], bool]:
    """Return how to resolve a nested value, what it uses and whether `CHAIN_RESULT` is in it; None: as it is."""
    if isinstance(value, str):
        template = _text_template(value)
        resolve = template._resolve or (_plain(value) if template.uses_chain_result else None)
        return resolve, template.uses, template.uses_chain_result
    if isinstance(value, Mapping):
        names = list(value)
        parts = [_structure(item) for item in value.values()]
    elif isinstance(value, list | tuple):
        names, parts = [], [_structure(item) for item in value]
    else:
        return None, (), False
    uses = tuple(use for part in parts for use in part[1])
    chained = any(part[2] for part in parts)
    if all(part[0] is None for part in parts):
        return None, uses, chained
    originals = list(value.values()) if isinstance(value, Mapping) else list(value)
    pairs = [(resolve, original) for (resolve, _, _), original in zip(parts, originals, strict=True)]

    def resolve_all(scope: Scope) -> Any:
        found = [original if resolve is None else resolve(scope) for resolve, original in pairs]
        return dict(zip(names, found, strict=True)) if names else found

    return resolve_all, uses, chained


def _text_template(text: str) -> Template:
    """Return the compiled form of a text; only texts that hold something to compile, and short ones, are kept."""
    if "{{" not in text and "{%" not in text:
        return Template(text, None, (), CHAIN_RESULT in text and _CHAIN.search(text) is not None)
    return _compiled_text(text) if len(text) <= _CACHED_LENGTH else _compiled_text.__wrapped__(text)


@lru_cache(maxsize=16_384)
def _compiled_text(text: str) -> Template:
    chained = CHAIN_RESULT in text and _CHAIN.search(text) is not None
    if _STATEMENT.search(text):
        raise ExpressionError("statements in {% %} are not supported, only {{ expressions }}")
    if "{{" not in text:
        return Template(text, None, (), chained)
    parts = _parts(text)
    uses = tuple(dict.fromkeys(use for part in parts if isinstance(part, Expression) for use in part.uses))
    if _is_one(parts):
        return Template(text, next(part for part in parts if isinstance(part, Expression)), uses, chained)

    def resolve(scope: Scope) -> str:
        found = []
        for part in parts:
            found.append(render(scope, _fill(part, scope) if isinstance(part, str) else part(scope)))
        return check_text("".join(found))

    return Template(text, resolve, uses, chained)


def _is_lone(text: str) -> bool:
    """Whether `text` is one expression with nothing but white space around it."""
    return text.lstrip().startswith("{{") and _is_one(_parts(text))


def _is_one(parts: tuple[str | Expression, ...]) -> bool:
    return sum(isinstance(part, Expression) for part in parts) == 1 and not any(
        isinstance(part, str) and part.strip() for part in parts
    )


def _parts(text: str) -> tuple[str | Expression, ...]:
    """Return `text` cut into literal text and expressions."""
    parts: list[str | Expression] = []
    place = 0
    while (start := text.find("{{", place)) >= 0:
        inner, end = _expression_at(text, start + 2)
        literal = text[place:start]
        if inner.startswith("-"):
            inner, literal = inner[1:], literal.rstrip()
        parts.append(literal)
        trims = inner.endswith("-")
        parts.append(compile_expression(inner.removesuffix("-").strip()))
        place = end
        while trims and place < len(text) and text[place].isspace():
            place += 1
    parts.append(text[place:])
    return tuple(part for part in parts if part != "")


def _expression_at(text: str, start: int) -> tuple[str, int]:
    """Return the expression that begins at `start` and where the text goes on after its closing braces."""
    found: list[str] = []
    depth, mark, place = 0, "", start
    while place < len(text):
        letter = text[place]
        if mark:
            if letter == "\\" and place + 1 < len(text):
                following = text[place + 1]
                found.append(letter + following if following in _KEPT_ESCAPES else "\\\\" + following)
                place += 2
                continue
            mark = "" if letter == mark else mark
        elif letter in "'\"":
            mark = letter
        elif letter in "{[(":
            depth += 1
        elif letter in "}])":
            if depth == 0 and text.startswith("}}", place):
                return "".join(found), place + 2
            depth -= 1
        found.append(letter)
        place += 1
    shown = text[start - 2 : start + 38]
    raise ExpressionError(f"'{shown}' is not closed with }}}}; a literal pair of braces is written {{{{ '{{{{' }}}}")


def _fill(text: str, scope: Scope) -> str:
    """Return literal text with `CHAIN_RESULT` filled in, where the scope has one."""
    if scope.chain_result is None or CHAIN_RESULT not in text:
        return text
    output = render(scope, scope.chain_result[0])
    scope.spend(len(output) * len(_CHAIN.findall(text)))
    return check_text(_CHAIN.sub(lambda match: output, text))


def _plain(value: Any) -> Resolve:
    """Return how to fill `CHAIN_RESULT` into a value, its expressions left alone."""

    def resolve(scope: Scope) -> Any:
        return _fill_deep(value, scope)

    return resolve


def _fill_deep(value: Any, scope: Scope) -> Any:
    if isinstance(value, str):
        if scope.chain_result is not None and value.strip() == CHAIN_RESULT:
            return scope.chain_result[0]
        return _fill(value, scope)
    if isinstance(value, Mapping):
        return {key: _fill_deep(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill_deep(item, scope) for item in value]
    return value
