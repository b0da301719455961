"""The types `standard` and `default`: whichever executor speaks to the database that a call names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.db.address import DYNAMODB, DatabaseAddress
from stepchain_tui.executors.db.base import BaseDbExecutor
from stepchain_tui.executors.db.interface import IDbExecutor
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


def driver_of(spec: ToolSpec, args: Mapping[str, Any] | None = None) -> str:
    """Return the type of executor that a call is for: `dynamodb` in it, the spec's driver, or the url's scheme.

    Raises:
        UsageError: Nothing says which.
    """
    given = args or {}
    if given.get("dynamodb") is not None:
        return DYNAMODB
    if spec.driver:
        return DatabaseAddress.of(f"{spec.driver}://").driver
    url = given.get("url") or spec.base_url
    if not isinstance(url, str):
        raise UsageError(
            "nothing says which database: there is neither `url` nor `dynamodb`",
            hint="Write url: sqlite:///file.db or postgresql://..., or dynamodb: OPERATION.",
        )
    return DatabaseAddress.of(url).driver


class DbExecutor(BaseDbExecutor):
    """Hands each call to the executor of the database that it names.

    Args:
        spec: What is called; each executor is made with it.
    """

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(spec)
        self._made: dict[str, IDbExecutor] = {}

    async def close(self) -> None:
        """Close the executors that were made; may be called twice."""
        made, self._made = self._made, {}
        for executor in made.values():
            if hasattr(executor, "close"):
                await executor.close()

    async def _execute_db_operation(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        # The factory knows this class as a type: only at a call can this one know the factory.
        from stepchain_tui.executors.db.factory import DbExecutorFactory

        try:
            driver = driver_of(self.spec, args)
            executor = self._made.get(driver)
            if executor is None:
                executor = self._made[driver] = DbExecutorFactory.get_executor_class(driver)(self.spec)
        except UsageError as error:
            raise AttemptError(
                f"{self.spec.tool_name}: {error}", error_type=ErrorType.USER_ERROR, hint=error.hint
            ) from error
        return await executor.execute(args, ctx)
