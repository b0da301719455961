"""MCP servers in plans: what may be written about them, and the tools that steps call."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepchain_tui.plan import find_problems, parse_plan
from stepchain_tui.plan.servers import called_server_tool, server_timeout
from stepchain_tui.plan.shared import called_entry

TIME = "mcp_servers: {time: {command: mcp-server-time, allowed_tools: [convert, now]}}\n"
STEPS = "steps: [{id: a, tool: time.now}]\n"


def lines_of(text: str) -> list[str]:
    return [problem.text("plan.yaml") for problem in find_problems(text, "plan.yaml", Path("/nowhere"))]


def server(entry: str) -> list[str]:
    return lines_of(f"secrets: [TOKEN]\ninputs: {{host: {{}}}}\nmcp_servers: {{time: {entry}}}\n{STEPS}")


@pytest.mark.parametrize(
    "entry",
    [
        "{command: mcp-server-time, args: [--local, UTC], env: {TOKEN: '{{ secrets.TOKEN }}'}, cwd: ./here}",
        "{url: 'http://{{ inputs.host }}/mcp', headers: {Authorization: 'Bearer {{ secrets.TOKEN }}'}}",
        "{url: 'https://example.com/mcp', timeout: 5, require_approval: always}",
        "{command: x, allowed_tools: [now, convert], require_approval: [convert]}",
        "{command: x, require_approval: true}",
    ],
)
def test_servers_of_both_kinds_are_right(entry: str) -> None:
    assert server(entry) == []


@pytest.mark.parametrize(
    ("entry", "place", "what"),
    [
        ("{}", "mcp_servers.time", "a 'command' to start or a 'url', this one has neither"),
        ("{command: x, url: 'http://y'}", "mcp_servers.time", "this one has both"),
        ("{url: 'ftp://y'}", "mcp_servers.time.url", "begins with http:// or https://"),
        ("{url: 'http://y', args: [a]}", "mcp_servers.time.args", "'args' is for a server with a 'command'"),
        ("{command: x, headers: {a: b}}", "mcp_servers.time.headers", "'headers' is for a server with a 'url'"),
        ("{command: x, require_approval: alwais}", "mcp_servers.time.require_approval", "did you mean 'always'"),
        (
            "{command: x, allowed_tools: [now], require_approval: [noww]}",
            "mcp_servers.time.require_approval[0]",
            "unknown tool 'noww' (did you mean 'now'?)",
        ),
        ("{command: x, env: {A: '{{ secrets.TOKN }}'}}", "mcp_servers.time.env.A", "did you mean 'TOKEN'"),
        ("{command: x, env: {A: '{{ inputs.hots }}'}}", "mcp_servers.time.env.A", "did you mean 'host'"),
        ("{command: x, args: ['{{ steps.a.output }}']}", "mcp_servers.time.args[0]", "the same for all steps"),
        ("{command: x, args: ['{{ 1 + }}']}", "mcp_servers.time.args[0]", ""),
        ("{command: x, comand: y}", "mcp_servers.time.comand", "did you mean 'command'"),
        ("{command: x, timeout: 0}", "mcp_servers.time.timeout", ""),
    ],
)
def test_a_mistake_about_a_server_is_told_in_its_place(entry: str, place: str, what: str) -> None:
    found = server(entry)
    assert len(found) == 1, found
    assert f": {place}: " in found[0]
    assert what in found[0]


def test_a_server_has_a_name_that_a_tool_can_begin_with() -> None:
    found = lines_of("mcp_servers: {a.b: {command: x}}\nsteps: [{id: a, shell: x}]\n")
    assert len(found) == 1
    assert "'a.b' is no name for a server" in found[0]


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ("tool: tiem.now", "unknown MCP server 'tiem' (did you mean 'time'?)"),
        ("tool: files.read", "unknown MCP server 'files'; name it under the plan's 'mcp_servers'"),
        ("tool: time.nwo", "'nwo' is not among the 'allowed_tools' of the server 'time' (did you mean 'now'?)"),
    ],
)
def test_a_tool_of_a_server_that_is_not_there_is_told(step: str, what: str) -> None:
    found = lines_of(f"{TIME}steps: [{{id: a, {step}}}]\n")
    assert len(found) == 1, found
    assert found[0].endswith(what)


def test_a_tool_of_a_server_may_have_another_name_in_the_plan() -> None:
    text = f"{TIME}tools: {{clock: time.now}}\nsteps: [{{id: a, tool: clock}}, {{id: b, tool: time.convert}}]\n"
    plan = parse_plan(text, "plan.yaml", Path("/nowhere")).plan
    assert [called_server_tool(step, plan) for step in plan.steps] == [("time", "now"), ("time", "convert")]
    assert called_entry(plan.steps[0], plan)["entry"]["command"] == "mcp-server-time"
    assert "unknown MCP server 'tmie'" in lines_of(f"{TIME}tools: {{clock: tmie.now}}\n{STEPS}")[0]


def test_servers_of_the_settings_are_known(isolated: Path) -> None:
    assert "unknown MCP server 'time'" in lines_of(STEPS)[0]
    (isolated / "stepchain.toml").write_text('[mcp_servers.time]\ncommand = "mcp-server-time"\n')
    assert lines_of(STEPS) == []


def test_a_mistake_in_a_server_of_the_settings_is_told_where_a_step_needs_it(isolated: Path) -> None:
    settings = '[mcp_servers.time]\ncommand = "x"\nargs = ["{{ 1 + }}", "{{ secrets.ANY }}"]\n'
    (isolated / "stepchain.toml").write_text(settings)
    found = lines_of(STEPS)
    assert len(found) == 1, found
    assert "steps[0].tool: in the settings, mcp_servers.time.args[0]: " in found[0]


def test_the_timeout_of_a_call_is_the_steps_then_the_servers_then_the_plans_then_30() -> None:
    def timeout(step: str = "", entry: str = "", defaults: str = "") -> float:
        text = f"mcp_servers: {{time: {{command: x{entry}}}}}\n{defaults}steps: [{{id: a, tool: time.now{step}}}]\n"
        plan = parse_plan(text, "plan.yaml", Path("/nowhere")).plan
        return server_timeout(plan.steps[0], called_entry(plan.steps[0], plan)["entry"], plan.defaults)

    assert timeout() == 30
    assert timeout(defaults="defaults: {timeout: 4}\n") == 4
    assert timeout(entry=", timeout: 3", defaults="defaults: {timeout: 4}\n") == 3
    assert timeout(step=", timeout: 2", entry=", timeout: 3") == 2


def test_what_is_written_about_a_server_is_part_of_what_the_step_does() -> None:
    def entry(text: str) -> object:
        plan = parse_plan(f"mcp_servers: {{time: {text}}}\n{STEPS}", "plan.yaml", Path("/nowhere")).plan
        return called_entry(plan.steps[0], plan)

    assert entry("{command: x}") == entry("{command: x}")
    assert entry("{command: x}") != entry("{command: x, args: [y]}")


@pytest.mark.parametrize(
    ("entry", "step", "what"),
    [
        ("{command: x, require_approval: [time.now]}", "", "write a tool's own name, without its server's"),
        (
            "{command: x}",
            ", require_approval: alwasy",
            "write always, never, or a list of tools (did you mean 'always'?)",
        ),
        ("{command: x}", ", require_approval: [nwo]", "none of these is the step's tool"),
        ("{command: x, require_approval: [now]}", ", require_approval: [time.now]", ""),
        ("{command: x}", ", require_approval: [now]", ""),
    ],
)
def test_a_slip_in_who_is_asked_is_no_silent_pass(entry: str, step: str, what: str) -> None:
    found = lines_of(f"mcp_servers: {{time: {entry}}}\nsteps: [{{id: a, tool: time.now{step}}}]\n")
    assert [what in line for line in found] == ([True] if what else []), found
