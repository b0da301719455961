"""The graph drawing, judged by a reader who sees only the picture."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepchain_tui.tui.graph import (
    CROSSING,
    DOWN,
    LEFT,
    NODE,
    RIGHT,
    UP,
    Band,
    Drawing,
    Emphasis,
    Face,
    Faces,
    Kind,
    Net,
    Painter,
    Picture,
    Pin,
    Raster,
    assign_rows,
    cell_len,
    collapse,
    draw_channel,
    lay_out,
    lay_rails,
    shorten,
)

Graph = dict[str, tuple[str, ...]]


@st.composite
def plans(draw: st.DrawFn, largest: int = 40) -> Graph:
    """Any plan: layered or tangled, with long links, islands and shared parents."""
    size = draw(st.integers(1, largest))
    chance = random.Random(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.5, 1.0, 1.5, 2.5]))
    reach = draw(st.sampled_from([3, 8, size]))
    plan: Graph = {}
    for number in range(size):
        near = list(plan)[-reach:]
        count = min(len(near), int(chance.expovariate(1 / density) + 0.3))
        plan[f"step_{number}" + "x" * chance.randrange(9)] = tuple(sorted(chance.sample(near, count)))
    return plan


def draw_plan(plan: Mapping[str, Sequence[str]], box_height: int = 3, extra: int = 4) -> Drawing:
    return lay_out(plan, {name: len(name) + extra for name in plan}, box_height=box_height)


def links_of(plan: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
    return {(parent, name) for name, parents in plan.items() for parent in parents}


def read_wires(drawing: Drawing) -> dict[tuple[str, str], set[tuple[int, int]]]:
    """Follow every wire from its box down and sideways, never up, as a reader would.

    Returns (box it starts from, box it reaches) to the cells (row, column) on the way.
    """
    raster = Raster(drawing)
    cells = [raster.masks(row, 0, drawing.width) for row in range(drawing.height)]
    owner = {
        (row, column): box.node
        for box in drawing.boxes.values()
        for row in range(box.y, box.y + box.height)
        for column in range(box.x, box.x + box.width)
    }
    wires: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for box in drawing.boxes.values():
        start = (box.y + box.height, box.exit, DOWN)
        came_from: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {start: []}
        paths = [start] if box.exit >= 0 else []
        reached = []
        while paths:
            here = paths.pop()
            row, column, heading = here
            if (row, column) in owner:
                assert heading == DOWN, "a wire runs into the side of a box"
                assert column in drawing.boxes[owner[row, column]].entries
                reached.append(here)
                continue
            mask = cells[row][column]
            assert mask, f"a wire from {box.node} ends in the void at row {row}, column {column}"
            turns = (heading,) if mask & CROSSING else tuple(turn for turn in (DOWN, LEFT, RIGHT) if mask & turn)
            for turn in turns:
                if {heading, turn} != {LEFT, RIGHT}:
                    following = _step(row, column, turn)
                    if following not in came_from:
                        came_from[following] = []
                        paths.append(following)
                    came_from[following].append(here)
        for end in reached:
            way, back = set(), [end]
            while back:
                here = back.pop()
                if here not in way:
                    way.add(here)
                    back.extend(came_from[here])
            link = (box.node, owner[end[:2]])
            wires.setdefault(link, set()).update(cell[:2] for cell in way if cell[:2] not in owner)
    return wires


def read_links(drawing: Drawing) -> set[tuple[str, str]]:
    return set(read_wires(drawing))


def _step(row: int, column: int, heading: int) -> tuple[int, int, int]:
    down, right = {DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}[heading]
    return row + down, column + right, heading


@settings(max_examples=200, deadline=None)
@given(plan=plans(), box_height=st.sampled_from([1, 3]))
def test_a_reader_finds_every_link_and_no_other(plan: Graph, box_height: int) -> None:
    assert read_links(draw_plan(plan, box_height)) == links_of(plan)


@settings(max_examples=100, deadline=None)
@given(plan=plans(), gap=st.integers(1, 3))
def test_boxes_keep_their_distance_and_their_width(plan: Graph, gap: int) -> None:
    drawing = lay_out(plan, {name: len(name) + 2 for name in plan}, box_height=1, gap=gap)
    assert sorted(drawing.boxes) == sorted(plan)
    for layer in drawing.layers:
        for left, right in pairwise(drawing.boxes[name] for name in layer):
            assert left.x + left.width + gap <= right.x
    for box in drawing.boxes.values():
        assert box.width >= len(box.node) + 2
        assert box.x >= 0
        assert box.x + box.width <= drawing.width
        assert len(box.entries) == len(set(box.entries))


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_a_child_is_below_its_parents_and_no_wire_passes_a_box(plan: Graph) -> None:
    drawing = draw_plan(plan)
    for parent, child in links_of(plan):
        assert drawing.boxes[parent].y + 3 < drawing.boxes[child].y
    for band in drawing.bands:
        columns = {pin.column for pin in band.passing}
        assert not any(box.x <= column < box.x + box.width for box in band.boxes for column in columns)


@settings(max_examples=150, deadline=None)
@given(plan=plans())
def test_a_reader_of_rails_finds_every_link_and_no_other(plan: Graph) -> None:
    rails = lay_rails(plan)
    assert sorted(rails.row_of) == sorted(plan)
    lanes: dict[int, str] = {}
    found = set()
    for number, row in enumerate(rails.rows):
        cells = rails.masks(number)
        place = cells.index(next(mask for mask in cells if mask & NODE))
        touching = {place} if cells[place] & UP else set()
        for side, step in ((LEFT, -1), (RIGHT, 1)):
            column = place
            while cells[column] & side:
                column += step
                if cells[column] & UP and not cells[column] & CROSSING:
                    touching.add(column)
        found |= {(lanes[column], row.node) for column in touching}
        lanes = {column: lanes[column] for column in lanes if cells[column] & DOWN}
        if cells[place] & DOWN:
            lanes[place] = row.node
    assert found == links_of(plan)


def test_two_nets_that_must_each_be_above_the_other_do_not_lie_on_each_other() -> None:
    """Pins 0 and 4 swap places: without a jog both wires would share a column."""
    one = Net([Pin(0, 0)], [Pin(4, 2, (2,))])
    two = Net([Pin(4, 1)], [Pin(0, 3, (3,))])
    height = assign_rows([one, two])
    width = 1 + max(4, one.jog, two.jog)
    channel = Band(0, height, nets=[one, two])
    cells = draw_channel(channel, width)
    ways = []
    for start, end in ((0, 4), (4, 0)):
        paths, seen, ends = [(0, start, DOWN)], set(), set()
        while paths:
            row, column, heading = here = paths.pop()
            if row == height:
                ends.add(column)
            elif here not in seen:
                seen.add(here)
                mask = cells[row * width + column]
                turns = (heading,) if mask & CROSSING else tuple(turn for turn in (DOWN, LEFT, RIGHT) if mask & turn)
                paths.extend(_step(row, column, turn) for turn in turns if {heading, turn} != {LEFT, RIGHT})
        assert ends == {end}
        ways.append({cell[:2] for cell in seen})
    drawing = Drawing(width, height, list("abcd"), {}, [], [channel], [])
    for node, way in enumerate(ways):
        emphasis = Emphasis([[], [], [0], [1]], [[2], [3], [], []], node)
        lit = [emphasis.cells(drawing, row, 0, width) for row in range(height)]
        assert way == {(row, column) for row, bits in enumerate(lit) for column in range(width) if bits[column]}


@settings(max_examples=150, deadline=None)
@given(
    nets=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12).map(
        lambda pairs: [
            pair
            for index, pair in enumerate(pairs)
            if all(pair[0] != other[0] and pair[1] != other[1] for other in pairs[:index])
        ]
    )
)
def test_any_set_of_pins_can_be_routed_without_sharing_a_cell(nets: list[tuple[int, int]]) -> None:
    """Each wire's vertical stretches are its own, and so are its stretches on a row, however tangled the pins are."""
    wires = [Net([Pin(top, 0)], [Pin(bottom, 1, (1,))]) for top, bottom in nets]
    height = assign_rows(wires)
    down: set[tuple[int, int]] = set()
    across: set[tuple[int, int]] = set()
    for net in wires:
        for row, (first, last) in net.runs():
            cells = {(row, column) for column in range(first, last + 1)}
            assert not cells & across
            across |= cells
        for column, top, bottom in net.drops(height):
            cells = {(row, column) for row in range(top, bottom)}
            assert not cells & down
            down |= cells


