"""The plans that ship with us run as they say, through the real command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.command_line import ROOT, CommandLine

SAMPLES = ROOT / "sample_plans"
PLANS = sorted(str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.yaml"))


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    shutil.copytree(SAMPLES, tmp_path / "plans")
    yield line
    line.end()


@pytest.mark.parametrize("name", PLANS)
def test_a_sample_has_no_mistake(cli: CommandLine, name: str) -> None:
    assert cli("validate", f"plans/{name}").code == 0


def test_quickstart_shows_retries_a_map_and_a_question_the_same_way_each_time(cli: CommandLine) -> None:
    for run_id in ("first", "second"):
        answer = cli("run", "plans/quickstart.yaml", "--run-id", run_id, "--input", "greeting=Good day")

        assert answer.code == 3, answer.err
        steps = {step["id"]: step for step in cli.show(run_id)["steps"]}
        tries = [attempt["status"] for attempt in steps["flaky"]["attempts"]]
        assert tries == ["failed", "failed", "succeeded"]
        assert len(steps["cards"]["output"]) == 4
        assert steps["total"]["output"] == {"sum": 14, "largest": 5}
        assert steps["primes"]["output"] == 17984
        assert cli("approve", run_id, "publish").code == 0
        assert cli("resume", run_id).code == 0
        printed = cli("logs", run_id, "done").out
        assert printed.startswith("Good day!\n")
        assert "ada     ### 3" in printed


def test_the_fan_out_of_quickstart_runs_at_the_same_time(cli: CommandLine) -> None:
    cli("run", "plans/quickstart.yaml", "--run-id", "r1")

    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    begun = [datetime.fromisoformat(steps[name]["started_at"]) for name in ("primes", "total", "cards")]
    first_end = min(datetime.fromisoformat(steps[name]["finished_at"]) for name in ("primes", "total", "cards"))
    assert max(begun) <= first_end


def test_folder_report_reports_on_any_folder(cli: CommandLine) -> None:
    folder = cli.folder / "files"
    folder.mkdir()
    (folder / "sales.csv").write_text("day,region,amount\n1,north,10\n2,south,20\n")
    (folder / "data.json").write_text('{"a": 1, "b": [1, 2]}')
    (folder / "broken.json").write_text("{")
    (folder / "code.py").write_text("def f():\n    pass\n\nclass C:\n    pass\n")
    (folder / "broken.py").write_text("def (")
    (folder / "notes.md").write_text("# Harvest notes\n\nharvest harvest barley | pipe\n")
    (folder / "blob.bin").write_bytes(os.urandom(2000) + b"\0")
    (folder / "Ünïcode näme.txt").write_text("harvest")
    (folder / os.fsdecode(b"bad\xffname.txt")).write_text("x")
    (folder / "empty").write_text("")
    (folder / "large.log").write_text("line of a log\n" * 500_000)
    (folder / "secret.txt").write_text("x")
    (folder / "secret.txt").chmod(0)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")

    answer = cli("run", "plans/folder_report.yaml", "--run-id", "r1", "--input", "folder=files")

    assert answer.code == 0, answer.err
    report = (cli.folder / "stepchain-report.md").read_text(encoding="utf-8")
    assert report.startswith("# files\n")
    assert "12 files" in report
    assert "| sales.csv | 3 | 3 | day,region,amount |" in report.replace("day, region, amount", "day,region,amount")
    assert "| code.py | python | " in report
    assert "1 functions, 1 classes" in report
    assert "broken.json | JSONDecodeError" in report
    assert "broken.py | SyntaxError" in report
    assert "| harvest | 4 |" in report
    statuses = cli.statuses("r1")
    assert statuses["summary"] == "skipped"
    assert statuses["write"] == "succeeded"


def test_folder_report_of_an_empty_folder_and_of_none(cli: CommandLine) -> None:
    (cli.folder / "empty").mkdir()

    words = ("run", "plans/folder_report.yaml", "--input")
    assert cli(*words, "folder=empty", "--input", "report=out.md").code == 0
    assert "0 files" in (cli.folder / "out.md").read_text()
    assert cli(*words, "folder=nowhere", "--run-id", "r2").code == 1
    assert "is not a folder" in cli("show", "r2").out


def test_folder_report_looks_at_no_more_files_than_it_was_told(cli: CommandLine) -> None:
    (cli.folder / "many").mkdir()
    for number in range(60):
        (cli.folder / "many" / f"{number}.txt").write_text("words here\n")

    words = ("run", "plans/folder_report.yaml", "--input", "folder=many", "--input", "most=55", "--run-id", "r1")
    assert cli(*words).code == 0
    assert "55 files" in (cli.folder / "stepchain-report.md").read_text()
    assert "5 more were left out" in (cli.folder / "stepchain-report.md").read_text()
    look = next(step for step in cli.show("r1")["steps"] if step["id"] == "look")
    assert {attempt["item"] for attempt in look["attempts"]} == {None, 0, 1, 2}


def test_mcp_time_asks_a_real_server_for_each_place(cli: CommandLine) -> None:
    answer = cli("run", "plans/mcp_time.yaml", "--run-id", "r1", "--input", "time=09:30")

    assert answer.code == 0, answer.err
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    zones = [place["target"]["timezone"] for place in steps["places"]["output"]]
    assert zones == ["America/New_York", "Asia/Kolkata", "Asia/Tokyo", "Pacific/Auckland"]
    assert "America/New_York" in steps["too_early"]["output"]
    assert steps["say"]["output"]["stdout"].startswith("The meeting of ")
    assert " at 09:30 in Europe/Oslo is at\n" in steps["say"]["output"]["stdout"]
    records = {row["name"]: row for row in cli("tools", "--json").json["tools"]}
    assert (records["time.convert_time"]["calls"], records["time.convert_time"]["success_rate"]) == (4, 1.0)


@pytest.mark.parametrize(
    ("workflow", "skipped"), [("simple", {"field", "rain", "price", "advise"}), ("both", set())], ids=["simple", "both"]
)
def test_tool_chain_carries_its_chains_out_as_a_plan(cli: CommandLine, workflow: str, skipped: set[str]) -> None:
    answer = cli("run", "plans/tool_chain.yaml", "--run-id", "r1", "--input", f"workflow={workflow}")

    assert answer.code == 0, answer.err
    statuses = cli.statuses("r1")
    assert {step for step, status in statuses.items() if status == "skipped"} == skipped
    assert all(statuses[step] == "succeeded" for step in statuses.keys() - skipped)


def test_tool_chain_is_a_script_too(cli: CommandLine) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STEPCHAIN_STORE": str(cli.store)}
    script = [sys.executable, "plans/tool_chain.py"]
    done = subprocess.run(script, cwd=cli.folder, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "What is sown when? succeeded, levels [[1], [2], [3]]" in done.stdout
    assert "3 price: 210, tried again 1x" in done.stdout
    assert "price      2 calls, 50% succeeded" in done.stdout


def test_orders_stops_before_its_letter_takes_another_input_and_asks_before_it_sends(cli: CommandLine) -> None:
    stopped = cli("run", "plans/orders.yaml", "--run-id", "march")

    assert stopped.code == 3
    assert "stepchain approve march letter" in stopped.err
    steps = {step["id"]: step for step in cli.show("march")["steps"]}
    assert [len(group) for group in steps["convert"]["output"]] == [4, 4, 2]
    assert {attempt["item"] for attempt in steps["convert"]["attempts"]} == {None, 0, 1, 2}
    assert steps["check/verdict"]["output"] == {"count": 10, "euros": 2075.5, "large": [6, 10], "doubled": [5]}
    assert steps["check"]["output"]["verdict"] == steps["check/verdict"]["output"]
    assert steps["letter"]["status"] == "waiting"

    verdict = {"count": 9, "euros": 1955.5, "large": [6], "doubled": []}
    given = {"function": "./orders.py:letter", "args": {"verdict": verdict}}
    assert cli("approve", "march", "letter", "--with", json.dumps(given)).code == 0
    assert cli("resume", "march").code == 3
    assert not (cli.folder / "stepchain-outbox.txt").exists()
    assert cli("approve", "march", "sure", "--field", "to=ada").code == 0
    assert cli("resume", "march").code == 0
    assert (cli.folder / "stepchain-outbox.txt").read_text().splitlines() == [
        "9 orders, 1955.50 EUR in all.",
        "Large, please look: [6]",
        "Perhaps ordered twice: none",
        "key: march:send",
        "to: ada",
    ]


def test_a_second_run_of_orders_takes_its_rates_from_the_first_one(cli: CommandLine) -> None:
    cli("run", "plans/orders.yaml", "--run-id", "march")
    cli("run", "plans/orders.yaml", "--run-id", "april")

    (first,) = [step for step in cli.show("march")["steps"] if step["id"] == "rates"]
    (second,) = [step for step in cli.show("april")["steps"] if step["id"] == "rates"]
    assert first["marks"] == []
    assert second["marks"] == ["cached"]
    assert second["output"] == first["output"] == {"EUR": 1.0, "GBP": 1.2, "USD": 0.9}
    assert "made by march/rates" in cli("why", "april", "rates").out


def test_the_plan_within_orders_runs_by_itself(cli: CommandLine) -> None:
    orders = json.dumps([[{"id": 1, "customer": "ada", "euros": 5}], [{"id": 2, "customer": "ada", "euros": 5}]])

    answer = cli("run", "plans/parts/check_orders.yaml", "--run-id", "r1", "--input", f"orders={orders}")

    assert answer.code == 0, answer.err
    (verdict,) = [step for step in cli.show("r1")["steps"] if step["id"] == "verdict"]
    assert verdict["output"] == {"count": 2, "euros": 10, "large": [], "doubled": [2]}


def test_shop_keeps_its_book_and_asks_its_agent(cli: CommandLine) -> None:
    assert cli("run", "plans/shop.yaml", "--run-id", "monday").code == 0

    steps = {step["id"]: step for step in cli.show("monday")["steps"]}
    assert steps["turnover"]["output"]["rows"] == [
        {"article": "cocoa", "pieces": 3, "turnover": 20.64},
        {"article": "coffee", "pieces": 2, "turnover": 15.4},
        {"article": "tea", "pieces": 1, "turnover": 4.95},
    ]
    assert steps["mean"]["output"] == {"result": 6.51, "stdout": ""}
    assert steps["rate"]["status"] == "skipped"
    assert cli("logs", "monday", "tell").out == "Put cocoa into the window.\n"
    assert cli("rerun", "monday", "sell", "--downstream").code == 0
    again = {step["id"]: step for step in cli.show("monday")["steps"]}
    assert again["turnover"]["output"]["rows"][0] == {"article": "cocoa", "pieces": 6, "turnover": 41.28}
    refused = cli("run", "plans/shop.yaml", "--run-id", "dear", "--input", "raised_by=200")
    assert refused.code == 1
    assert "raised_by" in cli("show", "dear").out
