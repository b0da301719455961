"""Holds processes to a share of one core: a process that has used up its share is stopped until it has some again.

Stops end with the work they were made for. A stopped process dies of a kill like any other, and whoever ends our
workers when we are gone (`guard`) kills them; so no stop is ever left behind.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

from stepchain_tui.core.clock import SystemClock

TICK = 0.01
"""Seconds between two looks at a process."""
BURST = 0.05
"""Seconds of computing that a process may save up while it computes nothing."""
IDLE = 5.0
"""Seconds after which the thread goes when nothing is held."""

_CLOCK = SystemClock()
"""Real processes take real time, whatever clock the engine has."""


class Throttled(Protocol):
    """A process that can be held."""

    def computed(self) -> float:
        """Return the seconds that it has computed so far."""

    def pause(self) -> None:
        """Stop it."""

    def go_on(self) -> None:
        """Let it go on."""


class Throttle:
    """One thread that looks at all held processes; it sleeps while there are none, and goes when there are none long.

    What is over before the first look costs next to nothing: it has used less than may be saved up.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[_Held] = set()
        self._watching = False

    @contextlib.contextmanager
    def hold(self, process: Throttled, share: float | None) -> Iterator[None]:
        """Hold `process` to `share` of one core while the block runs; None does not hold it. Any thread may call it."""
        if share is None:
            yield
            return
        held = _Held(process, share)
        with self._changed:
            self._held.add(held)
            if self._watching:
                if len(self._held) == 1:
                    self._changed.notify()
            else:
                self._watching = True
                threading.Thread(target=self._watch, name="sandbox-throttle", daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(held)
                held.release()

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(TICK)
            with self._changed:
                if not self._held:
                    if not self._changed.wait_for(lambda: bool(self._held), IDLE):
                        self._watching = False
                        return
                    continue
                for held in self._held:
                    held.look()


class _Held:
    """What one process has used of its share."""

    def __init__(self, process: Throttled, share: float) -> None:
        self._process = process
        self._share = share
        self._allowance = BURST
        self._computed: float | None = None
        self._looked_at = _CLOCK.monotonic()
        self._stopped = False

    def look(self) -> None:
        """Stop the process, or let it go on, as its share demands."""
        now, computed = _CLOCK.monotonic(), self._process.computed()
        earned = self._share * (now - self._looked_at)
        used = 0.0 if self._computed is None else max(0.0, computed - self._computed)
        self._allowance = min(BURST, self._allowance + earned - used)
        self._looked_at, self._computed = now, computed
        if self._allowance < 0 and not self._stopped:
            self._stopped = True
            self._process.pause()
        elif self._allowance >= 0 and self._stopped:
            self.release()

    def release(self) -> None:
        """Let the process go on where it is stopped."""
        if self._stopped:
            self._stopped = False
            self._process.go_on()