def test_five_thousand_steps_in_a_chain_need_no_recursion() -> None:
    chain = {f"s{n}": (f"s{n - 1}",) if n else () for n in range(5_000)}
    assert draw_plan(chain).height == 5_000 * 3 + 4_999
    assert len(lay_rails(chain).rows) == 5_000


def test_links_that_others_imply_are_left_out_where_they_would_fill_the_drawing() -> None:
    chain = {f"s{n}": (f"s{n - 1}",) if n else () for n in range(600)}
    chain["report"] = tuple(chain)
    drawing = draw_plan(chain)
    assert drawing.hidden
    assert {child for _, child in drawing.hidden} == {"report"}
    assert read_links(drawing) == links_of(chain) - set(drawing.hidden)


def test_sources_with_the_same_targets_share_one_wire() -> None:
    plan = {**{f"a{n}": () for n in range(20)}, **{f"b{n}": tuple(f"a{m}" for m in range(20)) for n in range(20)}}
    drawing = draw_plan(plan, box_height=1)
    assert drawing.height == 3
    assert read_links(drawing) == links_of(plan)


def test_a_chain_is_drawn_as_one_straight_line() -> None:
    plan = {"short": (), "much_longer_name": ("short",), "x": ("much_longer_name",)}
    drawing = draw_plan(plan)
    assert [band.height for band in drawing.bands if band.nets] == [1, 1]
    assert all(net.row < 0 for band in drawing.bands for net in band.nets)


