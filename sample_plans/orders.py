"""The functions of orders.yaml: plain Python, nothing to import from StepChain."""

import time

_ORDERS = """\
1 ada 120 EUR
2 grace 90 USD
3 linus 300 EUR
4 mary 70 GBP
5 ada 120 EUR
6 alan 650 USD
7 edsger 40 EUR
8 barbara 210 GBP
9 donald 15 USD
10 radia 480 EUR
"""
_EUROS = {"EUR": 1.0, "USD": 0.9, "GBP": 1.2}


def read():
    """Return the orders of a month."""
    rows = (line.split() for line in _ORDERS.splitlines())
    return [
        {"id": int(number), "customer": customer, "amount": int(amount), "currency": currency}
        for number, customer, amount, currency in rows
    ]


def look_up_rates(currencies):
    """Return what each currency is worth, as slowly as somebody else's server would."""
    time.sleep(1)
    print(f"asked for {', '.join(currencies)}")
    return {currency: _EUROS[currency] for currency in currencies}


def convert(orders, rates):
    """Return a group of orders in euros."""
    return [
        {
            "id": order["id"],
            "customer": order["customer"],
            "euros": round(order["amount"] * rates[order["currency"]], 2),
        }
        for order in orders
    ]


def letter(verdict):
    """Return the letter as text."""
    return "\n".join(
        [
            f"{verdict['count']} orders, {verdict['euros']:.2f} EUR in all.",
            f"Large, please look: {verdict['large'] or 'none'}",
            f"Perhaps ordered twice: {verdict['doubled'] or 'none'}",
        ]
    )
