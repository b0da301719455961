"""A real Dask cluster for tests: a scheduler and workers as processes of their own, on free ports of the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

_REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds after which a wait gives up."""


class TestCluster:
    """A scheduler and workers, each one process. Use it with `with`.

    Args:
        workers: How many workers to start.
        threads: Slots of each.
        worker_path: Where workers find StepChain.

    Attributes:
        address: The scheduler's address.
        workers: The workers' processes.
    """

    __test__ = False

    def __init__(self, workers: int = 2, *, threads: int = 1, worker_path: Path = _REPOSITORY) -> None:
        self._count = workers
        self._threads = threads
        self._environment = {**os.environ, "PYTHONPATH": str(worker_path)}
        self._folder = tempfile.TemporaryDirectory(prefix="test-cluster-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.address = ""
        self.scheduler: subprocess.Popen[bytes]
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.start_scheduler()
            for _ in range(self._count):
                self.start_worker()
            self.wait_for_workers(self._count)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_scheduler(self, port: int = 0) -> None:
        """Start the scheduler; its log is `scheduler.log` in `folder`."""
        told = self.folder / "scheduler.json"
        told.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", str(port), "--scheduler-file", str(told), "--no-dashboard",
            "--no-show",
        )  # fmt: skip
        self.address = json.loads(_until(lambda: told.exists() and told.read_text()))["address"]

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, without a nanny: a killed one stays dead."""
        worker = self._start(
            "worker", self.address, "--host", "127.0.0.1", "--nthreads", str(self._threads), "--no-nanny",
            "--no-dashboard", "--memory-limit", "0", "--local-directory", str(self.folder),
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def wait_for_workers(self, count: int) -> None:
        """Return when this many workers are with the scheduler."""
        log = self.folder / "scheduler.log"
        _until(lambda: log.read_text().count("Register worker") >= count)

    def worker_of(self, pid: int) -> subprocess.Popen[bytes]:
        """Return the worker that a process is a child of."""
        parents = {parent.pid for parent in psutil.Process(pid).parents()}
        return next(worker for worker in self.workers if worker.pid in parents)

    def children(self) -> list[psutil.Process]:
        """Return what the workers have started and still runs."""
        found = []
        for worker in self.workers:
            with contextlib.suppress(psutil.Error):
                found += psutil.Process(worker.pid).children(recursive=True)
        return found

    def close(self) -> None:
        """End all processes."""
        for process in [*self.workers, *([self.scheduler] if hasattr(self, "scheduler") else [])]:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self._folder.cleanup()

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        number = "" if kind == "scheduler" else str(len(self.workers))
        with (self.folder / f"{kind}{number}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", f"distributed.cli.dask_{kind}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )


@contextlib.contextmanager
def running_cluster(workers: int = 2, *, threads: int = 1) -> Iterator[TestCluster]:
    """Give a cluster that runs as long as the block."""
    with TestCluster(workers, threads=threads) as cluster:
        yield cluster


def _until(condition: Callable[[], Any]) -> Any:
    """Return what `condition` gives once it is true; the processes are not ours to be told by."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not come up in time")
        time.sleep(0.02)
    return found
