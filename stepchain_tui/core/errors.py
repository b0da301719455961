"""Every error StepChain raises on purpose, as one tree.

The branch says who must act: the plan's author (`PlanError`), the caller (`UsageError`), the store's keeper
(`StoreError`), the one who runs steps (`run.failures.AttemptError`), or us (`InternalError`). Each error has a
`hint`: the next thing to do. `kind` is the closed word used in `--json` errors. Errors survive pickling with all
their fields, because they cross process borders.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar


def _rebuild(cls: type[StepChainError], args: tuple[Any, ...], fields: dict[str, Any]) -> StepChainError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class StepChainError(Exception):
    """The root of all errors that StepChain raises on purpose.

    Args:
        message: What went wrong, one sentence without a full stop.
        hint: What to do next; empty only where the message already says it.
    """

    kind: ClassVar[str] = "error"
    """The closed word for this family in `--json` errors."""
    exit_code: ClassVar[int] = 2
    """What the command line exits with."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


class UsageError(StepChainError, ValueError):
    """Signals that a caller passed something that cannot be meant."""

    kind = "usage"


class NotAvailableError(UsageError):
    """Signals a feature that the design names and this version does not have."""

    kind = "not_available"


class PlanError(StepChainError, ValueError):
    """Signals a plan that cannot run; carries one line for each mistake in it.

    Args:
        problems: One line for each mistake, `FILE:LINE:COL: PATH: what (did you mean ...?)`.
    """

    kind = "plan"

    def __init__(self, problems: Iterable[str], *, hint: str = "Mend the plan; nothing was run.") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class InputError(UsageError):
    """Signals a missing, unknown or badly typed input of a plan."""

    kind = "input"


class UnknownRunError(StepChainError, KeyError):
    """Signals a run id that the store does not hold."""

    kind = "unknown_run"

    def __init__(self, run_id: str, known: Iterable[str] = ()) -> None:
        hint = did_you_mean(run_id, known) or "`stepchain runs` lists the runs of this store."
        super().__init__(f"no run '{run_id}' in this store", hint=hint)


class UnknownStepError(StepChainError, KeyError):
    """Signals a step id that the run's plan does not have."""

    kind = "unknown_step"

    def __init__(self, step_id: str, known: Iterable[str] = ()) -> None:
        names = list(known)
        hint = did_you_mean(step_id, names) or f"Its steps are: {', '.join(names[:20])}"
        super().__init__(f"no step '{step_id}' in this run", hint=hint)


class StoreError(StepChainError):
    """Signals that the store cannot be read or written."""

    kind = "store"


class RunLockedError(StepChainError):
    """Signals that a living engine already owns the run.

    Args:
        run_id: The run.
        pid: The owner's process id, 0 where it is not known.
    """

    kind = "run_locked"

    def __init__(self, run_id: str, pid: int) -> None:
        super().__init__(
            f"run '{run_id}' is already being carried out by process {pid or 'unknown'}",
            hint="Steer it with pause, resume or cancel, or wait until it ends.",
        )
        self.run_id = run_id
        self.pid = pid


class CommandRefusedError(StepChainError):
    """Signals that a command does not fit the state its run is in; nothing was changed."""

    kind = "refused"


class InternalError(StepChainError):
    """Signals a bug of ours, never a mistake of the user."""

    kind = "internal"
    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="This is a bug in StepChain. Please report it with the steps that led here.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the closest known name, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""
