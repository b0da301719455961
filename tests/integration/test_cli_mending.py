"""The page about mending runs: what it says a person types and sees is what they see."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import ROOT, CommandLine

PAGE = (ROOT / "docs" / "mending-runs.md").read_text(encoding="utf-8")
PLAN = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
TALK = "".join(re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
EXCHANGES = [part.splitlines() for part in TALK.removeprefix("$ ").split("\n$ ")]
"""What is typed, and the lines that are seen, one exchange after another."""
BROKEN = "def parse(text):\n    raise ValueError('no numbers')\n"
MENDED = "def parse(text):\n    return [int(line) for line in text.split()]\n"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", PLAN)
    line.write("sum.py", BROKEN)
    yield line
    line.end()


def _without_times(line: str) -> str:
    """Return a line without what is another time on every machine, and the room that it takes."""
    untimed = re.sub(r" \(saves [^)]*\)|\b\d[\d.]* m?s\b", "", line)
    return " ".join(untimed.split())


def test_the_page_says_what_a_person_sees(cli: CommandLine) -> None:
    assert cli("run", "plan.yaml", "--run-id", "s").code == 1
    cli.write("sum.py", MENDED)

    for typed, *seen in EXCHANGES:
        program, *words = shlex.split(typed, comments=True)
        assert program == "stepchain"
        kept = words[words.index(">") + 1] if ">" in words else None
        answer = cli(*(words[: words.index(">")] if kept else words))
        if kept:
            cli.write(kept, answer.out.replace("sum(numbers)", "max(numbers)"))

        shown = {_without_times(line) for line in (answer.out + answer.err).splitlines()}
        assert "error" not in answer.err, typed
        assert [line for line in seen if _without_times(line) not in shown] == [], f"{typed}: {shown}"
    assert len(EXCHANGES) > 5
    assert cli.statuses("s-max") == dict.fromkeys(("fetch", "parse", "total", "tell"), "succeeded")
