"""What an agent remembers: messages in order, copied whenever they change hands, with a hash of their content."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepchain_tui.agents.errors import ValidationError, is_word
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.resilience.lru import content_key

_KEYS = ("role", "content", "metadata")
_LEFT_OUT = ("tool_name", "result", "error", "execution_time")


@dataclass
class Message:
    """One thing that was said.

    Attributes:
        role: Who said it: `system`, `user`, `assistant`, `tool`, or any other word.
        content: What was said; text as a rule.
        metadata: More facts about it.
    """

    role: str
    content: Any = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_word(self.role):
            raise ValidationError(f"role: is {self.role!r}", hint="Give a word such as 'user' or 'assistant'.")

    def copy(self) -> Message:
        """Return a message that shares nothing with this one."""
        content = self.content if isinstance(self.content, str) else isolated(self.content)
        return Message(self.role, content, isolated(self.metadata) if self.metadata else {})

    def to_dict(self) -> dict[str, Any]:
        """Return the message as a JSON object, its metadata left out where there is none."""
        found = {"role": self.role, "content": to_json_value(self.content)}
        return {**found, "metadata": to_json_value(self.metadata)} if self.metadata else found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "message") -> Message:
        """Return the message in `data`, as `to_dict` gives it.

        Args:
            data: `role`, and optionally `content` and `metadata`.
            path: What the mistakes are told to be in.

        Raises:
            ValidationError: It is no message; the field is named.
        """
        if not _is_mapping(data):
            raise ValidationError(f"{path}: is {type(data).__name__}, not a mapping", hint="Write {role, content}.")
        unknown = [str(key) for key in data if key not in _KEYS]
        if unknown:
            raise ValidationError(f"{path}.{unknown[0]}: unknown key", hint=f"A message has {', '.join(_KEYS)}.")
        if not is_word(data.get("role")):
            raise ValidationError(f"{path}.role: needs a word", hint="Such as 'user' or 'assistant'.")
        metadata = data.get("metadata") or {}
        if not isinstance(metadata, Mapping):
            raise ValidationError(f"{path}.metadata: is {type(metadata).__name__}, not a mapping")
        return cls(data["role"], data.get("content", ""), dict(metadata))


class AgentMemory:
    """The messages that an agent is given.

    Args:
        messages: What it begins with: messages, or mappings of their fields.

    Attributes:
        messages: In the order in which they were said.
    """

    def __init__(self, messages: Iterable[Message | Mapping[str, Any]] = ()) -> None:
        self.messages: list[Message] = [_message(each, f"memory[{place}]") for place, each in enumerate(messages)]

    @classmethod
    def from_history(
        cls, history: Iterable[Mapping[str, Any]], messages: Iterable[Message | Mapping[str, Any]] = ()
    ) -> AgentMemory:
        """Return the memory of an agent that was asked before.

        Args:
            history: `{"request", "response"}` of each earlier turn, in order.
            messages: What came before all of them.
        """
        memory = cls(messages)
        for turn in history:
            memory.add_message(Message("user", as_text(turn["request"])))
            memory.add_message(Message("assistant", as_text(_answer(turn["response"]))))
        return memory

    def copy(self) -> AgentMemory:
        """Return a memory with the same messages that shares nothing with this one."""
        made = type(self).__new__(type(self))
        made.__dict__.update({key: isolated(value) for key, value in vars(self).items() if key != "messages"})
        made.messages = [message.copy() for message in self.messages]
        return made

    def add_message(self, message: Message | Mapping[str, Any]) -> None:
        """Add what was said last."""
        self.messages.append(_message(message, "message"))

    def add_tool_result(self, result: Any) -> None:
        """Add what a tool gave, as a message of role `tool`.

        Args:
            result: A mapping as `execute_tool_calls` gives it: its result, or its error, becomes the content, and the
                tool's name and error the metadata; how long it took is not kept, so that equal results give equal
                memories. Any other value becomes the content.
        """
        if not isinstance(result, Mapping) or not ("result" in result or "error" in result):
            self.messages.append(Message("tool", as_text(result)))
            return
        error = result.get("error")
        facts = {key: isolated(value) for key, value in result.items() if key not in _LEFT_OUT}
        if result.get("tool_name"):
            facts["tool_name"] = result["tool_name"]
        if error:
            facts["error"] = error
        self.messages.append(Message("tool", f"Error: {error}" if error else as_text(result.get("result")), facts))

    def get_hash(self) -> str:
        """Return 64 hex digits: equal contents give equal hashes, any change gives another.

        Raises:
            NoContentKeyError: A message holds something that has no content to compare, such as an open file.
        """
        return content_key([[message.role, message.content, message.metadata] for message in self.messages])

    def to_list(self) -> list[dict[str, Any]]:
        """Return the messages as a JSON list; `AgentMemory(list)` gives them back."""
        return [message.to_dict() for message in self.messages]

    def clear(self) -> None:
        """Forget everything."""
        self.messages.clear()

    def __len__(self) -> int:
        return len(self.messages)

    def __bool__(self) -> bool:
        return True  # a memory without messages is a memory all the same

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentMemory) and self.messages == other.messages

    def __repr__(self) -> str:
        return f"AgentMemory({len(self.messages)} messages)"


def as_text(value: Any) -> str:
    """Return text as it is and anything else as JSON."""
    return value if isinstance(value, str) else encode_json(to_json_value(value)).decode()


def isolated(value: Any) -> Any:
    """Return a deep copy, or the value itself where it cannot be copied, such as a connection."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - a value's own __deepcopy__ and __reduce__ may raise anything
        return value


def _answer(response: Any) -> Any:
    """Return what an agent said: the content of a response that is nothing but a message."""
    if isinstance(response, Mapping) and "content" in response and set(response) <= set(_KEYS):
        return response["content"]
    return response


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _message(value: Any, path: str) -> Message:
    return value if isinstance(value, Message) else Message.from_dict(value, path)
