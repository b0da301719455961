"""What is to be called: the description that document 004 gives to every executor."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stepchain_tui.core.errors import UsageError
from stepchain_tui.plan.models import DEFAULT_TIMEOUT


class ToolSpec(BaseModel):
    """One thing that an executor can carry out. Keys beyond these are kept and read as attributes.

    Source: document 004 (`ToolSpec(tool_name="expensive_operation", ...)`).

    Raises:
        UsageError: A field is missing or has a wrong value; the message names it.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    tool_name: Annotated[str, Field(min_length=1)]
    """What messages, logs and metrics call it."""
    description: str = ""
    parameters: dict[str, Any] = {}
    """JSON schema of the arguments, where there is one."""
    driver: str | None = None
    """Which database: a type that `DbExecutorFactory` knows."""
    base_url: str | None = None
    """Where requests go that name no address of their own; the database's address for `db`."""
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = DEFAULT_TIMEOUT
    """Seconds that a call may take; None for no limit."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
            raise UsageError(f"ToolSpec: {told}", hint="A ToolSpec needs at least tool_name=...") from error
