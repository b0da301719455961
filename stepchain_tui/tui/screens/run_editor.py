"""The editor of a run's own plan: what is applied becomes the run's next revision, and the run goes on with it.

Nothing is changed before the receipt was seen: which steps run, become stale, come and go is shown in the graph.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core import paths
from stepchain_tui.core.errors import PlanError, StepChainError
from stepchain_tui.run.ids import parent_path, split_id
from stepchain_tui.store.base import AbstractStore, RunSummary
from stepchain_tui.tui.actions import ACTIONS, Action
from stepchain_tui.tui.graph.faces import DECISIONS, Face
from stepchain_tui.tui.kept_plans import EditedPlan, Revision, make_revision
from stepchain_tui.tui.queries import CheckedText
from stepchain_tui.tui.screens.plan_text import PlanTextScreen

if TYPE_CHECKING:
    from stepchain_tui.engine.receipt import Receipt

Parents = Mapping[str, tuple[str, ...]]
"""Step id -> its parents."""
_CAME_AND_WENT = {False: {"new": "+", "gone": "×"}, True: {"new": "+", "gone": "x"}}
"""Whether only ASCII is used -> the glyphs of steps that the edit brings and takes away."""


class RunEditorScreen(PlanTextScreen):
    """Edits the plan that a run keeps.

    Args:
        edited: The plan, as the run has it now.
        outside: Begin in $EDITOR, and apply what comes of it.
    """

    unsaved = "not applied"

    def __init__(self, edited: EditedPlan, *, outside: bool = False) -> None:
        super().__init__(edited.name, edited.folder)
        self.edited = edited
        self.receipt: Receipt | None = None
        """What the text would do to the run, while that is shown in the graph."""
        self._begin_outside = outside
        self._new_inputs: dict[str, Any] = {}

    def name_in_menus(self) -> str:
        """What menus call this screen."""
        return f"edit {self.edited.run_id}"

    def heading(self) -> str:
        """Return which revision is edited."""
        made = "  (made from the plan: it has no file)" if self.edited.made else ""
        return f"edit run {self.edited.run_id}, revision {self.edited.revision}{made}"

    def label_of(self, action: Action) -> str:
        """What is saved in a file is applied here."""
        return "apply" if action.id == "editor.save" else super().label_of(action)

    def shown_actions(self) -> list[Action]:
        """Return the actions for the footer; a run is not begun from here."""
        shown = [action for action in super().shown_actions() if action.id not in ("editor.run", "editor.receipt")]
        return [shown[0], ACTIONS["editor.receipt"], *shown[1:]]

    def why_not(self, action: Action) -> str | None:
        """The run is there already."""
        if action.id == "editor.run":
            return "this is the plan of a run: ctrl+s applies it"
        return super().why_not(action)

    async def load(self) -> None:
        """Show the plan that the run keeps."""
        self.take_text(self.edited.text)
        self.graph.set_graph(self.edited.parents)
        self._show_statuses(self.edited.statuses)
        if self._begin_outside:
            self.do_editor_outside()

    # --- what it would do

    def do_editor_receipt(self) -> None:
        """Show in the graph what the edit would do to the run, or no longer."""
        if self.receipt is not None:
            self._forget_receipt()
        else:
            self.background("receipt", self._preview)

    async def _preview(self) -> None:
        if (made := await self._made()) is not None:
            await self._show_receipt(made)

    async def _made(self) -> Revision | None:
        """Return the text as a revision; shows what is wrong with it, and asks for inputs that are new."""
        text = self.area.text
        try:
            made = await self.chain.library.work(partial(make_revision, text, self.edited))
        except PlanError:
            self.tell_problems(await self.checked(text))
            return None
        missing = {name: spec for name, spec in made.new_inputs.items() if name not in self._new_inputs}
        if missing:
            answer = await self.chain.fill_in(
                "New inputs", "The edited plan asks for what the run was not given.", missing, {}, accept="take"
            )
            if answer is None:
                return None
            self._new_inputs.update(answer[1])
        return made

    def _arguments(self, made: Revision) -> dict[str, Any]:
        inputs = {name: self._new_inputs[name] for name in made.new_inputs}
        return {**made.arguments, "revision": self.edited.revision, **({"inputs": inputs} if inputs else {})}

    async def _show_receipt(self, made: Revision) -> Receipt:
        """Return what the revision would do, shown in the graph."""
        receipt = await self.chain.host.receipt(self.edited.run_id, "edit", self._arguments(made))
        self.receipt = receipt
        self._show_radius(receipt, made.parents)
        return receipt

    def _show_radius(self, receipt: Receipt, parents: Parents) -> None:
        from stepchain_tui.tui.widgets.receipt_view import GLYPHS

        ascii_only, before = self.chain.glyphs.ascii, self.edited.parents
        named = {line.step_id: "new" if line.step_id not in before else str(line.decision) for line in receipt.steps}
        named.update((step_id, "gone") for step_id in before if step_id not in named)
        glyphs = {**{str(one): glyph for one, glyph in GLYPHS[ascii_only].items()}, **_CAME_AND_WENT[ascii_only]}
        # Steps that go are drawn where they were; nothing of the new plan waits for them.
        links = {step_id: parents.get(step_id, before.get(step_id, ())) for step_id in named}
        self.graph.set_graph({step_id: tuple(one for one in of if one in links) for step_id, of in links.items()})
        self.graph.set_statuses({step_id: Face(glyphs[name], name) for step_id, name in named.items()})
        counts = [(name, sum(one == name for one in named.values())) for name in DECISIONS]
        dot = f" {self.chain.glyphs.dot} "
        self.graph.say(dot.join(f"{glyphs[name]} {name} {count}" for name, count in counts if count))
        self.add_class("-receipt")

    def _forget_receipt(self) -> None:
        if self.receipt is None:
            return
        self._show_statuses({line.step_id: str(line.status) for line in self.receipt.steps})
        self.receipt = None
        self.remove_class("-receipt")
        self.call_after_refresh(self.area.focus)  # where there is no room for both, it was hidden
        self.check_now()

    def _show_statuses(self, statuses: Mapping[str, str]) -> None:
        glyphs = self.chain.glyphs
        self.graph.set_statuses({step_id: Face(glyphs.of(status), status) for step_id, status in statuses.items()})

    def show_graph(self, checked: CheckedText) -> None:
        """Show the items that maps of plans have in the run too; what the text would do is left as it is shown."""
        if self.receipt is not None:
            return
        if checked.parents is not None:
            checked = replace(checked, parents=_with_items(checked.parents, self.edited.parents))
        super().show_graph(checked)

    def text_changed(self) -> None:
        """What was shown is of another text."""
        self._forget_receipt()

    def go_back(self) -> bool:
        """Back from what the edit would do, then as in any editor."""
        if self.receipt is not None:
            self._forget_receipt()
            return True
        return super().go_back()

    # --- applying it

    def do_editor_save(self) -> None:
        """Show the receipt, and apply the text if that is accepted."""
        # Not a worker of this screen: it goes on when the screen has closed.
        self.chain.begin("apply", self._apply)

    do_editor_run = do_editor_save

    async def _apply(self) -> None:
        if await self.apply():
            self.dismiss(None)
            await self._ask_to_go_on()

    async def apply(self) -> bool:
        """Make the text the run's next revision, once its receipt is accepted; say whether it is."""
        if not self.dirty:
            self.notify("nothing was changed", timeout=2, markup=False)
            return False
        if (made := await self._made()) is None:
            return False
        edited, text = self.edited, self.area.text
        receipt = await self._show_receipt(made)
        answer = await self.chain.show_receipt(receipt, f"Apply to {edited.run_id}?", accept="apply")
        if answer is None:
            return False
        arguments = {**self._arguments(made), "rerun": answer == "rerun"}
        said = await self.chain.host.steer(edited.run_id, "edit", arguments)
        self.saved = text
        self.notify(f"{edited.run_id}: {said.get('message') or 'applied'}", timeout=3, markup=False)
        await self._offer_file(text)
        return True

    async def _offer_file(self, text: str) -> None:
        """Ask whether the plan's file is to say the same; it is left alone otherwise."""
        from stepchain_tui.plan import save_plan_text, text_hash

        path = self.edited.path
        if path is None or path.is_relative_to(paths.shipped_folder("sample_plans")):
            return
        kept = await self.chain.library.work(partial(_text_of, path))
        if kept is None or kept == text:
            return
        same = kept == self.edited.text
        choices = [("leave", "n", "leave the file"), ("save", "s", "save to the file too")]
        said = (
            "It says what the run did until now." if same else "It says something else than the run did: that is lost."
        )
        answer = await self.chain.choose(
            f"Save to {path.name} too?", f"{said}\n{path}", choices[::-1] if same else choices
        )
        if answer == "save":
            await self.chain.library.work(partial(save_plan_text, path, text, text_hash(kept)))

    async def _ask_to_go_on(self) -> None:
        """Ask whether a run that nobody carries out is to be gone on with, where the edit leaves something to do."""
        from stepchain_tui.tui.screens.run import RunScreen

        run_id = self.edited.run_id
        run, alive = await self.chain.library.ask(partial(_how_it_stands, run_id=run_id))
        if alive or not run.steps_total - run.steps_done:
            return
        if not await self.chain.is_to_go_on(run_id, f"it is {run.shown_status}"):
            return
        screen = self.chain.screen
        secrets = await screen.ready_to_begin() if isinstance(screen, RunScreen) else {}
        if secrets is not None:
            if isinstance(screen, RunScreen):
                screen.expect_account()
            await self.chain.host.resume(run_id, inputs=secrets)

    async def may_leave(self) -> bool:
        """Return whether the screen may close; asks where text is not applied."""
        if not self.dirty:
            return True
        answer = await self.chain.choose(
            "The edit is not applied",
            f"What you typed is not in the plan of {self.edited.run_id}.",
            [("save", "s", "apply"), ("drop", "d", "drop it"), ("back", "n", "go on editing")],
        )
        return await self._try_apply() if answer == "save" else answer == "drop"

    async def _try_apply(self) -> bool:
        try:
            return await self.apply()
        except StepChainError as error:
            self.chain.complain(error)
            return False

    # --- in $EDITOR

    def do_editor_outside(self) -> None:
        """Go on in $EDITOR."""
        self.chain.begin("$EDITOR", self._outside)

    async def _outside(self) -> None:
        first, self._begin_outside = self._begin_outside, False
        path = await self.chain.library.work(partial(_lend, self.area.text, self.edited.name))
        try:
            text = (
                await self.chain.library.work(partial(_text_of, path)) if await self.chain.edit_outside(path) else None
            )
        finally:
            await self.chain.library.work(partial(path.unlink, missing_ok=True))
        if text is not None and text != self.area.text:
            self.area.replace(text, (0, 0), self.area.document.end)
            self.check_now()
            if first:
                await self._apply()
        elif first:
            self.dismiss(None)


def _with_items(parents: Parents, known: Parents) -> dict[str, tuple[str, ...]]:
    """Return a graph with the parts of items, which no plan's text tells, as a run has them."""
    found = dict(parents)
    for step_id, above in known.items():
        if "[" in step_id and step_id not in found and split_id(parent_path(step_id))[0] in found:
            found[step_id] = above
    return {step_id: tuple(one for one in above if one in found) for step_id, above in found.items()}


def _text_of(path: Path) -> str | None:
    """Return what a file holds, None where it cannot be read."""
    from stepchain_tui.plan import read_plan_text

    try:
        return read_plan_text(path)
    except PlanError:
        return None


def _lend(text: str, name: str) -> Path:
    """Return a file of its own that holds the text, for another program."""
    handle, path = tempfile.mkstemp(prefix="stepchain-", suffix=f"-{name}")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(path)


async def _how_it_stands(store: AbstractStore, *, run_id: str) -> tuple[RunSummary, bool]:
    return await store.get_run(run_id), store.owner_alive(run_id)
