"""`validate`, `schema`, `graph`: commands about a plan's file that run nothing."""

from __future__ import annotations

import click

from stepchain_tui.cli.options import json_option, store_option


@click.command("validate")
@click.argument("plan")
@json_option
@store_option
def validate_command(plan: str, as_json: bool, store: str | None) -> int:
    """Check PLAN and name every mistake, each with its line; nothing is run."""
    from pathlib import Path

    from stepchain_tui.cli.border import USAGE
    from stepchain_tui.cli.text import clean_line, put, put_json, say
    from stepchain_tui.cli.user_settings import user_settings
    from stepchain_tui.plan import find_problems, load_plan, read_plan_text

    path = Path(plan)
    user_settings()
    problems = find_problems(read_plan_text(path), plan, path.absolute().parent)
    if as_json:
        records = [
            {"line": found.line, "column": found.column, "path": found.path, "message": found.message}
            | {"suggestion": found.suggestion, "text": found.text(plan)}
            for found in problems
        ]
        put_json({"ok": not problems, "plan": plan, "problems": records})
        return USAGE if problems else 0
    for found in problems:
        put(clean_line(found.text(plan), 2000))
    if problems:
        say(f"{len(problems)} mistake{'s' if len(problems) > 1 else ''}; nothing was run")
        return USAGE
    count = len(load_plan(path).plan.steps)
    say(f"{plan}: a good plan of {count} step{'' if count == 1 else 's'}")
    return 0


@click.command("schema")
@click.option("--json", is_flag=True, expose_value=False, hidden=True, help="The schema is always JSON.")
@store_option
def schema_command(store: str | None) -> None:
    """Print the JSON schema of plan files, for editors."""
    from stepchain_tui.cli.text import put
    from stepchain_tui.plan import schema_text

    put(schema_text().rstrip("\n"))


@click.command("graph")
@click.argument("plan")
@json_option
@store_option
def graph_command(plan: str, as_json: bool, store: str | None) -> None:
    """Draw the graph of PLAN; with --json print {"steps": [{id, kind, parents}]}."""
    from pathlib import Path

    from stepchain_tui.cli.text import put, put_json
    from stepchain_tui.cli.user_settings import user_settings
    from stepchain_tui.plan import PlanGraph, load_plan

    user_settings()
    loaded = load_plan(Path(plan)).plan
    parents = PlanGraph.of(loaded).parents
    if as_json:
        steps = [{"id": step.id, "kind": step.kind.value, "parents": list(parents[step.id])} for step in loaded.steps]
        put_json({"steps": steps})
        return
    from stepchain_tui.cli.drawing import draw

    for line in draw({step.id: list(parents[step.id]) for step in loaded.steps}):
        put(line)
