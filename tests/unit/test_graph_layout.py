"""The graph drawing, judged by a reader who sees only the picture."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepchain_tui.tui.graph import CROSSING, DOWN, LEFT, RIGHT, Drawing, Raster, lay_out

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


def read_links(drawing: Drawing) -> set[tuple[str, str]]:
    """Follow every wire from its box down and sideways, never up, as a reader would, and list the boxes met."""
    raster = Raster(drawing)
    cells = [raster.masks(row, 0, drawing.width) for row in range(drawing.height)]
    owner = {
        (row, column): box.node
        for box in drawing.boxes.values()
        for row in range(box.y, box.y + box.height)
        for column in range(box.x, box.x + box.width)
    }
    found: set[tuple[str, str]] = set()
    for box in drawing.boxes.values():
        if box.exit < 0:
            continue
        paths = [(box.y + box.height, box.exit, DOWN)]
        seen = set()
        while paths:
            here = paths.pop()
            if here in seen:
                continue
            seen.add(here)
            row, column, heading = here
            if (row, column) in owner:
                assert heading == DOWN, "a wire runs into the side of a box"
                assert column in drawing.boxes[owner[row, column]].entries
                found.add((box.node, owner[row, column]))
                continue
            mask = cells[row][column]
            assert mask, f"a wire from {box.node} ends in the void at row {row}, column {column}"
            if mask & CROSSING:
                paths.append(_step(row, column, heading))
                continue
            for turn in (DOWN, LEFT, RIGHT):
                if mask & turn and (heading, turn) not in {(LEFT, RIGHT), (RIGHT, LEFT)}:
                    paths.append(_step(row, column, turn))
    return found


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
