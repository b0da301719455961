"""What all tests share: nobody's own store, settings or model is touched, and tests that need a tool say which.

A test marked `needs("tmux")` is left out where the machine has no tmux, and the summary says so. With
`STEPCHAIN_REQUIRE_TOOLS=1`, as in CI, it fails instead. `needs("root")` asks for the rights of root, and
`needs("Python 3.11")` for the Python that the pictures were taken with; nobody has to have these. `needs("PostgreSQL")`
asks for the server's own programs, which Debian keeps off the path.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.postgresql import postgresql_program
from tests.support.stored_runs import watch

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
_ROOT = "root"
_PYTHON = "Python 3.11"
_POSTGRESQL = "PostgreSQL"
_NEVER_REQUIRED = (_ROOT, _PYTHON)
_LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()
_STORES = pytest.StashKey[set[str]]()


@pytest.fixture(autouse=True)
def isolated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """Point everything that a person owns at an empty folder, for this process and those it starts."""
    home = tmp_path_factory.mktemp("home")
    request.config.stash[_STORES].add(str(home / "runs.db"))
    for variable in list(os.environ):
        upper = variable.upper()
        if upper.startswith(("OPENAI_", "STEPCHAIN_STORE", "STEPCHAIN_SETTINGS")) or variable.lower() in _PROXIES:
            monkeypatch.delenv(variable)
    monkeypatch.setenv("STEPCHAIN_STORE", str(home / "runs.db"))
    monkeypatch.setenv("STEPCHAIN_SETTINGS", str(home / "stepchain.toml"))
    for name in ("DATA", "CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    return home


@pytest.fixture(autouse=True)
def runs_add_up(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold every run of every test against its events: what its engine saw, and what its summary rows say."""
    with watch(monkeypatch) as kept:
        yield
    if request.node.get_closest_marker("breaks_its_store") is None:
        kept.check()


# --- tools that a machine may not have


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "needs(tool): the test needs this command; it is left out where there is none")
    config.addinivalue_line("markers", "breaks_its_store(why): what the test's runs add up to cannot be checked")
    config.stash[_LEFT_OUT] = {}
    config.stash[_STORES] = set()


def _missing(item: pytest.Item) -> list[str]:
    return [tool for mark in item.iter_markers("needs") for tool in mark.args if not _has(tool)]


def _has(tool: str) -> bool:
    if tool == _ROOT:
        return os.geteuid() == 0
    if tool == _POSTGRESQL:
        return postgresql_program("initdb") is not None
    return sys.version_info[:2] == (3, 11) if tool == _PYTHON else shutil.which(tool) is not None


def _tools_are_required() -> bool:
    return os.environ.get("STEPCHAIN_REQUIRE_TOOLS", "") not in ("", "0")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this machine cannot run."""
    left_out = [
        item
        for item in items
        if (missing := _missing(item)) and (not _tools_are_required() or set(missing) & set(_NEVER_REQUIRED))
    ]
    if not left_out:
        return
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in left_out:
        for tool in _missing(item):
            config.stash[_LEFT_OUT].setdefault(tool, []).append(item.nodeid)
    if (output := getattr(config, "workeroutput", None)) is not None:
        output["left_out"] = config.stash[_LEFT_OUT]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail where a tool is required and missing."""
    if missing := _missing(item):
        pytest.fail(f"STEPCHAIN_REQUIRE_TOOLS is set and this machine has no {', '.join(missing)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what tests left running on purpose: a shell step outlives an owner that was killed until it is taken over."""
    stores = session.config.stash[_STORES]
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("STEPCHAIN_STORE") in stores:
                process.kill()
        except psutil.Error:
            continue


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over from a worker of pytest-xdist what it left out."""
    node.config.stash[_LEFT_OUT].update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which tests were left out and why."""
    for tool, names in sorted(config.stash[_LEFT_OUT].items()):
        terminalreporter.write_line(
            f"left out, because {f'they need {tool}' if tool in _NEVER_REQUIRED else f'this machine has no {tool}'}:"
        )
        for name in sorted(set(names)):
            terminalreporter.write_line(f"  {name}")
