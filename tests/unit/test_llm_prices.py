"""What tokens cost: known for one host, by name with or without a date, over which a user may write; never a guess."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.llm.prices import PRICED_HOST, Prices, load_prices
from stepchain_tui.plan import find_problems
from tests.support.command_line import ROOT


def written(folder: Path, models: Any, **more: Any) -> Prices:
    path = folder / "prices.json"
    path.write_text(json.dumps({"models": models, **more}))
    return load_prices(path)


def cost(prices: Prices, model: str, provider: str = PRICED_HOST, **counts: Any) -> float | None:
    return prices.cost(provider, model, **{"input_tokens": 1_000_000, "output_tokens": 100_000, **counts})


def test_the_shipped_prices_have_a_day_and_each_is_whole() -> None:
    prices = load_prices(None)
    assert date.fromisoformat(prices.date)
    assert {"gpt-5", "gpt-5-mini", "gpt-4.1"} <= prices.shipped.keys()
    for name, price in prices.shipped.items():
        assert 0 < price.input < price.output, name
        assert price.cached_input is None or 0 < price.cached_input < price.input, name


def test_a_cost_counts_what_was_cached_at_its_own_price() -> None:
    prices = load_prices(None)
    assert cost(prices, "gpt-5") == pytest.approx(1.25 + 1.0)
    assert cost(prices, "gpt-5", cached_tokens=400_000) == pytest.approx(0.75 + 0.05 + 1.0)
    assert cost(prices, "gpt-5", cached_tokens=9_000_000) == pytest.approx(0.125 + 1.0)
    assert cost(prices, "gpt-5-pro", cached_tokens=400_000) == pytest.approx(15 + 12)


@pytest.mark.parametrize("model", ["gpt-5-2025-08-07", "gpt-5"])
def test_a_name_with_its_date_is_the_same_model(model: str) -> None:
    assert cost(load_prices(None), model) == pytest.approx(2.25)


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gpt-5-experimental", PRICED_HOST), ("gpt-5", "localhost:11434"), ("gpt-5", "client"), ("gpt-5", "")],
)
def test_what_is_not_known_is_unknown_and_not_0(model: str, provider: str) -> None:
    assert cost(load_prices(None), model, provider) is None


@pytest.mark.parametrize("unknown", ["input_tokens", "output_tokens"])
def test_an_answer_that_was_not_counted_has_no_cost(unknown: str) -> None:
    assert cost(load_prices(None), "gpt-5", **{unknown: None}) is None


def test_a_scripted_answer_costs_nothing_and_that_is_known() -> None:
    assert load_prices(None).cost("scripted", "any", input_tokens=None, output_tokens=None) == 0.0


def test_the_users_prices_go_before_ours_the_one_of_the_host_first(tmp_path: Path) -> None:
    prices = written(
        tmp_path,
        {
            "gpt-5": {"input": 2, "output": 0},
            "localhost:8000/gpt-5": {"input": 3, "output": 0},
            "meta/llama": {"input": 4, "output": 0},
        },
    )
    assert cost(prices, "gpt-5") == 2
    assert cost(prices, "gpt-5", "localhost:8000") == 3
    assert cost(prices, "gpt-5-2025-08-07", "localhost:8000") == 3
    assert cost(prices, "gpt-5", "elsewhere") == 2
    assert cost(prices, "meta/llama", "elsewhere:443") == 4
    assert cost(prices, "gpt-5-mini") == pytest.approx(0.45)
    assert list(prices.models("localhost:8000"))[:1] == ["gpt-5"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"models": {', ":1:13: not JSON: Expecting property name enclosed in double quotes"),
        ("[]", ": a mapping is needed"),
        ('{"prices": {}}', ": unknown key 'prices'"),
        ('{"models": []}', ": 'models' is no mapping of names to prices"),
        ('{"models": {"m": 3}}', ": models['m']: a mapping with 'input' and 'output' is needed"),
        ('{"models": {"m": {"input": 1}}}', ": models['m']: 'output' is missing"),
        ('{"models": {"m": {"input": -1, "output": 1}}}', ": models['m'].input: not an amount of dollars: '-1'"),
        ('{"models": {"m": {"input": NaN, "output": 1}}}', ": models['m'].input: not an amount of dollars: 'nan'"),
        ('{"models": {"m": {"input": true, "output": 1}}}', ": models['m'].input: not an amount of dollars: 'True'"),
        ('{"models": {"m": {"input": 1, "output": 1, "out": 1}}}', ": models['m']: unknown key 'out'"),
        ('{"models": {"m": {"input": 1, "output": 1}, "m": {}}}', ": 'm' is written twice"),
        ("[" * 100_000, ": nested too deeply"),
    ],
)
def test_a_broken_file_is_one_problem_with_its_place_and_then_nothing_is_known(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    prices = load_prices(path)
    assert prices.problem.startswith(f"{path}{problem}")
    assert prices.problem.count("\n") == 0
    assert cost(prices, "gpt-5") is None
    assert cost(prices, "m", "scripted") == 0.0


def test_a_file_that_cannot_be_read_or_is_too_large_is_a_problem_too(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8 at byte 0" in load_prices(path).problem
    path.write_bytes(b" " * 1_000_001)
    assert "at most 1,000,000 bytes" in load_prices(path).problem
    assert "cannot be read" in load_prices(tmp_path).problem
    assert load_prices(tmp_path / "none.json").problem == ""


def test_the_page_on_budgets_writes_prices_and_a_plan_that_hold(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(json|yaml)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    path = tmp_path / "prices.json"
    path.write_text(blocks["json"])
    prices = load_prices(path)
    assert (prices.problem, cost(prices, "qwen3", "llm.example.com:8443")) == ("", pytest.approx(0.26))
    assert find_problems(blocks["yaml"], "plan.yaml", tmp_path) == []
