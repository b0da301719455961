"""Where the command line meets the process: every error becomes one message and one exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from stepchain_tui.cli.commands import ReaderGoneError, stepchain
from stepchain_tui.cli.streams import forget

USAGE, FAILED, STOPPED, INTERRUPTED, READER_GONE = 2, 1, 3, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code.

    Args:
        arguments: The words after `stepchain`; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = stepchain.main(words, prog_name="stepchain", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.Abort:
        return tell("interrupted", "interrupted", "", INTERRUPTED, as_json)
    except click.ClickException as error:
        return _usage(error, as_json)
    except ReaderGoneError:
        forget(sys.stdout)
        return READER_GONE
    except Exception as error:  # noqa: BLE001 - the border of the process: nothing leaves it as a traceback alone
        return _tell_error(error, as_json)


def tell(message: str, kind: str, hint: str, code: int, as_json: bool) -> int:
    """Write an error where people, or with `as_json` programs, look for it; return `code`."""
    try:
        if as_json:
            record = {"error": message, "kind": kind, "hint": hint}
            print(json.dumps(record, ensure_ascii=False), file=sys.stderr)  # noqa: T201
        else:
            print(message, file=sys.stderr)  # noqa: T201
            if hint:
                print(f"  {hint}", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
    except BrokenPipeError:
        forget(sys.stderr)
    return code


def _usage(error: click.ClickException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` tells more." if context is not None else "`stepchain --help` tells more."
    message = error.format_message()
    return tell(message if as_json else f"error: {message}", "usage", hint, USAGE, as_json)


def _tell_error(error: Exception, as_json: bool) -> int:
    from stepchain_tui.cli.text import clean_block
    from stepchain_tui.core.errors import PlanError, StepChainError

    if isinstance(error, StepChainError):
        code = FAILED if error.kind == "internal" else getattr(error, "cli_code", USAGE)
        plain = as_json or isinstance(error, PlanError)
        message = clean_block(error.message if plain else f"error: {error.message}")
        return tell(message, error.kind, clean_block(error.hint), code, as_json)
    if isinstance(error, MemoryError):
        return tell("error: there is not enough memory", "memory", "Close something, then try again.", USAGE, as_json)
    import traceback

    trace = "".join(traceback.format_exception(error))
    hint = f"This is a bug in StepChain. Please report it with the steps that led here.\n{trace}"
    return tell(f"internal error: {type(error).__name__}: {error}", "internal", hint, FAILED, as_json)
