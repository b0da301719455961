"""SQL as it is written in a plan: where its `:name` places are, where it ends, and what it may not hold.

Values never become part of the text: a `:name` outside of literals, quoted names and comments is a place for a bound
parameter, and nothing else is. The text is not understood beyond that; the database says what is wrong with it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from stepchain_tui.executors.db.address import POSTGRESQL
from stepchain_tui.executors.db.values import text_problem

_NAME = r"[^\W\d]\w*"
_COMMON = r"""
    (?P<line>--[^\n]*) | (?P<block>/\*)
  | (?P<word>[^\W\d][\w$]*) | (?P<number>\d[\w.]*)
  | (?P<end>;) | (?P<open>[(\[]) | (?P<close>[)\]]) | (?P<other>\S)
"""
_POSTGRESQL = re.compile(
    rf"""
    (?P<quoted>
        [eE]'(?:[^'\\]|\\.|'')*+'? | '(?:[^']|'')*+'? | "(?:[^"]|"")*+"?
      | (?P<tag>\$(?:{_NAME})?\$).*?(?:(?P=tag)|\Z)
    )
  | (?P<cast>::|:=) | (?P<foreign>\$\d+) | (?<![\w:\])"]):(?P<bind>{_NAME})
  | {_COMMON}
    """,
    re.VERBOSE | re.DOTALL,
)
_SQLITE = re.compile(
    rf"""
    (?P<quoted>'(?:[^']|'')*+'? | "(?:[^"]|"")*+"? | `(?:[^`]|``)*+`? | \[[^\]]*\]?)
  | (?P<foreign>\?\d* | [@$]\w+) | (?<![\w:]):(?P<bind>{_NAME})
  | {_COMMON}
    """,
    re.VERBOSE | re.DOTALL,
)
_WRITES = frozenset({"insert", "update", "delete", "merge"})
_CHANGES = _WRITES | {"replace"}
_QUERIES = frozenset({"select", "values", "table", "with"})
_CONTROL = frozenset({"begin", "start", "commit", "end", "rollback", "abort"})
_MOST_WORDS = 400
_SESSION = frozenset({"set_config", "pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_lock_shared"})
"""Functions whose effect outlives their transaction."""


class StatementError(ValueError):
    """Signals text that cannot be carried out as one statement.

    Args:
        problem: What is wrong with it, as a sentence about the text.
        hint: What to write instead.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True)
