"""Lines that grow at their end: while the view follows, the newest stays in sight."""

from __future__ import annotations

from textual.reactive import reactive

from stepchain_tui.tui.widgets.breaking import broken_line
from stepchain_tui.tui.widgets.line_view import LineView, Piece

LONGEST_OPEN = 8_000
"""Characters of a line that goes on which are broken anew each time it grows."""


class FollowingView(LineView):
    """Shows lines of which the newest stays in sight; going up ends that, going to the end begins it again."""

    follow: reactive[bool] = reactive(True)
    """Whether the newest line stays in sight."""

    def go_to_end(self) -> None:
        """Let the newest line be in sight."""
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)

    def moved_by_hand(self) -> None:
        """Follow where the newest line is in sight, and only there."""
        self.follow = self.scroll_y >= self.max_scroll_y

    def on_resize(self) -> None:
        """The newest line stays in sight in another size, and when the view is shown at last."""
        if self.follow:
            self.go_to_end()

    def watch_follow(self, follow: bool) -> None:
        """Go to the newest line."""
        if follow and self.is_mounted:
            self.go_to_end()


class GrowingLines:
    """A text that grows, as lines of a width: those that are complete are broken once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._text = ""
        self._width = 0
        self._done = 0
        self._done_lines = 0

    def show(self, text: str, width: int) -> bool:
        """Take a text in; say whether the lines are other ones now."""
        if text == self._text and width == self._width:
            return False
        if width != self._width or text[: self._done] != self._text[: self._done]:
            self.lines, self._done, self._done_lines = [], 0, 0
        self._text, self._width = text, width
        del self.lines[self._done_lines :]
        *complete, rest = text[self._done :].split("\n")
        for line in complete:
            self._add(line)
            self._done += len(line) + 1
        while len(rest) > LONGEST_OPEN:
            lines, length = self._complete(rest[:LONGEST_OPEN])
            self.lines += lines
            self._done += length
            rest = rest[length:]
        self._done_lines = len(self.lines)
        if rest:
            self.lines += broken_line(rest, width)
        return True

    def _add(self, line: str) -> None:
        self.lines += broken_line(line, self._width)

    def _complete(self, beginning: str) -> tuple[list[str], int]:
        """Return the lines of a beginning that no text behind it changes, and how many characters they take."""
        *lines, last = broken_line(beginning, self._width)
        written = beginning.rstrip()
        if lines and last and written.endswith(last.rstrip()):
            return lines, len(written) - len(last.rstrip())
        return [*lines, last], len(beginning)


class LiveView(FollowingView):
    """Shows a text while it is written."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.text = ""
        """All of it, as it is copied."""
        self._grown = GrowingLines()

    def show(self, text: str) -> None:
        """Show a text, or more of it."""
        self.text = text
        if self._grown.show(text, max(10, self.scrollable_content_region.width)):
            self.set_lines(len(self._grown.lines), 1)
            if self.follow:
                self.go_to_end()

    def on_resize(self) -> None:
        """Break the lines anew."""
        self.show(self.text)
        super().on_resize()

    def pieces(self, index: int) -> list[Piece]:
        """Return one line."""
        return [(self._grown.lines[index], "")]

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        wanted, lines = text.casefold(), self._grown.lines
        start, step = self.find_start(backwards=backwards, again=again), -1 if backwards else 1
        order = ((start + step * place) % len(lines) for place in range(len(lines)))
        line = next((line for line in order if wanted in lines[line].casefold()), None)
        if line is not None:
            self.follow = False
        return self.show_found(text, line)
