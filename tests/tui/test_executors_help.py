"""Executor types in the app: the page that tells what each is for, and the choice in the form of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Select
from tui_desk import Desk

from stepchain_tui.executors.kinds import kinds_with_executors
from stepchain_tui.plan import Step, parse_plan
from stepchain_tui.plan.executor_types import FIXED_TYPES, SHIPPED_TYPES
from stepchain_tui.tui.executor_help import executor_help, help_lines
from stepchain_tui.tui.screens.editor import EditorScreen
from stepchain_tui.tui.screens.executors import ExecutorsScreen
from stepchain_tui.tui.step_form import fields_of, fill_in
from stepchain_tui.tui.widgets.text_view import TextView

PLAN = """# mine
agents: {helper: "json:JSONEncoder"}
tools: {search: "json:dumps"}
steps:
  # asks
  - id: ask
    http:
      url: https://a.test/  # the service
      method: POST
      headers: {accept: text/html}
    timeout: 30
  - {id: look, db: {url: "sqlite:///a.db", sql: "select 1"}, dependencies: [ask]}
  - {id: use, tool: search, args: {q: rain}}
  - {id: let, agent: helper, request: "say hello"}
  - {id: count, python: "1 + 1"}
  - {id: call, function: "json:dumps", args: {obj: 1}}
  - {id: ok, approve: "Go on?"}
"""
DROP_IN = '''raise SystemExit("this file must not be run to be explained")
class Slow:
    """Waits a while
    first.

    More of it.
    """
'''


def step(step_id: str) -> Step:
    return next(found for found in parse_plan(PLAN, "plan.yaml", Path()).plan.steps if found.id == step_id)


def fields(step_id: str, folder: Path | None = None) -> dict[str, Any]:
    return {key: str(spec.type) for key, spec in fields_of(step(step_id), folder)[0].items()}


def filled(step_id: str, given: dict[str, Any]) -> str:
    return fill_in(PLAN, step(step_id), {**fields_of(step(step_id))[1], **given})


def test_every_kind_of_step_has_its_own_keys_as_fields() -> None:
    assert fields("ask") | {"http.expect_status": "integer", "http.save_to": "text", "http.method": "text"} == fields(
        "ask"
    )
    assert {"db.url", "db.sql", "db.dynamodb"} <= fields("look").keys()
    assert fields("use")["mode"] == "choice"
    assert {"agent", "request"} <= fields("let").keys()
    assert fields("count")["engine"] == "choice"
    assert "executor" not in fields("ok")
    assert "http.headers" not in fields("ask"), "mappings are edited in the text"


def test_a_key_of_a_request_is_changed_in_its_place_and_nothing_else_is() -> None:
    assert filled("ask", {}) == PLAN
    assert filled("ask", {"http.url": "https://b.test/"}) == PLAN.replace("https://a.test/", "https://b.test/")
    assert filled("ask", {"http.method": None}) == PLAN.replace("      method: POST\n", "")
    assert "# the service" in filled("ask", {"http.save_to": "out.bin"})
    saved = parse_plan(filled("ask", {"http.save_to": "out.bin"}), "plan.yaml", Path()).plan.steps[0].http
    assert saved is not None
    assert (saved.save_to, saved.headers) == ("out.bin", {"accept": "text/html"})
    changed = parse_plan(filled("look", {"db.sql": "select 2"}), "plan.yaml", Path()).plan.steps[1].db
    assert changed is not None
    assert (changed.url, changed.sql) == ("sqlite:///a.db", "select 2")


def test_executor_is_a_choice_of_what_there_is_for_the_kind(tmp_path: Path) -> None:
    (tmp_path / "executors").mkdir()
    (tmp_path / "executors" / "slow.py").write_text(DROP_IN)
    choices = fields_of(step("call"), tmp_path)[0]["executor"].choices
    assert choices is not None
    assert choices[: len(SHIPPED_TYPES["function"])] == list(SHIPPED_TYPES["function"])
    assert "slow" in choices
    assert "executor: slow" in filled("call", {"executor": "slow"})


def test_a_type_that_nobody_knows_is_left_as_it_is_written() -> None:
    text = PLAN.replace("{id: call,", "{id: call, executor: gone,")
    written = next(found for found in parse_plan(PLAN, "plan.yaml", Path()).plan.steps if found.id == "call")
    written = written.model_copy(update={"executor": "gone"})
    specs, values = fields_of(Step.model_validate({**written.model_dump(exclude_unset=True), "executor": "gone"}))
    assert "gone" in (specs["executor"].choices or [])
    assert fill_in(text, written, values) == text


def test_every_type_of_every_kind_has_a_help_text(tmp_path: Path) -> None:
    (tmp_path / "executors").mkdir()
    (tmp_path / "executors" / "slow.py").write_text(DROP_IN)
    (tmp_path / "executors" / "broken.py").write_text("class (")
    found = {
        section.title: {name: one.text for one in section.types for name in one.names}
        for section in executor_help(tmp_path)
    }
    assert found.pop("in executors/ beside the plan") == {
        "slow": "Waits a while first.",
        "broken": "It cannot be read.",
    }
    assert found.keys() == {f"{kind} steps" for kind in kinds_with_executors()}
    for kind in kinds_with_executors():
        types = found[f"{kind} steps"]
        assert types.keys() == {*FIXED_TYPES, *SHIPPED_TYPES.get(kind, ())}
        assert all(len(types[name]) > 10 for name in types)
        assert "cannot be loaded" not in "".join(types.values()), types


@pytest.mark.parametrize("width", [40, 76, 120])
def test_help_is_broken_to_the_width(tmp_path: Path, width: int) -> None:
    lines = help_lines(executor_help(tmp_path), width)
    assert len(lines.kinds) == len(lines.lines)
    assert all(len(line) <= width for line in lines.lines)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_f2_shows_the_types_of_executors(desk: Desk, size: tuple[int, int]) -> None:
    folder = desk.folder / "executors"
    folder.mkdir()
    (folder / "slow.py").write_text(DROP_IN)
    async with desk.app(plan=desk.plan(PLAN), size=size) as person:
        await person.press("e")
        await person.opened(EditorScreen)
        await person.press("f2")
        await person.opened(ExecutorsScreen)
        await person.sees("Executor types", "executor: NAME", "standard, default")
        await person.press("slash")
        view = person.app.screen.query_one(TextView)
        assert "batching" in view.content.raw
        assert "Waits a while first." in " ".join(view.content.raw.split())
        await person.press("G", "escape")
        await person.opened(EditorScreen)


async def test_the_form_of_a_step_offers_the_types_of_its_kind(desk: Desk) -> None:
    text = (
        "steps:\n  - {id: call, function: 'json:dumps', args: {obj: 1}}\n  - {id: web, http: {url: 'http://a.test'}}\n"
    )
    async with desk.app(plan=desk.plan(text), size=(140, 50)) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        screen.graph.focus()
        await person.press("enter")
        await person.sees("Step call", "executor")
        person.app.screen.query_one("#field-executor", Select).value = "cached"
        await person.press("ctrl+s")
        await person.until(lambda: "executor: cached" in screen.area.text)
        screen.area.move_cursor((2, 10))
        await person.press("f7")
        await person.sees("Step web", "http.method", "http.save_to")
        await person.press("escape")
        screen.saved = screen.area.text
