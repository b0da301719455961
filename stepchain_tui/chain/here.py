"""What is awaited for a caller who cannot await."""

from __future__ import annotations

from stepchain_tui.engine.executor import _result_of as result_here

__all__ = ("result_here",)
