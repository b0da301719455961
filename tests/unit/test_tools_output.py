"""What is printed goes to the call that prints it, and to nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stepchain_tui.tools.output import LINE_LIMIT, CallOutput, LoopRelay, OutputRouter, current_output


@contextlib.contextmanager
def routed() -> Iterator[io.StringIO]:
    """Route the streams of a stand-in for the terminal; pytest swaps them between fixtures and tests."""
    before, terminal = (sys.stdout, sys.stderr), io.StringIO()
    sys.stdout = sys.stderr = terminal
    router = OutputRouter()
    router.install()
    try:
        yield terminal
    finally:
        router.remove()
        sys.stdout, sys.stderr = before


def test_lines_are_handed_on_when_they_end() -> None:
    seen: list[tuple[str, str]] = []
    output = CallOutput(lambda stream, text: seen.append((stream, text)))
    with routed() as terminal:
        token = current_output().set(output)
        print("a", "b")
        print("half", end="")
        sys.stderr.write("error\n")
        sys.stdout.buffer.write("bytes €\n".encode())
        assert not sys.stdout.isatty()
        current_output().reset(token)
        print("outside")
    assert seen == [("stdout", "a b\n"), ("stderr", "error\n"), ("stdout", "halfbytes €\n")]
    assert terminal.getvalue() == "outside\n"


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    seen: list[int] = []
    output = CallOutput(lambda _stream, text: seen.append(len(text)))
    for _ in range(100):
        output.write("stdout", "x" * 10_000)
    output.flush()
    assert sum(seen) == 1_000_000
    assert max(seen) <= LINE_LIMIT


def test_what_is_printed_after_the_end_of_a_call_is_dropped() -> None:
    seen: list[str] = []
    output = CallOutput(lambda _stream, text: seen.append(text))
    output.close()
    output.write("stdout", "late\n")
    assert seen == []


def test_the_real_streams_come_back_with_the_last_user(monkeypatch: pytest.MonkeyPatch) -> None:
    real = io.StringIO()
    monkeypatch.setattr(sys, "stdout", real)
    first, second = OutputRouter(), OutputRouter()
    first.install()
    second.install()
    first.install()
    first.remove()
    first.remove()
    assert sys.stdout is not real
    second.remove()
    assert sys.stdout is real


async def test_a_thread_that_prints_faster_than_the_loop_reads_waits() -> None:
    loop = asyncio.get_running_loop()
    relay = LoopRelay(loop)
    seen: list[int] = []
    most = 0

    def log(_stream: str, text: str) -> None:
        seen.append(len(text))

    def flood() -> None:
        nonlocal most
        for _ in range(2_000):
            relay.send(log, "stdout", "x" * 1_000)
            most = max(most, relay.waiting)

    await asyncio.to_thread(flood)
    await asyncio.sleep(0)
    assert sum(seen) == 2_000_000
    assert most < 200_000


def test_the_room_is_light_to_import() -> None:
    code = (
        "import sys, stepchain_tui.tools\n"
        "heavy = {'pebble', 'dill', 'multiprocessing', 'psutil', 'asyncio', 'textual', 'openai'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
