"""From a step's attempt to a call of a function, for whatever kind of step calls one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.executors.types import StepCall
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.chunks import OnChunk
from stepchain_tui.tools.function_calls import FunctionCall
from stepchain_tui.tools.functions import Function


def function_call_of(
    call: StepCall, function: Function | str, args: Mapping[str, Any], on_chunk: OnChunk | None = None
) -> FunctionCall:
    """Return the call of a function in a step's mode, folder and environment, its output going to the step's log.

    Args:
        call: The attempt.
        function: The function, or a reference to it.
        args: What it gets.
        on_chunk: Takes the chunks of a function that yields; without it they go to the log.
    """
    ports = call.ports
    return FunctionCall(
        function=function,
        args=args,
        mode=call.mode or "thread",
        cluster=call.cluster,
        folder=call.plan_folder,
        fallback=call.step.fallback,
        environment=call.environment,
        cwd=call.cwd,
        cwd_needed=call.step.cwd is not None,
        secret_names=(*call.step.secrets, *(call.step.env or ())),
        facts={
            "run_id": call.run_id,
            "step_id": call.step.id,
            "attempt": call.attempt,
            "item": call.item,
            "idempotency_key": call.idempotency_key,
            "secrets": call.secrets,
        },
        log=ports.log,
        begun=ports.begun,
        warn=ports.warn,
        on_chunk=on_chunk,
    )


def check_goes_to_cluster(call: StepCall, executor_type: type[Any], able: type[Any]) -> None:
    """Refuse a step for a cluster whose executor would carry it out here.

    Args:
        call: The attempt.
        executor_type: The class of its executor.
        able: The class whose executors can send such a step to a cluster.

    Raises:
        AttemptError: The executor is another one, as a `user_error`.
    """
    if call.mode == "cluster" and not issubclass(executor_type, able):
        raise AttemptError(
            f"step '{call.step.id}': executor '{call.step.executor}' runs here and not on a cluster",
            error_type=ErrorType.USER_ERROR,
            hint=f"Leave executor out, leave mode: cluster out, or let {executor_type.__name__} inherit from "
            f"{able.__name__}.",
        )
