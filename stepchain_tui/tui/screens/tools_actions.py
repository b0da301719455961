"""What a person does on the Tools screen: look at a server's stderr, restart it, reset a breaker, copy."""

from __future__ import annotations

from functools import partial

from stepchain_tui.tui.background import Background
from stepchain_tui.tui.text import one_line, visible
from stepchain_tui.tui.tool_lists import BREAKERS, SERVERS, TOOLS
from stepchain_tui.tui.toolbox import MOST_BYTES, Listing, Row, name_of, stderr_of
from stepchain_tui.tui.widgets.text_view import TextView


class ToolsActions(Background):
    """The actions of a Tools screen that do something to the selected row."""

    details: TextView
    in_sight: Listing = TOOLS
    """The list whose row is told of."""

    def row_of(self, listing: Listing) -> Row | None:
        """Return the row under the cursor of a list."""
        raise NotImplementedError

    def servers(self) -> tuple[Row, ...]:
        """Return all servers, also those that the filter leaves out."""
        raise NotImplementedError

    def ask_anew(self) -> None:
        """Connect to all servers and ask for their tools."""
        raise NotImplementedError

    def look_again(self) -> None:
        """Ask without connecting."""
        raise NotImplementedError

    def _warn(self, text: str) -> None:
        self.notify(text, severity="warning", timeout=3, markup=False)

    @property
    def _server(self) -> Row | None:
        """The selected server, or that of the selected tool."""
        row = self.row_of(self.in_sight)
        if self.in_sight is SERVERS or row is None:
            return row
        wanted = str(row.get("server") or "") if self.in_sight is TOOLS and row.get("kind") == "mcp" else ""
        return next((server for server in self.servers() if wanted and name_of(server) == wanted), None)

    def _server_at_hand(self) -> Row | None:
        if self._server is None:
            self._warn("choose a server first: 2 goes to them")
        return self._server

    def do_tools_refresh(self) -> None:
        """Connect to the servers and ask for their tools anew."""
        self.ask_anew()

    def do_tools_restart(self) -> None:
        """Restart the selected MCP server, or that of the selected tool."""
        if (server := self._server_at_hand()) is not None:
            self.background("restart a server", self._restart, name_of(server), str(server.get("state") or ""))

    async def _restart(self, name: str, state: str) -> None:
        if state in ("ready", "connecting"):
            text = "Calls that it is carrying out fail, and are tried again as their steps say."
            answer = await self.chain.choose(
                f"Restart {one_line(name, 60)}?", text, [("restart", "y", "restart it"), ("back", "n", "leave it")]
            )
            if answer != "restart":
                return
        await self.chain.host.restart_server(name)
        self.notify(f"{one_line(name, 60)} was restarted", timeout=2, markup=False)
        self.ask_anew()

    def do_tools_reset(self) -> None:
        """Close the selected breaker."""
        row = self.row_of(BREAKERS) if self.in_sight is BREAKERS else None
        if row is None:
            self._warn("choose a breaker first: 3 goes to them")
        else:
            self.background("reset a breaker", self._reset, name_of(row))

    async def _reset(self, name: str) -> None:
        await self.chain.host.reset_breaker(name)
        self.notify(f"the breaker of {one_line(name, 60)} is closed", timeout=2, markup=False)
        self.look_again()

    def do_tools_copy(self) -> None:
        """Copy what is told of the selected row."""
        row = self.row_of(self.in_sight)
        if row is None:
            self._warn("there is nothing to copy")
            return
        self.chain.copy_to_clipboard(f"{visible(name_of(row))}\n{self.details.content.raw}")
        self.notify("copied", timeout=2, markup=False)

    # --- a server's stderr

    def do_tools_stderr(self) -> None:
        """Show what the selected server wrote to stderr in $PAGER."""
        if (server := self._server_at_hand()) is None:
            return
        if path := str(server.get("stderr_path") or ""):
            self.background("pager", self._page_stderr, path)
        else:
            self._warn(f"{one_line(name_of(server), 60)} has no stderr here: it is reached over HTTP")

    async def _page_stderr(self, path: str) -> None:
        lines = await self.chain.library.work(partial(_all_words, path))
        if lines:
            self.chain.show_in_pager("\n".join(lines) + "\n")
        else:
            self._warn("it wrote nothing to stderr")


def _all_words(path: str) -> list[str]:
    """Return a server's standard error as the pager shows it; blocking."""
    try:
        return stderr_of(path, MOST_BYTES)
    except OSError as error:
        return [f"it cannot be read: {error.strerror or error}"]
