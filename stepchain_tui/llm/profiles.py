"""What servers that speak the Responses API can do beyond text and functions.

Every server is sent our own history by default, and asked to keep nothing: that works everywhere, and nobody's
conversation is stored without a word. A server is asked to keep answers, so that the next question names the last one
by `previous_response_id`, only where the plan's `models` entry says `stateful: true`, or names a profile that can and
so asks for it. What is known by the address alone never leads to storing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlsplit

from stepchain_tui.plan.kinds import MODEL_PROFILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a server can do.

    Attributes:
        name: As the plan's `models` name it.
        stateful: It keeps answers, and is asked by `previous_response_id`.
        hosted_tools: It carries out tools such as `web_search` itself.
        encrypted_reasoning: It gives reasoning as encrypted text, to be sent back where it keeps no answers.
    """

    name: str
    stateful: bool = False
    hosted_tools: bool = False
    encrypted_reasoning: bool = False


_ABLE = {
    "openai": {"stateful": True, "hosted_tools": True, "encrypted_reasoning": True},
    "lm_studio": {"stateful": True},
}
"""What servers can do. Ollama keeps nothing; vLLM keeps answers only when it was started so, and then for ever."""
PROFILES = MappingProxyType({name: Profile(name=name, **_ABLE.get(name, {})) for name in MODEL_PROFILES})
"""The profiles that `models` may name."""
CUSTOM = PROFILES["custom"]
"""A server of which nothing is known."""
_HOSTS = {"api.openai.com": "openai"}
_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|sig|code|credential", re.IGNORECASE)
_SHORTEST_SECRET = 4


def profile_of(
    base_url: str, written: str | None = None, *, stateful: bool | None = None, hosted_tools: bool | None = None
) -> Profile:
    """Return what the server at an address can do.

    Args:
        base_url: The address.
        written: The profile that the plan names for it; a name that there is none of counts as `custom`.
        stateful: What the plan says instead of the profile.
        hosted_tools: What the plan says instead of the profile.
    """
    if written is None:
        found = replace(PROFILES[_HOSTS.get(host_of(base_url), CUSTOM.name)], stateful=False)
    else:
        found = PROFILES.get(written, CUSTOM)
    return replace(
        found,
        stateful=found.stateful if stateful is None else stateful,
        hosted_tools=found.hosted_tools if hosted_tools is None else hosted_tools,
    )


def host_of(base_url: str) -> str:
    """Return the host of an address with its port, where one is written; an empty string for what is no address."""
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def address_of(base_url: str) -> str:
    """Return an address as messages show it: without user, password, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(base_url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def secrets_in(base_url: str) -> tuple[str, ...]:
    """Return what nobody else may see of an address: its user and password, its query, and secret values in that."""
    try:
        parts = urlsplit(base_url)
        user, query = parts.netloc.rpartition("@")[0], parts.query
        found = [user, unquote(user), parts.password or "", unquote(parts.password or ""), query]
        found += [value for name, value in parse_qsl(query) if _SECRET_NAME.search(name)]
    except ValueError:
        found = [base_url]
    return tuple(sorted({one for one in found if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True))


def fault_of(base_url: str) -> str:
    """Return why nobody can be asked at an address, in words that go on from its name; empty where it can be asked."""
    if not base_url.lower().startswith(("http://", "https://")):
        return "does not begin with http:// or https://"
    if not base_url.isprintable() or " " in base_url:
        return "has a blank or a control character in it"
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
    except ValueError:
        return "cannot be read as an address"
    if not host:
        return "names no host"
    try:
        asked = parts.port
    except ValueError:
        return "names a port that is no number from 1 to 65535"
    return "names a port that is no number from 1 to 65535" if asked == 0 else ""
