"""When to try again, when to leave somebody alone, and what need not be done twice: all of it pure decisions.

Imports `core`, `plan` and `run` only; the engine waits, the store keeps, and neither is known here.
"""
