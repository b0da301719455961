"""What a command does to each step, as a list of which only the lines in sight are made, and as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stepchain_tui.engine.receipt import Decision, Receipt, ReceiptLine
from stepchain_tui.run.why_words import listed, spoken
from stepchain_tui.tui.text import one_line
from stepchain_tui.tui.widgets.line_view import LineView, Piece

GLYPHS: Mapping[bool, Mapping[Decision, str]] = {
    False: {Decision.RUN: "▶", Decision.STALE: "~", Decision.REUSE: "=", Decision.LEAVE: "―"},
    True: {Decision.RUN: ">", Decision.STALE: "~", Decision.REUSE: "=", Decision.LEAVE: "-"},
}
"""Whether only ASCII is used -> what stands before each decision's word."""
_ORDER = (Decision.RUN, Decision.STALE, Decision.LEAVE, Decision.REUSE)
"""What costs something stands first, however long the plan is."""
_LONGEST_ID = 32
_GAP = "  "


class ReceiptView(LineView):
    """Lists the steps of a receipt: what is decided, the step, the time it saves, why.

    Args:
        receipt: What to show.
        ascii_only: Whether only ASCII is used.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"receipt--{decision}" for decision in Decision}
    DEFAULT_CSS = """
    ReceiptView {
        & > .receipt--run { color: $status-running; text-style: bold; }
        & > .receipt--stale { color: $text-warning; text-style: bold; }
        & > .receipt--reuse { color: $status-succeeded; }
        & > .receipt--leave { color: $foreground 60%; }
    }
    """

    def __init__(self, receipt: Receipt, *, ascii_only: bool, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._glyphs = GLYPHS[ascii_only]
        self._lines = sorted(receipt.steps, key=lambda line: _ORDER.index(line.decision))
        self._id_width = max([4, *(min(_LONGEST_ID, len(line.step_id)) for line in self._lines)])
        self._done = receipt.done

    @property
    def header(self) -> str:
        """What stands above the columns."""
        time = "took" if self._done else "saves"
        return f"{'':<9}{'step':<{self._id_width}}{_GAP}{time:<11}why"

    def on_mount(self) -> None:
        """Tell how much there is to scroll through."""
        longest = max((len(line.reason) for line in self._lines), default=0)
        self.set_lines(len(self._lines), 9 + self._id_width + len(_GAP) + 11 + longest)

    def pieces(self, index: int) -> list[Piece]:
        """Return the line of one step."""
        line = self._lines[index]
        name = f"receipt--{line.decision}"
        return [
            (f"{self._glyphs[line.decision]} {line.decision:<7}", name),
            (f"{one_line(line.step_id, self._id_width):<{self._id_width}}{_GAP}", ""),
            (f"{self._time(line):<11}", "line--dim"),
            (one_line(line.reason, 400), ""),
        ]

    def _time(self, line: ReceiptLine) -> str:
        kept = line.decision in (Decision.REUSE, Decision.STALE)
        return spoken(line.seconds) if line.seconds is not None and (self._done or kept) else ""


def sums(receipt: Receipt, dot: str) -> str:
    """Return how many steps have which decision: `run 3 · stale 1 · reuse 9 (saves 4 min 12 s)`.

    Args:
        receipt: What is counted.
        dot: What parts the counts.
    """
    counts = [f"{decision} {receipt.count(decision):,}" for decision in _ORDER if receipt.count(decision)]
    if receipt.seconds_saved:
        counts[-1] += f" (saves {spoken(receipt.seconds_saved)})" if not receipt.done else ""
    return f" {dot} ".join(counts) or "no step is touched"


def in_one_line(receipt: Receipt, dot: str) -> str:
    """Return a receipt as one line that names what runs and what becomes stale."""
    parts = []
    for decision, word in ((Decision.RUN, "ran" if receipt.done else "run"), (Decision.STALE, "stale")):
        if names := [line.step_id for line in receipt.steps if line.decision is decision]:
            parts.append(f"{word} {len(names):,}: {listed(names, 4)}")
    if reused := receipt.count(Decision.REUSE):
        saved = f" (saved {spoken(receipt.seconds_saved)})" if receipt.done and receipt.seconds_saved else ""
        parts.append(f"{'reused' if receipt.done else 'reuse'} {reused:,}{saved}")
    return f" {dot} ".join(parts) or "no step is touched"


def warnings_of(receipt: Receipt) -> list[str]:
    """Return what a person should know first: attempts that never reported, results that the code has outgrown."""
    changed = [line.step_id for line in receipt.steps if line.decision is Decision.STALE and line.cause == line.step_id]
    found = list(receipt.warnings)
    if changed and receipt.command in ("resume", "run"):
        found.append(f"changed since its result: {listed(changed)}; r runs it again")
    return found
