"""Commands to a run: each is checked, then takes effect whole, or is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import InternalError, StepChainError, UsageError, did_you_mean
from stepchain_tui.engine import run_commands, step_commands
from stepchain_tui.engine.order import Order
from stepchain_tui.run import events as e
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.base import Command

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

Answer = dict[str, Any]

COMMANDS: dict[str, Callable[[Order], str]] = {
    "pause": run_commands.pause,
    "resume": run_commands.resume,
    "cancel": run_commands.cancel,
    "limits": run_commands.limits,
    "slots": run_commands.slots,
    "breaker_reset": run_commands.breaker_reset,
    "edit": run_commands.edit,
    "rerun": step_commands.rerun,
    "skip": step_commands.skip,
    "approve": step_commands.approve,
    "try_now": step_commands.try_now,
    "breakpoint": step_commands.set_breakpoint,
    "pin": step_commands.pin,
    "mark": step_commands.mark,
}
"""Every command by its name; a handler returns what is told to whoever sent it."""
_GO_ON = ("rerun", "resume")
"""Commands after which the run goes on at once."""


def apply_command(driver: Driver, command: Command) -> Answer:
    """Apply a command to a run and return its answer, `{"ok": bool, "message": str, "hint": str}` and more.

    The answer and the events are stored in one commit.
    """
    order = Order(driver, command)
    try:
        handler = COMMANDS.get(command.command)
        if handler is None:
            hint = did_you_mean(command.command, COMMANDS)
            raise UsageError(f"there is no command '{command.command}'", hint=hint)
        with driver.at_once():
            message = handler(order)
        answer: Answer = {"ok": True, "message": message, **order.told}
        if driver.passive and command.command not in _GO_ON:
            _say_what_is_unfinished(order)
        driver.settle()
    except InternalError as error:
        return _bug(driver, error)
    except StepChainError as error:
        driver.emit(
            e.CommandRefused,
            command_id=command.id,
            command=command.command,
            arguments=order.kept_arguments,
            by=command.sender,
            reason=error.message,
        )
        answer = {"ok": False, "message": error.message, "hint": error.hint, "kind": error.kind}
    except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
        return _bug(driver, error)
    driver.core.recorder.answer(command.id, answer)
    return answer


def _say_what_is_unfinished(order: Order) -> None:
    """Take a run that succeeded for paused, when a command at rest has given it something more to do."""
    state = order.state
    if state.status is RunStatus.SUCCEEDED and not all(step.ended for step in state.steps.values()):
        order.driver.emit(e.RunPaused, reason=f"{order.command.command} by {order.by}; resume goes on")


def _bug(driver: Driver, error: Exception) -> Answer:
    """End a run in whose middle we broke: what it is now is not what its events say."""
    driver.abort(error)
    bug = error if isinstance(error, InternalError) else InternalError(f"{type(error).__name__}: {error}")
    return {"ok": False, "message": bug.message, "hint": bug.hint, "kind": bug.kind}
