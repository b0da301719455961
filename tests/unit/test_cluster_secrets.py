"""Which variables leave this machine with a step of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.engine import RunSource
from stepchain_tui.engine.prepared import PreparedStep
from stepchain_tui.plan import load_plan
from tests.support.engines import plan_of

INNER = """
goal: Be inside
secrets: [INNER_DSN]
steps:
  - {id: own, shell: env, secrets: [DEEP_DSN]}
"""
PLAN = """
goal: Use what others name as secret
secrets: [PLAN_DSN]
defaults: DEFAULTS
steps:
  - {id: here, shell: env, secrets: [STEP_DSN], mode: process}
  - {id: inside, plan: ./inner.yaml}
  - {id: there, shell: env}
  - {id: named, shell: env, secrets: [STEP_DSN, INNER_DSN]}
"""
NAMES = ("PLAN_DSN", "INNER_DSN", "DEEP_DSN", "STEP_DSN")


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> RunSource:
    (tmp_path / "inner.yaml").write_text(INNER)
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("DEFAULTS", request.param))
    environment = {"PATH": "/bin", **{name: f"value of {name}" for name in NAMES}}
    return RunSource(plan=load_plan(file).plan, folder=tmp_path, path=file, environment=environment)


def names_of(source: RunSource, step_id: str) -> set[str]:
    return set(source.child_environment(source.definition(step_id)))


@pytest.mark.parametrize("source", ["{mode: cluster}"], indirect=True)
def test_a_secret_that_another_step_or_plan_names_stays_here(source: RunSource) -> None:
    assert names_of(source, "there") == {"PATH"}
    assert names_of(source, "named") == {"PATH", "STEP_DSN", "INNER_DSN"}
    assert names_of(source, "here") == {"PATH", "PLAN_DSN", "STEP_DSN"}, "this one runs on this machine"


@pytest.mark.parametrize("source", ["{}"], indirect=True)
def test_a_step_on_this_machine_has_the_secrets_of_its_own_plan_and_its_own(source: RunSource) -> None:
    assert names_of(source, "there") == {"PATH", "PLAN_DSN"}
    assert names_of(source, "named") == {"PATH", "PLAN_DSN", "STEP_DSN", "INNER_DSN"}
    assert names_of(source, "inside/own") == {"PATH", "INNER_DSN", "DEEP_DSN"}


@pytest.mark.parametrize(
    ("step", "takes"),
    [
        ({"shell": "x"}, True),
        ({"function": "json:loads"}, False),
        ({"function": "json:loads", "mode": "process"}, True),
        ({"function": "json:loads", "mode": "cluster"}, True),
        ({"python": "1", "mode": "cluster"}, True),
        ({"tool": "python_code", "mode": "cluster"}, True),
    ],
)
def test_the_environment_counts_for_the_input_and_the_cache_wherever_a_process_does_the_work(
    step: dict[str, Any], takes: bool
) -> None:
    source = RunSource(plan=plan_of({"id": "s", **step}), folder=Path("/"), environment={})
    assert PreparedStep(source.definition("s"), 0, Settings()).takes_environment is takes
