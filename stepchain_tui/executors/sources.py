"""Where executor types come from besides what is shipped: Python, a plan's folder, entry points, the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepchain_tui.executors.registry import ExecutorFactory


def executor_class(factory: type[ExecutorFactory], name: str, plan_folder: Path) -> type[Any]:
    """Return the class of a type for a step of a plan.

    Args:
        factory: The factory of the step's kind.
        name: What the step names under `executor:`.
        plan_folder: The plan's, whose folder `executors` may add types.

    Raises:
        UsageError: There is no such type, or the file that should bring it does not.
    """
    return factory.get_executor_class(name)
