"""When to try again, when to leave somebody alone, and what need not be done twice: pure decisions.

Imports `core`, `plan` and `run` only; the engine waits, the store keeps, and neither is known here. `calls` is for what
no engine carries out: it waits itself, by the same decisions.
"""
