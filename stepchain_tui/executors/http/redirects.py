"""Where an answer sends a request next, and what of the request may go there.

Only http and https are followed. What the plan's author wrote for one server is not told to another: across hosts all
headers stay behind but those that say what is wanted, and a body is not sent on at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepchain_tui.executors.http.fields import bad_request
from stepchain_tui.executors.http.words import address
from stepchain_tui.executors.words import one_line

if TYPE_CHECKING:
    from yarl import URL

MAX_REDIRECTS = 5
"""Redirects that are followed where the spec says nothing else."""
STATUSES = frozenset({301, 302, 303, 307, 308})
_TOLD_TO_ALL = frozenset({"accept", "accept-language", "accept-encoding", "user-agent", "range"})
_OF_A_BODY = frozenset({"content-type", "content-encoding", "content-language", "idempotency-key"})


@dataclass(frozen=True, slots=True)
class Hop:
    """One request on the way: the first, or where an answer sent it.

    Attributes:
        method: Its method.
        url: Where it goes.
        headers: What goes with it.
        with_body: Whether the body goes with it.
        left_behind: Names of headers that did not go with it, because another host is asked.
    """

    method: str
    url: URL
    headers: Mapping[str, str]
    with_body: bool
    left_behind: tuple[str, ...] = ()

    def next(self, status: int, location: str, name: str) -> Hop:
        """Return the request that follows an answer with `status` and `location`.

        Args:
            status: One of `STATUSES`.
            location: The header of the answer.
            name: The step or tool, for messages.

        Raises:
            AttemptError: As a `user_error`: it leads nowhere that may be asked, or would take a body to another host.
        """
        url = self._target(location, name)
        hop = replace(self, url=url, left_behind=())
        if (status == 303 and self.method != "HEAD") or (status in (301, 302) and self.method == "POST"):
            kept = {header: value for header, value in self.headers.items() if header.lower() not in _OF_A_BODY}
            hop = replace(hop, method="GET", with_body=False, headers=kept)
        if _same_server(self.url, url):
            return hop
        if hop.with_body:
            raise bad_request(
                name,
                f"{address(self.url)} sends the request on to another host, {address(url)}, and its body with it",
                "A body goes only to the host that is written: put the other address into `url` if you trust it.",
            )
        kept = {header: value for header, value in hop.headers.items() if header.lower() in _TOLD_TO_ALL}
        return replace(hop, headers=kept, left_behind=tuple(header for header in hop.headers if header not in kept))

    def _target(self, location: str, name: str) -> URL:
        from yarl import URL

        hint = "Write the address that is meant into `url`."
        shown = one_line(location.partition("?")[0].rpartition("@")[2], 100)
        try:
            url = self.url.join(URL(location))
            host, port = url.host, url.port
        except ValueError:
            raise bad_request(name, f"{address(self.url)} redirects to '{shown}', which is no address", hint) from None
        if url.scheme not in ("http", "https"):
            problem = f"redirects to '{shown}', and only http and https are followed"
            raise bad_request(name, f"{address(self.url)} {problem}", hint)
        if not host or port == 0:
            raise bad_request(name, f"{address(self.url)} redirects to '{shown}', which is no address", hint)
        # Credentials in a redirect are the server's, not the user's: nobody asked us to log in with them.
        return url.with_user(None)


def too_many(name: str, first: URL, most: int) -> Exception:
    """Return the failure of a request that was sent on too often."""
    return bad_request(
        name, f"{address(first)} redirects more than {most} times", "Write the address where it ends into `url`."
    )


def _same_server(here: URL, there: URL) -> bool:
    """Whether two addresses belong to one server; the step from http to https is one."""
    if here.host != there.host:
        return False
    ways = (here.scheme, here.port, there.scheme, there.port)
    return ways[:2] == ways[2:] or ways == ("http", 80, "https", 443)
