"""The agents that are known by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stepchain_tui.agents.errors import AgentNotFoundError, ValidationError, is_word, near_matches

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class RegisteredAgent:
    """One agent under its name.

    Attributes:
        name: What it is called.
        agent: An object with `run_step(request, memory)`, sync or async.
        schema: What its requests must look like: a JSON schema, a type or a pydantic model; None takes anything.
        number: Another one for each registration: tells an agent from one that was registered under its name later.
    """

    name: str
    agent: Any
    schema: Any
    number: int


class AgentRegistry:
    """Agents by name.

    An agent is any object with a method `run_step(request, memory)`, sync or async; no base class is needed. It may
    also take `metadata` (or `context`) and `ctx`, and may have a `request_schema`.
    """

    def __init__(self) -> None:
        self._agents: dict[str, RegisteredAgent] = {}

    def register(self, name: str, agent: Any, *, schema: Any = None) -> None:
        """Make `agent` known as `name`, in place of another that had it.

        Args:
            name: What it is called.
            agent: See the class.
            schema: What its requests must look like; the agent's own `request_schema` where it is left out.

        Raises:
            ValidationError: The name is empty, or the object is no agent.
        """
        if not is_word(name):
            raise ValidationError(f"an agent's name is {name!r}", hint="Give a word.")
        check_agent(name, agent)
        if schema is None:
            schema = getattr(agent, "request_schema", None)
        self._agents[name] = RegisteredAgent(name, agent, schema, next(_numbers))

    def unregister(self, name: str) -> None:
        """Forget the agent.

        Raises:
            AgentNotFoundError: There is none of that name.
        """
        self.entry(name)
        del self._agents[name]

    def get(self, name: str) -> Any:
        """Return the agent of that name.

        Raises:
            AgentNotFoundError: There is none; it suggests names that are close.
        """
        return self.entry(name).agent

    def entry(self, name: str) -> RegisteredAgent:
        """Return the agent of that name with what is known about it; raises as `get` does."""
        found = self._agents.get(name) if is_word(name) else None
        if found is None:
            raise AgentNotFoundError(str(name), self._agents)
        return found

    def list_agents(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._agents)

    def suggestions(self, name: str) -> list[str]:
        """Return the names that are close to `name`, the closest first, three at most."""
        return near_matches(name, sorted(self._agents))

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[str]:
        return iter(self.list_agents())


def check_agent(name: str, agent: Any) -> None:
    """Raise what is wrong with an object that is to be an agent.

    Raises:
        ValidationError: It has no `run_step`, or it is a class.
    """
    if isinstance(agent, type):
        raise ValidationError(
            f"agent '{name}' is the class {agent.__name__}", hint=f"Make one: register('{name}', {agent.__name__}())."
        )
    if not callable(getattr(agent, "run_step", None)):
        raise ValidationError(
            f"agent '{name}' has no method run_step", hint="An agent has run_step(request, memory), sync or async."
        )
