"""The command line within the process of a test: for tests of what commands say, not of what processes do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stepchain_tui.cli.border import main
from tests.support.command_line import Answer, CommandLine


class Typed(CommandLine):
    """Types commands in this process: of what they import only the first pays."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(folder)
        self._patch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(folder)

    def __call__(self, *words: str, env: Mapping[str, str] | None = None, store: bool = True) -> Answer:
        for name, value in (env or {}).items():
            self._patch.setenv(name, value)
        self._capsys.readouterr()
        code = main([*words, *(("--store", str(self.store)) if store else ())])
        said = self._capsys.readouterr()
        return Answer(code, said.out, said.err)
