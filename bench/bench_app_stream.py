"""From a piece of a model's text arriving to its paint, at 200 tokens a second, and from a key to its paint meanwhile.

A server in a process of its own streams numbered words; the app holds its engine in a child process, as it always does,
and shows the step's output while it is written. In the second half keys scroll it. Run by hand:
`python bench/bench_app_stream.py`. Prints the median and the 95th percentile of both, how long the screen's thread did
nothing else, and how much of the time it computed (a busy machine makes the rest longer).

With `transcript` behind it the tab of the transcript is in sight instead of the output.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_app_keys import tell
from textual import events

from stepchain_tui.tui.app import StepChainApp
from stepchain_tui.tui.library import prepare_store
from stepchain_tui.tui.screens.run import RunScreen
from stepchain_tui.tui.widgets.following import FollowingView, LiveView
from stepchain_tui.tui.widgets.transcript_view import TranscriptView

TOKENS_A_SECOND, SECONDS, KEY_SECONDS = 200, 15, 0.05
TEXT_P95_MS, KEY_P95_MS, LONGEST_MS = 150.0, 33.0, 100.0
_WORD = re.compile(r"w(\d{5})\b")


async def serve(sent_times: Path) -> None:
    """Stream one answer, a word at a time, then write when each was sent."""
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        begin, words, sent = time.perf_counter(), [], []
        for number in range(TOKENS_A_SECOND * SECONDS):
            words.append(f"w{number:05} " + ("\n" if number % 200 == 199 else ""))
            event = {"type": "response.output_text.delta", "delta": words[-1], "item_id": "m", "output_index": 0}
            writer.write(f"data: {json.dumps(event)}\n\n".encode())
            sent.append(time.perf_counter())
            await asyncio.sleep(max(0.0, begin + (number + 1) / TOKENS_A_SECOND - time.perf_counter()))
        part = {"type": "output_text", "text": "".join(words), "annotations": []}
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        usage = {"input_tokens": 1, "output_tokens": len(words), "total_tokens": len(words) + 1}
        final = {"id": "r", "model": "m", "status": "completed", "output": [message], "usage": usage}
        writer.write(f"data: {json.dumps({'type': 'response.completed', 'response': final})}\n\n".encode())
        await writer.drain()
        writer.close()
        await asyncio.to_thread(sent_times.write_text, json.dumps(sent))
        done.set()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await done.wait()


class Watch:
    """Notes when each word is painted first, and how long keys take."""

    def __init__(self, app: StepChainApp) -> None:
        self.painted: dict[int, float] = {}
        self.keys: list[float] = []
        self.begun = asyncio.Event()
        """The words of the first second are painted."""
        self.longest = 0.0
        self._app = app
        self._rendered = self._known = -1
        self._pressed = self._place = 0.0
        self._view: FollowingView | None = None
        display = app._display

        def shown(screen: Any, renderable: Any) -> None:
            display(screen, renderable)
            now = time.perf_counter()
            for number in range(self._known + 1, self._rendered + 1):
                self.painted[number] = now
            self._known = max(self._known, self._rendered)
            if self._known >= TOKENS_A_SECOND:
                self.begun.set()
            if self._pressed and self._view is not None and self._view.scroll_y != self._place:
                self.keys.append((now - self._pressed) * 1000)
                self._pressed = 0.0

        app._display = shown  # type: ignore[method-assign]

    def look_at(self, view: type[LiveView | TranscriptView]) -> None:
        """Note which words a view renders."""
        pieces = view.pieces

        def noted(widget: Any, index: int) -> Any:
            made = pieces(widget, index)
            for text, _ in made:
                for found in _WORD.findall(text):
                    self._rendered = max(self._rendered, int(found))
            return made

        view.pieces = noted  # type: ignore[method-assign]

    def press(self, key: str, view: FollowingView) -> None:
        self._view, self._place, self._pressed = view, view.scroll_y, time.perf_counter()
        assert self._app._driver is not None
        self._app._driver.send_message(events.Key(key, key))

    async def watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, (now - last) * 1000 - 1)
            last = now


def start_server(sent_times: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Return the process that streams, and its port."""
    server = subprocess.Popen([sys.executable, __file__, "serve", str(sent_times)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


async def main(tab: str) -> int:
    with tempfile.TemporaryDirectory() as name:
        for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            os.environ[variable] = name
        folder = Path(name)
        sent_times = folder / "sent.json"
        server, port = await asyncio.to_thread(start_server, sent_times)
        os.environ.update(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", OPENAI_API_KEY="bench")
        await prepare_store(folder / "runs.db")
        (folder / "plan.yaml").write_text("steps:\n  - {id: tell, prompt: go, model: m}\n")
        gc.disable()  # as `run_app` does: the app begins to collect once it is painted
        app = StepChainApp(folder / "runs.db", folder / "plan.yaml", folder=folder)
        async with app.run_test(size=(160, 50)) as pilot:
            await pilot.pause(2.0)
            screen = app.screen
            assert isinstance(screen, RunScreen)
            screen.step_pane.tab = tab
            watch = Watch(app)
            watch.look_at(LiveView if tab == "output" else TranscriptView)
            watching = asyncio.create_task(watch.watch())
            await pilot.press("s")
            await watch.begun.wait()  # the engine's first import of what it needs is no part of this
            watch.longest, computed, begin = 0.0, time.thread_time(), time.perf_counter()
            await asyncio.sleep(SECONDS / 2)
            view = screen.step_pane.output.live if tab == "output" else screen.step_pane.transcript
            view.focus()
            number = 0
            while not sent_times.exists():
                await asyncio.sleep(KEY_SECONDS)
                watch.press("kj"[number % 2], view)
                number += 1
            share = (time.thread_time() - computed) / (time.perf_counter() - begin)
            await asyncio.sleep(0.5)
            watching.cancel()
            await app.finish("cancel")
        sent = json.loads(sent_times.read_text())
        server.wait()
    half = TOKENS_A_SECOND * SECONDS // 2
    took = [(watch.painted[place] - sent[place]) * 1000 for place in range(TOKENS_A_SECOND, half)]
    print(f"{len(took)} words, {TOKENS_A_SECOND} a second, tab {tab}")
    text, keys = tell("word to paint", took), tell(f"{len(watch.keys)} keys", watch.keys)
    print(f"longest stretch {watch.longest:.1f} ms   the screen's thread computed {share:.0%} of the time")
    return 0 if text <= TEXT_P95_MS and keys <= KEY_P95_MS and watch.longest <= LONGEST_MS else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
    else:
        sys.exit(asyncio.run(main(*(sys.argv[1:] or ["output"]))))
