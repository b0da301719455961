"""The function executor that remembers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, MutableMapping
from typing import Any

from stepchain_tui.core.clock import Clock
from stepchain_tui.executors.base import join_chunks
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.base import BaseFunctionExecutor
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.resilience.lru import DEFAULT_SIZE, NoContentKeyError, content_key, make_lru
from stepchain_tui.tools.chunks import is_stream

CACHE_TTL = 300.0
"""Seconds that a result holds (document 004)."""
_PLAIN = (str, int, float, bool, type(None))


class CachedFunctionExecutor(BaseFunctionExecutor):
    """Calls the function once for the same arguments, and gives its result again for 5 minutes.

    Errors are not kept. Arguments that cannot be compared by content, such as an open file, are never found again. Each
    caller gets lists and dicts of its own, so that none can spoil another's.

    Args:
        spec: What is called.
        func: The function.
        cache_ttl: Seconds that a result holds; may be set on the executor before its first call.
        cache_size: Results that are kept; those that were used longest ago go first.
        clock: Tells how old they are.
    """

    def __init__(
        self,
        spec: ToolSpec,
        func: Callable[..., Any],
        cache_ttl: float = CACHE_TTL,
        cache_size: int = DEFAULT_SIZE,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(spec, func)
        self.cache_ttl = cache_ttl
        self._size = cache_size
        self._clock = clock
        self._cache: MutableMapping[str, Any] | None = None

    @property
    def cache(self) -> MutableMapping[str, Any]:
        """The results by key; expired ones are not in it."""
        if self._cache is None:
            self._cache = make_lru(self._size, ttl=self.cache_ttl, clock=self._clock)
        return self._cache

    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        try:
            key = self._generate_cache_key(args)
        except NoContentKeyError:
            return await self._called(args, ctx)
        found = self.cache.get(key, self)
        if found is self:
            result = await self._called(args, ctx)
            with contextlib.suppress(Exception):  # what cannot be copied is not kept
                self.cache[key] = _own(result)
            return result
        return _own(found)

    async def _called(self, args: dict[str, Any], ctx: Any) -> Any:
        result = self.func(args, ctx)
        if not is_stream(result):
            result = await result
        return await join_chunks(result, CallContext.alone(ctx)) if is_stream(result) else result

    def _generate_cache_key(self, args: dict[str, Any]) -> str:
        """Return what is the same for arguments that are the same, in whatever order they were written.

        Raises:
            NoContentKeyError: An argument cannot be compared by content.
        """
        if all(type(name) is str and type(value) in _PLAIN for name, value in args.items()):
            return str(sorted(args.items()))
        return content_key(args)


def _own(result: Any) -> Any:
    return copy.deepcopy(result) if isinstance(result, dict | list) else result
