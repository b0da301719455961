"""The functions of quickstart.yaml: plain Python, nothing to import from StepChain.

Change one while the app is open and press `r` on its step: the new code runs.
"""

import math


def parse(text):
    """Return `name count` lines as a list of rows."""
    rows = []
    for line in text.splitlines():
        name, count = line.split()
        print(f"read {name}")  # what a function prints is its step's log
        rows.append({"name": name, "count": int(count)})
    return rows


def count_primes(below):
    """Return how many primes there are below a number, the slow way."""
    found = 0
    for number in range(2, below):
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            found += 1
    return found


def third_time_lucky(ctx):
    """Fail at the first two attempts; a parameter named `ctx` tells which one this is."""
    ctx.log(f"this is attempt {ctx.attempt}")
    if ctx.attempt % 3:  # a rerun counts on from where it was, and is unlucky twice again
        raise ConnectionError("the line is busy")
    return f"succeeded at attempt {ctx.attempt}"


def card(name, count):
    """Return one line of the report."""
    return f"{name:<8}{'#' * count} {count}"


def report(greeting, cards, total, primes, luck):
    """Return the report as text."""
    return "\n".join([f"{greeting}!", "", *cards, "", f"total   {total}", f"primes  {primes}", f"luck    {luck}"])
