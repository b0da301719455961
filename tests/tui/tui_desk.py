"""A person at a desk: an app on a real store with a real engine, and what that person does and sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from textual.notifications import Notification, Notifications
from textual.pilot import Pilot
from textual.screen import Screen

from stepchain_tui.core.settings import Settings
from stepchain_tui.store import SQLiteStore
from stepchain_tui.tui.app import StepChainApp
from stepchain_tui.tui.library import prepare_store
from stepchain_tui.tui.screens.run import RunScreen
from stepchain_tui.tui.session import Session

DEADLINE = 40.0
S = TypeVar("S", bound=Screen[Any])


class Toasts(Notifications):
    """Remembers all that was told: on a busy machine a toast may be over before anybody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Notification] = []

    def add(self, notification: Notification) -> Self:
        self.told.append(notification)
        return super().add(notification)


class Person:
    """Somebody who presses keys and looks at the screen."""

    def __init__(self, app: StepChainApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    async def until(self, true: Callable[[], object], seconds: float = DEADLINE) -> None:
        """Wait until something is true, or fail with what is on the screen."""
        end = asyncio.get_running_loop().time() + seconds
        while not true():
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"it never came true; the screen:\n{self.text}\ntoasts: {self.toasts}")
            await self.pilot.pause(0.02)

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        await self.app.settled(DEADLINE)
        await self.pilot.pause()
        await self.app.settled(DEADLINE)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.quiet()

    async def type(self, text: str) -> None:
        await self.pilot.press(*text)

    async def sees(self, *texts: str) -> None:
        """Wait until all of these are on the screen."""
        await self.until(lambda: all(text in self.text for text in texts))

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    @property
    def told(self) -> list[Notification]:
        """All toasts so far."""
        assert isinstance(self.app._notifications, Toasts)
        return self.app._notifications.told

    @property
    def toasts(self) -> str:
        """The words of all toasts so far."""
        return "\n".join(f"{toast.title} {toast.message}" for toast in self.told)

    @property
    def run(self) -> RunScreen:
        assert isinstance(self.app.screen, RunScreen), self.app.screen
        return self.app.screen

    @property
    def session(self) -> Session:
        return self.run.session

    def status(self, step_id: str) -> str:
        return str(self.session.steps[step_id].status)

    async def run_is(self, *statuses: str) -> None:
        await self.until(lambda: self.session.view is not None and self.session.view.status in statuses)
        await self.quiet()

    async def step_is(self, step_id: str, *statuses: str) -> None:
        await self.until(lambda: step_id in self.session.steps and self.status(step_id) in statuses)

    async def run_is_left(self) -> None:
        """Wait until nobody carries the run out."""
        await self.until(lambda: self.session.view is not None and not self.session.view.live)
        await self.quiet()

    async def run_has_ended(self, status: str = "succeeded") -> None:
        """Wait until the run has ended so, and nobody carries it out."""
        await self.run_is(status)
        await self.run_is_left()

    async def opened(self, kind: type[S]) -> S:
        """Wait until a screen of this kind is in sight, and nothing is under way; return it."""
        await self.until(lambda: isinstance(self.app.screen, kind))
        await self.quiet()
        screen = self.app.screen
        assert isinstance(screen, kind), screen
        return screen


class _Lent:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def lend_terminal(monkeypatch: pytest.MonkeyPatch, person: Person) -> None:
    """Let other programs have the terminal, which no test has."""
    monkeypatch.setattr(type(person.app), "suspend", lambda _: _Lent())


class Desk:
    """A folder with plans, and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store_path = folder / "runs.db"

    def plan(self, text: str, name: str = "plan.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    @asynccontextmanager
    async def app(
        self,
        *,
        plan: Path | None = None,
        run_id: str | None = None,
        size: tuple[int, int] = (120, 40),
        in_process: bool = True,
        settings: Settings | None = None,
        **more: Any,
    ) -> AsyncIterator[Person]:
        await prepare_store(self.store_path)
        app = StepChainApp(
            self.store_path, plan, run_id, in_process, settings or Settings(), folder=self.folder, **more
        )
        app._notifications = Toasts()
        async with app.run_test(size=size, notifications=True) as pilot:
            person = Person(app, pilot)
            try:
                await person.quiet()
                yield person
            finally:
                await app.finish("cancel")

    @asynccontextmanager
    async def store(self) -> AsyncIterator[SQLiteStore]:
        store = SQLiteStore(self.store_path)
        await store.open()
        try:
            yield store
        finally:
            await store.close()
