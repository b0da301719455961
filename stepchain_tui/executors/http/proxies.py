"""The proxy that the environment names for an address: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

aiohttp's own `trust_env` is not used: it would also send the passwords of `~/.netrc` to whoever is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed has it not

from stepchain_tui.executors.http.fields import bad_request
from stepchain_tui.executors.http.words import address

if TYPE_CHECKING:
    from yarl import URL


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the header with its user and password, empty where it has none."""

    url: URL
    headers: dict[str, str]


def proxy_for(url: URL, environment: Mapping[str, str], name: str) -> Proxy | None:
    """Return the proxy for an address, None where it is asked directly.

    Args:
        url: What is asked.
        environment: The step's variables; names in small letters go first.
        name: The step or tool, for messages.

    Raises:
        AttemptError: As a `user_error`: the variable names no proxy that can be used.
    """
    variable = f"{url.scheme}_proxy"
    written = environment.get(variable) or environment.get(variable.upper())
    if not written:
        return None
    without = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if proxy_bypass_environment(f"{url.host}:{url.port}", {"no": without}):
        return None
    from aiohttp import encode_basic_auth
    from yarl import URL

    hint = f"Write {variable.upper()}=http://host:port."
    try:
        proxy = URL(written if "://" in written else f"http://{written}")
        host = proxy.host
    except ValueError:
        raise bad_request(name, f"{variable.upper()} is no address", hint) from None
    if proxy.scheme not in ("http", "https") or not host:
        raise bad_request(name, f"{variable.upper()}={address(proxy)} is no http proxy", hint)
    if proxy.user is None:
        return Proxy(proxy, {})
    credentials = encode_basic_auth(proxy.user, proxy.password or "")
    return Proxy(proxy.with_user(None), {"Proxy-Authorization": credentials})
