"""What the model of assistant.yaml may call."""

from pathlib import Path

WEATHER = {"Oslo": "rain until noon, then clear", "Rome": "clear"}
PRICES = {"Fram Museum": 14.5, "Munch Museum": 18.0}


def weather(city: str) -> str:
    """Tell today's weather.

    Args:
        city: The city, in English.
    """
    if city not in WEATHER:
        raise LookupError(f"no weather for {city}; there is some for {', '.join(WEATHER)}")
    return WEATHER[city]


def tickets(sight: str, people: int = 1) -> dict[str, float]:
    """Tell what tickets cost.

    Args:
        sight: What is visited.
        people: For how many.
    """
    return {"each": PRICES[sight], "together": PRICES[sight] * people}


def save(title: str, text: str) -> str:
    """Write a plan into a file and return its name.

    Args:
        title: The file's first line.
        text: What follows.
    """
    path = Path("day-out.md")
    path.write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
    return path.name
