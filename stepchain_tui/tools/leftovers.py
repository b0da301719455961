"""Ending what a dead owner left running."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psutil

from stepchain_tui.tools.processes import group_members
from stepchain_tui.tools.wire import OWNER_VARIABLE

START_TOLERANCE = 2.0
"""Seconds by which two readings of one process's start may differ; the system's clock may have been set."""
_TERM_GRACE = 1.0
_KILL_WAIT = 2.0


def end_leftovers(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """End the processes that a dead owner recorded, with their groups, and return those that were still there.

    Blocks for at most 3 s; call it in a thread. A process is only touched when it is surely the recorded one: the
    recorded leader lives with the recorded start, or, where the leader is gone, members of its group live that also
    belong to its session, did not start before it and carry our mark in their environment. Grandchildren that made a
    session of their own are beyond reach, and so are those of a dead leader that cleared their environment.

    Args:
        records: `pid`, `process_group` and `process_started_at` (seconds since the epoch) of each process.

    Returns:
        One `{pid, process_group, process_started_at, ended: [pids]}` for each record of which something still ran.
    """
    found = [(dict(record), members) for record in records if (members := _members_of(record))]
    _signal((members for _, members in found), signal.SIGTERM)
    _wait_for_end([member for _, members in found for member in members], _TERM_GRACE)
    # A member that was being forked while we looked is found by looking again.
    again = [(record, [*members, *_members_of(record)]) for record, members in found]
    _signal((members for _, members in again), signal.SIGKILL)
    _wait_for_end([member for _, members in again for member in members], _KILL_WAIT)
    return [{**record, "ended": sorted({member.pid for member in members})} for record, members in again]


def _members_of(record: Mapping[str, Any]) -> list[psutil.Process]:
    """Return what still lives of a recorded process and its group."""
    pid, group, start = int(record["pid"]), int(record["process_group"]), float(record["process_started_at"])
    if pid <= 1 or group <= 1 or group == os.getpgrp() or start < psutil.boot_time() - START_TOLERANCE:
        return []
    leader = _process(pid)
    if leader is not None and abs(leader.create_time() - start) > START_TOLERANCE:
        return []
    members = []
    for process in group_members(group):
        with contextlib.suppress(psutil.Error, OSError):
            ours = leader is not None or OWNER_VARIABLE in process.environ()
            if ours and os.getsid(process.pid) == pid and process.create_time() >= start - START_TOLERANCE:
                members.append(process)
    return members


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _wait_for_end(processes: list[psutil.Process], seconds: float) -> None:
    """Wait until the processes have ended; dead ones that their parent has not collected have."""
    deadline = time.monotonic() + seconds
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(groups: Iterable[list[psutil.Process]], number: signal.Signals) -> None:
    """Signal processes one by one: psutil looks at the start again, so that a reused id is not hit."""
    for members in groups:
        for member in members:
            with contextlib.suppress(psutil.Error, OSError):
                member.send_signal(number)
