"""What a command does to each step, as a list of which only the lines in sight are made, and as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stepchain_tui.engine.receipt import Decision, Receipt, ReceiptLine
from stepchain_tui.run.spending import dollars
from stepchain_tui.run.why_words import listed, spoken
from stepchain_tui.tui.text import count, one_line
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
_SPENDS = 20
"""Cells of what a step's models take."""


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
        self._has_models = any(line.tokens is not None or line.usd is not None for line in self._lines)

    @property
    def header(self) -> str:
        """What stands above the columns."""
        time = "took" if self._done else "saves"
        spends = f"{'spends':<{_SPENDS}}" if self._has_models else ""
        return f"{'':<9}{'step':<{self._id_width}}{_GAP}{time:<11}{spends}why"

    def on_mount(self) -> None:
        """Tell how much there is to scroll through."""
        longest = max((len(line.reason) for line in self._lines), default=0)
        spends = _SPENDS if self._has_models else 0
        self.set_lines(len(self._lines), 9 + self._id_width + len(_GAP) + 11 + spends + longest)

    def pieces(self, index: int) -> list[Piece]:
        """Return the line of one step."""
        line = self._lines[index]
        name = f"receipt--{line.decision}"
        return [
            (f"{self._glyphs[line.decision]} {line.decision:<7}", name),
            (f"{one_line(line.step_id, self._id_width):<{self._id_width}}{_GAP}", ""),
            (f"{self._time(line):<11}", "line--dim"),
            (f"{amounts(line.tokens, line.usd):<{_SPENDS}}" if self._has_models else "", "line--dim"),
            (one_line(line.reason, 400), ""),
        ]

    def _time(self, line: ReceiptLine) -> str:
        kept = line.decision in (Decision.REUSE, Decision.STALE)
        return spoken(line.seconds) if line.seconds is not None and (self._done or kept) else ""


def amounts(tokens: int | None, usd: float | None) -> str:
    """Return tokens and money in few words: `3.1k tok, $0.12`; empty where nothing is known of either."""
    known = [] if tokens is None else [f"{count(tokens)} tok"]
    return ", ".join(known if usd is None else [*known, dollars(usd)])


def sums(receipt: Receipt, dot: str) -> str:
    """Return how many steps have which decision: `run 3 · stale 1 · reuse 9 (saves 4 min 12 s)`.

    Args:
        receipt: What is counted.
        dot: What parts the counts.
    """
    counts = [f"{decision} {receipt.count(decision):,}" for decision in _ORDER if receipt.count(decision)]
    saved = [spoken(receipt.seconds_saved)] if receipt.seconds_saved else []
    saved += [kept] if (kept := amounts(receipt.tokens_saved or None, receipt.usd_saved or None)) else []
    if saved and counts:
        counts[-1] += f" (saves {', '.join(saved)})" if not receipt.done else ""
    if run := amounts(receipt.tokens_run or None, receipt.usd_run or None):
        counts.append(f"takes {'' if receipt.done else 'about '}{run}")
    return f" {dot} ".join(counts) or "no step is touched"


def in_one_line(receipt: Receipt, dot: str) -> str:
    """Return a receipt as one line that names what runs and what becomes stale."""
    parts = []
    for decision, word in ((Decision.RUN, "ran" if receipt.done else "run"), (Decision.STALE, "stale")):
        if names := [line.step_id for line in receipt.steps if line.decision is decision]:
            parts.append(f"{word} {len(names):,}: {listed(names, 4)}")
    if parts and (run := amounts(receipt.tokens_run or None, receipt.usd_run or None)):
        parts[0] += f" ({'' if receipt.done else 'about '}{run})"
    if reused := receipt.count(Decision.REUSE):
        kept = [spoken(receipt.seconds_saved)] if receipt.done and receipt.seconds_saved else []
        kept += [spent] if (spent := amounts(receipt.tokens_saved or None, receipt.usd_saved or None)) else []
        saved = f" (save{'d' if receipt.done else 's'} {', '.join(kept)})" if kept else ""
        parts.append(f"{'reused' if receipt.done else 'reuse'} {reused:,}{saved}")
    return f" {dot} ".join(parts) or "no step is touched"


def warnings_of(receipt: Receipt) -> list[str]:
    """Return what a person should know first: attempts that never reported, results that the code has outgrown."""
    changed = [line.step_id for line in receipt.steps if line.decision is Decision.STALE and line.cause == line.step_id]
    found = list(receipt.warnings)
    if receipt.forecast is not None:
        found += receipt.forecast.warnings
    if changed and receipt.command in ("resume", "run"):
        found.append(f"changed since its result: {listed(changed)}; r runs it again")
    return found
