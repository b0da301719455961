"""How long the drawing of a graph takes, and each thing the widget does with it.

Run by hand: `python bench/bench_graph_layout.py`. Times are medians in milliseconds of a few runs; the stall is the
longest gap between two turns of the event loop while a graph is drawn in its thread.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

from textual.app import App, ComposeResult

from stepchain_tui.tui.graph import Kind, Picture, collapse
from stepchain_tui.tui.widgets.graph_view import GraphView

Graph = dict[str, tuple[str, ...]]
SIZE = (200, 60)
KINDS: tuple[Kind, ...] = ("boxes", "pills", "rails")


def layered(size: int, seed: int = 1) -> Graph:
    """About 1.5 links a step, a quarter of the extra ones over two to four layers."""
    chance = random.Random(seed)
    depth = max(2, round(size**0.5))
    layers: list[list[str]] = [[] for _ in range(depth)]
    for number in range(size):
        layers[min(number, chance.randrange(depth)) if number else 0].append(f"step_{number}")
    plan: Graph = {}
    for index, layer in enumerate(layers):
        for name in layer:
            near = layers[index - 1] if index else []
            parents = {chance.choice(near)} if near else set()
            if near and chance.random() < 0.5:
                far = layers[max(0, index - chance.randint(2, 4))] if chance.random() < 0.25 else near
                parents |= {chance.choice(far)} if far else set()
            plan[name] = tuple(sorted(parents))
    return plan


def chain(size: int) -> Graph:
    return {f"step_{n}": (f"step_{n - 1}",) if n else () for n in range(size)}


def fan(size: int) -> Graph:
    tasks: Graph = {f"task_{n}": ("start",) for n in range(size)}
    return {"start": (), **tasks, "end": tuple(tasks)}


def all_to_all(size: int) -> Graph:
    tops: Graph = {f"a{n}": () for n in range(size)}
    return {**tops, **{f"b{n}": tuple(tops) for n in range(size)}}


CASES: dict[str, Graph] = {
    "10": layered(10),
    "50": layered(50),
    "200": layered(200),
    "1,000": layered(1_000),
    "5,000": layered(5_000),
    "fan 200, unfolded": fan(200),
    "fan 5,000, unfolded": fan(5_000),
    "chain 200": chain(200),
    "chain 5,000": chain(5_000),
    "100 to 100": all_to_all(100),
}


def median_ms(work: Callable[[], object], least: int = 3) -> float:
    times = []
    while len(times) < least or (sum(times) < 0.3 and len(times) < 50):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def layouts() -> None:
    print(f"{'drawing, ms':22}{'boxes':>9}{'pills':>9}{'rails':>9}{'fold':>9}  pills, cells")
    for name, graph in CASES.items():
        labels = {node: len(node) + 3 for node in graph}
        row = [median_ms(partial(Picture, graph, labels, kind)) for kind in KINDS]
        row.append(median_ms(partial(collapse, graph)))
        picture = Picture(graph, labels, "pills")
        print(f"{name:22}" + "".join(f"{ms:9.2f}" for ms in row) + f"  {picture.width} x {picture.height}")


class ViewApp(App[None]):
    def compose(self) -> ComposeResult:
        yield GraphView()


async def view(name: str, graph: Graph, kind: Kind) -> None:
    app = ViewApp()
    async with app.run_test(size=SIZE) as pilot:
        widget = app.query_one(GraphView)
        widget.style = kind
        widget._drawings._unfolded = set(collapse(graph).foldable.values())
        start = time.perf_counter()
        widget.set_graph(graph)
        blocked = time.perf_counter() - start
        stall = 0.0
        while widget.picture is None or widget.picture.nodes != list(graph):
            before = time.perf_counter()
            await asyncio.sleep(0)
            stall = max(stall, time.perf_counter() - before)
        shown = time.perf_counter() - start
        await pilot.pause()
        steps = list(graph)
        chance = random.Random(3)

        def scroll() -> None:
            widget.scroll_to(
                chance.randint(0, widget.max_scroll_x),
                chance.randint(0, widget.max_scroll_y),
                animate=False,
                force=True,
            )
            frame()

        def frame() -> None:
            for row in range(SIZE[1]):
                widget.render_line(row)

        def select() -> None:
            widget.selected = chance.choice(steps)

        widget.selected = steps[len(steps) // 2]
        figures = [
            blocked * 1000,
            stall * 1000,
            shown * 1000,
            median_ms(frame),
            median_ms(scroll, 10),
            median_ms(select, 10),
            median_ms(lambda: widget.set_status(chance.choice(steps), chance.choice("✓▶"), "running"), 10),
            median_ms(lambda: widget.set_statuses({step: (chance.choice("✓▶"), "running") for step in steps[:1_000]})),
        ]
        print(f"{name:22}" + "".join(f"{ms:9.2f}" for ms in figures))


def main() -> None:
    layouts()
    columns = ("set", "stall", "shown", "frame", "jump", "select", "status", "1,000")
    print(f"\n{'pills at 200x60, ms':22}" + "".join(f"{column:>9}" for column in columns))
    for name, graph in CASES.items():
        asyncio.run(view(name, graph, "pills"))


if __name__ == "__main__":
    main()
