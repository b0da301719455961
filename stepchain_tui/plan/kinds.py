"""The closed words of a plan file: what a step can be and how it may behave."""

from __future__ import annotations

from enum import StrEnum


class ActionKind(StrEnum):
    """What one step does; the word is the key it is written under."""

    PROMPT = "prompt"
    """Asks a model."""
    AGENT = "agent"
    """Lets an agent of the plan take one turn."""
    FUNCTION = "function"
    """Calls a Python function."""
    TOOL = "tool"
    """Calls a registered tool, or a tool of an MCP server."""
    PYTHON = "python"
    """Runs Python code in a sandbox."""
    SHELL = "shell"
    """Runs a command."""
    HTTP = "http"
    """Sends one HTTP request."""
    DB = "db"
    """Runs one database statement."""
    PLAN = "plan"
    """Runs another plan as one step."""
    APPROVE = "approve"
    """Asks a person."""


def calls_tools(kind: str) -> bool:
    """Return whether a step of this kind may call tools."""
    return kind in (ActionKind.TOOL, ActionKind.PROMPT, ActionKind.AGENT)


class Mode(StrEnum):
    """Where a step's code runs."""

    INLINE = "inline"
    """In the engine's own loop: for code that never blocks."""
    THREAD = "thread"
    PROCESS = "process"
    CLUSTER = "cluster"


class TriggerRule(StrEnum):
    """What must be true of a step's parents before it starts."""

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ONE_FAILED = "one_failed"
    NONE_FAILED = "none_failed"


class OnFailure(StrEnum):
    """What a step's failure means to its dependents and to the run."""

    FAIL = "fail"
    """Dependents are blocked and the run fails."""
    CONTINUE = "continue"
    """Dependents run and the run does not fail for it."""


class OnInterrupt(StrEnum):
    """What happens to an attempt that was cut off by the end of its engine."""

    RERUN = "rerun"
    ASK = "ask"
    SKIP = "skip"


class OnTimeout(StrEnum):
    """How a question is answered when nobody answered it in time."""

    DENY = "deny"
    APPROVE = "approve"


class PythonEngine(StrEnum):
    """The sandbox of a python step."""

    MONTY = "monty"
    BWRAP = "bwrap"


class BreakpointPlace(StrEnum):
    """On which side of a step the run stops for a person."""

    BEFORE = "before"
    AFTER = "after"


class InputType(StrEnum):
    """What a person may give for an input of a plan, or for a field of a question."""

    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    PATH = "path"
    CHOICE = "choice"
    SECRET = "secret"
    """Never shown and never stored."""


MODEL_PROFILES = ("openai", "ollama", "vllm", "lm_studio", "llama_cpp", "litellm", "custom")
"""What a model's server can be; what each can do says `llm.profiles`."""
