"""The tools of tool_chain.yaml, all of them made up: nothing here needs a network.

Run this file itself, `python tool_chain.py`, to see the same as a script: which tools there are, chains planned by
hand, one after the other and in parallel, and what is learned of the tools.
"""

import asyncio

_ARTICLES = {
    "barley": "Barley is sown in spring. It is cut in July. Malt is made of it.",
    "rye": "Rye is sown in autumn. It stands the frost. Bread is made of it.",
}
_PRICES = {"barley": 210, "rye": 190}
_RAIN = {"barley": [12, 0, 7], "rye": [3, 3, 4]}


def search(query: str, limit: int = 3) -> list[str]:
    """Find articles by a word."""
    return [name for name, text in sorted(_ARTICLES.items()) if query.lower() in f"{name} {text}".lower()][:limit]


def read(articles: list[str]) -> str:
    """Return the text of articles."""
    return "\n".join(_ARTICLES[name] for name in articles)


def summarise(text: str, sentences: int = 1) -> str:
    """Keep the first sentences of each paragraph."""
    return "\n".join(". ".join(line.split(". ")[:sentences]).rstrip(".") + "." for line in text.splitlines())


def field(crop: str) -> dict:
    """Look up what is known of a crop's field."""
    return {"crop": crop, "rain": _RAIN[crop]}


def rain(field: dict) -> float:
    """Work out the mean of a field's rain, in millimetres."""
    return round(sum(field["rain"]) / len(field["rain"]), 1)


def price(field: dict) -> int:
    """Look up what a tonne of a field's crop costs, in euros."""
    return _PRICES[field["crop"]]


def advise(rain: float, price: int) -> str:
    """Say what to do."""
    return f"{'wait' if rain > 5 else 'harvest'}: {rain} mm of rain, {price} EUR a tonne"


TOOLS = {tool.__name__: tool for tool in (search, read, summarise, field, rain, price, advise)}


def discover(query: str = "") -> list[dict]:
    """Return the tools that a chain can be made of, with what each does."""
    found = [{"name": name, "description": tool.__doc__.strip()} for name, tool in TOOLS.items()]
    return [tool for tool in found if query.lower() in f"{tool['name']} {tool['description']}".lower()]


async def main():
    """Discover, plan by hand, carry out, and look at what was learned."""
    from stepchain_tui import MemoryStore
    from stepchain_tui.chain import ChainExecutor, ExecutionPlan, ToolCall

    for tool in discover():
        print(f"{tool['name']:10} {tool['description']}")

    simple = ExecutionPlan(
        "simple",
        [
            ToolCall("search", {"query": "sown"}, order=1),
            ToolCall("read", {"articles": "CHAIN_RESULT"}, order=2, dependencies=[1]),
            ToolCall("summarise", {"text": "CHAIN_RESULT", "sentences": 2}, order=3, dependencies=[2]),
        ],
        goal="What is sown when?",
    )
    parallel = ExecutionPlan(
        "parallel",
        [
            ToolCall("field", {"crop": "barley"}, order=1),
            ToolCall("rain", {"field": "CHAIN_RESULT"}, order=2, dependencies=[1]),
            ToolCall("price", {"field": "CHAIN_RESULT"}, order=3, dependencies=[1]),
            ToolCall("advise", {"rain": 6.3, "price": "CHAIN_RESULT"}, order=4, dependencies=[2, 3]),
        ],
        goal="Harvest or wait?",
    )
    tries = {"price": 0}

    def call_tool(name, parameters):
        if name == "price" and not tries["price"]:
            tries["price"] += 1
            raise ConnectionError("the market does not answer")  # tried again a second later
        return TOOLS[name](**parameters)

    executor = ChainExecutor(store=MemoryStore())  # leave the store out, and the app's history has these chains
    for plan, in_parallel in ((simple, False), (parallel, True)):
        state = await executor.execute_plan(plan, call_tool, parallel=in_parallel)
        print(f"\n{plan.goal} {state.status}, levels {plan.levels()}")
        for order, result in state.results.items():
            again = f", tried again {result.retry_count}x" if result.retry_count else ""
            print(f"  {order} {result.tool_call.tool_name}: {result.output!r}{again}")

    print()
    for name, known in executor.discovery.metrics().items():
        print(f"{name:10} {known['calls']} calls, {known['success_rate']:.0%} succeeded")


if __name__ == "__main__":
    asyncio.run(main())
