"""A text that is held whole: an output, an input, a traceback."""

from __future__ import annotations

import re

from stepchain_tui.tui.queries import Lines
from stepchain_tui.tui.widgets.breaking import broken_line
from stepchain_tui.tui.widgets.line_view import LineView, Piece

_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<string>"(?:[^"\\]|\\.)*"?)'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\btrue\b|\bfalse\b|\bnull\b)"
)

MOST_BROKEN = 1_000_000
"""Characters of a text that is broken into the room there is; a longer one is scrolled sideways."""
_STYLES = {"ours": "line--dim", "title": "line--key", "error": "line--error"}


class TextView(LineView):
    """Shows `Lines`; JSON has colours, and what we say of a text is dim."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.content = Lines()
        """The text as it was given."""
        self._fitted = Lines()
        """It as it is shown."""

    def show(self, content: Lines, empty_text: str = "") -> None:
        """Show another text, from its beginning unless it is the same."""
        same = content.lines == self.content.lines
        self.content, self.empty_text = content, empty_text
        if not same:
            self.forget_found()
            self.scroll_to(0, 0, animate=False)
        self._fit()

    def _fit(self) -> None:
        """Break lines where the text is prose."""
        content, room = self.content, self.scrollable_content_region.width
        if content.prose and room and content.width > room and len(content.raw) <= MOST_BROKEN:
            kinds = content.kinds or ("",) * len(content.lines)
            broken = [
                (part, kind)
                for line, kind in zip(content.lines, kinds, strict=True)
                for part in broken_line(line, room)
            ]
            lines, kinds = tuple(part for part, _ in broken), tuple(kind for _, kind in broken)
            content = Lines(lines, width=1, raw=content.raw, kinds=kinds)
        self._fitted = content
        self.set_lines(len(content.lines), content.width)

    def on_resize(self) -> None:
        """Break lines anew."""
        if self.content.prose:
            self._fit()

    def pieces(self, index: int) -> list[Piece]:
        """Return one line of the text."""
        content = self._fitted
        line, kind = content.lines[index], content.kinds[index] if content.kinds else ""
        if kind in _STYLES:
            return [(line, _STYLES[kind])]
        return json_pieces(line) if content.json or kind == "json" else [(line, "")]

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        wanted, lines = text.casefold(), self._fitted.lines
        start = self.find_start(backwards=backwards, again=again)
        step = -1 if backwards else 1
        order = ((start + step * place) % len(lines) for place in range(len(lines)))
        return self.show_found(text, next((line for line in order if wanted in lines[line].casefold()), None))


def json_pieces(line: str) -> list[Piece]:
    """Return a line of indented JSON with its colours."""
    made: list[Piece] = []
    start = 0
    for match in _TOKEN.finditer(line):
        made.append((line[start : match.start()], ""))
        made.append((match.group(), f"line--{match.lastgroup}"))
        start = match.end()
    made.append((line[start:], ""))
    return made
