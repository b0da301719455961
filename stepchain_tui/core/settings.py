"""The user's settings: one TOML file, all of it optional, checked whole."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from stepchain_tui.core.errors import UsageError


class RetryDefaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step's `retry:` falls back to after the plan's defaults; None is the built-in value."""

    max_attempts: int | None = None
    initial_delay: float | None = None
    max_delay: float | None = None
    exponential_base: float | None = None
    jitter: bool | None = None


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where OpenTelemetry's spans go; nothing is sent without an endpoint.

    Attributes:
        endpoint: The collector's address for OTLP over HTTP, such as `http://localhost:4318`, or `environment` for what
            OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...) say.
        contents: Messages, arguments and results go too, where a plan's `trace` does not say otherwise.
        headers: Sent with each request; `${NAME}` in a value is a variable of the environment.
    """

    endpoint: str = ""
    contents: bool = False
    headers: dict[str, str] = {}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user may set in `stepchain.toml`.

    Attributes:
        durability: `process` survives the death of any process, `power` also the loss of power (slower).
        max_running: The cap on steps over all runs of one engine process.
        process_workers: How many worker processes the pool has at most; 0 is one for each core.
        model: The model for prompts that name none.
        theme: The app's theme.
        ascii: Draw with ASCII only.
        keymap: Action id -> keys, separated by commas.
        retry: Retry defaults.
        breaker_failures: Failures in a row after which a provider or tool is left alone.
        breaker_seconds: For how long, before one call tries it.
        executors: Executor types of the user's own: kind of step -> name -> `package.module:Class`.
        mcp_servers: MCP servers for all plans, by name, with the keys that a plan's `mcp_servers` have.
        cluster: The address of the Dask cluster for steps with `mode: cluster` whose plan names none.
        telemetry: Where spans go.
    """

    durability: Literal["process", "power"] = "process"
    max_running: int = 64
    process_workers: int = 0
    model: str = ""
    theme: str = ""
    ascii: bool = False
    keymap: dict[str, str] = {}
    retry: RetryDefaults = RetryDefaults()
    breaker_failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    breaker_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    executors: dict[str, dict[str, str]] = {}
    mcp_servers: dict[str, dict[str, Any]] = {}
    cluster: str = ""
    telemetry: TelemetrySettings = TelemetrySettings()


def load_settings(path: Path) -> Settings:
    """Return the settings in `path`; a file that is not there means all defaults.

    Raises:
        UsageError: The file cannot be read, is no TOML, or has an unknown or badly typed key.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as settings: {error}", hint="Mend or move the file.") from error
    try:
        return msgspec.convert(data, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}", hint="Mend the key; docs/settings.md lists them all.") from error
