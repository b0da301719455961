"""`plan`: from a goal in plain words to a plan's file; nothing of the plan is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.cli.carrying import Outcome
    from stepchain_tui.core.settings import Settings
    from stepchain_tui.engine import EngineService, RunHandle
    from stepchain_tui.engine.decomposing import Decomposition
    from stepchain_tui.store import SQLiteStore

_TOLD_EFFECTS = 30


@click.command("plan")
@click.argument("goal")
@click.option("-o", "--output", "file", metavar="FILE", help="Write the plan to FILE instead of printing it.")
@click.option("--force", is_flag=True, help="Write over FILE where it exists.")
@click.option(
    "--tools",
    "tools",
    metavar="NAMES",
    multiple=True,
    help="The tools at hand, separated by commas: web_search, a server of the settings or SERVER.TOOL (it is started "
    "and asked), ./file.py:name (it is imported).  [default: built-in tools, web_search, servers of the settings]",
)
@click.option("--model", metavar="M", help="Ask M.  [default: the model of the settings]")
@click.option("--max-steps", type=click.IntRange(1, 500), default=50, show_default=True, metavar="N")
@json_option
@store_option
def plan_command(
    goal: str,
    file: str | None,
    force: bool,
    tools: tuple[str, ...],
    model: str | None,
    max_steps: int,
    as_json: bool,
    store: str | None,
) -> int:
    """Ask a model for a plan that reaches GOAL, for you to read and edit; nothing of it is run.

    What is wrong with the plan goes back to the model once; what is left is told with the plan, and the command exits
    with 2. The question to the model is a run: it is in the history, with its tokens.
    """
    from stepchain_tui.cli.user_settings import user_settings
    from stepchain_tui.engine.asking import require_model
    from stepchain_tui.engine.tools_at_hand import usual_tools

    path = _target(file, force)
    settings = user_settings()
    made_by = require_model(model, settings)
    named = [name.strip() for word in tools for name in word.split(",") if name.strip()]
    folder = (path.parent if path is not None else Path.cwd()).absolute()
    order = _Order(goal, named or usual_tools(settings), bool(named), model, made_by, max_steps, folder, settings)
    return _carry_out(order, path, store, force=force, as_json=as_json)


@dataclass(frozen=True)
class _Order:
    """A plan that is wanted.

    Attributes:
        goal: What it is to do.
        tools: The names of the tools at hand.
        connect: Whether servers are asked for their tools: they were named.
        model: The model to ask, or None.
        made_by: Its name.
        max_steps: How many steps it may have.
        folder: Where its file will be.
        settings: The user's settings.
    """

    goal: str
    tools: list[str]
    connect: bool
    model: str | None
    made_by: str
    max_steps: int
    folder: Path
    settings: Settings

    async def begin(self, service: EngineService) -> RunHandle:
        """Start the run that asks the model."""
        from stepchain_tui.engine.decomposing import decomposition_source
        from stepchain_tui.engine.tools_at_hand import told_tools

        tools = await told_tools(service.engine, self.tools, self.folder, self.settings, connect=self.connect)
        source = decomposition_source(
            self.goal, tools, folder=self.folder, model=self.model, made_by=self.made_by, max_steps=self.max_steps
        )
        return await service.start_source(source)


def _target(file: str | None, force: bool) -> Path | None:
    """Return the file to write, before anybody is asked for anything.

    Raises:
        UsageError: It cannot be written, or exists.
    """
    from stepchain_tui.core.errors import UsageError

    if file is None:
        return None
    path = Path(file)
    if path.suffix.lower() == ".json":
        raise UsageError(f"{file}: plans are drafted as YAML", hint="Name a file that ends with .yaml.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that is not there"
        raise UsageError(f"{file} {what}", hint="Name a file in a folder that exists.")
    if path.exists() and not force:
        raise UsageError(f"{file} exists already", hint="Name another file, or add --force.")
    return path


def _carry_out(order: _Order, path: Path | None, store: str | None, *, force: bool, as_json: bool) -> int:
    import sys

    from stepchain_tui.cli.border import FAILED
    from stepchain_tui.cli.carrying import carry_out
    from stepchain_tui.cli.following import Quiet
    from stepchain_tui.cli.outcomes import report
    from stepchain_tui.cli.progress import Progress
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.cli.text import put, put_json
    from stepchain_tui.engine.decomposing import decomposition_of
    from stepchain_tui.plan import save_plan_text
    from stepchain_tui.run.failures import AttemptError
    from stepchain_tui.run.spending import usage_record

    watcher = Progress(store) if sys.stderr.isatty() and not as_json else Quiet()
    outcome = carry_out(store, order.begin, watcher, run_id=None)
    if _is_open(outcome):
        return report(outcome, store, as_json=as_json)

    async def read(opened: SQLiteStore, run_id: str) -> Decomposition:
        return await decomposition_of(opened, run_id)

    try:
        found = read_run(store, outcome.state.run_id, read)
    except AttemptError as error:
        error.cli_code = FAILED  # type: ignore[attr-defined]
        raise
    if path is not None:
        _target(str(path), force)  # somebody may have written it while the model was asked
        save_plan_text(path, found.text, None)
    problems = _problems(found, str(path) if path is not None else "plan", order.folder)
    if as_json:
        told = {"usage": usage_record(found.usage), "path": str(path) if path is not None else None}
        put_json({**found.to_json(), **told})
    elif path is None:
        put(found.text.rstrip("\n"))
    if not as_json:
        _say(found, path, problems)
    return 2 if problems else 0


def _is_open(outcome: Outcome) -> bool:
    """Return whether the run stopped before its end: it can be gone on with."""
    from stepchain_tui.run import RunStatus

    return outcome.status not in (RunStatus.SUCCEEDED, RunStatus.FAILED)


def _problems(found: Decomposition, name: str, folder: Path) -> list[str]:
    """Return what is wrong with the plan, each with its line where it has one."""
    from stepchain_tui.plan import Problem, find_problems

    if not found.problems:
        return []
    located = {
        Problem(0, 0, one.path, one.message, one.suggestion).text(): one.text(name)
        for one in find_problems(found.text, name, folder)
    }
    return [located.get(problem, f"{name}: {problem}") for problem in found.problems]


def _say(found: Decomposition, path: Path | None, problems: list[str]) -> None:
    """Tell what was made, and what is to be read before it is started."""
    from stepchain_tui.cli.text import clean_line, say
    from stepchain_tui.cli.usage import usage_words
    from stepchain_tui.run.why_words import numbered

    where = f"wrote {path}: " if path is not None else ""
    say(f"{where}a plan of {numbered(found.steps, 'step')} by {clean_line(found.model)}, {usage_words(found.usage)}")
    say(f"  the question is run {found.run_id}; nothing of the plan was run")
    if found.effects:
        say("  read before you start it:")
        for line in found.effects[:_TOLD_EFFECTS]:
            say(f"    {clean_line(line)}")
        if len(found.effects) > _TOLD_EFFECTS:
            say(f"    and {len(found.effects) - _TOLD_EFFECTS} more")
    for note in found.notes:
        say(f"  taken for granted: {clean_line(note)}")
    for problem in problems:
        say(clean_line(problem, 2000))
    if problems:
        say(f"{numbered(len(problems), 'mistake')} left: mend the plan before it can run")
