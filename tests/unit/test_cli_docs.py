"""What the documentation says is so: commands, keys, settings, and the two commands of the quick start."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.plan import InputType, find_problems
from stepchain_tui.plan.expression_filters import FILTERS
from stepchain_tui.plan.models import Plan, Step
from tests.support.command_line import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_quick_start_has_exactly_two_commands() -> None:
    blocks = FENCE.findall(_section("Quick start"))

    assert [language for language, _ in blocks] == ["bash", "bash"]
    assert all(len(text.strip().splitlines()) == 1 for _, text in blocks)
    assert blocks[0][1].strip().endswith("stepchain")
    assert blocks[1][1].strip().endswith("-m pytest")


def test_the_plan_in_the_readme_has_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "parse.py").write_text("def parse(listing):\n    return listing\n")
    (text,) = [text for language, text in FENCE.findall(README) if language == "yaml"]

    assert find_problems(text, "readme.yaml", tmp_path) == []


def test_the_python_example_in_the_readme_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = [text for language, text in FENCE.findall(README) if language == "python"]
    script = tmp_path / "example.py"
    script.write_text(text)

    runpy.run_path(str(script), run_name="__main__")

    assert "count succeeded 6" in capsys.readouterr().out


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_link_to_a_heading_leads_to_one() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
    for name, text in pages.items():
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
            assert anchor in _anchors(pages[target or name]), f"{name}: {target}#{anchor}"


def _anchors(text: str) -> set[str]:
    """Return what the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_key_filter_and_input_type_of_plans_is_documented() -> None:
    page = (ROOT / "docs" / "plans.md").read_text(encoding="utf-8")
    keys = {*Plan.model_fields, *Step.model_fields}
    words = set(re.findall(r"\w+", page))

    assert keys <= words
    assert {str(kind) for kind in InputType} <= words
    assert set(FILTERS) <= words


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    assert [name for name in Settings.__struct_fields__ if f"| `{name}` |" not in page] == []


def test_the_defaults_of_settings_are_those_that_hold() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, re.MULTILINE))
    tables = ("retry", "telemetry")
    held = {name: getattr(Settings(), name) for name in Settings.__struct_fields__ if name not in tables}

    assert {name: json.loads(told[name]) for name in held} == held
