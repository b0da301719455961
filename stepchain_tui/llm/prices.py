"""What tokens cost: the prices that ship with us, and those that a user writes beside their settings.

The shipped prices hold for one host only, `api.openai.com`: what another server charges for a model of the same name
nobody here knows. A price that is not known stays unknown; it is never taken for 0. Only tokens are counted: what a
provider takes for its hosted tools, for long contexts or for other classes of service is not in these numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.llm.choice import SCRIPTED

PRICED_HOST = "api.openai.com"
"""The one host that the shipped prices are of."""
LARGEST_FILE = 1_000_000
"""Bytes of a file of prices at most."""
_PER = 1_000_000
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_PORT = re.compile(r":\d+$")
_KEYS = ("input", "cached_input", "output")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        input: Of the question.
        output: Of the answer, reasoning included.
        cached_input: Of the question, where the provider had it at hand; None where that costs the same.
    """

    input: float
    output: float
    cached_input: float | None = None

    def of(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return what so many tokens cost; `cached_tokens` are part of the input."""
        cached = min(cached_tokens, input_tokens)
        at_hand = self.input if self.cached_input is None else self.cached_input
        return ((input_tokens - cached) * self.input + cached * at_hand + output_tokens * self.output) / _PER


_FREE = Price(0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices that are known.

    Attributes:
        shipped: Those that ship with us, by model.
        date: The day that they are of.
        own: Those of the user, by `HOST/MODEL` or `MODEL`; they go before ours.
        path: The user's file, whether it exists or not.
        problem: What is wrong with that file. Then no price is known: the file may have said another one.
    """

    shipped: Mapping[str, Price] = field(default_factory=dict)
    date: str = ""
    own: Mapping[str, Price] = field(default_factory=dict)
    path: Path | None = None
    problem: str = ""

    def price(self, provider: str, model: str) -> Price | None:
        """Return the price of a model, or None where it is not known.

        Args:
            provider: Who is asked, as in `model.turn`: the API's host, `client` or `scripted`.
            model: The model's name, with or without the date of its release (`gpt-5-2025-08-07`).
        """
        if provider == SCRIPTED:
            return _FREE
        if self.problem:
            return None
        names = dict.fromkeys((model, _DATED.sub("", model)))
        for host in dict.fromkeys((provider, _PORT.sub("", provider))):
            for name in names:
                if (found := self.own.get(f"{host}/{name}")) is not None:
                    return found
        for known in (self.own, self.shipped if _PORT.sub("", provider) == PRICED_HOST else {}):
            for name in names:
                if (found := known.get(name)) is not None:
                    return found
        return None

    def cost(
        self,
        provider: str,
        model: str,
        *,
        input_tokens: int | None,
        output_tokens: int | None,
        cached_tokens: int | None = None,
    ) -> float | None:
        """Return what an answer cost in US dollars, or None where its price or its tokens are not known.

        Args:
            provider: As for `price`.
            model: As for `price`.
            input_tokens: Tokens of the question.
            output_tokens: Tokens of the answer.
            cached_tokens: Tokens of the question that the provider had at hand; none where it does not say.
        """
        price = self.price(provider, model)
        if price is _FREE:
            return 0.0
        if price is None or input_tokens is None or output_tokens is None:
            return None
        return price.of(input_tokens, output_tokens, cached_tokens or 0)

    def models(self, provider: str) -> dict[str, Price]:
        """Return the models of a provider whose price is known, the cheapest output first.

        Args:
            provider: As for `price`.
        """
        host = _PORT.sub("", provider)
        found = dict(self.shipped) if host == PRICED_HOST and not self.problem else {}
        for name, price in self.own.items() if not self.problem else ():
            of_host = next((name.removeprefix(f"{one}/") for one in (provider, host) if name.startswith(f"{one}/")), "")
            if of_host or "/" not in name:
                found[of_host or name] = price
        return dict(sorted(found.items(), key=lambda entry: (entry[1].output, entry[1].input, entry[0])))


def load_prices(path: Path | None) -> Prices:
    """Return the shipped prices with those of the user's file over them; reads both files.

    A file of the user that cannot be used is no reason to stop anything: `Prices.problem` says what is wrong.

    Args:
        path: The user's file; it need not exist. None for our prices alone.
    """
    data = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    prices = Prices(shipped=_read_models(data["models"]), date=data["date"], path=path)
    if path is None:
        return prices
    try:
        own = _read_own(path)
    except UsageError as error:
        return Prices(path=path, problem=f"{error.message}. {error.hint}")
    return Prices(shipped=prices.shipped, date=prices.date, own=own, path=path)


def _read_own(path: Path) -> dict[str, Price]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: the prices cannot be read: {error.strerror or error}", hint=_HINT) from error
    if len(raw) > LARGEST_FILE:
        raise UsageError(f"{path}: a file of prices has at most {LARGEST_FILE:,} bytes, not {len(raw):,}", hint=_HINT)
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_doubles)
        return _read_models(_models_in(data))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}", hint=_HINT) from error
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply", hint=_HINT) from error
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=_HINT) from None


_HINT = 'Write {"models": {"MODEL": {"input": 1.25, "output": 10}}}: US dollars for 1,000,000 tokens.'


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"'{name}' is written twice")
        found[name] = value
    return found


def _models_in(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise UsageError("a mapping is needed")
    if unknown := [name for name in data if name not in ("models", "date", "unit")]:
        raise UsageError(f"unknown key '{unknown[0]}'")
    models = data.get("models", {})
    if not isinstance(models, dict):
        raise UsageError("'models' is no mapping of names to prices")
    return models


def _read_models(models: Mapping[str, Any]) -> dict[str, Price]:
    """Return the prices that a file writes.

    Raises:
        UsageError: An entry is no price; it says which, without the file.
    """
    found: dict[str, Price] = {}
    for name, entry in models.items():
        if not isinstance(entry, dict):
            raise UsageError(f"models['{name}']: a mapping with 'input' and 'output' is needed")
        if unknown := [key for key in entry if key not in _KEYS]:
            raise UsageError(f"models['{name}']: unknown key '{unknown[0]}' (known are {', '.join(_KEYS)})")
        values = {key: _amount(name, key, entry[key]) for key in entry}
        if missing := [key for key in ("input", "output") if key not in values]:
            raise UsageError(f"models['{name}']: '{missing[0]}' is missing")
        found[name] = Price(**values)
    return found


def _amount(model: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UsageError(f"models['{model}'].{key}: not an amount of dollars: {str(value)[:40]!r}")
    return float(value)
