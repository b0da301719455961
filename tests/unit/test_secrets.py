"""Secrets in text that comes in pieces."""

from __future__ import annotations

import pytest

from stepchain_tui.core.secrets import Redactor

SECRETS = Redactor({"TOKEN": "opensesame42", "PEM": "-----BEGIN\nfirst line of it\nx\n"})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("nothing to hide", "nothing to hide"),
        ("it is o", "it is "),
        ("it is opensesame4", "it is "),
        ("it is opensesame42", "it is opensesame42"),  # whole: it is masked when it is written
        ("it is opensesame42 ope", "it is opensesame42 "),
        ("opensesame4", ""),
        ("and first line", "and "),  # a line of a secret counts like a secret
        ("", ""),
    ],
)
def test_what_may_begin_a_secret_is_held_back(text: str, written: str) -> None:
    assert text[: SECRETS.whole_until(text)] == written


def test_without_secrets_nothing_is_held_back() -> None:
    assert Redactor({}).whole_until("anything") == len("anything")
