"""The app: a person watches runs live, stops, mends and reruns them, and looks at all past ones.

It shows what the store holds and asks an engine in another process (or thread) for everything else; see `host` and
`library`. Imports any room but `cli`; `run_app` is its door. The heavy rooms are loaded when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp, run_app

__all__ = ("StepChainApp", "run_app")


def __getattr__(name: str) -> Any:
    """Load the app when it is first asked for."""
    if name in __all__:
        from stepchain_tui.tui import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
