"""Options that several commands share, and what is read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def _store_of(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return the store that was named here, or before the command's name."""
    root = context.find_root()
    return value if value is not None or root is context else root.params.get("store")


def store_option(command: Command) -> Command:
    """Add `--store FILE`."""
    return click.option(
        "--store",
        metavar="FILE",
        callback=_store_of,
        help="Keep runs in FILE.  [default: $STEPCHAIN_STORE, else the user's data folder]",
    )(command)


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON; errors are JSON on standard error.")(
        command
    )


def input_option(command: Command) -> Command:
    """Add `--input k=v`, repeated."""
    return click.option(
        "--input",
        "inputs",
        metavar="K=V",
        multiple=True,
        callback=pairs,
        help="Give an input of the plan; repeat it for more.",
    )(command)


def dry_run_option(command: Command) -> Command:
    """Add `--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Print what would be done, step by step; change nothing.")(
        command
    )


def output_options(command: Command) -> Command:
    """Add `--output JSON` and `--output-file FILE`."""
    command = click.option("--output-file", metavar="FILE", help="Read the output, as JSON, from FILE; - for stdin.")(
        command
    )
    return click.option("--output", metavar="JSON", help="The output, as JSON; a text stands in quotes.")(command)


def json_value(text: str | None, file: str | None, option: str) -> Mapping[str, Any]:
    """Return `{name of the option: value}` for JSON that was typed or stands in a file, `{}` where neither was given.

    Args:
        text: What was typed after `option`.
        file: What was typed after `option` with `-file`; `-` is standard input.
        option: The option, such as `--output`.

    Raises:
        UsageError: Both were given, the file cannot be read, or it is no JSON.
    """
    import msgspec

    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.core.values import decode_json

    if text is not None and file is not None:
        raise UsageError(f"{option} and {option}-file say the same: give one of them")
    if file is not None:
        text, named = _text_of(file), "standard input" if file == "-" else file
    elif text is not None:
        named = option
    else:
        return {}
    try:
        return {option.lstrip("-"): decode_json(text.encode())}
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        hint = "" if file is not None else "A text stands in double quotes within the shell's: '\"text\"'."
        raise UsageError(f"{named} is no JSON: {error}", hint=hint) from None


def _text_of(file: str) -> str:
    import sys
    from pathlib import Path

    from stepchain_tui.core.errors import UsageError

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text") from None


def pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return `k=v` words as a mapping."""
    found: dict[str, str] = {}
    for word in values:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"'{word}' is not K=V", ctx=context, param=parameter)
        if name in found:
            raise click.BadParameter(f"'{name}' is given twice", ctx=context, param=parameter)
        found[name] = value
    return found
