"""What a person answers a step that asks: a question, a tool call, a budget; and values that a person gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.tui.calls import brief_value
from stepchain_tui.tui.host import HostError
from stepchain_tui.tui.live_text import TALKS
from stepchain_tui.tui.screens.run_engine import RunEngineActions
from stepchain_tui.tui.text import one_line, with_hint
from stepchain_tui.tui.views import StepView, size_of

if TYPE_CHECKING:
    from stepchain_tui.tui.screens.by_hand import Given

EDIT_LIMIT = 200_000
"""Bytes of JSON up to which a value is put into a field to be changed."""


class RunAnswerActions(RunEngineActions):
    """The questions of steps, as dialogs."""

    async def answer_question(self, step: StepView) -> None:
        """Answer an approve step."""
        from stepchain_tui.plan import InputSpec

        waiting = step.waiting
        assert waiting is not None
        specs = {name: InputSpec.model_validate(spec) for name, spec in waiting.fields.items()}
        values: dict[str, Any] = {}
        problems: dict[str, str] = {}
        while True:
            answer = await self.chain.fill_in(
                f"{step.id} asks",
                waiting.question,
                specs,
                values,
                accept="approve",
                refuse="deny",
                problems=problems,
            )
            if answer is None:
                return
            approved, values = answer
            try:
                await self.send("approve", step=step.id, approved=approved, fields=values)
            except HostError as error:
                problems = {"": with_hint(error)}
            else:
                return

    async def answer_tool_call(self, step: StepView) -> None:
        """Allow a tool call, with other arguments if wished, once or for the rest of the run; or deny it."""
        waiting = step.waiting
        assert waiting is not None
        assert waiting.input is not None
        asked = await self.chain.library.ask(partial(load, kept=waiting.input))
        arguments = Kept(asked["arguments"])
        tool = str(asked["tool"])

        async def send(given: Given) -> None:
            if given.refused:
                await self.send("approve", step=step.id, approved=False)
                return
            changed = {} if given.unchanged else {"arguments": given.value}
            remember = {"remember": True} if given.always else {}
            await self.send("approve", step=step.id, approved=True, **changed, **remember)

        origin = await self._origin_of(step.id, tool)
        text = f"{origin[:1].upper()}{origin[1:]}. " if origin else ""
        text += "These are the arguments, as JSON; it is called with what stands here. "
        text += "Denied, the model is told, and goes on." if step.kind in TALKS else "Denied, the step fails."
        if size_of(arguments) > EDIT_LIMIT:
            text += f" They begin with {brief_value(asked['arguments'])}"
        item = "" if waiting.item is None else f"[{waiting.item}]"
        title = f"{step.id}{item} wants to call {one_line(tool, 80)}"
        always = "for this run" if waiting.tool_key else ""
        await self.give(title, text, arguments, send, accept="allow", refuse="deny", always=always)

    async def _origin_of(self, step_id: str, tool: str) -> str:
        from stepchain_tui.tui.tool_origins import origin_of

        feed = self.feed
        if feed is None:
            return ""

        async def plan() -> dict[str, Any]:
            return feed.state.plan

        found = await self.chain.library.work_in_loop(plan)
        return one_line(await self.chain.library.work(partial(origin_of, found, step_id, tool)))

    async def answer_budget(self, step: StepView) -> None:
        """Say how a run goes on at its budget."""
        from stepchain_tui.tui.screens.budget import BudgetScreen

        waiting = step.waiting
        assert waiting is not None
        facts = await self.chain.library.ask(partial(load, kept=waiting.input)) if waiting.input is not None else {}
        view = self.session.view
        if isinstance(facts, dict) and facts.get("scope") == "run" and view is not None:
            facts = facts | {"spent": view.tokens if facts.get("unit") == "tokens" else view.usd}
        given: dict[str, Any] = {}
        problem = ""
        while True:
            known = facts if isinstance(facts, dict) else {}
            screen = BudgetScreen(
                waiting.question, waiting.fields, known, self.chain.glyphs, given=given, problem=problem
            )
            answer = await self.chain.ask(screen)
            if answer is None:
                return
            given = answer
            try:
                await self.send("approve", step=step.id, approved=True, fields=given)
            except HostError as error:
                problem = with_hint(error)
            else:
                return

    async def give(
        self,
        title: str,
        text: str,
        kept: Kept,
        send: Callable[[Given], Awaitable[None]],
        *,
        accept: str,
        refuse: str = "",
        always: str = "",
    ) -> None:
        """Ask for a value until it is taken, or the person gives up; the words are those of `ValueEditor`."""
        from stepchain_tui.tui.screens.by_hand import ValueEditor

        size = size_of(kept)
        keeps = f"empty: keep the {size:,} bytes that are there" if size > EDIT_LIMIT else ""
        value = "" if keeps else await self.chain.library.ask(partial(_written, kept=kept))
        written, problem = value, ""
        while True:
            editor = ValueEditor(
                title, text, written, accept=accept, problem=problem, keeps=keeps, refuse=refuse, always=always
            )
            given = await self.chain.ask(editor)
            if given is None:
                return
            unchanged = given.unchanged if keeps else given.text == value
            try:
                await send(replace(given, unchanged=unchanged))
            except HostError as error:
                written, problem = given.text, with_hint(error)
            else:
                return


async def load(store: AbstractStore, kept: Kept) -> Any:
    """Return a kept value whole."""
    return await store.load_value(kept)


async def _written(store: AbstractStore, kept: Kept) -> str:
    from stepchain_tui.tui.screens.by_hand import written_json

    return written_json(await store.load_value(kept))
