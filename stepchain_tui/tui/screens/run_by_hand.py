"""What a person does to a step by hand: stop at it, answer it, give its input or output, leave it out, fork from it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stepchain_tui.core.errors import UnknownRunError, UnknownStepError
from stepchain_tui.run.status import RUN_ENDED
from stepchain_tui.run.step_state import BREAKPOINT, BUDGET, TOOL_APPROVAL
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.tui.screens.run_answers import RunAnswerActions, load
from stepchain_tui.tui.screens.run_engine import run_summary
from stepchain_tui.tui.text import moment, one_line, plural
from stepchain_tui.tui.views import CutOff, StepDetail, StepView, cut_off, stands_after
from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar

if TYPE_CHECKING:
    from stepchain_tui.engine.replay_differences import Difference
    from stepchain_tui.tui.screens.by_hand import Given

_MOST_DIFFERENCES = 8
"""Places where a replay differs that are told one by one."""
_LONGEST_DIFFERENCE = 200
_NEXT_PLACE = {"": "before", "before": "after", "after": None}


class RunByHandActions(RunAnswerActions):
    """The actions of a run screen that change one step by hand."""

    _compared_at = 0
    """The last event of the replay when it was last compared with what it replays."""

    # --- breakpoints

    def do_step_breakpoint(self) -> None:
        """Stop before the selected step, then after it, then no longer."""
        step = self.session.step
        if step is not None:
            self._steer("breakpoint", step=step.id, place=_NEXT_PLACE[step.breakpoint])

    def do_step_go_on(self) -> None:
        """Let the step whose question is in sight go on from its breakpoint."""
        if self.session.asking is not None:
            self._steer("approve", step=self.session.asking.id, approved=True)

    # --- answers

    def do_step_answer(self) -> None:
        """Answer the question that is in sight; at a breakpoint change what the step gets or gave."""
        step = self.session.asking
        if step is None or step.waiting is None:
            return
        if step.waiting.reason == BREAKPOINT:
            self.background("answer", self._change_at_breakpoint, step)
        elif step.waiting.reason == TOOL_APPROVAL:
            self.background("answer", self.answer_tool_call, step)
        elif step.waiting.reason == BUDGET:
            self.background("answer", self.answer_budget, step)
        elif step.waiting.reason == "interrupted":
            self.background("answer", self._answer_interrupted, step)
        else:
            self.background("answer", self.answer_question, step)

    async def _change_at_breakpoint(self, step: StepView) -> None:
        waiting = step.waiting
        assert waiting is not None
        if stands_after(waiting):
            name, kept = "output", (await self._detail(step.id)).output
        else:
            name, kept = "input", waiting.input
        if kept is None:
            text = f"{step.id} is a map: its items come from its for_each; edit the plan, or let it go on"
            self.notify(text, severity="warning", markup=False)
            return

        async def send(given: Given) -> None:
            changed = {} if given.unchanged else {name: given.value}
            await self.send("approve", step=step.id, approved=True, **changed)

        words = "what it gets, as JSON; it runs with this" if name == "input" else "what it gave, as JSON; what follows"
        words += "." if name == "input" else " gets this."
        await self.give(f"The {name} of {step.id}", f"This is {words}", kept, send, accept="go on with it")

    async def _answer_interrupted(self, step: StepView) -> None:
        waiting = step.waiting
        assert waiting is not None
        attempts = await self._cut_off(step.id)
        now = self.chain.now()
        lines = [waiting.question, ""]
        for one in attempts[:10]:
            item = "" if one.item is None else f" at item {one.item}"
            process = f", process {one.pid}" if one.pid else ""
            lines.append(f"  attempt {one.n}{item} began {moment(one.started_at, now)}{process}, never reported")
        if len(attempts) > 10:
            lines.append(f"  and {len(attempts) - 10} more")
        # What enter does comes first: it asks once more before anything is decided.
        choices = [("done", "d", "take as done"), ("again", "r", "run again"), ("skip", "s", "skip")]
        answer = await self.chain.choose(f"{step.id} was cut off", "\n".join(lines), choices)
        if answer == "again":
            await self.send("approve", step=step.id, approved=True)
        elif answer == "skip":
            await self.send("skip", step=step.id)
        elif answer == "done":
            await self._mark(step)

    # --- results by hand

    def do_step_mark(self) -> None:
        """Take the selected step as succeeded, with an output that is asked for."""
        if self.session.step is not None:
            self.background("mark", self._mark, self.session.step)

    async def _mark(self, step: StepView) -> None:
        kept = (await self._detail(step.id)).output
        follow = "What follows gets this output"
        again = "; what took the old one is not run again by this." if step.has_output else "."
        await self.give(
            f"Take {step.id} as succeeded?",
            f"{follow}{again}",
            kept or Kept(None),
            lambda given: self._send_output("mark", step.id, given, kept),
            accept="take as done",
        )

    def do_step_pin(self) -> None:
        """Keep the selected step's output over reruns, or no longer."""
        step = self.session.step
        if step is None:
            return
        if step.pinned:
            self._steer("pin", step=step.id, off=True)
        else:
            self.background("pin", self._pin, step)

    async def _pin(self, step: StepView) -> None:
        kept = (await self._detail(step.id)).output if step.has_output else None
        await self.give(
            f"Pin the output of {step.id}?",
            "A rerun takes this output and does not run the step, until it is unpinned.",
            kept or Kept(None),
            lambda given: self._send_output("pin", step.id, given, kept),
            accept="pin",
        )

    async def _send_output(self, command: str, step_id: str, given: Given, kept: Kept | None) -> None:
        if given.unchanged and kept is not None and command == "pin":
            await self.send(command, step=step_id)  # the very output that is there, however large
        elif given.unchanged and kept is not None and kept.blob is not None:
            value = await self.chain.library.ask(partial(load, kept=kept))
            await self.send(command, step=step_id, output=value)
        else:
            await self.send(command, step=step_id, output=given.value)

    def do_step_skip(self) -> None:
        """Leave the selected step out, after showing what that means."""
        self.background("skip", self._skip, self.session.selected)

    async def _skip(self, step_id: str) -> None:
        receipt = await self.chain.host.receipt(self.session.run_id, "skip", {"step": step_id})
        if await self.chain.show_receipt(receipt, f"Skip {step_id}?", accept="skip") is not None:
            await self.send("skip", step=step_id)

    # --- a new run from here

    def do_run_fork(self) -> None:
        """Begin a new run from the selected step, after showing what it would take over."""
        self.background("fork", self._fork, self.session.run_id, self.session.selected)

    async def _fork(self, run_id: str, step_id: str) -> None:
        receipt = await self.chain.host.receipt(run_id, "fork", {"step": step_id})
        if await self.chain.show_receipt(receipt, f"Fork at {step_id}?", accept="fork") is None:
            return
        if (secrets := await self.ready_to_begin(always=True)) is None:
            return
        self.chain.open_run(await self.chain.host.fork(run_id, step_id, secrets))

    def do_run_replay(self) -> None:
        """Run the run once more from its recording."""
        self.background("replay", self._replay, self.session.run_id)

    async def _replay(self, run_id: str) -> None:
        self.chain.open_run(await self.chain.host.replay(run_id))

    async def learn_what_it_replays(self, run_id: str) -> None:
        """Find out whether the run is a replay, which asks nobody."""
        run = await self.chain.library.ask(partial(run_summary, run_id=run_id))
        self.session.replay_of = run.replay_of
        if self.session.replay_of:
            self.show_all()
            self.look_for_differences()

    def look_for_differences(self) -> None:
        """Tell whether a replay is what it replays, once it has ended."""
        view = self.session.view
        if view is None or not self.session.replay_of or view.live or view.status not in RUN_ENDED:
            return
        if self._compared_at != view.seq:
            self._compared_at = view.seq
            self.only_latest("differences", self._tell_differences, view.run_id)

    async def _tell_differences(self, run_id: str) -> None:
        recorded = self.session.replay_of
        try:
            found, live = await self.chain.library.ask(partial(_differences, run_id=run_id))
        except UnknownRunError:
            self.query_one(ReceiptBar).show(f"replay of {recorded}", "that run was deleted: nothing to compare with")
            return
        lines = [one_line(str(one), _LONGEST_DIFFERENCE) for one in found]
        if not lines:
            called = f"; carried out: steps of kind {', '.join(live)}" if live else "; nothing was called"
            self.query_one(ReceiptBar).show(f"replay of {recorded}", f"as it was recorded{called}")
            return
        head = f"not what was recorded, in {plural(len(lines), 'place')}:"
        self.query_one(ReceiptBar).show(f"replay of {recorded}", "\n".join([head, *lines[:2]]))
        more = [f"and {len(lines) - _MOST_DIFFERENCES:,} more"] if len(lines) > _MOST_DIFFERENCES else []
        told = "\n".join([*lines[:_MOST_DIFFERENCES], *more])
        self.notify(told, title=f"The replay is {head}", severity="warning", timeout=20, markup=False)

    # --- what the reader knows

    async def _detail(self, step_id: str) -> StepDetail:
        if self.feed is None:
            raise UnknownStepError(step_id, self.session.steps)
        return await self.chain.library.work_in_loop(partial(self.feed.detail, step_id))

    async def _cut_off(self, step_id: str) -> tuple[CutOff, ...]:
        feed = self.feed

        async def answer() -> tuple[CutOff, ...]:
            return () if feed is None else cut_off(feed.state.step(step_id))

        return await self.chain.library.work_in_loop(answer)


async def _differences(store: AbstractStore, *, run_id: str) -> tuple[list[Difference], tuple[str, ...]]:
    """Return where a replay that has ended differs, and the kinds of steps that it carried out all the same."""
    from stepchain_tui.engine.replay_differences import find_differences

    replayed = await store.load_state(run_id)
    recorded = await store.load_state(replayed.replay_of)
    return await find_differences(store, recorded, replayed), tuple(replayed.live)