class Statement:
    """One SQL statement.

    Attributes:
        text: As it was written, without what ends it.
        binds: (start, end, name) of each `:name`, in order.
        words: The lower-case words outside of parentheses, literals and comments, at most the first `_MOST_WORDS`.
        inner: The lower-case words inside of parentheses, likewise.
    """

    text: str
    binds: tuple[tuple[int, int, str], ...]
    words: tuple[str, ...]
    inner: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, each once, in the order of their first place."""
        return tuple(dict.fromkeys(name for _, _, name in self.binds))

    @property
    def verb(self) -> str:
        """The first word, lower case; `select` where it begins with a parenthesis."""
        return "select" if not self.words or self.text.lstrip().startswith("(") else self.words[0]

    @property
    def is_query(self) -> bool:
        """Whether it is certain to change nothing but through functions that it calls."""
        return self.verb in _QUERIES and "into" not in self.words and not _WRITES & {*self.words, *self.inner}

    @property
    def keeps_session(self) -> bool:
        """Whether the connection is afterwards as it was before: it only reads or writes rows."""
        return self.verb in _QUERIES | _CHANGES | {"explain"} and not _SESSION & {*self.words, *self.inner}

    def rendered(self, place: Callable[[str, int], str], literal: Callable[[str], str] = str) -> str:
        """Return the text with other words for its places.

        Args:
            place: Gets a parameter's name and its number from 1, and returns what stands in its place.
            literal: Gets each piece between places and returns what stands for it.
        """
        found: list[str] = []
        before = 0
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        for start, end, name in self.binds:
            found.extend((literal(self.text[before:start]), place(name, numbers[name])))
            before = end
        return "".join((*found, literal(self.text[before:])))


@lru_cache(maxsize=256)
def read_statement(text: str, driver: str) -> Statement:
    """Take one statement apart.

    Args:
        text: The SQL; a `;` at its end is left away.
        driver: Whose dialect it is written in.

    Raises:
        StatementError: It is empty, no text, more than one statement, steers the transaction, or has places of another
            style.
    """
    if problem := text_problem(text):
        raise StatementError(f"`sql` {problem}", "Take the character out; a value belongs into `params`.")
    binds: list[tuple[int, int, str]] = []
    words: list[str] = []
    inner: list[str] = []
    depth, whole = 0, False
    anything, end = False, -1
    for match in _tokens(text, driver):
        kind = match.lastgroup
        if kind == "end" and (end >= 0 or not (whole or _goes_on(text[: match.end()], driver))):
            end = match.start() if end < 0 else end
            continue
        if end >= 0:
            raise StatementError(
                "`sql` holds more than one statement",
                "Write them as a list, which is one transaction: sql: [first, second].",
            )
        anything = True
        match kind:
            case "bind":
                binds.append((match.start(), match.end(), match["bind"]))
            case "foreign":
                raise StatementError(
                    f"`{match['foreign']}` is no place for a parameter",
                    "Write :name in `sql`, and the value under that name in `params`.",
                )
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "word":
                found, word = (inner if depth > 0 else words), match["word"].lower()
                # The body of a function in SQL holds statements of its own; a second one after it the server refuses.
                whole = whole or (word == "atomic" and found[-1:] == ["begin"])
                if len(found) < _MOST_WORDS:
                    found.append(word)
    if not anything:
        raise StatementError("`sql` is empty", "Write a statement.")
    made = Statement(text if end < 0 else text[:end], tuple(binds), tuple(words), frozenset(inner))
    _refuse_control(made)
    return made


def _tokens(text: str, driver: str) -> Iterator[re.Match[str]]:
    """Yield what a text consists of, without white space and comments."""
    pattern = _POSTGRESQL if driver == POSTGRESQL else _SQLITE
    place = 0
    while (match := pattern.search(text, place)) is not None:
        place = match.end()
        if match.lastgroup == "block":
            place = _after_comment(text, place, nested=driver == POSTGRESQL)
        elif match.lastgroup != "line":
            yield match


def _after_comment(text: str, place: int, nested: bool) -> int:
    """Return where a block comment ends."""
    depth = 1
    while depth:
        closing, opening = text.find("*/", place), text.find("/*", place)
        if closing < 0:
            return len(text)
        if nested and 0 <= opening < closing:
            depth, place = depth + 1, opening + 2
        else:
            depth, place = depth - 1, closing + 2
    return place


def _goes_on(text: str, driver: str) -> bool:
    """Whether a `;` at the end of the text is inside of a statement: SQLite's triggers hold some."""
    return driver != POSTGRESQL and not sqlite3.complete_statement(text)


def refuse_writing(statement: Statement) -> None:
    """Refuse what would let a step write that is to read only: the database itself does not.

    Raises:
        StatementError: The statement changes what may be written to.
    """
    words = {*statement.words, *statement.inner}
    verb = statement.words[0] if statement.words else ""
    if verb in ("attach", "detach") or (verb in ("pragma", "set", "reset", "select") and words & _OPENS_WRITING):
        raise StatementError(
            f"this {verb.upper()} is not for a step with read_only", "Leave it away, or leave read_only out."
        )


_OPENS_WRITING = frozenset(
    (
        *("query_only", "writable_schema", "journal_mode"),
        *("transaction", "session", "transaction_read_only", "default_transaction_read_only", "set_config"),
    )
)
"""Settings of databases that say what may be written."""


def _refuse_control(statement: Statement) -> None:
    words = statement.words
    if words and words[0] in _CONTROL and "to" not in words[1:4]:
        raise StatementError(
            f"{words[0].upper()} is not for steps: a step is a transaction of its own",
            "Leave it away; statements that belong together are a list: sql: [first, second].",
        )
    if words and words[0] == "copy" and {"stdin", "stdout"} & set(words):
        raise StatementError(
            "COPY from or to a client is not possible in a step",
            "Use INSERT with a list of mappings in `params`, or a shell step with psql.",
        )
