"""What `replay` does once its words are understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepchain_tui.cli.border import FAILED, tell
from stepchain_tui.cli.carrying import Outcome, carry_out
from stepchain_tui.cli.following import Quiet, Watcher
from stepchain_tui.cli.outcomes import report
from stepchain_tui.cli.progress import Progress
from stepchain_tui.cli.stores import read_run, require_store
from stepchain_tui.cli.text import clean_block, put_json, say, words_of
from stepchain_tui.engine import EngineService, RunHandle
from stepchain_tui.engine.replay_differences import Difference, find_differences
from stepchain_tui.run import RunStatus
from stepchain_tui.run.why_words import numbered
from stepchain_tui.store import SQLiteStore

_ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
_HINT = "Run the plan again for a new recording, or let steps be carried out with --live KIND."


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What `stepchain replay` was asked for; `run_id` is the new run's."""

    recorded: str
    plan: str | None
    live: tuple[str, ...]
    inputs: Mapping[str, str]
    run_id: str | None = None
    store: str | None = None

    async def begin(self, service: EngineService) -> RunHandle:
        """Start the replay."""
        return await service.replay(
            self.recorded, plan_path=self.plan, live=self.live, inputs=self.inputs, new_run_id=self.run_id
        )


def replay_run(order: ReplayOrder, *, as_json: bool) -> int:
    """Replay a run in the foreground, say where it differs, and return the exit code."""
    require_store(order.store, order.recorded)
    watcher: Watcher = Quiet() if as_json else Progress(order.store)
    outcome = carry_out(order.store, order.begin, watcher, run_id=None)
    if outcome.status not in _ENDED:
        return report(outcome, order.store, as_json=as_json)
    differences = read_run(order.store, outcome.state.run_id, lambda store, _: _differences(store, outcome))
    if as_json:
        put_json(_record(outcome, differences))
    return _told(outcome, differences, as_json=as_json)


async def _differences(store: SQLiteStore, outcome: Outcome) -> list[Difference]:
    recorded = await store.load_state(outcome.state.replay_of)
    return await find_differences(store, recorded, outcome.state)


def _record(outcome: Outcome, differences: Sequence[Difference]) -> dict[str, object]:
    state = outcome.state
    return {
        "run_id": state.run_id,
        "replay_of": state.replay_of,
        "status": outcome.status.value,
        "fits": not differences,
        "differences": [one.to_json() for one in differences],
    }


def _told(outcome: Outcome, differences: Sequence[Difference], *, as_json: bool) -> int:
    state = outcome.state
    if not differences:
        if not as_json:
            live = f", but for steps of kind {', '.join(state.live)}" if state.live else ""
            say(f"run {state.run_id} {words_of(outcome.status)} just as {state.replay_of}; nothing was called{live}")
        return 0
    places = numbered(len(differences), "place")
    lines = "".join(f"\n  {one}" for one in differences)
    message = f"run {state.run_id} is not what {state.replay_of} was, in {places}:{lines}"
    return tell(clean_block(message), "replay_differs", _HINT, FAILED, as_json)
