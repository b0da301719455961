"""For tests of your own: a recorded run is replayed offline, and says where a plan no longer fits it.

```python
from stepchain_tui.testing import replay


def test_report() -> None:
    result = replay("report.run", plan="report.yaml")
    assert not result.differences, result.explained
    assert result.status == "succeeded"
```

The recording is a file of `stepchain export`; `stepchain replay RUN --pytest FOLDER` writes it together with a test.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stepchain_tui.core.paths import settings_path
from stepchain_tui.core.settings import load_settings
from stepchain_tui.engine import Engine, step_results
from stepchain_tui.engine.executor import result_of
from stepchain_tui.engine.replay_differences import Difference, find_differences
from stepchain_tui.store import SQLiteStore
from stepchain_tui.store.importing import import_run, trust_run

__all__ = ("Difference", "ReplayResult", "replay")

_RECORDED = "recorded"
_REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of a replay.

    Attributes:
        status: How the run ended: `succeeded`, `failed` or `cancelled`.
        outputs: Step id -> its output, a JSON value; None for steps without one.
        differences: Where the recording no longer fits, and outputs that are other ones; empty where all is the same.
        statuses: Step id -> how the step ended.
    """

    status: str
    outputs: Mapping[str, Any]
    differences: tuple[Difference, ...] = ()
    statuses: Mapping[str, str] = field(default_factory=dict)

    @property
    def explained(self) -> str:
        """The differences as text, one on a line."""
        count = len(self.differences)
        if not count:
            return "the recording fits"
        lines = "\n".join(f"  {one}" for one in self.differences)
        return f"the recording no longer fits in {count} place{'s' if count > 1 else ''}:\n{lines}"


def replay(
    archive: str | os.PathLike[str],
    plan: str | os.PathLike[str] | None = None,
    live: Collection[str] = (),
    *,
    inputs: Mapping[str, Any] | None = None,
) -> ReplayResult:
    """Replay a recorded run: every model, tool, server, database, process and person answers as it did then.

    Nothing outside is called but what `live` names, and nothing is stored but in a temporary folder. May be called
    where an event loop runs.

    Args:
        archive: The recording, a file of `stepchain export`.
        plan: The plan's file as it is now; the plan that the recording has if None.
        live: Kinds of steps that are carried out all the same, such as `function`; their outputs are held against
            the recorded ones. Only for recordings that you trust: they say what is run.
        inputs: Inputs of the plan that are other ones now, or that the recording has no value of.

    Raises:
        StepChainError: The recording cannot be read, the plan has mistakes, or an input is missing.
    """
    path, plan_path = Path(archive), None if plan is None else str(Path(plan))
    return result_of(lambda: _replay(path, plan_path, tuple(live), inputs or {}), f"replay of {path.name}")


async def _replay(
    archive: Path, plan_path: str | None, live: tuple[str, ...], inputs: Mapping[str, Any]
) -> ReplayResult:
    with tempfile.TemporaryDirectory(prefix="stepchain-replay-") as folder:
        store = SQLiteStore(Path(folder) / "runs.db")
        async with Engine(store, settings=load_settings(settings_path())) as engine:
            await import_run(store, archive, now=datetime.now(UTC), run_id=_RECORDED)
            if live:
                await trust_run(store, _RECORDED)
            handle = await engine.replay(
                _RECORDED, plan_path=plan_path, inputs=inputs, live=live, new_run_id=_REPLAYED, detach=True
            )
            status = await handle.wait()
            results = await step_results(store, handle.state)
            recorded = await store.load_state(_RECORDED)
            differences = await find_differences(store, recorded, handle.state)
    return ReplayResult(
        status=status.value,
        outputs={result.step_id: result.output for result in results},
        differences=tuple(differences),
        statuses={result.step_id: result.status.value for result in results},
    )
