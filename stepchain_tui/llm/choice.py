"""Which model a prompt asks, and where: decided here, once, for the executors, the app's header and the errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from stepchain_tui.llm.profiles import CUSTOM, Profile, address_of, host_of, profile_of
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

DEFAULT_MODEL = "gpt-5"
"""Asked where neither step, plan nor settings name a model."""
SCRIPTED = "scripted"
OPENAI_BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"
NO_KEY = "no-key"
"""Sent to local servers, which look at no key; the openai package wants one."""


class ModelPlace(Protocol):
    """Where a named model is reached: an entry of a plan's `models`."""

    @property
    def base_url(self) -> str | None:
        """The API's address."""

    @property
    def api_key_env(self) -> str | None:
        """The variable that holds its key."""

    @property
    def profile(self) -> str | None:
        """What its server can do, by the name of a profile."""

    @property
    def stateful(self) -> bool | None:
        """Whether its server keeps answers; None for what the profile says."""

    @property
    def hosted_tools(self) -> bool | None:
        """Whether its server carries out tools; None for what the profile says."""

    @property
    def options(self) -> dict[str, Any]:
        """Keys for the API; `model` is the name it has there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The model that a prompt asks.

    Attributes:
        name: The model's name at its provider.
        provider: `openai` (or what speaks its API), `scripted`, or `none` where no model can be asked.
        label: What the screen shows: the name, `scripted` or `no model`.
        base_url: The API's address; empty for `scripted` and `none`. It may hold a password: show `address`.
        address_from: What names the address: `OPENAI_BASE_URL` for what the environment says, OpenAI's own too. What
            else the environment says for the openai package (headers, organization, project) is sent to such only.
        api_key: The key to send.
        key_variable: The variable that the key comes from.
        options: Keys for the API that the plan's `models` entry sets.
        profile: What the server at that address can do.
    """

    name: str
    provider: Literal["openai", "scripted", "none"]
    label: str
    base_url: str = field(default="", repr=False)
    address_from: str = ADDRESS_VARIABLE
    api_key: str = field(default="", repr=False)
    key_variable: str = KEY_VARIABLE
    options: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile = CUSTOM

    @property
    def host(self) -> str:
        """Who is asked, as events and prices name it: the API's host with its port, `scripted`, or nothing."""
        if self.provider == "openai":
            return host_of(self.base_url)
        return SCRIPTED if self.provider == "scripted" else ""

    @property
    def address(self) -> str:
        """The API's address as messages show it."""
        return address_of(self.base_url)

    @property
    def available(self) -> bool:
        """Whether the model can be asked."""
        return self.provider != "none"

    def missing(self, step_id: str) -> AttemptError:
        """Return the error for a step that has no model to ask."""
        return AttemptError(
            f"step '{step_id}' needs a model, and {self.key_variable} is not set",
            error_type=ErrorType.USER_ERROR,
            hint=f"Set {self.key_variable}, or {ADDRESS_VARIABLE} for a local server, or write `model: scripted` "
            "with `replies`, or mark the step `optional: true`.",
            exception="NoModel",
        )


def choose_model(
    step_model: str | None,
    plan_default: str | None,
    settings_model: str | None,
    environment: Mapping[str, str],
    models: Mapping[str, ModelPlace] | None = None,
) -> ModelChoice:
    """Return the model to ask: the step's, else the plan's, else the settings', else `gpt-5`.

    Args:
        step_model: What the step names.
        plan_default: What the plan's `defaults` name.
        settings_model: What the user's settings name.
        environment: Where `OPENAI_API_KEY` and `OPENAI_BASE_URL` are looked up. An address without a key is a
            local server.
        models: The plan's `models`, by name.
    """
    name = step_model or plan_default or settings_model or DEFAULT_MODEL
    if name == SCRIPTED:
        return ModelChoice(name=SCRIPTED, provider="scripted", label=SCRIPTED)
    place = (models or {}).get(name)
    variable = (place.api_key_env if place else None) or KEY_VARIABLE
    own_address = place.base_url if place else None
    base_url = own_address or environment.get(ADDRESS_VARIABLE, "").strip()
    key = environment.get(variable, "").strip()
    if own_address and place and not place.api_key_env:
        key = ""  # the key of one provider is not shown to another
    options = dict(place.options) if place else {}
    real_name = str(options.pop("model", name))
    if not key and (not base_url or (place and place.api_key_env)):
        return ModelChoice(name=real_name, provider="none", label="no model", key_variable=variable)
    address = base_url or OPENAI_BASE_URL
    return ModelChoice(
        name=real_name,
        provider="openai",
        label=name,
        base_url=address,
        address_from=f"models.{name}.base_url" if own_address else ADDRESS_VARIABLE,
        api_key=key or NO_KEY,
        key_variable=variable,
        options=options,
        profile=_profile(address, place),
    )


def _profile(address: str, place: ModelPlace | None) -> Profile:
    if place is None:
        return profile_of(address)
    return profile_of(address, place.profile, stateful=place.stateful, hosted_tools=place.hosted_tools)
