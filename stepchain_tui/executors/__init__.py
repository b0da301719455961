"""How one step is carried out: one folder a kind, all of them behind the same contract (`types`).

Imports `tools`, `sandbox`, `llm` and what is below them; never the engine.
"""

from stepchain_tui.executors.types import CallPorts, Outcome, SkipStep, StepCall, StepExecutor

__all__ = ("CallPorts", "Outcome", "SkipStep", "StepCall", "StepExecutor")
