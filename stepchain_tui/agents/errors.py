"""What goes wrong with agents, by who must act. Each error also derives from the builtin that document 001 implies."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from stepchain_tui.core.errors import StepChainError, UsageError


class AgentNotFoundError(StepChainError, KeyError):
    """Signals the name of an agent that is not registered.

    Args:
        agent_name: What was asked for.
        known: The names that are registered.

    Attributes:
        suggestions: Known names that are close, the closest first, three at most.
    """

    kind = "agent_not_found"

    def __init__(self, agent_name: str, known: Iterable[str] = ()) -> None:
        names = sorted(known)
        self.agent_name = agent_name
        self.suggestions = near_matches(agent_name, names)
        super().__init__(f"Agent '{agent_name}' not found", hint=_known_hint(self.suggestions, names))


class ValidationError(UsageError):
    """Signals a request, a response or an argument that does not have the form it must have; never tried again.

    Args:
        message: What is wrong, with the path of the field.
        hint: What to do.
        problems: One line for each mistake, where there may be several.
    """

    kind = "validation"

    def __init__(self, message: str, *, hint: str = "", problems: Iterable[str] = ()) -> None:
        super().__init__(message, hint=hint or "Mend the value; nothing was called.")
        self.problems = tuple(problems)


class SecurityError(UsageError):
    """Signals a request that looks like an attempt to take an agent over.

    Args:
        message: What is suspected, with the text.
        flagged: The text that gave rise to it.
    """

    kind = "security"

    def __init__(self, message: str, *, flagged: str = "") -> None:
        super().__init__(
            message,
            hint="Read the text. If it is meant, allow it once: metadata={'allow_injection': True}, "
            "executor.allow_once(request), or `args: {allow_injection: true}` of the step.",
        )
        self.flagged = flagged


class HTTPError(StepChainError, OSError):
    """Signals a failed HTTP exchange, for agents and tools to raise; tried again by default.

    Args:
        message: What went wrong.
        status: The status of the answer, None where there was none.
        retry_after: Seconds that the other side asked to wait.
    """

    kind = "http"
    exit_code = 1

    def __init__(self, message: str = "", *, status: int | None = None, retry_after: float | None = None) -> None:
        text = message or ("HTTP exchange failed" if status is None else f"HTTP status {status}")
        super().__init__(text, hint="Check the address and the other side's state.")
        self.status = status
        self.retry_after = retry_after


def near_matches(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are close to `name`, whatever their case, the closest first, three at most."""
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.casefold(), candidate)
    return [by_folded[found] for found in get_close_matches(name.casefold(), list(by_folded), n=3, cutoff=0.6)]


def is_word(value: object) -> bool:
    """Return whether a value can be a name: text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def _known_hint(suggestions: list[str], known: list[str]) -> str:
    if suggestions:
        return f"did you mean '{suggestions[0]}'?"
    return f"Registered agents: {', '.join(known[:20])}" if known else "No agents are registered."
