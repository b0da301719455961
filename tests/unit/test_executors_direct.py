"""Executors of commands and prompts called directly, without a plan; and the context that every executor gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.executors import ToolSpec
from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt import (
    BasePromptExecutor,
    IPromptExecutor,
    PromptExecutorFactory,
    PromptToolExecutor,
)
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.shell import BaseShellExecutor, IShellExecutor, ShellExecutorFactory, ShellToolExecutor
from stepchain_tui.executors.types import CallPorts
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import StepContext

SPEC = ToolSpec(tool_name="it", timeout=30)


def shell(**spec: Any) -> Any:
    executor = ShellExecutorFactory.create_executor(ToolSpec(**{"tool_name": "it", "timeout": 30, **spec}))
    assert isinstance(executor, ShellToolExecutor | IShellExecutor | BaseShellExecutor)
    return executor


@pytest.mark.parametrize("command", ["echo $COLOUR; pwd", ["sh", "-c", "echo $COLOUR; pwd"]])
async def test_a_command_runs_with_variables_and_in_a_folder_of_its_own(tmp_path: Path, command: Any) -> None:
    seen: list[str] = []
    args = {"command": command, "env": {"COLOUR": "blue"}, "cwd": str(tmp_path)}
    result = await shell().execute(args, StepContext(write=seen.append))
    assert result == {"stdout": f"blue\n{tmp_path}\n", "stderr": "", "exit_code": 0}
    assert "".join(seen) == result["stdout"]


async def test_a_command_gets_no_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "t0ps3cret-value")
    result = await shell().execute({"command": "env"})
    assert "t0ps3cret-value" not in result["stdout"]
    assert "PATH=" in result["stdout"]


async def test_a_command_over_its_time_is_ended() -> None:
    with pytest.raises(CallTimeoutError, match=r"it ran longer than its timeout of 0\.2 s"):
        await shell(timeout=0.2).execute({"command": "sleep 300"})


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        ({"comand": "ls"}, "a command has no 'comand'", "did you mean 'command'?"),
        ({}, "command must be text or a list, this is NoneType", "execute({'command': 'ls'}"),
        ({"command": 3}, "command must be text or a list, this is int", "execute("),
        ({"command": []}, "there is no command ''", "spelling"),
        ({"command": "ls", "env": ["A=1"]}, "env must be a mapping, this is list", "name: value"),
        ({"command": "ls", "cwd": "/no/such/folder"}, "there is no folder /no/such/folder", "cwd"),
        ({"command": ["no-such-command-here"]}, "there is no command 'no-such-command-here'", "installed"),
    ],
)
async def test_a_command_that_cannot_be_meant_is_told(args: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(AttemptError) as caught:
        await shell().execute(args)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_a_prompt_is_asked_directly() -> None:
    executor = PromptExecutorFactory.create_executor(SPEC)
    assert isinstance(executor, PromptToolExecutor)
    assert isinstance(executor, IPromptExecutor)
    seen: list[str] = []
    args = {"prompt": "Say hello", "model": "scripted", "replies": ["hello"]}
    assert await executor.execute(args, StepContext(write=seen.append)) == "hello"
    assert "".join(seen) == "hello"
    await executor.close()
    await executor.close()


async def test_a_prompt_without_a_model_names_who_asked_and_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    with pytest.raises(AttemptError, match="it") as caught:
        await PromptExecutorFactory.create_executor(SPEC).execute({"prompt": "x"})
    assert "OPENAI_API_KEY" in f"{caught.value} {caught.value.hint}"


async def test_models_that_were_given_are_not_closed_with_the_executor() -> None:
    class Models(PromptModels):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    models = Models({})
    executor = PromptToolExecutor(SPEC)
    executor.models = models
    await executor.close()
    assert models.closed == 0


async def test_a_prompt_executor_of_ones_own_asks_through_the_standard_one() -> None:
    class Polite(PromptToolExecutor):
        async def _execute_prompt(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
            answer = await super()._execute_prompt({**args, "prompt": f"Please: {args['prompt']}"}, ctx, timeout)
            return f"{answer}, thank you"

    assert issubclass(Polite, BasePromptExecutor)
    args = {"prompt": "hello", "model": "scripted", "replies": ["hello"]}
    assert await Polite(SPEC).execute(args) == "hello, thank you"


def test_a_context_outside_of_plans_has_all_that_one_of_a_step_has() -> None:
    seen: list[str] = []
    ctx = CallContext.alone(StepContext(run_id="r", step_id="s", item=3, secrets={"TOKEN": "t"}, write=seen.append))
    assert (ctx.run_id, ctx.step_id, ctx.attempt, ctx.item, ctx.secrets) == ("r", "s", 1, 3, {"TOKEN": "t"})
    assert not ctx.is_attempt
    ctx.log("a line")
    ctx.progress(1, 2)
    ctx.logger.warning("careful")
    ctx.ports.log("text", "chunk")
    assert seen == ["a line\n", "progress 1/2 (50 %)\n", "WARNING careful\n", "chunk"]
    assert ctx.cwd == Path.cwd()
    ctx.cancel()
    assert ctx.cancelled
    assert CallContext.alone(ctx) is ctx


async def test_the_ports_outside_of_plans_take_all_that_ports_take() -> None:
    ports = CallContext.alone().ports
    told = {name for name in vars(CallPorts) if not name.startswith("_")}
    assert told <= set(dir(ports))
    await ports.spawned(1, 1, 0.0)
    ports.begun()
    ports.warn("nobody")
    ports.model_turn(model="m")
