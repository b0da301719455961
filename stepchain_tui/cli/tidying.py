"""`delete` and `prune`: runs go, and with them what nothing else refers to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from stepchain_tui.run import RunStatus

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def _yes_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--yes` and `--dry-run`."""
    command = click.option("--dry-run", is_flag=True, help="Print what would go; change nothing.")(command)
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


@click.command("delete")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@_yes_option
@json_option
@store_option
def delete_command(runs: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool, store: str | None) -> int:
    """Delete each RUN: its events, logs and outputs.

    An output that another run or the cache refers to stays, and runs that were forked from it keep their results.
    A run that is being carried out is not deleted.
    """
    from stepchain_tui.cli import deleting

    return deleting.delete(store, runs, deleting.Manner(yes=yes, dry_run=dry_run, as_json=as_json))


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    from datetime import timedelta

    if value is None:
        return None
    unit = _UNITS.get(value[-1:].lower())
    try:
        if unit is None:
            raise ValueError
        if not float(value[:-1]) >= 0:
            raise ValueError
        return timedelta(seconds=float(value[:-1]) * unit)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"'{value}' is no age; say 30d, 12h, 2w", ctx=context, param=parameter) from None


def _bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    number = value.rstrip("kmgtbKMGTB ")
    unit = _SIZES.get(value[len(number) :].strip().lower())
    try:
        if unit is None:
            raise ValueError
        if not float(number) >= 0:
            raise ValueError
        return int(float(number) * unit)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"'{value}' is no size; say 500MB, 1GB", ctx=context, param=parameter) from None


def _statuses(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[RunStatus]:
    from stepchain_tui.run import RunStatus

    known = {str(status): status for status in RunStatus}
    for value in values:
        if value not in known:
            raise click.BadParameter(f"'{value}' is none of {', '.join(known)}", ctx=context, param=parameter)
    return [known[value] for value in values]


@click.command("prune")
@click.option("--older-than", metavar="AGE", callback=_age, help="Only runs that ended that long ago: 30d, 12h, 2w.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Not the newest N of them.")
@click.option("--max-size", metavar="SIZE", callback=_bytes, help="Only the oldest, until the store is that small.")
@click.option(
    "--status",
    "statuses",
    metavar="STATUS",
    multiple=True,
    callback=_statuses,
    help="Only runs of this status; repeat it for more.  [default: succeeded, failed, cancelled]",
)
@_yes_option
@json_option
@store_option
def prune_command(
    older_than: timedelta | None,
    keep: int | None,
    max_size: int | None,
    statuses: list[RunStatus],
    yes: bool,
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Delete old runs. Each option narrows what goes; at least one is needed.

    What is paused, waits for an answer or was interrupted goes only where --status names it, and what is being
    carried out never does.
    """
    from datetime import UTC, datetime

    from stepchain_tui.cli import deleting
    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.store.pruning import ENDED, PruneRule

    if older_than is None and keep is None and max_size is None and not statuses:
        raise UsageError(
            "say which runs go: --older-than, --keep, --max-size or --status",
            hint="`stepchain prune --older-than 30d --dry-run` shows what that would be.",
        )
    try:
        before = None if older_than is None else datetime.now(UTC) - older_than
    except OverflowError:
        before = datetime.min.replace(tzinfo=UTC)
    rule = PruneRule(statuses=statuses or ENDED, before=before, keep=keep, max_bytes=max_size)
    return deleting.prune(store, rule, deleting.Manner(yes=yes, dry_run=dry_run, as_json=as_json))
