"""Which tools there are, how well each did, and which of several equal ones to prefer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stepchain_tui.core.paths import settings_path
from stepchain_tui.core.settings import Settings, load_settings
from stepchain_tui.engine import Engine
from stepchain_tui.engine.executor import result_of
from stepchain_tui.engine.toolbox import Toolbox
from stepchain_tui.run import events as e
from stepchain_tui.store import AbstractStore, SQLiteStore, ToolRecord
from stepchain_tui.tools.health import health_rank


class ToolDiscovery:
    """What is known of tools: which there are, and how well each did over all runs that a store holds.

    The numbers come from the tool calls of all runs, whoever made them: chains, plans, agents, `stepchain call`. Each
    call that a `ChainExecutor` makes counts as soon as it has ended.

    Args:
        store: Whose runs count; the user's if None.
        settings: The user's settings, for their MCP servers; read from their file if None.
    """

    def __init__(self, store: AbstractStore | None = None, *, settings: Settings | None = None) -> None:
        self._store = store
        self._settings = settings
        self._known: dict[str, ToolRecord] | None = None

    @property
    def store(self) -> AbstractStore:
        """Whose runs count."""
        if self._store is None:
            self._store = SQLiteStore(durability=self.settings.durability)
        return self._store

    @property
    def settings(self) -> Settings:
        """The user's settings."""
        if self._settings is None:
            self._settings = load_settings(settings_path())
        return self._settings

    def bind(self, store: AbstractStore | None, settings: Settings | None) -> None:
        """Count the runs of a store, and know the servers of settings, where nothing else was said."""
        self._store = store if self._store is None else self._store
        self._settings = settings if self._settings is None else self._settings

    # --- what tools there are

    async def discover(self, query: str = "", *, connect: bool = True) -> list[dict[str, Any]]:
        """Return the tools that a chain may call without a function of its own: built in, registered, of MCP servers.

        Args:
            query: Words that all must be in a tool's name or description.
            connect: Whether MCP servers of the settings are asked for theirs; else only what is known already.

        Returns:
            A dict for each, as `stepchain tools --json` shows it: `name`, `description`, `arguments` (JSON schema),
            `server`, `calls`, `success_rate`, `mean_seconds` and more; of equal tools the healthier first.
        """
        async with Engine(self.store, settings=self.settings) as engine:
            rows = (await Toolbox(engine).tools(None, connect=connect))["tools"]
        words = query.casefold().split()
        return [row for row in rows if all(word in f"{row['name']} {row['description']}".casefold() for word in words)]

    # --- how well they did

    def success_rate(self, tool: str) -> float | None:
        """Return which part of a tool's calls succeeded, 0.0 to 1.0; None where none came to an end."""
        record = self.records().get(tool)
        return None if record is None else record.success_rate

    def mean_time(self, tool: str) -> float | None:
        """Return the seconds that a call of a tool takes; None where none came to an end."""
        record = self.records().get(tool)
        return None if record is None else record.mean_seconds

    def rank(self, tools: Iterable[str]) -> list[str]:
        """Return tools that do the same, the one to prefer first: the higher success rate, then the shorter time.

        A tool that nobody tried comes after those that worked, and before those that never did.
        """
        known = self.records()

        def place(tool: str) -> tuple[Any, ...]:
            record = known.get(tool)
            if record is None:
                return health_rank(tool, None, None)
            return health_rank(tool, record.success_rate, record.mean_seconds)

        return sorted(tools, key=place)

    def prefer(self, tools: Iterable[str]) -> str | None:
        """Return the one of tools that do the same that is to be preferred, None where there is none."""
        return next(iter(self.rank(tools)), None)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return how each tool did: name -> calls, succeeded, failed, success_rate (0..1), mean_seconds, last_error."""
        return {
            name: {
                "calls": record.calls,
                "succeeded": record.succeeded,
                "failed": record.failed,
                "success_rate": record.success_rate,
                "mean_seconds": record.mean_seconds,
                "last_error": record.last_error,
            }
            for name, record in sorted(self.records().items())
        }

    def records(self) -> dict[str, ToolRecord]:
        """Return what is known of each tool, by name: as the store had it at the last call that this process made."""
        if self._known is None:
            result_of(self.refresh, "tools of the store")
        return self._known or {}

    async def refresh(self) -> None:
        """Read the store anew: what other processes did counts from then on."""
        async with Engine(self.store, settings=self.settings) as engine:
            self._known = {record.name: record for record in await engine.store.read_tools()}

    def note(self, events: Iterable[e.Event]) -> None:
        """Take note of what was just stored: where tools were called, the numbers are read anew when they are asked."""
        if any(isinstance(event, e.ToolFinished) for event in events):
            self._known = None
