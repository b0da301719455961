"""What a person asks of a run: each method hands one request to the engine and shows its answer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.status import RUN_ENDED, RunStatus
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.host import HostError
from stepchain_tui.tui.session import Session

if TYPE_CHECKING:
    from stepchain_tui.engine.receipt import Receipt
    from stepchain_tui.plan import InputSpec
    from stepchain_tui.store.base import AbstractStore, RunSummary
    from stepchain_tui.tui.feed import RunFeed


class RunEngineActions(Background):
    """The actions of a run screen that go to the engine."""

    session: Session
    feed: RunFeed | None = None
    _account_after: int | None = None
    """The run's last event when it was begun or gone on with from here, None where nobody waits for its end."""

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

    async def show_forecast(self) -> None:
        """Tell what a run of the plan will probably take, where earlier runs tell that."""
        from stepchain_tui.tui.forecasts import forecast_line
        from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar

        if self.session.run_id:
            return
        found = await self.chain.host.forecast(self.session.plan_path, str(self.chain.folder))
        text = forecast_line(found, self.chain.glyphs.dot)
        if text and not self.session.run_id:
            self.query_one(ReceiptBar).show("forecast", text)

    async def _start(self) -> None:
        from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar

        session = self.session
        self.query_one(ReceiptBar).put_away()
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
        else:
            self.background("ask the engine", self._resume, view.run_id)

    async def _resume(self, run_id: str) -> None:
        """Go on with a run that nobody carries out, after showing what somebody should know first."""
        from stepchain_tui.tui.widgets.receipt_view import warnings_of

        receipt = await self.chain.host.receipt(run_id, "resume", {})
        if warnings_of(receipt) and await self.chain.show_receipt(receipt, "Resume the run?", accept="resume") is None:
            return
        if (secrets := await self.ready_to_begin()) is None:
            return
        self.expect_account()
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
            await self.send("cancel")

    # --- a step

    def do_step_cancel(self) -> None:
        """Stop the selected step."""
        self._steer("cancel", step=self.session.selected)

    def do_step_try_now(self) -> None:
        """Do not wait for the next try."""
        self._steer("try_now", step=self.session.selected)

    def do_step_rerun(self) -> None:
        """Run the selected step again, at once; its receipt is shown beside."""
        self.background("ask the engine", self._rerun_at_once, self.session.selected)

    def do_step_rerun_failed(self) -> None:
        """Run only the failed items of the selected step again, at once."""
        self.background("ask the engine", self._rerun_at_once, self.session.selected, failed=True)

    async def _rerun_at_once(self, step_id: str, *, failed: bool = False) -> None:
        receipt = await self.chain.host.receipt(self.session.run_id, "rerun", {"step": step_id, "failed": failed})
        if await self._rerun(step_id, failed=failed):
            self.show_beside(f"rerun of {'the failed items of ' if failed else ''}{step_id}", receipt)

    def do_step_rerun_from(self) -> None:
        """Run the selected step and all that follows again, after showing what that is."""
        self.background("rerun from here", self._ask_rerun_from, self.session.selected)

    async def _ask_rerun_from(self, step_id: str) -> None:
        arguments = {"step": step_id, "downstream": True}
        receipt = await self.chain.host.receipt(self.session.run_id, "rerun", arguments)
        if await self.chain.show_receipt(receipt, f"Rerun from {step_id}?", accept="rerun") is not None:
            await self._rerun(step_id, downstream=True)

    async def _rerun(self, step_id: str, *, downstream: bool = False, failed: bool = False) -> bool:
        """Run a step again; say whether that was begun."""
        run_id = self.session.run_id
        if (secrets := await self.ready_to_begin()) is None:
            return False
        self.expect_account()
        try:
            await self.chain.host.rerun(run_id, step_id, downstream=downstream, failed=failed, inputs=secrets)
        except HostError as error:
            if error.of_kind != "run_locked":
                raise
            # Somebody carries the run out, perhaps this very engine: then it is a command to whoever does.
            await self.send("rerun", step=step_id, downstream=downstream, failed=failed)
        return True

    # --- receipts beside the work

    def show_beside(self, title: str, receipt: Receipt) -> None:
        """Show a receipt in a line that takes no focus."""
        from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar
        from stepchain_tui.tui.widgets.receipt_view import in_one_line

        self.query_one(ReceiptBar).show(title, in_one_line(receipt, self.chain.glyphs.dot))

    def expect_account(self) -> None:
        """Tell what was really run once the run has ended that is begun or gone on with now."""
        self._account_after = self.session.view.seq if self.session.view is not None else 0

    def look_for_account(self) -> None:
        """Tell what was really run, if somebody waits for that and the run has ended."""
        view, feed = self.session.view, self.feed
        after = self._account_after
        if view is None or feed is None or after is None or view.seq <= after or view.status not in RUN_ENDED:
            return
        self._account_after = None
        self.background("account", self._show_account, feed)

    async def _show_account(self, feed: RunFeed) -> None:
        from stepchain_tui.engine.receipt import account

        async def answer() -> Receipt:
            return account(feed.state)

        receipt = await self.chain.library.work_in_loop(answer)
        if self.feed is feed:
            self.show_beside("what was run", receipt)

    # --- the plan

    def do_plan_edit(self) -> None:
        """Edit the plan: that of a run as its next revision, else the file."""
        if self.session.run_id:
            self.chain.edit_run(self.session.run_id)
        else:
            self.chain.open_editor(self.chain.folder / self.session.plan_path)

    def do_plan_edit_outside(self) -> None:
        """Edit the plan in $EDITOR: that of a run as its next revision, else the file."""
        if self.session.run_id:
            self.chain.edit_run(self.session.run_id, outside=True)
        else:
            self.background("edit", self.chain.edit_outside, self.chain.folder / self.session.plan_path)

    def do_run_revisions(self) -> None:
        """Show the revisions of the run's plan."""
        self.chain.open_revisions(self.session.run_id)

    # --- slots

    def do_run_slots(self) -> None:
        """Show who holds a slot."""
        self.background("slots", self._show_slots)

    async def _show_slots(self) -> None:
        from stepchain_tui.tui.screens.slots import SlotsScreen

        session = self.session
        await self.chain.ask(
            SlotsScreen(
                partial(self.chain.host.steer, session.run_id),
                lambda: session.view is not None and session.view.live,
                self.chain.now,
                self.chain.glyphs,
            )
        )

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

    async def ready_to_begin(self, *, always: bool = False) -> dict[str, Any] | None:
        """Ask what must be known before steps of this run are carried out; return its secret inputs.

        Args:
            always: As for the secret inputs.

        Returns:
            None if the person gave up, or does not trust a run that was imported.
        """
        return await self._ask_secrets(always=always) if await self._is_trusted() else None

    async def may_run(self) -> bool:
        """Return whether the run's steps may be carried out here without asking."""
        mark = (await self.chain.library.ask(partial(run_summary, run_id=self.session.run_id))).imported
        return mark is None or mark.may_run

    async def _is_trusted(self) -> bool:
        """Return whether the run's plan is ours, or a person says that they trust it."""
        run_id = self.session.run_id
        mark = (await self.chain.library.ask(partial(run_summary, run_id=run_id))).imported
        if mark is None or mark.may_run:
            return True
        if mark.whole:
            source = f" from {mark.source}" if mark.source else ""
            answer = await self.chain.choose(
                "Carry out a run that was imported?",
                f"{run_id} was imported{source}: its plan may run commands of somebody else on this machine. "
                "Look at its steps first: the tab Input shows what each would do.",
                [("back", "n", "not now"), ("trust", "y", "I trust it")],
            )
            if answer != "trust":
                return False
        await self.chain.host.trust(run_id)
        return True

    async def _ask_secrets(self, *, always: bool = False) -> dict[str, Any] | None:
        """Return the inputs that are never stored, asked for anew; None if the person gave up.

        Args:
            always: Ask also while the run is live, as for a new run that is made from it.
        """
        view = self.session.view
        if view is None or not view.secret_inputs or (view.live and not always):
            return {}
        specs = await self.chain.library.work(partial(_secret_specs, view.secret_inputs))
        answer = await self.chain.fill_in(
            "Secret inputs", "These were never stored, so they are needed again.", specs, {}, accept="go on"
        )
        return None if answer is None else answer[1]

    # --- commands

    def _steer(self, command: str, **arguments: Any) -> None:
        self.background(command, self.send, command, **arguments)

    async def send(self, command: str, **arguments: Any) -> None:
        """Give a command to the run and show its answer."""
        answer = await self.chain.host.steer(self.session.run_id, command, arguments)
        if message := str(answer.get("message", "")):
            self.notify(message, timeout=3, markup=False)


async def run_summary(store: AbstractStore, run_id: str) -> RunSummary:
    """Return what the store tells of a run without reading its events."""
    return await store.get_run(run_id)


def _secret_specs(names: tuple[str, ...]) -> dict[str, InputSpec]:
    from stepchain_tui.plan import InputSpec

    return {name: InputSpec.model_validate({"type": "secret"}) for name in names}
