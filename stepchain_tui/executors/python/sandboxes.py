"""The sandboxes that the python steps of an engine share."""

from __future__ import annotations

from stepchain_tui.sandbox import BwrapRunner, MontyRunner


class Sandboxes:
    """Holds a sandbox of each engine; nothing starts before it is needed.

    Args:
        monty: The sandbox monty; a new one where none is given. `close` ends it either way.
        bwrap: The sandbox bwrap; the same holds.
    """

    def __init__(self, monty: MontyRunner | None = None, bwrap: BwrapRunner | None = None) -> None:
        self.monty = monty or MontyRunner()
        self.bwrap = bwrap or BwrapRunner()

    async def close(self) -> None:
        """End the sandboxes' processes."""
        await self.bwrap.close()
        await self.monty.close()
