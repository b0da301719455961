"""What a server or an earlier step says does not choose files, leave a limit, or show a password."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.db.address import DatabaseAddress
from stepchain_tui.executors.db.statement import StatementError, read_statement, refuse_writing
from tests.support.command_line import CommandLine


class _Handler(BaseHTTPRequestHandler):
    answers: dict[str, tuple[str, bytes]]
    received: list[bytes]

    def do_GET(self) -> None:
        kind, body = self.server.answers[self.path]  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.received.append(  # type: ignore[attr-defined]
            self.rfile.read(int(self.headers["content-length"] or 0))
        )
        self.path = "/answer"
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        made.answers = {"/answer": ("application/json", b'{"data": 1}')}  # type: ignore[attr-defined]
        made.received = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    (tmp_path / "plans").mkdir()
    line = CommandLine(tmp_path / "plans")
    yield line
    line.end()


def test_an_answer_does_not_name_the_file_that_is_sent(cli: CommandLine, server: ThreadingHTTPServer) -> None:
    secret = cli.folder.parent / "secret"
    secret.write_text("very private")
    server.answers["/a"] = ("application/json", f'{{"path": "{secret}"}}'.encode())  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{server.server_address[1]}"
    for files in ("['{{ steps.a.output.body.path }}']", "[{path: '{{ steps.a.output.body.path }}'}]"):
        cli.write(
            "plan.yaml",
            f"""
steps:
  - {{id: a, http: {{url: "{address}/a"}}}}
  - {{id: send, http: {{url: "{address}/send", method: POST, files: {{f: {files}}}}}}}
""",
        )
        assert cli("run", "plan.yaml").code == 1
    assert server.received == []  # type: ignore[attr-defined]


def test_an_answer_does_not_name_the_file_that_is_written(cli: CommandLine, server: ThreadingHTTPServer) -> None:
    target = cli.folder.parent / "written"
    body = f'{{"query": "{{a}}", "save_to": "{target}", "extensions": {{"x": 1}}}}'
    server.answers["/a"] = ("application/json", body.encode())  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{server.server_address[1]}"
    cli.write(
        "plan.yaml",
        f"""
steps:
  - {{id: a, http: {{url: "{address}/a"}}}}
  - {{id: ask, http: {{url: "{address}/q", json: "{{{{ steps.a.output.body }}}}"}}, executor: graphql}}
""",
    )
    cli("run", "plan.yaml", "--run-id", "r1")
    assert not target.exists()


@pytest.mark.parametrize("charset", ["undefined", "idna", "punycode", "unicode_escape", "utf-7"])
def test_no_charset_of_an_answer_fails_its_step(cli: CommandLine, server: ThreadingHTTPServer, charset: str) -> None:
    server.answers["/a"] = (f"text/plain; charset={charset}", "né".encode())  # type: ignore[attr-defined]
    cli.write("plan.yaml", f"steps: [{{id: a, http: {{url: 'http://127.0.0.1:{server.server_address[1]}/a'}}}}]")
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    assert cli.show("r1")["steps"][0]["output"]["body"] == "né"


def test_a_host_that_cannot_be_one_is_told(cli: CommandLine) -> None:
    cli.write("plan.yaml", "steps: [{id: a, http: {url: 'http://a..b/x'}}]")
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 1
    step = cli.show("r1")["steps"][0]
    assert step["error_type"] == "user_error"
    assert "names no host" in step["error"]
    assert len(step["attempts"]) == 1


@pytest.mark.parametrize("password", ["S3cr/etpw", "S3cr#etpw", "S3cr?etpw"])
def test_a_password_with_odd_characters_is_not_shown(password: str) -> None:
    with pytest.raises(UsageError) as caught:
        DatabaseAddress.of(f"postgresql://u:{password}@host/db")
    assert "S3cr" not in f"{caught.value} {caught.value.hint}"
    assert DatabaseAddress.of("postgresql://u:S3cr%2Fetpw@host/db").label == "postgresql host:5432/db"


@pytest.mark.parametrize(
    ("driver", "sql"),
    [
        ("sqlite", "attach 'o.db' as o"),
        ("sqlite", "pragma query_only = 0"),
        ("sqlite", "pragma query_only(0)"),
        ("postgresql", "set transaction read write"),
        ("postgresql", "set session characteristics as transaction read write"),
        ("postgresql", "set transaction_read_only = off"),
        ("postgresql", "select set_config('transaction_read_only', 'off', true)"),
    ],
)
def test_a_step_that_only_reads_cannot_let_itself_write(driver: str, sql: str) -> None:
    with pytest.raises(StatementError, match="read_only"):
        refuse_writing(read_statement(sql, driver))


def test_what_only_reads_is_let_through() -> None:
    for sql in ("select 1", "pragma table_info(t)", "with x as (select 1) select * from x"):
        refuse_writing(read_statement(sql, "sqlite"))
