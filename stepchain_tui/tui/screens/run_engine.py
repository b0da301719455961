"""What a person asks of a run: each method hands one request to the engine and shows its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.status import RUN_ENDED, RunStatus
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.host import HostError
from stepchain_tui.tui.session import Session

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec


class RunEngineActions(Background):
    """The actions of a run screen that go to the engine."""

    session: Session

    async def follow_run(self, run_id: str) -> None:
        """Show a run from now on."""
        raise NotImplementedError

    def show_all(self) -> None:
        """Bring every part of the screen up to date."""
        raise NotImplementedError

    # --- starting and pausing

    def do_run_start(self) -> None:
        """Start the plan; a run that is over stays as it is, and a new one begins."""
        if self.session.view is not None:
            path, inputs = self.session.plan_path, dict(self.session.view.inputs)
            self.chain.open_plan(Path(path), inputs=inputs, start=True)
            return
        if self.session.missing_inputs:
            self.do_plan_inputs(then_start=True)
            return
        self.background("start the run", self._start)

    async def _start(self) -> None:
        session = self.session
        folder = str(self.chain.folder)
        run_id = await self.chain.host.start(
            session.plan_path, inputs=session.inputs, run_id=None, working_folder=folder
        )
        self.chain.remember_run(run_id)
        await self.follow_run(run_id)

    def do_run_pause(self) -> None:
        """Pause the run, or go on with it."""
        view = self.session.view
        if view is None:
            return
        if view.live:
            self._steer("resume" if view.status is RunStatus.PAUSED else "pause")
            return
        self._with_secrets(lambda secrets: self._resume(view.run_id, secrets))

    async def _resume(self, run_id: str, secrets: Mapping[str, Any]) -> None:
        await self.chain.host.resume(run_id, inputs=secrets)
        self.session.follow = True

    def do_run_pause_now(self) -> None:
        """Pause, and send running steps back."""
        self._steer("pause", now=True)

    def do_run_cancel(self) -> None:
        """Stop the run, after asking."""
        self.background("cancel the run", self._cancel_run)

    async def _cancel_run(self) -> None:
        view = self.session.view
        if view is None or view.status in RUN_ENDED:
            return
        left = view.total - view.done
        text = f"{left} of {view.total} steps have not ended. What is done is kept; the run can be resumed."
        answer = await self.chain.choose(
            f"Cancel {self.session.title}?", text, [("cancel", "y", "cancel the run"), ("back", "n", "leave it")]
        )
        if answer == "cancel":
            await self._send("cancel")

    # --- a step

    def do_step_cancel(self) -> None:
        """Stop the selected step."""
        self._steer("cancel", step=self.session.selected)

    def do_step_try_now(self) -> None:
        """Do not wait for the next try."""
        self._steer("try_now", step=self.session.selected)

    def do_step_rerun(self) -> None:
        """Run the selected step again, at once."""
        step_id = self.session.selected
        self._with_secrets(lambda secrets: self._rerun(step_id, secrets, downstream=False))

    def do_step_rerun_from(self) -> None:
        """Run the selected step and all that follows again, after showing what that is."""
        self.background("rerun from here", self._ask_rerun_from, self.session.selected)

    async def _ask_rerun_from(self, step_id: str) -> None:
        from stepchain_tui.tui.following import following

        steps = [step_id, *following(self.session.parents, step_id)]
        shown = [f"  {self.chain.glyphs.of(self.session.steps[one].status)} {one}" for one in steps[:14]]
        if len(steps) > len(shown):
            shown.append(f"  and {len(steps) - len(shown)} more")
        text = "\n".join([f"{len(steps)} of {len(self.session.steps)} steps will run again:", *shown])
        answer = await self.chain.choose(
            f"Rerun from {step_id}?", text, [("rerun", "y", "rerun"), ("back", "n", "leave it")]
        )
        if answer == "rerun":
            self._with_secrets(lambda secrets: self._rerun(step_id, secrets, downstream=True))

    async def _rerun(self, step_id: str, secrets: Mapping[str, Any], *, downstream: bool) -> None:
        run_id = self.session.run_id
        try:
            await self.chain.host.rerun(run_id, step_id, downstream=downstream, inputs=secrets)
        except HostError as error:
            if error.of_kind != "run_locked":
                raise
            # Somebody carries the run out, perhaps this very engine: then it is a command to whoever does.
            await self._send("rerun", step=step_id, downstream=downstream)

    def do_step_answer(self) -> None:
        """Answer the question that the selected step asks."""
        self.background("answer", self._answer)

    async def _answer(self) -> None:
        from stepchain_tui.plan import InputSpec

        step = self.session.step
        if step is None or step.waiting is None:
            return
        waiting = step.waiting
        specs = {name: InputSpec.model_validate(spec) for name, spec in waiting.fields.items()}
        again = waiting.reason == "interrupted"
        answer = await self.chain.fill_in(
            f"{step.id} asks",
            waiting.question,
            specs,
            {},
            accept="try again" if again else "approve",
            refuse="no" if again else "deny",
        )
        if answer is not None:
            approved, fields = answer
            await self._send("approve", step=step.id, approved=approved, fields=fields)

    # --- inputs

    def do_plan_inputs(self, *, then_start: bool = False) -> None:
        """Show the form of the plan's inputs."""
        self.background("inputs", self._ask_inputs, then_start=then_start)

    async def _ask_inputs(self, *, then_start: bool) -> None:
        session = self.session
        answer = await self.chain.fill_in(
            f"Inputs of {session.title}", session.goal, session.specs, session.inputs, accept="take"
        )
        if answer is None:
            return
        session.inputs = answer[1]
        if then_start:
            await self._start()
        else:
            self.show_all()

    def _with_secrets(self, go_on: Any) -> None:
        """Ask again for inputs that are never stored, then go on."""
        self.background("ask the engine", self._ask_secrets, go_on)

    async def _ask_secrets(self, go_on: Any) -> None:
        view = self.session.view
        secrets: dict[str, Any] = {}
        if view is not None and view.secret_inputs and not view.live:
            specs = await self.chain.library.work(partial(_secret_specs, view.secret_inputs))
            answer = await self.chain.fill_in(
                "Secret inputs", "These were never stored, so they are needed again.", specs, {}, accept="go on"
            )
            if answer is None:
                return
            secrets = answer[1]
        work: Awaitable[None] = go_on(secrets)
        await work

    # --- commands

    def _steer(self, command: str, **arguments: Any) -> None:
        self.background(command, self._send, command, **arguments)

    async def _send(self, command: str, **arguments: Any) -> None:
        answer = await self.chain.host.steer(self.session.run_id, command, arguments)
        if message := str(answer.get("message", "")):
            self.notify(message, timeout=3, markup=False)


def _secret_specs(names: tuple[str, ...]) -> dict[str, InputSpec]:
    from stepchain_tui.plan import InputSpec

    return {name: InputSpec.model_validate({"type": "secret"}) for name in names}
