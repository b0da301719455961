"""Ends sandbox processes whose owner was killed.

A worker that computes does not look at its pipe: after a `kill -9` of its owner it would go on until its own time
limit; and bubblewrap, killed between making the sandbox and letting it begin, leaves it waiting for ever. The guard is
one small shell in a session of its own that holds a pipe from us; when the pipe ends, however we ended, it kills the
processes it was told of. It looks at a worker's name first, so that a reused pid is left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import threading

_SCRIPT = r"""
trap '' HUP INT TERM
pids=' '
while read -r sign pid; do
  case $sign in
    +) pids="$pids$pid " ;;
    -) case $pids in *" $pid "*) pids="${pids%%" $pid "*} ${pids#*" $pid "}" ;; esac ;;
  esac
done
for pid in $pids; do
  case $pid in -*) kill -s KILL -- "$pid" 2>/dev/null; continue ;; esac
  if [ -r "/proc/$pid/comm" ]; then read -r name < "/proc/$pid/comm"; else name=$(ps -o comm= -p "$pid" 2>/dev/null); fi
  case $name in *monty*) kill -9 "$pid" 2>/dev/null ;; esac
done
"""


class WorkerGuard:
    """The shell that outlives us by a moment and ends what we have started.

    All methods may be called from any thread. Where no shell can be started, the guard does nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Have the shell there, for a process that may not be unguarded for as long as a shell takes to start."""
        with self._lock:
            self._start()

    def watch(self, pid: int) -> None:
        """End the worker `pid` when we are gone; a negative `pid` stands for the process group of that number."""
        with self._lock:
            self._start()
            self._tell(f"+ {pid}\n")

    def forget(self, pid: int) -> None:
        """Leave the process `pid` alone: it has ended."""
        with self._lock:
            self._tell(f"- {pid}\n")

    def close(self) -> None:
        """Let the guard kill what it still watches and go, and wait for it. Safe to call twice."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()

    def _start(self) -> None:
        if self._process is None and not self._closed:
            self._process = _start()
            atexit.register(self.close)  # sandboxes that nobody closes end with the program

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):  # the shell was killed by somebody: workers then end at their time limit
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def _start() -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        return None
