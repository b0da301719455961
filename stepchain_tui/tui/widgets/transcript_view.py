"""What was said and done with a model in the selected step, live while it is written; lines fit the room."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.live_text import LiveTexts, joined
from stepchain_tui.tui.widgets.breaking import broken_line
from stepchain_tui.tui.widgets.following import FollowingView, GrowingLines
from stepchain_tui.tui.widgets.line_view import Piece

if TYPE_CHECKING:
    from stepchain_tui.run.transcript_entries import Entry
    from stepchain_tui.tui.transcript_lines import Paragraph
    from stepchain_tui.tui.transcripts import TranscriptReader

NOTHING_SAID = "nothing was said yet"
_STYLES = {
    "rule": "transcript--rule",
    "who": "transcript--who",
    "call": "transcript--call",
    "dim": "line--dim",
    "error": "line--error",
}
_LIVE_INDENT = 2


@dataclass(slots=True)
class _Laid:
    """Entries as lines of one width.

    Attributes:
        parts: Each entry with its lines: one that is the same the next time keeps them.
        lines: All lines.
    """

    width: int = 0
    parts: list[tuple[Entry, list[list[Piece]]]] = field(default_factory=list)
    lines: list[list[Piece]] = field(default_factory=list)


class TranscriptView(Background, FollowingView):
    """Reads the transcript of a step while it is in sight, and shows it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"transcript--rule", "transcript--who", "transcript--call"}
    DEFAULT_CSS = """
    TranscriptView {
        & > .transcript--rule { color: $foreground 60%; text-style: bold; }
        & > .transcript--who { color: $text-primary; text-style: bold; }
        & > .transcript--call { color: $text-accent; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.glyphs: Glyphs = UNICODE
        self._about: tuple[str, str] | None = None
        self._reader: TranscriptReader | None = None
        self._laid = _Laid()
        self._texts: LiveTexts = ()
        self._next_texts: LiveTexts | None = None
        """What is written now, where what was written before is not read yet as a part of what was said."""
        self._grown = GrowingLines()
        self._reading = self._pending = False

    # --- what is read

    def ask(self, run_id: str, step_id: str) -> None:
        """Show what was said by now; nothing is read while it is out of sight."""
        if self._about != (run_id, step_id):
            self._about = (run_id, step_id)
            self._texts, self._next_texts = (), None
            self.forget_found()
            self.follow = True
            self._take(_Laid())
        self._read_on()

    def clear(self, empty_text: str) -> None:
        """Show nothing."""
        self._about, self._reader, self._texts, self._next_texts = None, None, (), None
        self.empty_text = empty_text
        self._take(_Laid())

    def _read_on(self) -> None:
        if not self.display or self._about is None:
            return
        self._pending = True
        if not self._reading:
            self._reading = True
            self.background("read the transcript", self._read)

    async def _read(self) -> None:
        """Read until nothing new is wanted; one question at a time, as each goes on where the last one ended."""
        from stepchain_tui.tui.transcripts import TranscriptReader

        try:
            while self._pending and self._about is not None:
                self._pending = False
                about = self._about
                if self._reader is None or (self._reader.run_id, self._reader.step_id) != about:
                    self._reader, self._laid = TranscriptReader(*about), _Laid()
                entries = await self.chain.library.ask(self._reader.read)
                job = partial(_lay_out, entries, self._laid, self._room, self.glyphs)
                laid = await self.chain.library.work(job)
                if about == self._about:
                    self.empty_text = NOTHING_SAID
                    if self._next_texts is not None and not self._pending:
                        self._texts, self._next_texts = self._next_texts, None
                    self._take(laid)
        except StepChainError:
            self._about = None  # told once, not with each frame
            raise
        finally:
            self._reading = False

    # --- what is shown

    @property
    def _room(self) -> int:
        return max(20, self.scrollable_content_region.width)

    def live(self, texts: LiveTexts) -> None:
        """Show what is just being written, below all that was said."""
        if self._next_texts is not None:
            self._next_texts = texts
        elif self._texts and not _goes_on(self._texts, texts) and self.display and self._about is not None:
            self._next_texts = texts  # what ended stands there until it is read as what was said: nothing flickers
            self._read_on()
        elif texts != self._texts:
            self._texts = texts
            self._arrange()

    def _take(self, laid: _Laid) -> None:
        self._laid = laid
        self._arrange()

    def _arrange(self) -> None:
        if not self.display and self._texts:
            return
        text = joined(self._texts)
        self._grown.show(text, self._room - _LIVE_INDENT)
        self.set_lines(len(self._laid.lines) + self._live_count, 1)
        if self.follow:
            self.go_to_end()

    @property
    def _live_count(self) -> int:
        return len(self._grown.lines) + 2 if self._grown.lines else 0

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._arrange()
        self._read_on()
        super().on_resize()

    def pieces(self, index: int) -> list[Piece]:
        """Return one line."""
        if index < len(self._laid.lines):
            return self._laid.lines[index]
        place = index - len(self._laid.lines)
        if place < 2:
            return [("", "")] if place == 0 else [(f"{self.glyphs.of('running')} writing", "transcript--who")]
        return [(" " * _LIVE_INDENT, ""), (self._grown.lines[place - 2], "")]

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        start = self.find_start(backwards=backwards, again=again)
        line = await self.chain.library.work(partial(_find, self._laid.lines, text, start, -1 if backwards else 1))
        if line is not None:
            self.follow = False
        return self.show_found(text, line)

    async def whole_text(self) -> str:
        """Return all of it as it is copied and paged: no line is broken."""
        if self._about is None:
            return ""
        parts, glyphs, about = self._laid.parts, self.glyphs, self._about
        text = await self.chain.library.work(partial(_written, [entry for entry, _ in parts], glyphs))
        live = joined(self._texts) if about == self._about else ""
        return f"{text}\n\n{live}" if live else text


def _goes_on(before: LiveTexts, now: LiveTexts) -> bool:
    """Return whether all that was being written is still being written."""
    texts = dict(now)
    return all(item in texts and texts[item][:50] == text[:50] for item, text in before)


def _lay_out(entries: list[Entry], before: _Laid, width: int, glyphs: Glyphs) -> _Laid:
    """Break entries into lines; those that did not change since keep theirs. Blocking."""
    from stepchain_tui.tui.transcript_lines import paragraphs

    known = before.parts if before.width == width else []
    laid = _Laid(width)
    for place, entry in enumerate(entries):
        if place < len(known) and known[place][0] is entry:
            lines = known[place][1]
        else:
            lines = [line for one in paragraphs(entry, glyphs) for line in _broken(one, width, glyphs)]
        laid.parts.append((entry, lines))
        laid.lines += lines
    if laid.lines and not "".join(text for text, _ in laid.lines[0]):
        del laid.lines[0]  # nothing stands above it
    return laid


def _broken(one: Paragraph, width: int, glyphs: Glyphs) -> list[list[Piece]]:
    style = _STYLES.get(one.style, "")
    if one.style == "rule":
        rule = "-" if glyphs.ascii else "─"
        head = f"{rule * 2} {broken_line(one.text, width - 6)[0]} "
        return [[(head + rule * max(0, width - len(head)), style)]]
    indent = min(one.indent, width // 4)
    return [[(" " * indent, ""), (line, style)] for line in broken_line(one.text, width - indent)]


def _find(lines: list[list[Piece]], text: str, start: int, step: int) -> int | None:
    wanted = text.casefold()
    order = ((start + step * place) % len(lines) for place in range(len(lines)))
    return next((line for line in order if wanted in "".join(part for part, _ in lines[line]).casefold()), None)


def _written(entries: list[Entry], glyphs: Glyphs) -> str:
    from stepchain_tui.tui.transcript_lines import paragraphs

    lines = [one for entry in entries for one in paragraphs(entry, glyphs, whole=True)]
    return "\n".join(f"{' ' * one.indent}{one.text}".rstrip() for one in lines).strip("\n")
