"""The app: a person watches runs live, stops, mends and reruns them, and looks at all past ones.

It shows what the store holds and asks an engine in another process (or thread) for everything else; see `host` and
`library`. Imports any room but `cli`; `run_app` is its door. The heavy rooms are loaded when they are first needed.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.core.settings import Settings
    from stepchain_tui.tui.app import StepChainApp

__all__ = ("StepChainApp", "run_app")


def __getattr__(name: str) -> Any:
    """Load the app when it is first asked for."""
    if name == "StepChainApp":
        from stepchain_tui.tui.app import StepChainApp

        return StepChainApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run_app(
    store_path: Path,
    plan: Path | None = None,
    run_id: str | None = None,
    in_process: bool = False,
    settings: Settings | None = None,
    inputs: dict[str, Any] | None = None,
) -> int:
    """Run the app and return its exit code.

    Raises:
        StoreError: The store is locked, damaged, newer than this version, or no store.
        UnknownRunError: The store does not hold `run_id`.
    """
    # Until the first paint nothing is thrown away that a collection could find: it would only cost time. The app turns
    # collection on again once it is painted.
    gc.disable()
    try:
        from stepchain_tui.tui.app import start_app

        return start_app(store_path, plan, run_id, in_process, settings, inputs)
    finally:
        gc.enable()
