"""Outputs of rows as a table: aligned, cut, searched, copied; a hundred thousand rows cost what a screenful costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from told_runs import ToldRun
from tui_desk import Desk, Person, lend_terminal

from stepchain_tui.tui.tables import Table, cell_of, column_widths, padded, table_of
from stepchain_tui.tui.widgets.lines import ActionFooter
from stepchain_tui.tui.widgets.output_pane import OutputPane

CITIES = [
    {"id": 1, "city": "Paris", "people": 2_100_000, "note": None},
    {"id": 20, "city": "東京", "people": 14_000_000, "note": ""},
    {"id": 300, "city": "null", "people": 7, "note": "two\nlines"},
]
QUERY = {"rows": CITIES, "rowcount": 3, "truncated": False}


async def told(desk: Desk, output: Any) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "query", "other")
        run.begins("query")
        run.gives("query", output)
        run.begins("other")
        run.gives("other", {"stdout": "no rows at all"})
        run.ends()
        await run.write()


def output_of(person: Person) -> OutputPane:
    return person.run.step_pane.output


def line_with(person: Person, text: str) -> str:
    return next(line for line in person.text.splitlines() if text in line)


async def test_rows_are_a_table_with_columns_aligned_and_null_told_from_empty(desk: Desk) -> None:
    await told(desk, QUERY)
    async with desk.app(run_id="told", size=(140, 40)) as person:
        person.run.select_step("query")
        await person.sees("people", "3 rows · truncated false · enter: whole row · T: JSON")
        head, paris, tokyo, third = (line_with(person, text) for text in ("people", "Paris", "東京", "two␊lines"))
        assert "  1  Paris    2100000  null" in paris
        assert ' 20  東京    14000000  ""' in tokyo
        assert '300  "null"         7  two␊lines' in third
        assert head.index("people") + len("people") == paris.index("2100000") + len("2100000")
        assert "{" not in paris


async def test_t_turns_the_table_into_json_and_back_and_the_choice_is_kept(desk: Desk) -> None:
    await told(desk, QUERY)
    async with desk.app(run_id="told", size=(140, 40)) as person:
        person.run.select_step("query")
        await person.sees("T table/JSON")
        await person.press("2", "T")
        await person.sees('"city": "Paris"', '"rowcount": 3')
        assert person.run.focused is output_of(person).text
        await person.press("T")
        await person.sees("3 rows")
        assert person.run.focused is output_of(person).table
        await person.press("T")
    async with desk.app(run_id="told", size=(140, 40)) as person:
        person.run.select_step("query")
        await person.sees('"city": "Paris"')


async def test_the_key_is_named_only_where_there_are_rows(desk: Desk) -> None:
    await told(desk, QUERY)
    async with desk.app(run_id="told", size=(140, 40)) as person:
        person.run.select_step("other")
        await person.sees("no rows at all")
        await person.quiet()
        assert "T table" not in person.run.query_one(ActionFooter).text
        await person.press("T")
        assert "T: no output of rows is in sight" in person.toasts
        person.run.select_step("query")
        await person.sees("T table/JSON")


async def test_enter_shows_the_whole_row_and_esc_puts_it_away(desk: Desk) -> None:
    long = "word " * 200
    await told(desk, [{"id": n, "text": f"{long}end of {n}"} for n in range(50)])
    async with desk.app(run_id="told", size=(80, 24)) as person:
        person.run.select_step("query")
        await person.press("2", "z", "down", "enter")
        row = output_of(person).row
        await person.until(lambda: row.content.raw.endswith("end of 1"))
        assert "50 rows · enter: row away · T: JSON" in person.text
        await person.press("down")
        await person.until(lambda: row.content.raw.endswith("end of 2"))
        await person.press("G")
        await person.until(lambda: row.content.raw.endswith("end of 49"))
        assert " 49  word" in person.text, "the row under the cursor stays in sight"
        await person.press("escape")
        await person.sees("enter: whole row")
        assert person.run.focused is output_of(person).table


async def test_the_table_is_copied_by_tabs_and_json_as_json(desk: Desk) -> None:
    await told(desk, QUERY)
    async with desk.app(run_id="told", size=(80, 24)) as person:
        person.run.select_step("query")
        await person.press("2", "y")
        assert person.app.clipboard.splitlines() == [
            "id\tcity\tpeople\tnote", "1\tParis\t2100000\t", "20\t東京\t14000000\t", "300\tnull\t7\ttwo\\nlines",
        ]  # fmt: skip
        await person.press("T", "y")
        assert json.loads(person.app.clipboard) == QUERY


async def test_find_goes_to_the_row_also_where_the_cell_is_cut(desk: Desk) -> None:
    await told(desk, [{"id": n, "text": "x" * 500 + f" needle{n}."} for n in range(500)])
    async with desk.app(run_id="told", size=(80, 24)) as person:
        person.run.select_step("query")
        await person.press("2", "slash")
        await person.type("NEEDLE4")
        await person.press("enter")
        table = output_of(person).table
        assert table.cursor == 4
        await person.press("n")
        assert table.cursor == 40
        await person.press("N", "N")
        assert table.cursor == 499
        assert "499  xxx" in person.text


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_rows_scroll_like_a_hundred(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(value: Any) -> tuple[str, str]:
        nonlocal made
        made += 1
        return cell_of(value)

    await told(desk, {"rows": [{"id": n, "name": f"row {n}", "odd": n % 2 == 1} for n in range(100_000)]})
    async with desk.app(run_id="told", size=(120, 40)) as person:
        person.run.select_step("query")
        await person.sees("100,000 rows")
        monkeypatch.setattr("stepchain_tui.tui.tables.cell_of", counted)
        await person.press("2", "G")
        await person.sees("99999  row 99999")
        await person.press("pageup", "pageup", "g", "pagedown")
        table = output_of(person).table
        table.cursor = 50_000
        await person.quiet()
        await person.sees("50000  row 50000")
        assert 0 < made < 6 * 60 * 3 * 5, "only cells in sight are made"


async def test_columns_that_do_not_fit_are_reached_and_the_mouse_chooses_rows(desk: Desk) -> None:
    await told(desk, [{f"column_{c}": f"value {r}.{c}" for c in range(40)} for r in range(30)])
    async with desk.app(run_id="told", size=(80, 24)) as person:
        person.run.select_step("query")
        await person.press("2", "z")
        assert "column_39" not in person.text
        await person.press("l")
        assert "column_0 " not in person.text
        assert "column_1" in person.text, "names go along with their columns"
        await person.press(*["l"] * 40)
        assert "column_39" in person.text
        assert "value 0.39" in person.text
        table = output_of(person).table
        await person.pilot.click(table, offset=(5, 4))
        assert table.cursor == 3
        await person.pilot.click(table, offset=(5, 0))
        assert table.cursor == 3, "the names of columns are no row"


async def test_nothing_in_a_cell_reaches_the_terminal_as_a_command(desk: Desk) -> None:
    nasty = "\x1b[2J\x07[red]\u202eevil\rover"
    await told(desk, {"rows": [{nasty: nasty, "plain": 1}], "rowcount": 1, nasty: nasty})
    async with desk.app(run_id="told", size=(200, 40)) as person:
        person.run.select_step("query")
        await person.sees("[red]")
        await person.press("2", "enter")
        await person.until(lambda: output_of(person).row.content.raw)
        await person.quiet()
        assert not set("\x1b\x07\u202e\r") & set(person.text)
        assert "␍over" in person.text, "a carriage return hides nothing of a cell"


async def test_the_pager_gets_the_table(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "page.sh"
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/paged\n')
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", str(script))
    await told(desk, QUERY)
    async with desk.app(run_id="told") as person:
        lend_terminal(monkeypatch, person)
        person.run.select_step("query")
        await person.sees("Paris")
        await person.press("o")
        assert (tmp_path / "paged").read_text().startswith("id\tcity\tpeople\tnote\n1\tParis")


async def test_the_focus_goes_along_from_step_to_step(desk: Desk) -> None:
    await told(desk, QUERY)
    async with desk.app(run_id="told", size=(140, 40)) as person:
        person.run.select_step("query")
        await person.press("2")
        assert person.run.focused is output_of(person).table
        person.run.select_step("other")
        await person.sees("no rows at all")
        await person.quiet()
        assert person.run.focused is output_of(person).text
        person.run.select_step("query")
        await person.sees("Paris")
        await person.quiet()
        assert person.run.focused is output_of(person).table


@pytest.mark.parametrize(
    "value",
    [
        "text", 7, None, [], [1, 2], [{}], {"rows": []}, {"rows": "no"}, {"rows": [1]}, [{"a": 1}, None],
        [{"nested": {"a": 1}}], {"a": {"b": 1}}, [{f"key{n}": n} for n in range(500)],
    ],
)  # fmt: skip
def test_what_is_no_table_is_left_as_it_is(value: Any) -> None:
    assert table_of(value) is None


def test_a_column_that_only_the_last_row_has_is_there_and_missing_is_not_null() -> None:
    table = table_of([*({"a": n} for n in range(5_000)), {"a": None, "b": "x"}])
    assert table is not None
    assert [column.name for column in table.columns] == ["a", "b"]
    assert table.cell(0, 1) == ("", "")
    assert table.cell(5_000, 0)[0] == "null"


def test_rows_of_a_database_may_hold_json() -> None:
    table = table_of({"rows": [{"id": 1, "data": {"a": [1, 2]}}], "rowcount": 1})
    assert table is not None
    assert table.cell(0, 1)[0] == '{"a": [1, 2]}'


def test_columns_get_what_room_there_is() -> None:
    table = Table([("a", False), ("b", False)], [("short", "x" * 90)])
    assert column_widths(table, 200) == [5, 90]
    assert column_widths(table, 60) == [5, 53]
    assert column_widths(table, 10) == [5, 24]


@pytest.mark.parametrize(
    ("text", "width", "right", "shown"),
    [("abc", 5, False, "abc  "), ("abc", 5, True, "  abc"), ("abcdef", 4, False, "abc…"), ("東京", 3, False, "東…"),
     ("東京", 4, False, "東京"), ("a東京", 3, False, "a…"[:2] + " ")],
)  # fmt: skip
def test_a_cell_has_exactly_its_width(text: str, width: int, right: bool, shown: str) -> None:
    assert padded(text, width, "…", right=right) == shown


async def test_a_database_step_gives_a_table(desk: Desk) -> None:
    plan = f"""
steps:
  - id: fill
    db:
      url: "sqlite:///{desk.folder}/a.db"
      sql: create table t as select 2 as zeta, 'x' as alpha union select 10, null
  - id: look
    db: {{url: "sqlite:///{desk.folder}/a.db", sql: "select zeta, alpha from t order by zeta"}}
    dependencies: [fill]
"""
    async with desk.app(plan=desk.plan(plan), size=(140, 40)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("look")
        await person.sees("zeta  alpha", "   2  x", "  10  null", "2 rows · enter")
        person.run.select_step("fill")
        await person.sees('"rows": []')


def test_the_order_of_columns_is_that_of_the_statement() -> None:
    table = table_of({"rows": [{"a": 1, "b": 2}], "columns": ["b", "a"], "rowcount": 1})
    assert table is not None
    assert table.names == ("b", "a")
    assert table.facts == ("1 row",)
