"""The pages about Python, histories and telemetry: their examples run, and their plan is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

import stepchain_tui
from stepchain_tui.core.settings import Settings
from stepchain_tui.core.telemetry_names import CONTENTS
from stepchain_tui.plan import find_problems

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def examples(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(name), re.DOTALL)


def test_the_examples_in_python_run(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("python-api.md", "history.md", "telemetry.md"):
        for example in examples(name, "python"):
            exec(example, {})
    said = capsys.readouterr().out
    assert "facts succeeded three facts\nreport succeeded a report\n" in said
    assert re.search(r"shell a \d+\.\d s", said)
    assert re.search(r"invoke_workflow two steps \d", said)


def test_the_plan_about_histories_has_no_mistake() -> None:
    (text,) = examples("history.md", "yaml")
    assert find_problems(f"inputs: {{topic: {{type: text}}}}\n{text}", "plan.yaml", DOCS) == []


def test_the_settings_about_telemetry_are_settings() -> None:
    (text,) = examples("telemetry.md", "toml")
    settings = msgspec.convert(tomllib.loads(text), Settings)
    assert settings.telemetry.endpoint == "http://localhost:4318"


def test_every_public_name_and_all_that_holds_contents_is_on_its_page() -> None:
    assert [name for name in stepchain_tui.__all__ if f"`{name}" not in page("python-api.md")] == []
    assert [name for name in CONTENTS if name not in page("telemetry.md")] == []
