"""The editor of a plan's file: it saves whole, and never over somebody else's change without asking."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stepchain_tui.core.errors import PlanError, StepChainError
from stepchain_tui.tui.actions import Action
from stepchain_tui.tui.queries import CheckedText
from stepchain_tui.tui.screens.plan_text import PlanTextScreen


class EditorScreen(PlanTextScreen):
    """Edits one plan's file.

    Args:
        path: The file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.name, path.absolute().parent)
        self.path = path
        self._hash: str | None = None
        """Of the text that the file was last known to hold, None where there was no file."""

    def name_in_menus(self) -> str:
        """What menus call this screen."""
        return f"edit {self.path.name}"

    def heading(self) -> str:
        """Return the file's path."""
        return str(self.path)

    def why_not(self, action: Action) -> str | None:
        """Only the plan of a run has a receipt."""
        if action.id == "editor.receipt":
            return "this is a plan's file: no run is changed by it"
        return super().why_not(action)

    # --- the file

    async def load(self) -> None:
        """Read the file."""
        from stepchain_tui.plan import read_plan_text, text_hash

        try:
            text = await self.chain.library.work(partial(read_plan_text, self.path))
        except PlanError as error:
            if self.path.exists():
                raise
            self.notify(error.problems[0], severity="warning", markup=False)
            text = ""
            self._hash = None
        else:
            self._hash = text_hash(text)
        self.take_text(text)

    def do_editor_save(self) -> None:
        """Save the file."""
        self.background("save", self._save_aloud)

    async def _save_aloud(self) -> None:
        if await self.save():
            self.notify(f"saved {self.path.name}", timeout=2, markup=False)

    async def save(self) -> bool:
        """Write the file, asking first where somebody else changed it; say whether it was written."""
        from stepchain_tui.plan import PlanFileChangedError, save_plan_text, text_hash

        text = self.area.text
        try:
            await self.chain.library.work(partial(save_plan_text, self.path, text, self._hash))
        except PlanFileChangedError:
            answer = await self.chain.choose(
                f"{self.path.name} was changed by another program",
                "Since it was read here, the file on disk has become another.",
                [("back", "n", "leave both"), ("over", "o", "write over it"), ("load", "l", "load the other")],
            )
            if answer == "load":
                await self.load()
            if answer != "over":
                return False
            await self.chain.library.work(partial(save_plan_text, self.path, text, None))
        self.saved, self._hash = text, text_hash(text)
        self.show_head()
        return True

    async def may_leave(self) -> bool:
        """Return whether the screen may close; asks where text is not saved."""
        if not self.dirty:
            return True
        answer = await self.chain.choose(
            f"{self.path.name} is not saved",
            "What you typed is not in the file.",
            [("save", "s", "save"), ("drop", "d", "drop it"), ("back", "n", "go on editing")],
        )
        return await self._try_save() if answer == "save" else answer == "drop"

    async def _try_save(self) -> bool:
        try:
            return await self.save()
        except StepChainError as error:
            self.chain.complain(error)
            return False

    def do_editor_run(self) -> None:
        """Save the file and open its plan."""
        self.background("run", self._run)

    async def _run(self) -> None:
        if self.dirty and not await self.save():
            return
        if await self.may_run(await self.checked(self.area.text)):
            self.dismiss(None)
            self.chain.open_plan(self.path)

    async def may_run(self, checked: CheckedText) -> bool:
        """Return whether the plan can be opened as one to run; tells why where it cannot."""
        if checked.problems:
            self.tell_problems(checked)
        return not checked.problems

    def do_editor_outside(self) -> None:
        """Go on in $EDITOR."""
        self.background("$EDITOR", self._outside)

    async def _outside(self) -> None:
        if self.dirty and not await self.save():
            return
        if await self.chain.edit_outside(self.path):
            await self.load()
