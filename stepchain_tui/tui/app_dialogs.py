"""What the app asks a person, each question awaited where its answer is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from textual.app import App
from textual.screen import ModalScreen
from textual.worker import Worker, WorkerState

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.tui.actions import Scope, in_scopes, key_text, keys_of
from stepchain_tui.tui.host import HowToEnd
from stepchain_tui.tui.screens.base import ActionScreen

if TYPE_CHECKING:
    from textual.screen import Screen

    from stepchain_tui.engine.receipt import Receipt
    from stepchain_tui.plan import InputSpec
    from stepchain_tui.tui.app import StepChainApp

P = ParamSpec("P")
T = TypeVar("T")


class Dialogs(App[int]):
    """Shows dialogs and gives their answers."""

    folder: Path
    busy: int

    def begin(self, name: str, do: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Carry `do` out beside the messages of the app, whichever screen is open; only the latest of one name."""
        work: Callable[[], Coroutine[None, None, None]] = partial(self._guarded, partial(do, *args, **kwargs))
        self.run_worker(
            work,  # type: ignore[arg-type]  # mypy takes the union of Textual's WorkType for one without an answer
            name=name,
            group=name,
            description=name,
            exclusive=True,
            exit_on_error=False,
        )

    async def _guarded(self, work: Callable[[], Awaitable[object]]) -> None:
        self.busy += 1
        try:
            await work()
        except StepChainError as error:
            cast("StepChainApp", self).complain(error)
        finally:
            self.busy -= 1

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell of a bug of ours instead of hiding it."""
        if event.state is WorkerState.ERROR:
            cast("StepChainApp", self).report_bug(event.worker.error, event.worker.name)

    @property
    def is_asking(self) -> bool:
        """Whether a dialog is open."""
        return isinstance(self.screen, ModalScreen)

    async def ask(self, screen: Screen[T]) -> T | None:
        """Show a dialog and return its answer, None where there was none."""
        answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

        def take(given: T | None) -> None:
            if not answer.done():
                answer.set_result(given)

        await self.push_screen(screen, take)
        self.busy -= 1  # a person thinks: nothing is under way
        try:
            return await answer
        finally:
            self.busy += 1

    async def choose(self, question: str, text: str, choices: Sequence[tuple[str, str, str]]) -> str | None:
        """Ask which of some things to do."""
        from stepchain_tui.tui.screens.dialogs import Choice

        return await self.ask(Choice(question, text, choices))

    async def ask_line(self, question: str, value: str = "", placeholder: str = "") -> str | None:
        """Ask for a line of text."""
        from stepchain_tui.tui.screens.dialogs import Prompt

        return await self.ask(Prompt(question, value, placeholder))

    async def fill_in(
        self,
        title: str,
        text: str,
        specs: Mapping[str, InputSpec],
        values: Mapping[str, Any],
        *,
        accept: str,
        refuse: str = "",
        problems: Mapping[str, str] | None = None,
    ) -> tuple[bool, dict[str, Any]] | None:
        """Ask for the values of fields; `problems` says beside each field, or below all of them, what was refused."""
        from stepchain_tui.tui.screens.form import FieldsForm

        form = FieldsForm(title, text, specs, values, self.folder, accept=accept, refuse=refuse, problems=problems)
        return await self.ask(form)

    async def show_receipt(self, receipt: Receipt, title: str = "", *, accept: str = "go on") -> str | None:
        """Show what a command would do to a run and ask whether to give it.

        Args:
            receipt: What would be done.
            title: What is asked; made from the receipt's command if empty.
            accept: The label of the button that goes on.

        Returns:
            `accept`; for an edit `rerun` too, where what changed is to be run again; None to go back.
        """
        from stepchain_tui.tui.screens.receipt import ReceiptScreen

        glyphs = cast("StepChainApp", self).glyphs
        return await self.ask(
            ReceiptScreen(title or f"{receipt.command.capitalize()}?", receipt, glyphs, accept=accept)
        )

    async def ask_how_to_quit(self, live: Sequence[str]) -> HowToEnd | None:
        """Ask what becomes of the runs of this app."""
        chain = cast("StepChainApp", self)
        runs = "\n".join(f"  {run_id}" for run_id in live[:10])
        keep = ("keep", "k", "keep running" if chain.host.can_outlive_app else "interrupt")
        choices = [keep, ("pause", "p", "pause"), ("cancel", "c", "cancel")]
        text = f"{len(live)} run{'s are' if len(live) > 1 else ' is'} going on:\n{runs}"
        answer = await self.choose("Quit?", text, choices)
        return cast("HowToEnd | None", answer)

    # --- menus

    def sections(self, screen: Screen[Any]) -> Sequence[tuple[str, Scope]]:
        """Return the scopes of a screen for menus, its own first."""
        scopes = screen.SCOPES if isinstance(screen, ActionScreen) else (Scope.APP,)
        return [(scope.value.capitalize(), scope) for scope in scopes]

    def menu_entries(self) -> Mapping[str, list[Any]]:
        """Return the actions of the current screen, by section, with keys and reasons."""
        return self.menu_entries_of(self.screen)

    def menu_entries_of(self, screen: Screen[Any]) -> Mapping[str, list[Any]]:
        """Return the actions of a screen, by section, with keys and reasons."""
        made = {}
        for heading, scope in self.sections(screen):
            made[heading] = [
                (
                    action,
                    key_text(keys_of(action, cast("StepChainApp", self).settings.keymap)),
                    screen.why_not(action) if isinstance(screen, ActionScreen) else None,
                )
                for action in in_scopes([scope])
            ]
        return made

    def do_app_keys(self) -> None:
        """Show all keys of this screen; enter does what is chosen."""
        self.begin("menu", self._keys)

    async def _keys(self) -> None:
        from stepchain_tui.tui.screens.dialogs import KeysMenu

        focused = self.screen.focused
        chosen = await self.ask(KeysMenu(list(self.menu_entries().items())))
        if chosen is not None:
            self.call_later(self.carry_out, chosen, focused)

    async def carry_out(self, action_id: str, focused: Any = None) -> None:
        """Carry out an action that was chosen in a menu, also one that belongs to a widget."""
        from stepchain_tui.tui.actions import ACTIONS

        action = ACTIONS[action_id]
        if not action.own:
            cast("StepChainApp", self).action_do(action_id)
            return
        for node in [focused, *self.screen.query("*")]:
            if node is not None and hasattr(node, "action_" + action.own.partition("(")[0]) and node.focusable:
                await self.run_action(action.own, default_namespace=node)
                return

    def do_app_executors(self) -> None:
        """Show what the types of executors are for."""
        if not self.is_asking:
            from stepchain_tui.tui.screens.executors import ExecutorsScreen

            screen = self.screen
            folder = screen.plan_folder if isinstance(screen, ActionScreen) else None
            self.push_screen(ExecutorsScreen(folder or self.folder))

    def do_app_palette(self) -> None:
        """Open the palette of all commands."""
        if not self.is_asking:
            from stepchain_tui.tui.palette import palette

            self.push_screen(palette())

    def do_app_theme(self) -> None:
        """Choose a theme, with a preview."""
        if not self.is_asking:
            self.begin("menu", self._theme)

    async def _theme(self) -> None:
        from stepchain_tui.tui.screens.dialogs import ThemePicker

        chain = cast("StepChainApp", self)
        chosen = await self.ask(ThemePicker(sorted(self.available_themes), self.theme))
        if chosen is not None:
            chain.keep_state(theme=chosen)