@pytest.mark.parametrize(
    ("plan", "word"),
    [({"a": ("b",), "b": ("a",)}, "cycle"), ({"a": ("a",)}, "cycle"), ({"a": ("gone",)}, "gone")],
)
def test_what_is_no_graph_is_refused(plan: Graph, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        draw_plan(plan)


def test_a_graph_without_steps_is_an_empty_drawing() -> None:
    assert (draw_plan({}).width, draw_plan({}).height) == (0, 0)
    assert lay_rails({}).rows == []


# Groups.


def fan(width: int, length: int = 1) -> Graph:
    plan: Graph = {"start": ()}
    for place in range(1, length + 1):
        for number in range(1, width + 1):
            plan[f"p{place}_{number}"] = ("start",) if place == 1 else (f"p{place - 1}_{number}",)
    plan["end"] = tuple(f"p{length}_{number}" for number in range(1, width + 1))
    return plan


def test_more_than_eight_alike_siblings_become_one_group() -> None:
    assert collapse(fan(8)).groups == {}
    folded = collapse(fan(9))
    assert folded.graph == {"start": (), "p1_1 … p1_9 (9)": ("start",), "end": ("p1_1 … p1_9 (9)",)}
    assert folded.node_of["p1_7"] == "p1_1 … p1_9 (9)"


def test_parallel_chains_fold_step_by_step_and_open_together() -> None:
    plan = fan(200, length=2)
    folded = collapse(plan)
    assert list(folded.graph) == ["start", "p1_1 … p1_200 (200)", "p2_1 … p2_200 (200)", "end"]
    assert folded.graph["p2_1 … p2_200 (200)"] == ("p1_1 … p1_200 (200)",)
    assert folded.foldable["p2_7"] == folded.foldable["p1_3"]
    assert collapse(plan, opened=[folded.foldable["p2_7"]]).graph == plan


def test_siblings_with_another_parent_or_child_stay_apart() -> None:
    plan = fan(12)
    plan["p1_5"] = ()
    plan["after"] = ("p1_6",)
    folded = collapse(plan)
    assert len(folded.groups["p1_1 … p1_12 (10)"]) == 10
    assert {"p1_5", "p1_6"} <= set(folded.graph)


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_a_folded_graph_has_the_links_of_the_graph(plan: Graph) -> None:
    folded = collapse(plan, widest=1)
    here = folded.node_of
    assert links_of(folded.graph) == {
        (here.get(parent, parent), here.get(child, child)) for parent, child in links_of(plan)
    }
    assert sorted(step for members in folded.groups.values() for step in members) == sorted(here)


# Labels and what shines.


def test_long_names_are_cut_in_the_middle_by_cells() -> None:
    assert shorten("fetch") == "fetch"
    assert shorten("a" * 20 + "b" * 20) == "a" * 14 + "…" + "b" * 13
    wide = shorten("取得" * 20)
    assert cell_len(wide) <= 28
    assert wide.startswith("取得")
    assert wide.endswith("取得")


def test_a_group_shows_its_most_pressing_step() -> None:
    faces = Faces()
    faces.regroup({"g": ("a", "b", "c")}, {"a": "g", "b": "g", "c": "g"})
    for step in "abc":
        assert faces.update(step, Face("✓", "succeeded", "=")) == "g"
    assert faces.label("g") == "✓ g="
    faces.update("b", Face("✕", "failed", "~"))
    assert faces.label("g") == "✕ g~"
    assert faces.update("b", Face("✕", "failed", "~")) is None


def lit_cells(picture: Picture, node: str) -> set[tuple[int, int]]:
    painter = Painter(picture, Faces())
    painter.select(node)
    lit = set()
    for row in range(picture.height):
        column, runs = painter.row(row, 0, picture.width)
        for text, names in runs:
            if "graph--wire-lit" in names:
                lit |= {(row, column + index) for index in range(len(text)) if text[index] != " "}
            column += cell_len(text)
    return lit


@pytest.mark.parametrize("kind", ["boxes", "pills", "rails"])
def test_only_wires_towards_and_away_from_the_selected_step_shine(kind: Kind) -> None:
    plan = {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("b", "c"),
        "island": (),
        "isle": ("island",),
        "late": ("a", "isle"),
    }
    picture = Picture(plan, dict.fromkeys(plan, 8), kind)
    everything = {
        (row, column)
        for row in range(picture.height)
        for column, mask in enumerate(picture.masks(row, 0, picture.width))
        if mask
    }
    of_d, of_isle = lit_cells(picture, "d"), lit_cells(picture, "isle")
    assert of_d
    assert of_isle
    assert of_d | of_isle < everything
    assert not of_d & of_isle


@settings(max_examples=60, deadline=None)
@given(plan=plans(20), pick=st.integers(0, 100))
def test_what_shines_leads_to_ancestors_and_descendants_and_no_further(plan: Graph, pick: int) -> None:
    drawing = draw_plan(plan, box_height=1)
    selected = list(plan)[pick % len(plan)]
    names = drawing.names
    parents = [[names.index(parent) for parent in plan[name]] for name in names]
    children: list[list[int]] = [[] for _ in names]
    for child, above in enumerate(parents):
        for parent in above:
            children[parent].append(child)
    emphasis = Emphasis(parents, children, names.index(selected))
    wires = read_wires(drawing)
    wanted = [
        cells
        for (parent, child), cells in wires.items()
        if names.index(child) in emphasis.towards or names.index(parent) in emphasis.away
    ]
    shining = {
        (row, column)
        for row in range(drawing.height)
        for column, bits in enumerate(emphasis.cells(drawing, row, 0, drawing.width))
        if bits
    }
    assert shining == set().union(*wanted)
