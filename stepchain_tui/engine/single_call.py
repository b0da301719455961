"""One call of a tool by itself, as a run of a plan with one step: kept, counted and asked about as all calls are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import LoadedPlan, Plan, compile_template, resolve_inputs
from stepchain_tui.plan.functions import function_mistake
from stepchain_tui.plan.literals import literal
from stepchain_tui.plan.prompt_tools import HOSTED_TOOLS
from stepchain_tui.plan.servers import ServerTool, server_tool
from stepchain_tui.tools import Tool
from stepchain_tui.tools.registry import shared_tools, tool_of_entry

STEP_ID = "call"
"""The id of the only step."""
_KEPT_KEYS = ("defaults", "secrets", "cluster")
"""Keys of a plan that hold for a call of one of its tools, besides the tool itself and its server."""


@dataclass(frozen=True)
class SingleCall:
    """A tool that is to be called, found.

    Attributes:
        name: What the step of the run calls.
        folder: What `./` is relative to.
        plan: The plan whose tools and servers there are; an empty one where none was named.
        tool: The tool, where it is a function.
        server: The server and its tool, where it is one of an MCP server.
        settings: The user's settings, whose servers there are too.
        entry: What stands for it under `tools` of the run's plan, None for nothing.
    """

    name: str
    folder: Path
    plan: Plan
    settings: Settings
    tool: Tool | None = None
    server: ServerTool | None = None
    entry: Any = None

    @classmethod
    def of(cls, written: str, settings: Settings, *, loaded: LoadedPlan | None = None) -> SingleCall:
        """Return the tool that a person names.

        Args:
            written: The name of a shared tool or of one of the plan's, `server.tool`, or a function as in `function:`.
            settings: The user's settings, whose servers are known too.
            loaded: The plan whose tools and servers there are; shared tools and those of the settings if None.

        Raises:
            UsageError: There is no such tool; says what was probably meant.
        """
        plan = Plan(steps=()) if loaded is None else loaded.plan
        folder = Path.cwd() if loaded is None else loaded.folder
        entry = plan.tools.get(written)
        if written in HOSTED_TOOLS or entry in HOSTED_TOOLS:
            raise UsageError(
                f"the tool '{written}' is carried out by a model's provider", hint="Name it under a prompt's 'tools'."
            )
        if (named := server_tool(written, entry)) is not None:
            if named.server not in (known := [*plan.mcp_servers, *settings.mcp_servers]):
                raise _unknown(
                    f"MCP server '{named.server}'",
                    named.server,
                    known,
                    "It is neither in the plan nor in the settings.",
                )
            return cls(written, folder, plan, settings, server=named, entry=entry)
        if entry is not None:
            return cls(written, folder, plan, settings, tool=tool_of_entry(written, entry, folder), entry=entry)
        if ":" in written:
            name = written.rpartition(":")[2].replace(".", "_")
            if (mistake := function_mistake((), written, folder)) is not None:
                meant = f"did you mean '{mistake.suggestion}'?" if mistake.suggestion else ""
                raise UsageError(mistake.message, hint=meant or "Check the name; './' is the current folder.")
            return cls(name, folder, plan, settings, tool=Tool(name, written, folder=folder), entry=written)
        shared = shared_tools()
        if written not in shared:
            known = [*plan.tools, *(tool.name for tool in shared)]
            raise _unknown(f"tool '{written}'", written, known, "`stepchain tools` lists them.")
        return cls(written, folder, plan, settings, tool=shared.get(written))

    def source(
        self,
        args: Mapping[str, Any],
        *,
        timeout: float | None = None,
        mode: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> RunSource:
        """Return what a run of the call is made from.

        Args:
            args: The tool's arguments, JSON values that are taken as they are.
            timeout: Seconds that it may take.
            mode: Where a function runs.
            inputs: Values of the plan's inputs that the tool's server needs.

        Raises:
            InputError: Such an input is missing or badly typed.
        """
        step = {"id": STEP_ID, "tool": self.name, "args": literal(dict(args)), "timeout": timeout, "mode": mode}
        step["retry"] = {"max_attempts": 1}  # who calls a tool by hand wants one call, and can make another
        plan = Plan.model_validate(
            {
                "goal": f"call {self.name}",
                **self._shared_keys(),
                "steps": [{key: value for key, value in step.items() if value is not None}],
            }
        )
        base = Path.cwd()
        return RunSource(
            plan=plan,
            folder=self.folder,
            working_folder=base,
            inputs=resolve_inputs(plan, inputs or {}, base, self.folder),
            checked=True,  # the tool was found, and what is the plan's was checked with the plan
        )

    def _shared_keys(self) -> dict[str, Any]:
        """Return what of the plan holds for the call."""
        written = self.plan.model_dump(exclude_unset=True, by_alias=True)
        keys: dict[str, Any] = {key: written[key] for key in _KEPT_KEYS if key in written}
        if self.entry is not None:
            keys["tools"] = {self.name: self.entry}
        if self.server is None:
            return keys
        name = self.server.server
        if (own := written.get("mcp_servers", {}).get(name)) is not None:
            inputs = compile_template(own).uses
            keys["mcp_servers"] = {name: own}
            keys["inputs"] = {
                use[1]: written["inputs"][use[1]] for use in inputs if use[0] == "inputs" and len(use) > 1
            }
        else:
            secrets = compile_template(self.settings.mcp_servers[name]).secrets
            keys["secrets"] = list(dict.fromkeys((*self.plan.secrets, *sorted(secrets))))
        return keys


def _unknown(what: str, name: str, known: list[str], otherwise: str) -> UsageError:
    return UsageError(f"there is no {what}", hint=did_you_mean(name, known) or otherwise)
