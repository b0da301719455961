"""What is looked at before a request costs anything: its size, its text and its form."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from stepchain_tui.agents.errors import SecurityError, ValidationError
from stepchain_tui.agents.formats import validate_against_schema
from stepchain_tui.agents.injection import find_injection
from stepchain_tui.agents.registry import AgentRegistry
from stepchain_tui.resilience.lru import content_key

ALLOW_INJECTION = "allow_injection"
"""Key of the metadata by which a caller lets a flagged request through, for this call."""
_allowed: ContextVar[bool] = ContextVar("stepchain_allow_injection", default=False)


class RequestChecks:
    """Checks the requests to the agents of a registry.

    Attributes:
        MAX_REQUEST_SIZE: Characters that a request may have, counted in `str(request)`; set it on a class or an object.
    """

    MAX_REQUEST_SIZE: int = 1_000_000

    def __init__(self, agent_registry: AgentRegistry) -> None:
        self._schemas = agent_registry
        self._allowed_once: set[str] = set()

    def allow_once(self, request: Any) -> None:
        """Let the next call with an equal request through, although it is flagged: somebody has read it."""
        self._allowed_once.add(content_key(request))

    def check_request(self, request: Any, agent_name: str, *, allow_injection: bool = False) -> None:
        """Check a request before it costs anything.

        Args:
            request: What the agent is asked.
            agent_name: Its name in the registry.
            allow_injection: Lets a flagged request through, this once.

        Raises:
            ValidationError: It is too large, or does not fit the agent's schema.
            SecurityError: It looks like an attempt to take the agent over, and nobody allowed it.
        """
        before = _allowed.set(allow_injection)
        try:
            self._validate_request(request, agent_name)
        finally:
            _allowed.reset(before)

    def _validate_request(self, request: Any, agent_name: str) -> None:
        """Raise what is wrong with a request; see `check_request`.

        Raises:
            ValidationError: It is too large, or does not fit the agent's schema.
            SecurityError: It looks like an attempt to take the agent over, and nobody allowed it.
        """
        size = len(str(request))
        if size > self.MAX_REQUEST_SIZE:
            raise ValidationError(
                f"Request too large: {size:,} characters, at most {self.MAX_REQUEST_SIZE:,}",
                hint="Send less, or raise MAX_REQUEST_SIZE.",
            )
        flagged = self._contains_injection(request)
        if flagged and not _allowed.get() and not self._was_allowed(request):
            raise SecurityError(f"Potential injection detected: '{flagged}'", flagged=flagged)
        schema = self._get_agent_schema(agent_name)
        if schema is not None:
            validate_against_schema(request, schema)

    def _contains_injection(self, request: Any) -> str:
        """Return the text that looks like an attempt to take over, empty where there is none."""
        return find_injection(request)

    def _was_allowed(self, request: Any) -> bool:
        key = content_key(request) if self._allowed_once else ""
        allowed = key in self._allowed_once
        self._allowed_once.discard(key)
        return allowed

    def _get_agent_schema(self, agent_name: str) -> Any:
        return self._schemas.entry(agent_name).schema if agent_name in self._schemas else None
