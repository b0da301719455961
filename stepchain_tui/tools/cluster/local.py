"""A cluster on this machine, started when the first call asks for one: as many workers as there are cores.

It is one child process of ours that holds the scheduler and looks after the workers, so that neither shares our event
loop. It ends with us, however we end: it holds a pipe of ours and kills its whole group when that closes, and the
workers' own children hold pipes of theirs. It listens on the loopback address only; where the package `cryptography`
is installed it speaks TLS with keys made for this one cluster, so that nobody else on the machine can use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from stepchain_tui.core.secrets import environment_without_secrets
from stepchain_tui.tools.cluster.failures import cluster_error
from stepchain_tui.tools.process_worker import _interpreter_flags
from stepchain_tui.tools.processes import Child
from stepchain_tui.tools.pumps import PipePump

START_SECONDS = 60.0
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[3])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from stepchain_tui.tools.cluster.local import main; "
    "main(sys.argv[2], *map(int, sys.argv[3:6]))"
)
_KEYS = ("tls_ca_file", "tls_client_cert", "tls_client_key")
_LAST_WORDS = 4_000


class LocalCluster:
    """The owner's end of a cluster on this machine.

    Attributes:
        address: Its scheduler's address.
    """

    def __init__(self) -> None:
        self.address = ""
        self._keys: dict[str, str] = {}
        self._child: Child
        self._lifeline = -1
        self._folder = ""
        self._pumps: list[PipePump] = []
        self._told = bytearray()
        self._said = bytearray()

    @classmethod
    async def start(cls) -> LocalCluster:
        """Start a cluster and return once its scheduler and its workers are there.

        Raises:
            AttemptError: It does not start, as a `server_error`.
        """
        made = cls()
        made._folder = tempfile.mkdtemp(prefix="stepchain-cluster-")
        lifeline_read, made._lifeline = os.pipe()
        told_read, told_write = os.pipe()
        said_read, said_write = os.pipe()
        try:
            made._child = Child(
                [
                    sys.executable,
                    *_interpreter_flags(),
                    "-c",
                    _BOOT,
                    _PACKAGE_PARENT,
                    made._folder,
                    str(told_write),
                    str(lifeline_read),
                    str(os.getpid()),
                ],
                environment={**environment_without_secrets(os.environ), "TMPDIR": made._folder},
                cwd=Path("/"),
                stdout=said_write,
                stderr=said_write,
                pass_fds=(told_write, lifeline_read),
            )
        except BaseException:
            for descriptor in (made._lifeline, told_read, said_read):
                os.close(descriptor)
            shutil.rmtree(made._folder, ignore_errors=True)
            raise
        finally:
            for descriptor in (lifeline_read, told_write, said_write):
                os.close(descriptor)
        made._pumps = [PipePump(told_read, made._told.extend), PipePump(said_read, made._hear)]
        try:
            await made._ready()
        except BaseException:
            await made.close()
            raise
        return made

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._child.exited.done()

    def security(self) -> Any:
        """Return the keys to it, as a client of `distributed` takes them; None where it has none."""
        if not self._keys:
            return None
        from distributed.security import Security

        return Security(require_encryption=True, **self._keys)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End it with its workers and their children; may be called again."""
        await self._child.end(grace=0)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        for pump in self._pumps:
            pump.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._child.reap()

    def kill(self) -> None:
        """End it at once without waiting."""
        if self.alive:
            self._child.signal_group(signal.SIGKILL)

    async def _ready(self) -> None:
        await asyncio.wait([self._pumps[0].ended], timeout=START_SECONDS)
        try:
            found = json.loads(self._told)
            self.address, self._keys = str(found["address"]), dict(found["keys"])
        except (ValueError, KeyError, TypeError) as error:
            said = self._said.decode("utf-8", "replace").strip().splitlines()
            raise cluster_error(
                "the cluster on this machine did not start" + (f": {said[-1]}" if said else ""),
                "Look at the memory and the processes that this machine has left, or name the address of a cluster.",
                "LocalClusterFailed",
            ) from error

    def _hear(self, data: bytes) -> None:
        self._said += data
        del self._said[:-_LAST_WORDS]


def main(folder: str, told: int, lifeline: int, owner: int) -> None:
    """Be the cluster until the owner is gone; runs in the child process.

    Args:
        folder: Where the workers keep their files; removed at the end, where the owner cannot do so any more.
        told: Descriptor on which the address and the keys are written, as JSON.
        lifeline: Descriptor of a pipe that ends with the owner.
        owner: Process id of the owner.
    """
    for descriptor in (told, lifeline):
        os.set_inheritable(descriptor, False)

    def watch() -> None:
        try:
            os.read(lifeline, 1)
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            shutil.rmtree(folder, ignore_errors=True)  # after those who write into it
        finally:
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="stepchain-lifeline", daemon=True).start()
    if os.getppid() != owner:
        os.killpg(0, signal.SIGKILL)
    asyncio.run(_serve(folder, told))


async def _serve(folder: str, told: int) -> None:
    import dask
    import distributed

    security = None
    try:
        security = distributed.Security.temporary()  # type: ignore[no-untyped-call]
    except ImportError:  # without `cryptography` the loopback address is all that keeps others out
        security = None
    dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": True})
    async with distributed.LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=os.cpu_count() or 1,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
        memory_limit=0,
        local_directory=folder,
        silence_logs=50,
        security=security,
        asynchronous=True,
    ) as cluster:
        keys = {} if security is None else {name: getattr(security, name) for name in _KEYS}
        with os.fdopen(told, "w") as out:
            json.dump({"address": cluster.scheduler_address, "keys": keys}, out)
        await asyncio.Event().wait()
