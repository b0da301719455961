"""What can be wrong with the MCP servers of a plan, and with the tools of servers that its steps call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from stepchain_tui.plan.check_entries import approval_word, shared_expression
from stepchain_tui.plan.expressions import walk_text
from stepchain_tui.plan.problems import Location, Mistake, path_text, unknown
from stepchain_tui.plan.servers import ServerTool, settings_servers

SERVER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_OF_A_COMMAND = ("args", "env", "cwd")
_OF_AN_ADDRESS = ("headers",)


class ServerChecker:
    """Checks the servers of one plan.

    Args:
        data: The plan as plain data; parts of the wrong shape are passed over.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        servers, secrets, inputs = data.get("mcp_servers"), data.get("secrets"), data.get("inputs")
        self._servers: dict[Any, Any] = servers if isinstance(servers, dict) else {}
        self._known: dict[str, list[str] | None] = {
            "secrets": [name for name in secrets if isinstance(name, str)] if isinstance(secrets, list | tuple) else [],
            "inputs": list(inputs) if isinstance(inputs, dict) else [],
        }

    def mistakes(self) -> Iterator[Mistake]:
        """Yield every mistake of what is written about the servers."""
        for name, entry in self._servers.items():
            here: Location = ("mcp_servers", str(name))
            if not SERVER_NAME.fullmatch(str(name)):
                message = f"'{name}' is no name for a server: use up to 64 letters, digits, `_` and `-`"
                yield Mistake(here, message, on_key=True)
            if isinstance(entry, dict):
                yield from self._entry(here, entry)

    def called(self, where: Location, named: ServerTool) -> Iterator[Mistake]:
        """Yield what is wrong with calling a server's tool."""
        if named.server not in self._servers:
            written = settings_servers()
            if named.server in written:
                yield from self._of_settings(where, named.server, written[named.server])
                return
            found = unknown(where, "MCP server", named.server, [*self._servers, *written])
            more = "" if found.suggestion else "; name it under the plan's 'mcp_servers'"
            yield Mistake(where, found.message + more, found.suggestion)
            return
        entry = self._servers[named.server]
        allowed = entry.get("allowed_tools") if isinstance(entry, dict) else None
        if isinstance(allowed, list | tuple) and named.tool not in allowed:
            found = unknown(where, "tool", named.tool, [name for name in allowed if isinstance(name, str)])
            message = f"'{named.tool}' is not among the 'allowed_tools' of the server '{named.server}'"
            yield Mistake(where, message, found.suggestion)

    def _of_settings(self, where: Location, name: str, entry: dict[str, Any]) -> Iterator[Mistake]:
        """Yield what is wrong with a server of the settings, at the step that needs it."""
        known, self._known = self._known, {"secrets": None, "inputs": []}
        for mistake in self._entry((), entry):
            at = path_text(("mcp_servers", name, *mistake.location))
            yield Mistake(where, f"in the settings, {at}: {mistake.message}", mistake.suggestion)
        self._known = known

    def _entry(self, here: Location, entry: dict[str, Any]) -> Iterator[Mistake]:
        command, url = entry.get("command"), entry.get("url")
        if (command is None) == (url is None):
            what = "neither" if url is None else "both"
            yield Mistake(here, f"a server has a 'command' to start or a 'url', this one has {what}")
        for key in _OF_AN_ADDRESS if url is None else _OF_A_COMMAND if command is None else ():
            if entry.get(key):
                other = "'url'" if url is None else "'command'"
                yield Mistake((*here, key), f"'{key}' is for a server with a {other}", on_key=True)
        if isinstance(url, str) and "{{" not in url and not url.lower().startswith(("http://", "https://")):
            message = f"'{url[:80]}' is no address of a server: it begins with http:// or https://"
            yield Mistake((*here, "url"), message)
        allowed, asked = entry.get("allowed_tools"), entry.get("require_approval")
        yield from approval_word((*here, "require_approval"), asked)
        for place, tool in enumerate(asked if isinstance(asked, list | tuple) else ()):
            where = (*here, "require_approval", place)
            if isinstance(tool, str) and "." in tool:
                yield Mistake(where, f"'{tool}': write a tool's own name, without its server's", tool.partition(".")[2])
            elif isinstance(allowed, list | tuple) and tool not in allowed:
                yield unknown(where, "tool", str(tool), map(str, allowed))
        for within, text in walk_text(entry):
            if "{{" in text or "{%" in text:
                yield from shared_expression((*here, *within), text, self._known, "a server")
