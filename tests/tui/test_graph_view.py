"""The graph widget as a person meets it: what is on the screen, what keys and clicks do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot

from stepchain_tui.tui.graph import Kind, Picture, layers
from stepchain_tui.tui.widgets.graph_view import Direction, GraphView
from stepchain_tui.tui.widgets.pane import Pane

PLAN = {"fetch": (), "clean": ("fetch",), "enrich": ("fetch",), "join": ("clean", "enrich"), "report": ("join",)}


class GraphApp(App[None]):
    CSS = "GraphView { border: round $primary; }"

    def __init__(self, plan: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.plan = plan
        self.heard: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        view = GraphView()
        view.set_graph(self.plan)
        yield view

    @property
    def view(self) -> GraphView:
        return self.query_one(GraphView)

    def on_graph_view_selected(self, message: GraphView.Selected) -> None:
        self.heard.append(("selected", message.step_id))

    def on_graph_view_opened(self, message: GraphView.Opened) -> None:
        self.heard.append(("opened", message.step_id))


@contextmanager
def large_from(nodes: int) -> Iterator[None]:
    with patch("stepchain_tui.tui.widgets.graph_view._THREAD_NODES", nodes):
        yield


def screen(view: GraphView) -> str:
    return "\n".join(view.render_line(row).text for row in range(view.size.height))


def place_of(view: GraphView, text: str) -> tuple[int, int]:
    """Return the offset in the widget, its border included, of the first cell of `text`."""
    lines = screen(view).split("\n")
    row = next(row for row, line in enumerate(lines) if text in line)
    return lines[row].index(text) + 1, row + 1


def chain(length: int) -> dict[str, tuple[str, ...]]:
    return {f"step_{n}": (f"step_{n - 1}",) if n else () for n in range(length)}


def fan(width: int) -> dict[str, tuple[str, ...]]:
    tasks = {f"task_{n}": ("start",) for n in range(1, width + 1)}
    return {"start": (), **tasks, "end": tuple(tasks)}


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def test_a_label_is_glyph_id_and_marks_and_never_markup() -> None:
    app = GraphApp({"fetch": (), "[bold]x[/]": ("fetch",), "line\nbreak": ("fetch",)})
    async with app.run_test(size=(80, 24)) as pilot:
        assert "○ fetch" in screen(app.view)
        app.view.set_status("fetch", "✓", "succeeded", "=~")
        app.view.set_statuses({"[bold]x[/]": ("▶", "running"), "gone": ("✕", "failed")})
        await pilot.pause()
        assert "✓ fetch=~" in screen(app.view)
        assert "▶ [bold]x[/]" in screen(app.view)
        assert "○ line?break" in screen(app.view)


@pytest.mark.parametrize(
    ("size", "kind", "shape"),
    [((80, 40), "boxes", "│ ○ clean  │"), ((80, 14), "pills", "[○ fetch]"), ((36, 24), "rails", "● ○ fetch")],
)
async def test_the_drawing_fits_the_terminal(size: tuple[int, int], kind: str, shape: str) -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=size) as pilot:
        assert app.view.picture is not None
        assert app.view.picture.kind == kind
        assert shape in screen(app.view)
        app.view.style = "pills"
        await pilot.pause()
        assert "[○ fetch]" in screen(app.view)


async def test_another_drawing_is_chosen_when_the_terminal_changes_its_size() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.resize_terminal(36, 24)
        await pilot.pause()
        assert "● ○ fetch" in screen(app.view)


async def test_keys_walk_along_the_edges_and_back_the_same_way() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        app.view.focus()
        assert app.view.selected == "fetch"
        await pilot.press("j", "right", "down", "up", "h", "k", "up")
        walk = [step for _, step in app.heard]
        assert walk == ["clean", "enrich", "join", "enrich", "clean", "fetch"]
        await pilot.press("enter")
        assert app.heard[-1] == ("opened", "fetch")


@pytest.mark.parametrize("direction", ["up", "left", "right"])
async def test_there_is_no_way_out_of_the_graph(direction: Direction) -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)):
        assert not app.view.move(direction)
        assert app.view.selected == "fetch"


async def test_the_selected_step_is_told_without_colour_and_stays_in_view() -> None:
    app = GraphApp(chain(60))
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.selected = "step_50"
        await pilot.pause()
        assert "[○ step_50]" in screen(app.view)
        row = place_of(app.view, "step_50")[1] - 1
        styles = [segment.style for segment in app.view.render_line(row) if "step_50" in segment.text]
        assert [style.reverse for style in styles if style is not None] == [True]
        app.view.style = "boxes"
        await pilot.pause()
        assert "┃ ○ step_50  ┃" in screen(app.view)
        assert app.heard == []


@pytest.mark.parametrize("style", ["boxes", "pills", "rails"])
async def test_a_click_finds_its_step_after_scrolling(style: str) -> None:
    app = GraphApp(chain(60))
    async with app.run_test(size=(60, 24)) as pilot:
        app.view.style = style  # type: ignore[assignment]
        await pilot.pause()
        app.view.scroll_to(y=20, animate=False, force=True)
        await pilot.pause()
        lines = screen(app.view).split("\n")
        shown = [word for line in lines[4:] for word in line.replace("]", " ").split() if word.startswith("step_")]
        step = shown[1]
        column, row = place_of(app.view, f"{step} " if style != "pills" else f"{step}]")
        await pilot.click(GraphView, offset=(column + 1, row))
        assert app.view.selected == step
        assert app.heard == [("selected", step)]


async def test_a_double_click_opens_and_a_click_beside_the_steps_does_nothing() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.click(GraphView, offset=(2, 2))
        await pilot.double_click(GraphView, offset=place_of(app.view, "join"))
        assert app.heard == [("selected", "join"), ("opened", "join")]


async def test_alike_steps_are_one_group_until_opened() -> None:
    app = GraphApp(fan(30))
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.focus()
        assert "○ task_1 … task_30 (30)" in screen(app.view)
        app.view.set_status("task_7", "✕", "failed")
        await pilot.pause()
        assert "✕ task_1 … task_30 (30)" in screen(app.view)
        await pilot.press("down")
        assert app.heard == [("selected", "task_1")]
        await pilot.press("enter")
        await pilot.pause()
        assert "○ task_1" in screen(app.view)
        assert "(30)" not in screen(app.view)
        app.view.selected = "task_7"
        await pilot.pause()
        assert "✕ task_7" in screen(app.view)
        await pilot.press("space")
        await pilot.pause()
        assert "task_1 … task_30 (30)" in screen(app.view)
        assert app.view.selected == "task_7"
        assert app.view.selected_node == "task_1 … task_30 (30)"


async def test_a_mark_that_does_not_fit_makes_room_for_itself() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 14)) as pilot:
        app.view.set_status("fetch", "✓", "succeeded", "=~*")
        await settle(pilot)
        assert "[✓ fetch=~*]" in screen(app.view)


async def test_ascii_terminals_get_ascii() -> None:
    app = GraphApp({**fan(12), "a_name_that_is_much_too_long_for_a_box": ("end",)})
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.ascii = True
        await settle(pilot)
        for style in ("boxes", "pills", "rails"):
            app.view.style = style  # type: ignore[assignment]
            await settle(pilot)
            assert not [character for character in screen(app.view) if not character.isascii()]
            assert "start" in screen(app.view)


async def test_a_large_graph_is_drawn_aside_while_the_last_drawing_stays() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        with large_from(6):
            app.view.set_graph(chain(30))
            assert app.view.picture is not None
            assert "fetch" in app.view.picture
            assert "fetch" in screen(app.view)
            app.view.set_graph(chain(40))
            await settle(pilot)
            assert "step_39" in app.view.picture
        assert app.view.selected == "step_0"


async def test_a_drawing_that_was_overtaken_is_dropped() -> None:
    started, release = threading.Event(), threading.Event()

    def slow(graph: Mapping[str, Sequence[str]], labels: Mapping[str, int], kind: Kind) -> Picture:
        started.set()
        assert release.wait(10)
        return Picture(graph, labels, kind)

    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        with large_from(6), patch("stepchain_tui.tui.widgets.graph_view.Picture", slow):
            app.view.set_graph(chain(50))
            assert await asyncio.to_thread(started.wait, 10)
            app.view.set_graph(chain(3))
            release.set()
            await settle(pilot)
        assert app.view.picture is not None
        assert app.view.picture.nodes == ["step_0", "step_1", "step_2"]


async def test_a_graph_that_cannot_be_drawn_is_refused_and_the_last_one_stays() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)):
        with pytest.raises(ValueError, match="cycle"):
            app.view.set_graph({"a": ("b",), "b": ("a",)})
        assert "fetch" in screen(app.view)
        app.view.set_graph({})
        assert app.view.selected is None
        assert screen(app.view).strip() == ""
        assert not app.view.move("down")


async def test_selection_and_status_outlive_an_edit_of_the_plan() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        app.view.set_status("join", "✓", "succeeded")
        app.view.selected = "join"
        app.view.set_graph({**PLAN, "audit": ("join",)})
        await settle(pilot)
        assert app.view.selected == "join"
        assert "✓ join" in screen(app.view)
        assert "○ audit" in screen(app.view)
        app.view.selected = "no such step"
        assert app.view.selected is None


async def test_search_finds_steps_in_plan_order_also_inside_groups() -> None:
    app = GraphApp(fan(30))
    async with app.run_test(size=(80, 24)):
        assert app.view.search("TASK_2")[:3] == ["task_2", "task_20", "task_21"]
        assert app.view.search("nothing") == []
        assert app.view.search("") == []


async def test_themes_colour_each_status() -> None:
    class Coloured(GraphApp):
        CSS = "GraphView > .graph--failed { color: #ff0000; } GraphView > .graph--wire-lit { color: #00ff00; }"

    app = Coloured(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        app.view.set_status("join", "✕", "failed")
        await pilot.pause()
        colours = {
            segment.style.color.name
            for row in range(app.view.size.height)
            for segment in app.view.render_line(row)
            if segment.style is not None and segment.style.color is not None
        }
        assert {"#ff0000", "#00ff00"} <= colours


async def test_a_changed_status_repaints_its_own_rows_and_nothing_that_is_out_of_sight() -> None:
    app = GraphApp(chain(60))
    async with app.run_test(size=(80, 24)) as pilot:
        with patch.object(app.view, "refresh", wraps=app.view.refresh) as refresh:
            app.view.set_status("step_59", "✓", "succeeded")
            app.view.set_status("step_1", "✓", "succeeded")
            app.view.set_status("step_1", "✓", "succeeded")
        regions = [region for call in refresh.call_args_list for region in call.args]
        assert [region.height for region in regions] == [1]
        await pilot.pause()
        assert "✓ step_1" in screen(app.view)


def test_messages_name_their_view() -> None:
    view = GraphView()
    message: Message = GraphView.Selected(view, "fetch")
    assert message.control is view
    assert GraphView.Opened.handler_name == "on_graph_view_opened"


SUBPLANS = {
    "outer": (),
    "outer/a": (),
    "outer/b": ("outer/a",),
    "each": (),
    **{f"each[{item}]/x": () for item in range(2)},
    "report": ("outer", "each"),
}


async def test_keys_walk_into_a_sub_plan_and_out_of_it_and_space_folds_it() -> None:
    app = GraphApp(SUBPLANS)
    async with app.run_test(size=(80, 40)) as pilot:
        app.view.focus()
        await pilot.press("j", "j", "j")
        assert [step for _, step in app.heard] == ["outer/a", "outer/b", "report"]
        assert "○ a" in screen(app.view)
        await pilot.press("k", "space")
        await pilot.pause()
        assert "○ outer (2)" in screen(app.view)
        assert "○ a" not in screen(app.view)
        assert app.view.selected_node == "outer"
        await pilot.press("space")
        await pilot.pause()
        assert "○ b" in screen(app.view)


@pytest.mark.parametrize("size", [(80, 40), (36, 24)])
async def test_an_item_of_a_map_of_plans_is_opened_by_enter(size: tuple[int, int]) -> None:
    app = GraphApp(SUBPLANS)
    async with app.run_test(size=size) as pilot:
        app.view.focus()
        app.view.selected = "each[1]/x"
        await pilot.pause()
        assert "○ each[0]" in screen(app.view)
        assert "[1] x" not in screen(app.view)
        await pilot.press("enter")
        await pilot.pause()
        assert "○ [1] x" in screen(app.view)
        assert "○ each[1]" not in screen(app.view)
        await pilot.press("enter")
        assert app.heard[-1] == ("opened", "each[1]/x")


async def test_a_fourth_mark_is_shown_in_a_box_too() -> None:
    app = GraphApp(PLAN)
    async with app.run_test(size=(80, 40)) as pilot:
        app.view.set_status("fetch", "✓", "succeeded", "=~*●")
        await settle(pilot)
        assert "✓ fetch=~*●" in screen(app.view)


class PaneApp(GraphApp):
    def compose(self) -> ComposeResult:
        view = GraphView()
        view.set_graph(self.plan)
        yield Pane(1, "Plan", view)


async def test_links_that_are_not_drawn_are_told_in_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "TRUNK_BUDGET", 3)
    app = PaneApp({**chain(6), "last": ("step_0", "step_5")})
    async with app.run_test(size=(80, 40)) as pilot:
        await settle(pilot)
        assert app.query_one(Pane).border_subtitle == "1 link not drawn: others imply them"
