"""What a user installs: the wheel has all that it needs, and importing the package stays cheap."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.command_line import ROOT

HEAVY = (
    *("textual", "rich", "openai", "mcp", "aiohttp", "jinja2", "networkx", "sqlalchemy", "distributed"),
    "opentelemetry",
)
INSTALL_PATIENCE = 600.0


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = set(_python("import sys, stepchain_tui; print('\\n'.join(sys.modules))").split())

    assert not {name for name in HEAVY if name in loaded}


@pytest.mark.parametrize(
    "room", ["core", "plan", "run", "store", "resilience", "tools", "sandbox", "executors", "engine"]
)
def test_rooms_below_the_app_load_no_screen_library(room: str) -> None:
    loaded = set(_python(f"import sys, stepchain_tui.{room}; print('\\n'.join(sys.modules))").split())

    assert not {"textual", "rich", "openai"} & loaded


def test_the_version_is_told_without_loading_the_engine() -> None:
    code = "import sys; from stepchain_tui.cli import main; main(['--version']); print('\\n'.join(sys.modules))"
    loaded = set(_python(code).split())

    assert not {"asyncio", "pydantic", "msgspec", "sqlite3", "stepchain_tui.engine", *HEAVY} & loaded


@pytest.mark.timeout(INSTALL_PATIENCE)
def test_the_wheel_installs_into_an_empty_environment_and_runs_a_sample(tmp_path: Path) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "HOME": os.environ.get("HOME", str(tmp_path))}
    environment.pop("PYTHONPATH", None)

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "stepchain_tui/sample_plans/quickstart.yaml" in names
    assert any(name.startswith("stepchain_tui/themes/") for name in names)
    assert any(name.endswith(".tcss") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin_folder = tmp_path / "venv" / "bin"
    run(bin_folder / "python", "-m", "pip", "install", wheel)

    assert run(bin_folder / "stepchain", "--version").startswith("stepchain ")
    code = "from stepchain_tui.core.paths import shipped_folder as s; print(s('sample_plans')); print(s('themes'))"
    samples, themes = run(bin_folder / "python", "-c", code).split()
    assert str(tmp_path) in samples
    assert list(Path(themes).iterdir())
    run(bin_folder / "stepchain", "run", Path(samples) / "folder_report.yaml", "--input", f"folder={samples}")
    assert "quickstart.yaml" in (tmp_path / "stepchain-report.md").read_text()
