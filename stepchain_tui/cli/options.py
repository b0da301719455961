"""Options that several commands share, and what is read from them."""

from __future__ import annotations

from collections.abc import Callable
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
    """Add `--dry-run`, which this version does not have."""
    return click.option("--dry-run", is_flag=True, hidden=True, expose_value=False, callback=_no_dry_run)(command)


def _no_dry_run(_: click.Context, __: click.Parameter, value: bool) -> None:
    if value:
        from stepchain_tui.core.errors import NotAvailableError

        raise NotAvailableError("--dry-run is not available yet", hint="Leave it out.")


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
