"""Calls on other machines: a Dask cluster lends its slots, and our own code carries the calls there.

A slot of a worker is borrowed by a small task, a *pilot*, and every call goes to a pilot over a connection of its own.
So the scheduler knows pilots only: it may place them, move them and start them again as often as it likes, and no call
is ever begun twice, whatever the scheduler's own settings are. May import what `tools` may; `distributed` is
imported when the first call needs it. Names load on first use: workers pass through this door too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.tools.cluster.calls import run_on_cluster
    from stepchain_tui.tools.cluster.clusters import Clusters

_MODULES = {"Clusters": "clusters", "run_on_cluster": "calls"}

__all__ = ("Clusters", "run_on_cluster")


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'stepchain_tui.tools.cluster' has no attribute '{name}'")
    return getattr(import_module(f"stepchain_tui.tools.cluster.{module}"), name)
