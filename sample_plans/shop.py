"""The tool and the agent of `shop.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

_PRICES = {"tea": 4.5, "coffee": 7.0, "cocoa": 6.25}


def price_list(
    currency: Annotated[str, Field(description="Three letters, such as EUR", pattern="^[A-Z]{3}$")] = "EUR",
    raised_by: Annotated[float, Field(description="Percent", ge=0, le=100)] = 0,
) -> list[dict[str, object]]:
    """Return what the shop sells, one row for each article."""
    return [
        {"article": article, "price": round(price * (1 + raised_by / 100), 2), "currency": currency}
        for article, price in _PRICES.items()
    ]


class Advisor:
    """An agent without a model: it says which article to put into the window."""

    def run_step(self, request: dict, memory: object, **_: object) -> dict:
        """Return the advice for the rows in `request`."""
        best = max(request["rows"], key=lambda row: row["turnover"])
        return {"advice": f"Put {best['article']} into the window.", "because": f"it brought {best['turnover']:g}"}
