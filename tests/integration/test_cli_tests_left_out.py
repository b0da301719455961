"""A machine that lacks a tool: its tests are left out and named, or, where tools are required, they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ROOT

TESTS = """
import pytest

@pytest.mark.needs("no-such-tool-anywhere")
def test_with_a_tool():
    pass

@pytest.mark.needs("sh")
def test_with_a_shell():
    pass

def test_without():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_cannot_run_here_is_left_out_and_named(tmp_path: Path, workers: str) -> None:
    code, out = _pytest(tmp_path, workers)

    assert code == 0, out
    assert "2 passed" in out
    assert "skipped" not in out
    assert "no no-such-tool-anywhere:" in out
    assert "test_with_a_tool" in out


def test_where_tools_are_required_a_missing_one_is_a_failure(tmp_path: Path) -> None:
    code, out = _pytest(tmp_path, "0", STEPCHAIN_REQUIRE_TOOLS="1")

    assert code == 1
    assert "this machine has no no-such-tool-anywhere" in out


def _pytest(folder: Path, workers: str, **extra: str) -> tuple[int, str]:
    (folder / "test_tools.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.pop("STEPCHAIN_REQUIRE_TOOLS", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n", workers, str(folder)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), **extra},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
