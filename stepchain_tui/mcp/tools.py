"""A tool as its server declares it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stepchain_tui.mcp.schemas import Schema

if TYPE_CHECKING:
    from mcp_types import Tool

_LONGEST_DESCRIPTION = 4_000


@dataclass(frozen=True, eq=False)
class McpTool:
    """What a server says about one of its tools. None of it can be trusted.

    Attributes:
        server: The server.
        name: What the server calls it.
        description: What it says that the tool does.
        input_schema: The JSON schema of its arguments.
        output_schema: The JSON schema of its structured content, where it declares one.
    """

    server: str
    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: Any = None

    @classmethod
    def of(cls, server: str, tool: Tool) -> McpTool:
        """Return what the SDK read, as ours."""
        text = tool.description or tool.title or ""
        return cls(server, tool.name, text[:_LONGEST_DESCRIPTION], tool.input_schema, tool.output_schema)

    @property
    def full_name(self) -> str:
        """What a step calls it: `server.tool`."""
        return f"{self.server}.{self.name}"

    @cached_property
    def input(self) -> Schema:
        """Checks arguments."""
        return Schema(self.input_schema)

    @cached_property
    def output(self) -> Schema | None:
        """Checks structured content; None where nothing is declared."""
        return None if self.output_schema is None else Schema(self.output_schema)

    @property
    def properties(self) -> dict[str, Any] | None:
        """The declared arguments by name; None where the schema is of another shape."""
        found = self.input_schema.get("properties")
        if found is None and self.is_closed:
            return {}
        if not isinstance(found, dict) or self.input_schema.get("patternProperties"):
            return None
        return found

    @property
    def required(self) -> list[str]:
        """The arguments that must be there."""
        found = self.input_schema.get("required")
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

    @property
    def is_closed(self) -> bool:
        """Whether the schema forbids all other arguments."""
        return self.input_schema.get("additionalProperties") is False

    @cached_property
    def wraps_its_result(self) -> bool:
        """Whether its structured content is an object only because the protocol wants one: `{"result": value}`.

        Python servers (the SDK's and FastMCP's) do that to what is no object; FastMCP says so in the schema.
        """
        schema = self.output_schema
        if not isinstance(schema, dict):
            return False
        if schema.get("x-fastmcp-wrap-result") is True:
            return True
        declared = schema.get("properties")
        return (
            isinstance(declared, dict)
            and list(declared) == ["result"]
            and schema.get("required") == ["result"]
            and str(schema.get("title", "")).endswith("Output")
        )
