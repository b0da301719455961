"""Where a model, or the rules, help a person with plans: a plan from a goal, a repair of a failed step.

All of it goes on in the engine; here a person is asked, waits, sees what came of it and decides. A draft is opened in
the editor and never begun; a repair is applied only as a person accepts it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual.app import App

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.tui.text import one_line, plural, with_hint

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp
    from stepchain_tui.tui.host import Answer
    from stepchain_tui.tui.screens.goal import Ended, Goal
    from stepchain_tui.tui.screens.run import RunScreen

MOST_WARNINGS = 3
"""Warnings of going on that are told with the question."""


class PlanHelp(App[int]):
    """Asks an engine for drafts and repairs on behalf of a person."""

    @property
    def _app(self) -> StepChainApp:
        return cast("StepChainApp", self)

    async def wait_for(
        self, title: str, text: str, run_id: str, what: str, arguments: Mapping[str, Any]
    ) -> Ended | None:
        """Return how a request of the engine's assistant ends; None, and its run cancelled, where the person stops it.

        Args:
            title: What is waited for.
            text: What is going on.
            run_id: The run that does it.
            what: The request that gives its result.
            arguments: Its arguments.
        """
        from stepchain_tui.tui.screens.goal import WaitDialog

        chain = self._app
        ended = await chain.ask(WaitDialog(title, text, partial(chain.host.assist, what, arguments)))
        if ended is None:
            with contextlib.suppress(StepChainError):  # it may have ended meanwhile
                await chain.host.steer(run_id, "cancel", {})
        return ended

    # --- a plan from a goal

    def do_app_goal(self) -> None:
        """Ask a model for a plan that reaches a goal."""
        if not self._app.is_asking:
            self._app.begin("plan a goal", self._plan_a_goal)

    async def _plan_a_goal(self) -> None:
        from stepchain_tui.llm.choice import DEFAULT_MODEL
        from stepchain_tui.tui.screens.goal import DraftEditorScreen, Goal, GoalDialog

        chain = self._app
        goal, problem = Goal(), ""
        while True:
            asked = await chain.ask(GoalDialog(goal, chain.settings.model or DEFAULT_MODEL, problem))
            if asked is None:
                return
            goal, path = asked, self._draft_path(asked.file)
            if await chain.library.work(partial(path.exists)):
                problem = f"{path.name} exists already: name another file"
                continue
            try:
                draft = await self._draft(goal, path.parent)
            except StepChainError as error:
                problem = with_hint(error)
                continue
            if draft is None:
                return
            await self.push_screen(DraftEditorScreen(path, str(draft["text"])))
            self._tell_draft(draft)
            return

    def _draft_path(self, name: str) -> Path:
        path = self._app.folder / (name or "plan.yaml")
        return path if path.suffix.lower() in (".yaml", ".yml") else path.with_name(path.name + ".yaml")

    async def _draft(self, goal: Goal, folder: Path) -> Answer | None:
        """Return the draft of a plan, None where the person did not wait for it."""
        tools = [name.strip() for name in goal.tools.split(",") if name.strip()]
        arguments = {"goal": goal.text, "folder": str(folder), "tools": tools, "model": goal.model or None}
        run_id = str((await self._app.host.assist("draft", arguments))["run_id"])
        text = f"A model drafts a plan for:\n{one_line(goal.text, 200)}\n\nrun {run_id}, in the history"
        ended = await self.wait_for("Drafting a plan", text, run_id, "drafted", {"run_id": run_id})
        if ended is None:
            return None
        if ended.error is not None:
            raise ended.error
        return cast("Answer", ended.answer)

    def _tell_draft(self, draft: Mapping[str, Any]) -> None:
        """Tell what was drafted and what it took; what its steps would do stands above them."""
        from stepchain_tui.tui.screens.repair import took

        effects = len(draft["effects"])
        by = f"{one_line(str(draft['model']), 40)}, {took(draft['usage'])}"
        lines = [f"{plural(draft['steps'], 'step')} by {by}; nothing was run."]
        if effects:
            lines.append(f"{plural(effects, 'step')} with effects: the comments say which.")
        mistakes = len(draft["problems"])
        if mistakes:
            lines.append(f"{plural(mistakes, 'mistake')} left: they stand below the text.")
        self.notify(
            "\n".join(lines),
            title="Read it before you run it",
            severity="warning" if mistakes else "information",
            timeout=6,
            markup=False,
        )

    # --- a repair of a failed step

    def do_step_repair(self) -> None:
        """Propose a repair of the selected step."""
        from stepchain_tui.tui.screens.run import RunScreen

        screen = self.screen
        if isinstance(screen, RunScreen) and screen.session.run_id and screen.session.step is not None:
            self._app.begin("repair", self._repair, screen, screen.session.run_id, screen.session.step.id)

    async def _repair(self, screen: RunScreen, run_id: str, step_id: str) -> None:
        from stepchain_tui.tui.screens.repair import RepairScreen

        chain = self._app
        about = {"run_id": run_id, "step_id": step_id}
        proposal = await chain.host.assist("repair_by_rules", about)
        model, remark = await self._who_repairs(screen, run_id)
        wanted, tried = "model" if model else "rules", None
        while True:
            if wanted == "model":
                found, remark = await self._ask_for_repair(run_id, step_id)
                proposal, tried = found or proposal, None
            elif wanted == "try":
                tried = await self._try(screen, run_id, step_id, str(proposal["text"])) or tried
            elif wanted == "rules":
                proposal, tried = await chain.host.assist("repair_by_rules", about), None
            elif wanted == "apply" and await self._apply(screen, run_id, step_id, proposal):
                return
            wanted = (
                await chain.ask(RepairScreen(proposal, chain.glyphs, tried=tried, model=model, remark=remark)) or ""
            )
            if not wanted:
                return
            remark = ""

    async def _who_repairs(self, screen: RunScreen, run_id: str) -> tuple[str, str]:
        """Return the model that can be asked, or an empty text and why there is none."""
        if not await screen.may_run():
            return "", "The run was imported and nobody trusts it yet: no model is asked about it."
        try:
            return str((await self._app.host.assist("who_repairs", {"run_id": run_id}))["model"]), ""
        except StepChainError as error:
            return "", error.message[:1].upper() + error.message[1:]

    async def _ask_for_repair(self, run_id: str, step_id: str) -> tuple[Answer | None, str]:
        """Return what a model proposes, or None and why there is nothing."""
        asked = str((await self._app.host.assist("ask_for_repair", {"run_id": run_id, "step_id": step_id}))["run_id"])
        text = f"A model looks at what happened to {step_id}.\n\nrun {asked}, in the history"
        ended = await self.wait_for("Proposing a repair", text, asked, "repaired", {"asked": asked})
        if ended is None:
            return None, "The model was not waited for; this is what the rules say."
        if ended.error is not None:
            return None, with_hint(ended.error)
        return ended.answer, ""

    async def _try(self, screen: RunScreen, run_id: str, step_id: str, text: str) -> Answer | None:
        """Carry the patched step out once and return how that ended; None where it was not to be."""
        secrets = await screen.ready_to_begin()
        if secrets is None:
            return None
        arguments = {"run_id": run_id, "step_id": step_id, "text": text, "inputs": secrets}
        trial = str((await self._app.host.assist("try_repair", arguments))["run_id"])
        words = f"{step_id} runs once, really, as the patched plan says.\n\nrun {trial}, in the history"
        about = {"run_id": trial, "step_id": step_id}
        ended = await self.wait_for("Trying the repair", words, trial, "tried", about)
        if ended is None:
            return None
        if ended.error is not None:
            raise ended.error
        return cast("Answer", ended.answer)

    async def _apply(self, screen: RunScreen, run_id: str, step_id: str, proposal: Mapping[str, Any]) -> bool:
        """Make the patch the run's next revision, once its receipt is accepted; say whether it is."""
        from stepchain_tui.tui.kept_plans import make_revision, read_edited_plan

        chain = self._app
        edited = await chain.library.ask(partial(read_edited_plan, run_id=run_id))
        made = await chain.library.work(partial(make_revision, str(proposal["text"]), edited))
        reason = f"repair of {step_id}, by a {proposal['source']}"
        arguments = {**made.arguments, "revision": proposal["revision"], "reason": reason}
        receipt = await chain.host.receipt(run_id, "edit", arguments)
        answer = await chain.show_receipt(receipt, f"Apply to {run_id}?", accept="apply")
        if answer is None:
            return False
        said = await chain.host.steer(run_id, "edit", {**arguments, "rerun": answer == "rerun"})
        self.notify(f"{run_id}: {said.get('message') or 'applied'}", timeout=3, markup=False)
        await self._ask_to_go_on(screen, run_id)
        return True

    async def _ask_to_go_on(self, screen: RunScreen, run_id: str) -> None:
        """Ask whether a run that nobody carries out is to be gone on with."""
        chain = self._app
        if run_id in await chain.host.live() or (screen.session.view is not None and screen.session.view.live):
            return
        if not await self.is_to_go_on(run_id, "the repaired step runs when it is gone on with"):
            return
        if (secrets := await screen.ready_to_begin()) is None:
            return
        screen.expect_account()
        await chain.host.resume(run_id, inputs=secrets)

    async def is_to_go_on(self, run_id: str, how: str) -> bool:
        """Ask whether a run that nobody carries out is to be gone on with now, telling what that does.

        Args:
            run_id: The run.
            how: How it stands, in words.
        """
        from stepchain_tui.tui.widgets.receipt_view import in_one_line, warnings_of

        chain = self._app
        receipt = await chain.host.receipt(run_id, "resume", {})
        # A receipt that was accepted before told of a command that leaves alone what this one runs, such as other steps
        # that failed.
        lines = [f"Nobody carries {run_id} out: {how}.", f"Going on: {in_one_line(receipt, chain.glyphs.dot)}."]
        lines += [f"! {warning}" for warning in warnings_of(receipt)[:MOST_WARNINGS]]
        choices = [("resume", "y", "resume now"), ("later", "n", "not now")]
        return await chain.choose("Go on with the run?", "\n".join(lines), choices) == "resume"
