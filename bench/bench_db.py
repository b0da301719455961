"""What a db step costs beside the drivers alone: one row from SQLite, one row and 10,000 rows from PostgreSQL.

Both sides keep their connection open and turn rows into mappings. Prints median milliseconds of each and their ratio
(held: under `HELD`). PostgreSQL is left out where the machine has none.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stepchain_tui.executors.db import DbSteps
from tests.support.databases import db_call, postgres_server
from tests.support.postgresql import postgresql_program

ROUNDS = 7
ONE = "select 1 as a, 'text' as b"
MANY = "select n, 'row ' || n as name, n * 0.5::float8 as half from generate_series(1, 10000) n"
HELD = {"sqlite, one row": 12.0, "postgresql, one row": 12.0, "postgresql, 10,000 rows": 6.0}


async def seconds(call: Callable[[], Awaitable[Any]], each: int) -> float:
    """Return the mean seconds of one call."""
    begin = time.perf_counter()
    for _ in range(each):
        await call()
    return (time.perf_counter() - begin) / each


async def compare(name: str, each: int, ours: Callable[[], Awaitable[Any]], bare: Callable[[], Awaitable[Any]]) -> bool:
    """Print one line and return whether the ratio is held."""
    await ours()
    await bare()
    pairs = [(await seconds(ours, each), await seconds(bare, each)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(pair[side] for pair in pairs) * 1000 for side in (0, 1))
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    print(f"{name:26}  step {mine:8.3f} ms   driver {other:8.3f} ms   ratio {ratio:5.2f} (held: {HELD[name]:g})")
    return ratio < HELD[name]


async def main() -> bool:
    """Measure, and return whether all is held."""
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        steps = DbSteps()
        connection = sqlite3.connect(Path(folder) / "x.db", check_same_thread=False)

        async def sqlite_bare() -> Any:
            def ask() -> Any:
                cursor = connection.execute(ONE)
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor]

            return await asyncio.to_thread(ask)

        call = db_call({"url": "sqlite:///x.db", "sql": ONE}, Path(folder))
        fine &= await compare("sqlite, one row", 300, lambda: steps.execute(call), sqlite_bare)
        connection.close()
        if postgresql_program("initdb") is None:
            print("left out, because this machine has no PostgreSQL")
        else:
            import psycopg
            from psycopg.rows import dict_row

            with postgres_server() as server:
                driver = await psycopg.AsyncConnection.connect(server.url(), autocommit=True, row_factory=dict_row)
                for name, sql, each in (("one row", ONE, 200), ("10,000 rows", MANY, 5)):
                    asked = db_call({"url": server.url(), "sql": sql}, Path(folder))

                    async def postgresql_bare(sql: str = sql) -> Any:
                        return await (await driver.execute(sql)).fetchall()

                    async def postgresql_step(asked: Any = asked) -> Any:
                        return await steps.execute(asked)

                    fine &= await compare(f"postgresql, {name}", each, postgresql_step, postgresql_bare)
                await driver.close()
                await steps.close()
        await steps.close()
    return fine


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
