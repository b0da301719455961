"""`Explanation` and `Fact`: an answer to "why", with the facts that it stands on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepchain_tui.run.status import RunStatus, StepStatus


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of an explanation.

    Attributes:
        text: What is so, or what happened.
        at: When it happened; None for what holds now.
        seq: The event that says so, or None where it follows from several.
    """

    text: str
    at: datetime | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step, or a run, is as it is.

    Attributes:
        step_id: The step, or an empty string for the run as a whole.
        status: Its status.
        question: What is answered, such as `why is it waiting?`.
        answer: One sentence that names the cause.
        cause: The step that it comes from in the end, or an empty string.
        details: What happened, in order of time, then what holds now.
        now: The moment at which it was asked.
    """

    step_id: str
    status: StepStatus | RunStatus
    question: str
    answer: str
    cause: str
    details: tuple[Fact, ...]
    now: datetime

    def lines(self) -> list[str]:
        """Return the answer and below it a line for each fact, times as in the reader's own clock."""
        return [self.answer, *(f"  {self._time(fact.at)}{fact.text}" for fact in self.details)]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "step_id": self.step_id,
            "status": self.status.value,
            "question": self.question,
            "answer": self.answer,
            "cause": self.cause,
            "details": [
                {"at": fact.at.isoformat() if fact.at else None, "text": fact.text, "seq": fact.seq}
                for fact in self.details
            ],
        }

    def _time(self, at: datetime | None) -> str:
        if at is None:
            return ""
        local, today = at.astimezone(), self.now.astimezone()
        return f"{local:%H:%M:%S}  " if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M:%S}  "
