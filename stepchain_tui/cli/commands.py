"""The tree of commands. Each command's module is imported when the command is used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from stepchain_tui import __version__
from stepchain_tui.cli.options import store_option

_MODULES = {
    "run": "running",
    "validate": "plans",
    "schema": "plans",
    "graph": "plans",
    "plan": "planning",
    "runs": "reading",
    "show": "reading",
    "logs": "logs",
    "transcript": "transcripts",
    "why": "explaining",
    "diff": "comparing",
    "open": "opening",
    "resume": "running",
    "pause": "steering",
    "cancel": "steering",
    "rerun": "running",
    "fork": "running",
    "replay": "replaying",
    "skip": "steering",
    "approve": "steering",
    "edit": "editing",
    "repair": "repairing",
    "mark": "by_hand",
    "pin": "by_hand",
    "breakpoint": "by_hand",
    "limits": "by_hand",
    "tools": "tools",
    "call": "calling",
    "breakers": "breakers",
    "export": "archives",
    "import": "archives",
    "delete": "tidying",
    "prune": "tidying",
    "doctor": "doctor",
}
"""Command -> the module that has it as a function of the same name, in the order of the help."""

_APP = "app"


class ReaderGoneError(Exception):
    """Signals that nobody reads our standard output any more. click would make a failure of a broken pipe."""


class StepChain(click.Group):
    """`stepchain COMMAND`, or `stepchain PLAN` for the app."""

    def invoke(self, ctx: click.Context) -> Any:
        """Carry the command out and see its output off."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise ReaderGoneError from None
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands of this version."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, its module imported, or None."""
        if cmd_name == _APP:
            return _member("opening", "app")
        return _member(_MODULES[cmd_name], cmd_name) if cmd_name in _MODULES else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the words name; a word that looks like a plan's file is the app's."""
        word = args[0]
        if word not in _MODULES:
            if not _looks_like_a_plan(word):
                from stepchain_tui.core.errors import did_you_mean

                hint = did_you_mean(word, _MODULES) or "`stepchain --help` lists the commands."
                ctx.fail(f"there is no command and no plan file '{word}'; {hint}")
            return _APP, self.get_command(ctx, _APP), args
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both ways to use it."""
        formatter.write_usage("stepchain", "[PLAN]                the app")
        formatter.write_usage("stepchain", "COMMAND [ARGS]...")


def _looks_like_a_plan(word: str) -> bool:
    from pathlib import Path

    return "/" in word or word.endswith((".yaml", ".yml", ".json")) or Path(word).exists()


def _member(module: str, name: str) -> click.Command:
    found: click.Command = getattr(import_module(f"stepchain_tui.cli.{module}"), f"{name}_command")
    return found


def _no_web(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from stepchain_tui.core.errors import NotAvailableError

        raise NotAvailableError("--web is not available yet", hint="Leave it out.")


@click.group(
    cls=StepChain,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 succeeded, 1 a step failed, 2 bad usage, plan, store, run or step, 3 stopped and can be "
    "resumed (paused, waiting, cancelled), 130 interrupted.",
)
@store_option
@click.option("--in-process", is_flag=True, help="Carry runs out within the app's own process.")
@click.option("--web", is_flag=True, hidden=True, expose_value=False, callback=_no_web)
@click.version_option(__version__, message="stepchain %(version)s")
@click.pass_context
def stepchain(context: click.Context, store: str | None, in_process: bool) -> int | None:
    """Run plans of steps, watch them, stop, mend and rerun them, with nothing lost.

    Without a command this opens the app, on PLAN if one is named.
    """
    if context.invoked_subcommand is None:
        from stepchain_tui.cli.opening import open_app

        return open_app(store, in_process=in_process)
    return None
