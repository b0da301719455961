"""How calls on a cluster fail beside what their functions raise."""

from __future__ import annotations

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_MOST = 300
"""Characters that are told of what a library said."""
INSTALL = 'pip install "stepchain[cluster]"'


def cluster_error(message: str, hint: str, exception: str, **details: object) -> AttemptError:
    """Return the failure of a call that the cluster could not carry out: another try may find it well again."""
    return AttemptError(message, error_type=ErrorType.SERVER_ERROR, hint=hint, exception=exception, details={**details})


def no_library(error: ImportError) -> AttemptError:
    """Return the failure of a call on a machine without `distributed`."""
    return AttemptError(
        f"mode cluster needs the library distributed, which cannot be imported: {error}",
        error_type=ErrorType.USER_ERROR,
        hint=f"Run `{INSTALL}`.",
        exception="ClusterNotInstalled",
    )


def bad_address(address: str) -> AttemptError:
    """Return the failure of a call whose cluster cannot be meant."""
    return AttemptError(
        f"cluster: '{address}' is no address of a scheduler",
        error_type=ErrorType.USER_ERROR,
        hint="Write tcp://host:port or tls://host:port, or `local` for a cluster on this machine.",
    )


def unreachable(address: str, error: BaseException) -> AttemptError:
    """Return the failure of a call whose scheduler does not answer."""
    return cluster_error(
        f"the scheduler at {address} does not answer: {_words(error)}",
        "Check the address, and that `dask scheduler` runs there.",
        "SchedulerUnreachable",
        address=address,
    )


def scheduler_lost(address: str, label: str) -> AttemptError:
    """Return the failure of a call whose scheduler went away under it."""
    return cluster_error(
        f"the connection to the scheduler at {address} was lost while {label} was there; what ran was ended",
        "Look at the scheduler's log, and start it again.",
        "SchedulerLost",
        address=address,
    )


def worker_lost(worker: str, label: str) -> AttemptError:
    """Return the failure of a call whose worker died: it was begun there and is begun nowhere else by itself."""
    return cluster_error(
        f"its worker died: the connection to {worker} was lost while it ran {label}",
        "The worker's log may say why; the work may have been done in part. `retry:` on the step tries it again.",
        "ClusterWorkerLost",
        worker=worker,
    )


def not_begun(worker: str, label: str, seconds: float) -> AttemptError:
    """Return the failure of a call whose worker took it and did not begin it."""
    return cluster_error(
        f"the worker {worker} did not begin {label} within {seconds:.0f} s",
        "Look whether its machine still answers, and what else runs there.",
        "ClusterWorkerLost",
        worker=worker,
    )


def worker_unreachable(worker: str, error: BaseException) -> AttemptError:
    """Return the failure of a call whose worker cannot be reached from here."""
    return cluster_error(
        f"the worker {worker} cannot be reached from this machine: {_words(error)}",
        "Workers must be reachable at the addresses that they tell the scheduler; see `--contact-address` of dask.",
        "ClusterWorkerUnreachable",
        worker=worker,
    )


def cannot_travel(what: str, reason: str) -> AttemptError:
    """Return the failure of a call with something that cannot be sent to a worker."""
    return AttemptError(
        f"{what} cannot travel to the cluster: {_short(reason)}",
        error_type=ErrorType.USER_ERROR,
        hint="Write it in characters of UTF-8, or run the step with `mode: process`.",
    )


def no_workers(address: str, seconds: float) -> AttemptError:
    """Return the failure of a call that no worker was there for."""
    return cluster_error(
        f"the cluster at {address} had no worker for {seconds:g} s",
        f"Start one: dask worker {address}",
        "ClusterWithoutWorkers",
        address=address,
    )


def no_pilots(address: str, reason: str) -> AttemptError:
    """Return the failure of a call whose cluster cannot start what carries it."""
    return cluster_error(
        f"the workers of {address} cannot take calls: {_short(reason)}",
        "Look at the logs of its workers.",
        "ClusterWorkerLost",
        address=address,
    )


def not_installed_there(address: str, reason: str) -> AttemptError:
    """Return the failure of a call whose workers lack StepChain."""
    return AttemptError(
        f"the workers of {address} cannot import StepChain: {_short(reason)}",
        error_type=ErrorType.USER_ERROR,
        hint=f"Run `{INSTALL}` where the workers run, then start them again.",
        exception="ClusterVersionMismatch",
    )


def other_version(address: str, theirs: str, ours: str) -> AttemptError:
    """Return the failure of a call whose workers have another StepChain."""
    return AttemptError(
        f"the workers of {address} have StepChain {theirs}, this is {ours}",
        error_type=ErrorType.USER_ERROR,
        hint=f'Install the same one there: pip install "stepchain[cluster]=={ours}".',
        exception="ClusterVersionMismatch",
    )


def other_python(worker: str, theirs: str, ours: str, label: str) -> AttemptError:
    """Return the failure of a call by value to another Python: its bytecode means something else there."""
    return AttemptError(
        f"{label} travels by value, and the worker {worker} has Python {theirs}, this is {ours}",
        error_type=ErrorType.USER_ERROR,
        hint="Put the function in a file and name it as ./file.py:name, or use the same Python there.",
        exception="ClusterVersionMismatch",
    )


def _words(error: BaseException) -> str:
    return _short(f"{type(error).__name__}: {error}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST else f"{line[:_MOST]}..."
