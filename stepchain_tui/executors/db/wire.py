"""One statement on its way through libpq: parameters beside the text, rows in chunks, however many there are.

psycopg's own cursors either hold all rows in memory, or, where they stream, know neither the columns of an empty
result nor how many rows a statement changed. This is their streaming, with both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psycopg import capabilities, errors, pq
from psycopg.abc import PyFormat
from psycopg.adapt import Transformer
from psycopg.generators import fetch, send

from stepchain_tui.executors.db.work import RowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from psycopg.pq.abc import PGresult

CHUNK = 50
"""Rows that are in memory at once besides those that are kept."""
_CANCEL_SECONDS = 1.0
_WITH_ROWS = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_CHUNK})
_FINE = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY})
_AT_REST = frozenset({pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR})
_OPEN = frozenset({pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR})


class Wire:
    """Carries statements out on a connection that leaves transactions to us.

    Args:
        connection: The connection, in psycopg's autocommit mode.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way on the connection, so that it can be used again."""
        return self._connection.pgconn.transaction_status in _AT_REST

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, failed or not."""
        return self._connection.pgconn.transaction_status in _OPEN

    async def stop(self) -> None:
        """Ask the server to stop what is under way, where there is something and the connection still stands."""
        if self._connection.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            with contextlib.suppress(errors.Error):
                await self._connection.cancel_safe(timeout=_CANCEL_SECONDS)

    async def take_rows_whole(self) -> None:
        """Let the rows of what is sent next come as psycopg wants them.

        libpq keeps to the way of the last statement when a pipeline begins, which is how psycopg sends many.
        """
        await self.run("")

    async def run(
        self,
        text: str,
        values: Sequence[Any] = (),
        new_sink: Callable[[], RowSink] | None = None,
        *,
        may_leave: bool = False,
    ) -> tuple[int, RowSink | None]:
        """Carry out one statement; several in one text are refused by the server.

        Args:
            text: The SQL, with `$1` for the first value.
            values: What is bound to the places.
            new_sink: Makes what takes the rows, where there are any; without it they are let go.
            may_leave: The server may be told to stop once no more rows are wanted; that ends its transaction.

        Returns:
            How many rows it changed or gave, and its rows.

        Raises:
            psycopg.Error: The server refused it, or the connection was lost.
        """
        connection, pgconn = self._connection, self._connection.pgconn
        transformer = Transformer.from_context(connection)
        dumped = transformer.dump_sequence(values, [PyFormat.AUTO] * len(values)) if values else []
        sink: RowSink | None = None
        changed, wanted, left, failed = 0, True, False, None
        async with connection.lock:
            pgconn.send_query_params(text.encode(), dumped, transformer.types, transformer.formats)
            if new_sink is None:
                pass
            elif capabilities.has_stream_chunked():
                pgconn.set_chunked_rows_mode(CHUNK)
            else:
                pgconn.set_single_row_mode()
            await connection.wait(send(pgconn))
            while (result := await connection.wait(fetch(pgconn))) is not None:
                if result.status in _WITH_ROWS and new_sink is not None:
                    if sink is None:
                        sink = new_sink()
                        sink.begin(_columns(result, connection.info.encoding))
                    if result.ntuples and wanted:
                        transformer.set_pgresult(result)
                        wanted = sink.take(transformer.load_rows(0, result.ntuples, tuple))
                        if not wanted and may_leave:
                            left = True
                            await connection.cancel_safe(timeout=_CANCEL_SECONDS)
                elif result.status in _FINE:
                    changed = result.command_tuples or 0
                elif result.status not in _WITH_ROWS:
                    failed = errors.error_from_result(result, connection.info.encoding)
        if failed is not None and not (left and isinstance(failed, errors.QueryCanceled)):
            raise failed
        return (changed if sink is None else sink.rows), sink


def _columns(result: PGresult, encoding: str) -> list[str]:
    return [(result.fname(place) or b"").decode(encoding, "replace") for place in range(result.nfields)]
