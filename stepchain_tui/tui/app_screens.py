"""Which screens are open: a mode for each plan or run, one for home, one for the history; the others lie on top."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual.app import App, SuspendNotSupported
from textual.screen import Screen

from stepchain_tui.core import paths

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp
    from stepchain_tui.tui.screens.tools import ToolsScreen

FIRST, HOME, HISTORY, TOOLS = "first", "home", "history", "tools"
"""Names of modes; those of plans and runs that are opened later are `open-1`, `open-2`, ..."""


class OpenScreens(App[int]):
    """Opens and closes screens; the modules of screens are imported when they are first needed."""

    _runs: dict[str, str]
    """Run id -> its mode."""
    _named_modes: dict[str, str]
    _opened = 0
    _tools: ToolsScreen | None = None

    @property
    def _chain(self) -> StepChainApp:
        return cast("StepChainApp", self)

    def _mode(self, name: str, screen: Screen[Any]) -> None:
        self.add_mode(name, lambda: screen)
        self.switch_mode(name)

    def first_screen(self, plan: Path | None, run_id: str | None, inputs: Mapping[str, Any]) -> Screen[Any]:
        """Return the screen that the app begins with."""
        if plan is None and not run_id:
            from stepchain_tui.tui.screens.home import HomeScreen

            self._named_modes[HOME] = FIRST
            return HomeScreen()
        from stepchain_tui.tui.screens.run import RunScreen
        from stepchain_tui.tui.session import Session

        if run_id:
            self._runs[run_id] = FIRST
        return RunScreen(Session(plan_path=str(plan or ""), run_id=run_id or "", inputs=dict(inputs)))

    def open_home(self) -> None:
        """Show plans and recent runs."""
        if self._is_new(HOME):
            from stepchain_tui.tui.screens.home import HomeScreen

            self._mode(HOME, HomeScreen())

    def open_history(self) -> None:
        """Show all runs."""
        if self._is_new(HISTORY):
            from stepchain_tui.tui.screens.history import HistoryScreen

            self._mode(HISTORY, HistoryScreen())

    def open_tools(self) -> None:
        """Show tools and MCP servers, those of the plan at hand among them."""
        self._chain.begin("open the tools", self._open_tools)

    async def _open_tools(self) -> None:
        from stepchain_tui.tui.screens.base import ActionScreen
        from stepchain_tui.tui.screens.tools import ToolsScreen

        mode, screen = self.current_mode, self.screen
        if mode == TOOLS or not isinstance(screen, ActionScreen):
            return
        plan = await screen.plan_at_hand()
        if self._tools is None:
            self._tools = ToolsScreen()
        self._tools.come_from(mode, plan)
        if self._is_new(TOOLS):
            self._mode(TOOLS, self._tools)

    def return_to(self, mode: str) -> bool:
        """Show the mode that was in sight before; say whether it is still there."""
        if mode not in self._screen_stacks:
            return False
        self.switch_mode(mode)
        return True

    def _is_new(self, name: str) -> bool:
        """Say whether a screen is to be made; one that is there is shown."""
        if (mode := self._named_modes.get(name)) is not None:
            self.switch_mode(mode)
            return False
        self._named_modes[name] = name
        return True

    do_app_home = open_home
    do_app_history = open_history
    do_app_tools = open_tools

    def open_plan(self, path: Path, *, inputs: Mapping[str, Any] | None = None, start: bool = False) -> None:
        """Open a plan that is to run.

        Args:
            path: Its file.
            inputs: Values of its inputs.
            start: Start it as soon as it is read.
        """
        from stepchain_tui.tui.session import Session

        self._open_session(Session(plan_path=str(path), inputs=dict(inputs or {})), start=start)
        self._chain.keep_state(last_opened=str(path))

    def open_run(self, run_id: str) -> None:
        """Open a run; one that is open already is shown."""
        from stepchain_tui.tui.session import Session

        if (mode := self._runs.get(run_id)) is not None:
            self.switch_mode(mode)
            return
        self._open_session(Session(run_id=run_id))
        self._chain.keep_state(last_opened=run_id)

    def _open_session(self, session: Any, *, start: bool = False) -> None:
        from stepchain_tui.tui.screens.run import RunScreen

        self._opened += 1
        mode = f"open-{self._opened}"
        screen = RunScreen(session)
        screen.start_when_ready = start
        if session.run_id:
            self._runs[session.run_id] = mode
        self._mode(mode, screen)

    def remember_run(self, run_id: str) -> None:
        """Note that the plan in sight has a run by now."""
        self._runs[run_id] = self.current_mode
        self._chain.keep_state(last_opened=run_id)

    def open_screens(self) -> list[tuple[str, str]]:
        """Return (mode, title) of the plans and runs that are open."""
        from stepchain_tui.tui.screens.base import ActionScreen

        found = []
        for mode, stack in self._screen_stacks.items():
            if stack and isinstance(stack[0], ActionScreen) and (name := stack[0].name_in_menus()):
                found.append((mode, name))
        return found

    def leave_screen(self, screen: Screen[Any]) -> None:
        """Close a screen that lies over another, or go home from the last one of a mode."""
        if len(self.screen_stack) > 1:
            self._chain.begin("leave", self._close_editor, screen)
        elif self.current_mode != self._named_modes.get(HOME):
            self.open_home()

    async def _close_editor(self, screen: Screen[Any]) -> None:
        may_leave = getattr(screen, "may_leave", None)
        if may_leave is None or await may_leave():
            screen.dismiss(None)

    # --- editors

    def open_editor(self, path: Path) -> None:
        """Open a plan's file in the editor; of one that ships with us a copy, after asking."""
        self._chain.begin("open the editor", self._edit_file, path)

    async def _edit_file(self, path: Path) -> None:
        from stepchain_tui.tui.screens.editor import EditorScreen

        own = await self._own_copy(path) if await self._ships_with_us(path) else path
        if own is not None:
            await self.push_screen(EditorScreen(own))

    def edit_run(self, run_id: str, outside: bool = False) -> None:
        """Edit the plan that a run keeps; what is applied becomes its next revision.

        Args:
            run_id: The run.
            outside: Edit it in $EDITOR.
        """
        self._chain.begin("open the editor", self._edit_run, run_id, outside)

    async def _edit_run(self, run_id: str, outside: bool) -> None:
        from stepchain_tui.tui.kept_plans import read_edited_plan
        from stepchain_tui.tui.screens.run_editor import RunEditorScreen

        edited = await self._chain.library.ask(partial(read_edited_plan, run_id=run_id))
        await self.push_screen(RunEditorScreen(edited, outside=outside))

    async def _ships_with_us(self, path: Path) -> bool:
        return await self._chain.library.work(partial(_is_shipped, path, self._chain.folder))

    async def _own_copy(self, path: Path) -> Path | None:
        """Return a copy of a plan that ships with us, in the current folder; None where the person wants none."""
        from stepchain_tui.tui.queries import copy_plan

        own = self._chain.folder / path.name
        there = await self._chain.library.work(own.exists)
        answer = await self._chain.choose(
            f"{path.stem} ships with StepChain",
            f"There is a {own} already." if there else f"It is edited as a copy: {own}",
            [("copy", "y", "edit that one" if there else "copy and edit"), ("back", "n", "leave it")],
        )
        if answer != "copy":
            return None
        await self._chain.library.work(partial(copy_plan, path, own.parent))
        return own

    # --- what a run was

    def open_revisions(self, run_id: str) -> None:
        """Show the revisions of a run's plan."""
        from stepchain_tui.tui.screens.revisions import RevisionsScreen

        self.push_screen(RevisionsScreen(run_id))

    def open_comparison(self, left: str, right: str) -> None:
        """Show how two runs differ."""
        from stepchain_tui.tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(left, right))

    def open_broken_plan(self, path: Path) -> None:
        """Show a plan that cannot run in the editor, with its problems; its own screen goes."""
        # Not awaited by the screen that asks for it, as that screen is what goes.
        self._chain.begin("open the editor", self._swap_for_editor, self.current_mode, path)

    async def _swap_for_editor(self, mode: str, path: Path) -> None:
        self.open_home()
        if mode not in self._named_modes.values():
            await self.remove_mode(mode)
        await self._edit_file(path)

    async def may_leave_editors(self) -> bool:
        """Return whether no open editor holds text that nobody wants to lose."""
        for stack in list(self._screen_stacks.values()):
            for screen in stack:
                may_leave = getattr(screen, "may_leave", None)
                if may_leave is not None and not await may_leave():
                    return False
        return True

    async def edit_outside(self, path: Path) -> bool:
        """Let the user edit a file in $EDITOR; say whether that was possible. A plan that ships with us is copied."""
        if await self._ships_with_us(path):
            if (own := await self._own_copy(path)) is None or not await self.edit_outside(own):
                return False
            self.open_plan(own)
            return True
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        return self._outside([*shlex.split(command), str(path)])

    def show_in_pager(self, text: str) -> bool:
        """Show a text in $PAGER; say whether that was possible."""
        with tempfile.NamedTemporaryFile("w", prefix="stepchain-", suffix=".txt", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            return self._outside([*shlex.split(os.environ.get("PAGER") or "less"), file.name])

    def _outside(self, command: list[str]) -> bool:
        try:
            with self.suspend():
                subprocess.run(command, check=False)
        except SuspendNotSupported:
            self.notify("this terminal cannot be lent to another program", severity="warning", markup=False)
            return False
        except OSError as error:
            self.notify(f"{command[0]} cannot be started: {error}", severity="error", markup=False)
            return False
        self.refresh(layout=True)
        return True


def _is_shipped(path: Path, folder: Path) -> bool:
    """Say whether a plan's file ships with us, and is not in the folder that one works in; blocking."""
    shipped, here = paths.shipped_folder("sample_plans"), path.resolve().parent
    return here == shipped.resolve() and here != folder.resolve()
