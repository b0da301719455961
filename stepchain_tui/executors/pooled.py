"""Executors whose work runs in threads and processes: on the pools of an engine, or on pools of their own."""

from __future__ import annotations

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.tools.pools import Pools


class PooledExecutor(BaseExecutor):
    """Has pools.

    Args:
        spec: What is called.
        pools: Where the work runs; pools of its own, which end with `close`, where none are given.
    """

    def __init__(self, spec: ToolSpec, pools: Pools | None = None) -> None:
        super().__init__(spec)
        self._pools = pools
        self._owned: Pools | None = None

    @property
    def pools(self) -> Pools:
        """The pools that the work runs on."""
        if self._pools is not None:
            return self._pools
        if self._owned is None:
            self._owned = Pools()
        return self._owned

    async def close(self) -> None:
        """End the workers of pools of its own; may be called twice."""
        owned, self._owned = self._owned, None
        if owned is not None:
            await owned.close()
