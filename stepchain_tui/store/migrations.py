"""The schema as a list of steps that only go forward.

Each migration is a named function, applied in one transaction together with its own number (`PRAGMA user_version`).
A file with a higher number than this list was written by a newer version and is refused; a file with another
`application_id` belongs to another program and is never touched.

How rows are addressed: a run has a small integer key. An event's row id is `key << 32 | seq`, a log line's is
`key << 32 | n`, a step row's is `key << 32 | position`, so that a run's rows are neighbours, need no second index
and are appended in order. A log line's `place` is `log step << 32 | position within that step's log`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run.events import ToolFinished, decode_event
from stepchain_tui.store.tool_records import ToolRow, added, count_call, store_tools

APPLICATION_ID = 0x53746550
"""Says that a SQLite file is a StepChain store ("SteP")."""
SHIFT = 32
"""Bits of a row id that number rows within a run."""

_FIRST = """
CREATE TABLE runs (
    key INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    goal TEXT NOT NULL,
    plan_path TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    parent_run_id TEXT,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    steps_total INTEGER NOT NULL,
    steps_done INTEGER NOT NULL,
    steps_failed INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    log_lines INTEGER NOT NULL DEFAULT 0,
    indexed_seq INTEGER NOT NULL DEFAULT 0,
    indexed_lines INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_age ON runs (created_at DESC, key DESC);

CREATE TABLE owners (
    run INTEGER PRIMARY KEY,
    record TEXT,
    workers TEXT
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    step_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error_type TEXT,
    error TEXT NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
);

CREATE TABLE log_steps (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    step_id TEXT NOT NULL,
    lines INTEGER NOT NULL,
    UNIQUE (run, step_id)
);
CREATE TABLE log_sources (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    item INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    UNIQUE (step, attempt, item)
);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    place INTEGER NOT NULL,
    source INTEGER NOT NULL,
    stream ANY NOT NULL,
    at INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE UNIQUE INDEX logs_by_place ON logs (place);

CREATE TABLE commands (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    run_id TEXT NOT NULL,
    command TEXT NOT NULL,
    arguments TEXT NOT NULL,
    sender TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    answer TEXT
);
CREATE INDEX commands_to_answer ON commands (run_id, number) WHERE answer IS NULL;

CREATE TABLE blobs (
    sha256 TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID;

CREATE VIRTUAL TABLE log_words USING fts5 (
    text, content = 'logs', content_rowid = 'id', detail = none, columnsize = 0,
    tokenize = "unicode61 remove_diacritics 0"
);
CREATE VIRTUAL TABLE event_words USING fts5 (
    text, content = '', detail = none, columnsize = 0, tokenize = "unicode61 remove_diacritics 0"
);
CREATE VIRTUAL TABLE log_terms USING fts5vocab (log_words, row);
CREATE VIRTUAL TABLE event_terms USING fts5vocab (event_words, row);

CREATE VIEW event_lines AS
    SELECT runs.run_id, events.id & 0xffffffff AS seq, json_extract(CAST(events.data AS TEXT), '$.type') AS type,
           json_extract(CAST(events.data AS TEXT), '$.step_id') AS step_id, CAST(events.data AS TEXT) AS data
    FROM events JOIN runs ON runs.key = events.id >> 32;
"""


def the_first_tables(connection: sqlite3.Connection) -> None:
    """Create runs, owners, events, steps, logs, commands, blobs and the word indexes."""
    run_script(connection, _FIRST)


_SHARED = """
ALTER TABLE runs ADD COLUMN parent_step_id TEXT;
UPDATE runs SET parent_step_id = (
    SELECT json_extract(CAST(data AS TEXT), '$.parent_step_id') FROM events
    WHERE id = (runs.key << 32) + 1 AND json_valid(CAST(data AS TEXT))
) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL;

CREATE TABLE cache (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    action TEXT NOT NULL,
    input TEXT NOT NULL,
    code TEXT NOT NULL,
    output TEXT NOT NULL,
    sha256 TEXT,
    run_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    item INTEGER,
    created_at INTEGER NOT NULL,
    used INTEGER NOT NULL
);
CREATE INDEX cache_by_scope ON cache (scope, created_at);
CREATE INDEX cache_by_use ON cache (used);

CREATE TABLE breakers (
    name TEXT PRIMARY KEY,
    record TEXT NOT NULL
) WITHOUT ROWID;
"""


def a_cache_and_breakers(connection: sqlite3.Connection) -> None:
    """Create the cache and the breakers, and tell of each run the step that it was forked at."""
    run_script(connection, _SHARED)


_IMPORTS = """
CREATE TABLE imports (
    run INTEGER PRIMARY KEY,
    record TEXT NOT NULL
);
"""


def marks_of_imported_runs(connection: sqlite3.Connection) -> None:
    """Create the marks of runs that came from elsewhere."""
    run_script(connection, _IMPORTS)


_TOOLS = """
CREATE TABLE tools (
    name TEXT PRIMARY KEY,
    calls INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    seconds REAL NOT NULL,
    cpu_seconds REAL NOT NULL,
    cpu_wall_seconds REAL NOT NULL,
    last_called_at INTEGER NOT NULL,
    last_error TEXT NOT NULL
) WITHOUT ROWID;
"""
_CALLS_OF_BEFORE = """
SELECT events.data FROM events JOIN runs ON runs.key = events.id >> 32 LEFT JOIN imports ON imports.run = runs.key
WHERE imports.run IS NULL AND substr(events.data, 1, 23) = CAST('{"type":"tool.finished"' AS BLOB) ORDER BY events.id
"""


def records_of_tools(connection: sqlite3.Connection) -> None:
    """Create the records of tools, and count the calls of the runs that are there and were carried out here."""
    run_script(connection, _TOOLS)
    rows: list[ToolRow] = []
    for (data,) in connection.execute(_CALLS_OF_BEFORE):
        with contextlib.suppress(StoreError):  # `stepchain doctor` tells of an event that cannot be read
            event = decode_event(data)
            if isinstance(event, ToolFinished):
                rows = added([*rows, count_call(event, None)])
    store_tools(connection.cursor(), rows)


_SPENDING = """
CREATE TABLE spending (
    run INTEGER PRIMARY KEY,
    turns INTEGER NOT NULL,
    cost REAL NOT NULL,
    unpriced_turns INTEGER NOT NULL
);
"""


def what_runs_have_spent(connection: sqlite3.Connection) -> None:
    """Create the table of what asking models cost; of runs that are there already the prices are not known."""
    run_script(connection, _SPENDING)


MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [
    the_first_tables,
    a_cache_and_breakers,
    marks_of_imported_runs,
    records_of_tools,
    what_runs_have_spent,
]
"""Every migration ever shipped, in order; entries are never changed, only added."""


_LATER_TABLES: list[tuple[str, ...]] = [
    (),
    (
        "CREATE TEMP VIEW runs AS SELECT *, NULL AS parent_step_id FROM main.runs",
        "CREATE TEMP VIEW cache AS SELECT NULL AS number, NULL AS key, NULL AS scope, NULL AS action, NULL AS input, "
        "NULL AS code, NULL AS output, NULL AS sha256, NULL AS run_id, NULL AS step_id, NULL AS attempt, "
        "NULL AS item, NULL AS created_at, NULL AS used WHERE 0",
        "CREATE TEMP VIEW breakers AS SELECT NULL AS name, NULL AS record WHERE 0",
    ),
    ("CREATE TEMP VIEW imports AS SELECT NULL AS run, NULL AS record WHERE 0",),
    (
        "CREATE TEMP VIEW tools AS SELECT NULL AS name, NULL AS calls, NULL AS succeeded, NULL AS failed, "
        "NULL AS seconds, NULL AS cpu_seconds, NULL AS cpu_wall_seconds, NULL AS last_called_at, "
        "NULL AS last_error WHERE 0",
    ),
    ("CREATE TEMP VIEW spending AS SELECT NULL AS run, 0 AS turns, 0.0 AS cost, 0 AS unpriced_turns WHERE 0",),
]
"""For each migration, what stands for it while a file that has not had it is only read."""


def stand_ins_for_later_tables(version: int) -> list[str]:
    """Return the statements that let a file of an older version be read as if it had had every migration.

    They are for one connection and do not touch the file.
    """
    return [statement for statements in _LATER_TABLES[version:] for statement in statements]


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Carry out several statements within the transaction that is open (`executescript` would commit it)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def check_version(connection: sqlite3.Connection, location: str) -> int:
    """Return the number of migrations that a file has had, 0 for an empty one.

    Raises:
        StoreError: The file belongs to another program, or was written by a newer version.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise StoreError(
            f"{location} is not a StepChain store but a database of another program",
            hint="Name another file with --store or $STEPCHAIN_STORE; nothing was changed in this one.",
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the store {location} was written by a newer version of StepChain (schema {version}, "
            f"this one knows {len(MIGRATIONS)})",
            hint="Upgrade StepChain, or name another file with --store.",
        )
    return int(version)


def migrate(connection: sqlite3.Connection, location: str) -> list[str]:
    """Bring a file up to this version and return the names of the migrations that were applied.

    The connection must be in autocommit mode. Two processes may call this at once: the second finds nothing to do.
    """
    applied: list[str] = []
    while check_version(connection, location) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = check_version(connection, location)
            if version < len(MIGRATIONS):
                MIGRATIONS[version](connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
                applied.append(MIGRATIONS[version].__name__)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return applied
