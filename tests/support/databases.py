"""Database servers for tests: a PostgreSQL of our own for each test process, and moto's DynamoDB."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import DatabaseRequest, Step
from tests.support.postgresql import postgresql_program

PATIENCE = 60.0
PASSWORD = "geheim-p@ss/word"
"""The password of `USER`; written in an url it is `QUOTED`."""
QUOTED = "geheim-p%40ss%2Fword"
USER = "stepper"
MAX_CONNECTIONS = 30


@dataclass
class PostgresServer:
    """A server that runs.

    Attributes:
        port: Where it listens on 127.0.0.1.
        folder: Its data.
    """

    port: int
    folder: Path
    pid: int = 0

    def url(self, database: str = "tests", user: str = USER, password: str = QUOTED) -> str:
        """Return the address of a database of it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Carry out a statement on a connection of its own, beside what is tested."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True, application_name="witness") as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def busy(self, part: str) -> list[tuple[Any, ...]]:
        """Return (pid, state) of statements that run and hold a piece of text, those of the witness left out."""
        return self.ask(
            "select pid, state from pg_stat_activity where application_name <> 'witness' and state <> 'idle'"
            " and query like %s",
            f"%{part}%",
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server of our own in a folder of its own, and end it."""
    initdb, server = postgresql_program("initdb"), postgresql_program("postgres")
    assert initdb is not None
    assert server is not None
    folder = Path(tempfile.mkdtemp(prefix="stepchain-pg-"))
    port = free_port()
    try:
        identity = _not_root(folder)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = folder / "data"
        command = [str(initdb), "-D", str(data), "-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]
        run = subprocess.run(
            [*command, "--locale=C", f"--pwfile={secret}"], capture_output=True, text=True, cwd=folder, **identity
        )
        assert run.returncode == 0, run.stderr
        options = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": MAX_CONNECTIONS,
            "shared_buffers": "16MB",
            "deadlock_timeout": "100ms",
        }
        settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("w") as log:
            started = subprocess.Popen(
                [str(server), "-D", str(data), *settings], stdout=log, stderr=subprocess.STDOUT, cwd=folder, **identity
            )
        try:
            made = PostgresServer(port, folder, started.pid)
            _wait_for_postgres(made, started)
            yield made
        finally:
            _end(started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def dynamodb_server() -> Iterator[str]:
    """Run moto's server and return its address."""
    port = free_port()
    started = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(url, started):
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.05)
        yield url
    finally:
        _end(started)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class Ports:
    """What a call tells the engine."""

    logged: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def log(self, stream: str, text: str) -> None:
        self.logged.append(text)

    log_from_thread = log

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None: ...

    def model_turn(self, **facts: Any) -> None: ...

    def tool_started(self, **facts: Any) -> None: ...

    def tool_finished(self, **facts: Any) -> None: ...

    def begun(self) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def db_call(
    request: Mapping[str, Any],
    folder: Path,
    *,
    run_id: str = "r",
    step_id: str = "ask",
    written: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    **keys: Any,
) -> StepCall:
    """Return the attempt of a `db:` step as the engine makes it.

    Args:
        request: The `db:` mapping with its expressions resolved.
        folder: The plan's.
        run_id: The run.
        step_id: The step.
        written: The mapping as the plan has it; `request` where there are no expressions in it.
        secrets: The plan's secrets.
        keys: More keys of the step.
    """
    return StepCall(
        run_id=run_id,
        step=Step.model_construct(id=step_id, db=DatabaseRequest.model_construct(**(written or request)), **keys),
        attempt=1,
        item=None,
        value=dict(request),
        args={},
        options={},
        mode="inline",
        timeout=None,
        environment={},
        cwd=folder,
        plan_folder=folder,
        ports=Ports(),
        secrets=dict(secrets or {}),
    )


def _not_root(folder: Path) -> dict[str, Any]:
    """Return whose rights the server gets: it refuses those of root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait_for_postgres(made: PostgresServer, started: subprocess.Popen[Any]) -> None:
    import psycopg

    deadline = time.monotonic() + PATIENCE
    while True:
        assert started.poll() is None, (made.folder / "log").read_text()
        try:
            with psycopg.connect(made.url("postgres"), autocommit=True) as connection:
                connection.execute("create database tests")
                return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, (made.folder / "log").read_text()
            time.sleep(0.05)


def _answers(url: str, started: subprocess.Popen[Any]) -> bool:
    assert started.poll() is None, "moto's server ended"
    try:
        with urlopen(f"{url}/moto-api/data.json", timeout=5):
            return True
    except OSError:
        return False


def _end(started: subprocess.Popen[Any]) -> None:
    """End a server and what it started, at once."""
    try:
        family = psutil.Process(started.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    started.kill()
    started.wait()
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
