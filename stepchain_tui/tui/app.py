"""`StepChainApp`: modes, themes, keys and commands. It owns no run and reads no file; see `host` and `library`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from copy import copy
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App
from textual.binding import BindingType

from stepchain_tui.core import paths
from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import StepChainError
from stepchain_tui.core.settings import Settings
from stepchain_tui.tui.actions import ACTIONS, Scope, bindings, clashes, key_text, keys_of, unknown_ids
from stepchain_tui.tui.app_dialogs import Dialogs
from stepchain_tui.tui.app_help import PlanHelp
from stepchain_tui.tui.app_screens import FIRST, OpenScreens
from stepchain_tui.tui.glyphs import choose_glyphs
from stepchain_tui.tui.host import ChildHost, EngineHost, HowToEnd
from stepchain_tui.tui.library import Library, prepare_store
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.state import AppState, load_state, save_state, store_mark
from stepchain_tui.tui.text import visible_text
from stepchain_tui.tui.themes import DEFAULT_THEME, STATUS_DEFAULTS, load_themes
from stepchain_tui.tui.thread_host import ThreadHost

WARM_SECONDS = 0.15
"""How long after its start the app starts its engine: the first paint goes first."""
COLLECT_AFTER = (10_000, 5, 1_000)
"""When Python looks for garbage. Painting makes and drops objects by the thousand: with its own thresholds all that a
large run consists of would be looked through several times a second, for 20 to 60 ms each time."""
QUIET_SECONDS = 0.02
"""How often it is looked at whether everything is quiet, where nothing tells."""


class StepChainApp(OpenScreens, PlanHelp, Dialogs, App[int]):
    """The app.

    Args:
        store_path: The store; it must be there and usable, see `run_app`.
        plan: A plan to open at once.
        run_id: A run to open at once.
        in_process: Keep the engine in a thread of this process.
        settings: The user's settings.
        inputs: Values for the inputs of `plan`.
        clock: Time, as the screens show it.
        folder: What relative paths are relative to, and where plans are looked for.
    """

    TITLE = "stepchain"
    ENABLE_COMMAND_PALETTE = False
    DEFAULT_MODE = FIRST
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings(Scope.APP)

    def __init__(
        self,
        store_path: Path,
        plan: Path | None = None,
        run_id: str | None = None,
        in_process: bool = False,
        settings: Settings | None = None,
        inputs: dict[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        folder: Path | None = None,
    ) -> None:
        self.settings = settings or Settings()
        super().__init__()
        self._named_modes: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self.folder = (folder or Path.cwd()).absolute()
        self.clock = clock or SystemClock()
        self.glyphs = choose_glyphs(wanted_ascii=self.settings.ascii, environment=os.environ)
        self.state: AppState = load_state(paths.app_state_path())
        self.library = Library(store_path, self.settings.model, self._touched)
        log = paths.data_folder() / "engine.log"
        self.host: EngineHost = (
            ThreadHost(store_path, self.settings) if in_process else ChildHost(store_path, log, self._engine_died)
        )
        self.busy = 0
        self._theme_problems = self._take_themes()
        # The first mode is the plan, run or list that the app begins with: no other screen is painted before.
        self.add_mode(FIRST, partial(self.first_screen, plan, run_id, inputs or {}))
        self._warming: asyncio.Task[None] | None = None
        self._finished = False
        self._quitting = False
        self._quiet = asyncio.Event()

    # --- beginning

    def _take_themes(self) -> list[str]:
        """Take over all themes and the one in use; set later, it would have every style made twice."""
        found = load_themes([paths.shipped_folder("themes"), paths.data_folder() / "themes"])
        for theme in found.themes.values():
            self.register_theme(theme)
        wanted = self.state.theme or self.settings.theme or DEFAULT_THEME
        self.set_reactive(App.theme, wanted if wanted in self.available_themes else DEFAULT_THEME)
        return found.problems

    def on_load(self) -> None:
        """Take over keys before anything is drawn."""
        if self._theme_problems:
            self.call_later(self._tell, "Themes that were left out", "\n".join(self._theme_problems))
        if self.settings.keymap:
            self.set_keymap({name: keys for name, keys in self.settings.keymap.items() if name in ACTIONS})
            if unknown := unknown_ids(self.settings.keymap):
                self.call_later(self._tell, "Unknown actions in [keymap]", ", ".join(unknown))
            if shared := clashes(self.settings.keymap):
                self.call_later(self._tell, "Two actions share a key", "\n".join(shared))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Give statuses a colour in every theme."""
        colours = self.current_theme.to_color_system().generate()
        made = {}
        for name, value in STATUS_DEFAULTS.items():
            reference, _, rest = value.removeprefix("$").partition(" ")
            made[name] = f"{colours[reference]} {rest}".strip()
        return made

    def on_mount(self) -> None:
        """Begin to read; the engine gets warm once the first screen is painted."""
        self.set_class(self.glyphs.ascii, "-ascii")
        self.call_after_refresh(self.library.start)
        self.set_timer(WARM_SECONDS, self._warm_up)

    def _warm_up(self) -> None:
        if not gc.isenabled():
            gc.set_threshold(*COLLECT_AFTER)
            gc.enable()
            gc.freeze()  # what was loaded stays: no collection needs to look at it while somebody waits for a frame
        if self._finished:
            return
        self._warming = asyncio.get_running_loop().create_task(self._open_host(), name="warm up")

    async def _open_host(self) -> None:
        try:
            await self.host.open()
        except StepChainError as error:
            self.complain(error)

    def now(self) -> datetime:
        """Return the current moment, as screens show it."""
        return self.clock.now()

    # --- actions

    def action_do(self, action_id: str) -> None:
        """Carry out an action of the registry, or say why it does not fit now."""
        action, screen = ACTIONS[action_id], self.screen
        if isinstance(screen, ActionScreen):
            reason = screen.why_not(action)
            if reason:
                self.notify(
                    f"{key_text(keys_of(action, self.settings.keymap), first=True)}: {reason}",
                    severity="warning",
                    timeout=3,
                    markup=False,
                )
                return
            method = getattr(screen, action.method, None) or getattr(self, action.method)
        else:
            method = getattr(self, action.method)
        method()

    def do_app_back(self) -> None:
        """Leave what was opened last; on the last screen of a mode, go home."""
        screen = self.screen
        if isinstance(screen, ActionScreen) and not screen.go_back():
            self.leave_screen(screen)

    def do_app_quit(self) -> None:
        """Quit; asks what becomes of live runs. An open question is left without an answer first."""
        if self._quitting:
            return
        if self.is_asking:
            self.screen.dismiss(None)
            self.call_later(self.do_app_quit)
            return
        self._quitting = True
        self.begin("quit", self._quit)

    async def _quit(self) -> None:
        try:
            await self._quit_if_meant()
        finally:
            self._quitting = False

    async def _quit_if_meant(self) -> None:
        if not await self.may_leave_editors():
            return
        live = await self.host.live()
        how: HowToEnd | None = await self.ask_how_to_quit(live) if live else "keep"
        if how is not None:
            await self.finish(how)
            self.exit(0)

    @property
    def is_ending(self) -> bool:
        """Whether the engine is being let go of: nothing new is asked of it."""
        return self._finished

    async def finish(self, how: HowToEnd) -> None:
        """Let everything go: the engine as the person said, then the reader."""
        if self._finished:
            return
        self._finished = True
        if self._warming is not None:  # half an engine cannot be ended: it is soon a whole one
            await asyncio.gather(self._warming, return_exceptions=True)
        await self.host.end(how)
        await self.library.close()

    # --- telling

    def complain(self, error: StepChainError) -> None:
        """Show what StepChain complains about: what, and what to do next."""
        self._tell("", f"{error.message}\n{error.hint}" if error.hint else error.message)

    def report_bug(self, error: BaseException | None, where: str) -> None:
        """Show a bug of ours, rather than hide it."""
        self.log.error(f"{where}: {error!r}")
        self._tell("A bug in StepChain", f"{where}: {error!r}")

    def _tell(self, title: str, text: str) -> None:
        # Errors quote what others wrote: a server, a tool, a file.
        self.notify(visible_text(text), title=title, severity="error", timeout=8, markup=False)

    def _engine_died(self, text: str) -> None:
        self._tell("Engine restarted", text)
        self._warm_up()

    # --- state

    def keep_state(self, **changes: Any) -> None:
        """Remember how the app is, now."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        state, path = copy(self.state), paths.app_state_path()
        self.begin("keep the state", self.library.work, partial(save_state, path, state))

    # --- quiescence

    def _touched(self) -> None:
        """Something was answered: whoever waits for quiet looks again."""
        self._quiet.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way that we know of: no question, no request, no picture on its way."""
        return not self.busy and self.library.idle

    async def settled(self, seconds: float = 10.0) -> None:
        """Return once nothing is under way; for tests, and for whoever drives the app.

        Raises:
            TimeoutError: It did not become quiet in time.
        """
        async with asyncio.timeout(seconds):
            while not self.idle:
                self._quiet.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS):
                        await self._quiet.wait()


def start_app(
    store_path: Path,
    plan: Path | None,
    run_id: str | None,
    in_process: bool,
    settings: Settings | None,
    inputs: dict[str, Any] | None,
) -> int:
    """Run the app and return its exit code, see `tui.run_app`."""
    state = load_state(paths.app_state_path())
    known = store_mark(store_path)
    if run_id or not known or known != state.store:
        run_id = asyncio.run(prepare_store(store_path, run_id))
        state.store = store_mark(store_path)
        save_state(paths.app_state_path(), state)
    app = StepChainApp(store_path, plan, run_id, in_process, settings, inputs)
    result = app.run()
    return result if result is not None else (app.return_code or 0)
