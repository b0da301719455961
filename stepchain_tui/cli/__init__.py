"""`stepchain`: the headless twin of the app. A command parses, calls one function below, and prints.

Standard output is data, standard error is talk, exit codes are an API. May import every other room, and does so only
inside the commands that need it: `stepchain --version` stays as fast as an empty program.
"""

from stepchain_tui.cli.border import main

__all__ = ("main",)
