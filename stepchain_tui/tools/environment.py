"""The environment, compared without decoding it: a batch of calls asks for it each time and it hardly ever changes."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stepchain_tui.core.secrets import environment_without_secrets


def raw_environment() -> dict[bytes, bytes]:
    """Return the environment as the interpreter keeps it; a twentieth of what a decoded copy costs."""
    return dict(os.environ._data)  # type: ignore[attr-defined]


class PublicEnvironment:
    """Our environment without secret variables, made anew when it changed.

    Args:
        keep: Names of secret variables that are in it all the same.
    """

    def __init__(self, keep: tuple[str, ...]) -> None:
        self._keep = keep
        self._known: tuple[dict[bytes, bytes], Mapping[str, str]] | None = None

    def now(self) -> Mapping[str, str]:
        """Return it as it is now; not to be changed."""
        raw, known = raw_environment(), self._known
        if known is None or known[0] != raw:
            known = self._known = (raw, environment_without_secrets(os.environ, self._keep))
        return known[1]
