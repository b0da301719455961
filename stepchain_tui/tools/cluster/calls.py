"""From a call of a function to what travels to a cluster."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.tools.cluster.child import CallRequest
from stepchain_tui.tools.cluster.failures import cannot_travel
from stepchain_tui.tools.cluster.lane import ClusterCall
from stepchain_tui.tools.cluster.sources import Code, CodeReader, place_of
from stepchain_tui.tools.context import StepContext
from stepchain_tui.tools.functions import shared_loader
from stepchain_tui.tools.travel import pack, reference_of

if TYPE_CHECKING:
    from stepchain_tui.tools.chunks import OnChunk
    from stepchain_tui.tools.function_calls import FunctionCall
    from stepchain_tui.tools.pools import Pools

_reader = CodeReader()


async def run_on_cluster(pools: Pools, call: FunctionCall, on_chunk: OnChunk | None) -> Any:
    """Carry out a call on its cluster and return its JSON value.

    Of the plan's secrets only those in `call.secret_names` leave this machine, in the environment and in the context.

    Args:
        pools: Has the connection to the cluster.
        call: The call.
        on_chunk: Takes each chunk of a function that yields.

    Raises:
        AttemptError: The function raised or cannot travel, or the cluster could not carry the call out.
    """
    function, folder, args = call.function, str(call.folder), call.args
    if isinstance(function, str) and function.startswith("__main__:"):
        function = shared_loader().load(function, folder).function
    is_validated = not isinstance(function, str)
    if not isinstance(function, str):
        if call.validate:
            from stepchain_tui.tools.schema import schema_of

            args = schema_of(function).validate(args, call.name)
        named = reference_of(function) or place_of(function)
        if named is not None:
            function, folder = named
    by_reference = isinstance(function, str)
    if not by_reference and "dill" not in sys.modules:
        await pools.threads.submit(lambda _: import_module("dill")).result
    code = Code("", "/")
    if isinstance(function, str):
        reference = function
        known = _reader.current(reference, folder)
        code = known or await pools.threads.submit(lambda _: _reader.read(reference, folder)).result
    payload, by_value = pack(None if isinstance(function, str) else function, args, call.name)
    facts, environment = _without_secrets(call)
    context = StepContext(**facts).facts()
    request: CallRequest = {
        "reference": code.reference,
        "folder": code.folder,
        "payload": payload,
        "by_value": by_value,
        "validate": _shown(call.name) if call.validate and not is_validated else "",
        "context": {**context, "secrets": _as_bytes(context["secrets"], "the secret")},
        "environment": environment and _as_bytes(environment, "the variable"),
        "cwd": None if call.cwd is None else os.fsencode(call.cwd),
        "cwd_needed": call.cwd_needed,
        "label": _shown(call.name),
        "code": code.digest,
    }
    call.record.packed_at = time.monotonic()
    carried = ClusterCall(
        request=request,
        code=code,
        label=_shown(call.name),
        record=call.record,
        log=call.log,
        on_begin=call.begun,
        on_chunk=on_chunk,
        warn=call.warn,
        reply=asyncio.get_running_loop().create_future(),
    )
    return await pools.clusters.run(call.cluster, carried)


def _without_secrets(call: FunctionCall) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Return the facts and the environment of a call without the secrets that are not to leave this machine."""
    secrets: Mapping[str, str] = call.facts.get("secrets") or {}
    kept = {name: value for name, value in secrets.items() if name in call.secret_names}
    environment = call.environment
    if environment is not None:
        environment = {name: value for name, value in environment.items() if name not in secrets or name in kept}
    return {**call.facts, "secrets": kept}, environment


def _as_bytes(values: Mapping[str, str], what: str) -> dict[bytes, bytes]:
    """Return names and values as the system has them, which need not be UTF-8.

    Raises:
        AttemptError: The system cannot have one of them either, as a `user_error`.
    """
    found = {}
    for name, value in values.items():
        try:
            found[os.fsencode(name)] = os.fsencode(value)
        except UnicodeEncodeError as error:
            raise cannot_travel(f"{what} {_shown(name)}", "it is not text that a system knows") from error
    return found


def _shown(text: str) -> str:
    """Return a text as people can read it, whatever it is made of."""
    return text.encode("utf-8", "backslashreplace").decode()
