"""Connections to DynamoDB, shared by all steps that speak to the same place with the same credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from stepchain_tui.executors.db.extras import require
from stepchain_tui.executors.threads import call_threads

PLACE_KEYS = ("region", "endpoint_url", "profile")
"""The keys of `db:` that say where DynamoDB is and who asks."""
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
    "AWS_SESSION_TOKEN": "aws_session_token",
}
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_CONNECTIONS = 50


class DynamoClients:
    """Makes and keeps clients. Credentials are those of the environment, or the plan's secrets of the same names."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._made: dict[tuple[Any, ...], Any] = {}
        self._sessions: dict[str | None, Any] = {}
        self._turn = asyncio.Lock()

    async def get(self, place: Mapping[str, str | None], secrets: Mapping[str, str]) -> Any:
        """Return the client for a place.

        Args:
            place: Values of `PLACE_KEYS`.
            secrets: The plan's secrets by name.

        Raises:
            NotAvailableError: aiobotocore is not installed.
            Exception: What botocore raises where the place or the credentials cannot be meant.
        """
        credentials = {argument: secrets[name] for name, argument in _CREDENTIALS.items() if secrets.get(name)}
        key = (*(place.get(name) for name in PLACE_KEYS), *sorted(credentials.items()))
        async with self._turn:
            found = self._made.get(key)
            if found is None:
                session = await self._session(place.get("profile"))
                options = {"region_name": place.get("region"), "endpoint_url": place.get("endpoint_url"), **credentials}
                opened = session.create_client(
                    "dynamodb", **{name: value for name, value in options.items() if value}, config=_config()
                )
                found = self._made[key] = await self._stack.enter_async_context(opened)
            return found

    async def close(self) -> None:
        """Close all clients; may be called twice."""
        self._made.clear()
        await self._stack.aclose()

    async def _session(self, profile: str | None) -> Any:
        found = self._sessions.get(profile)
        if found is None:
            # Reading the descriptions of services takes a tenth of a second, which the loop does not have.
            found = self._sessions[profile] = await call_threads().submit(lambda _: _load(profile)).result
        return found


def place_of(value: Mapping[str, Any]) -> str:
    """Return where a request goes, for people: the endpoint's host, the region, or `aws`."""
    endpoint = value.get("endpoint_url")
    host = urlsplit(endpoint).netloc.rpartition("@")[2] if isinstance(endpoint, str) else ""
    return host or str(value.get("region") or "aws")


def _load(profile: str | None) -> Any:
    session = require("aiobotocore.session", "dynamodb", "DynamoDB").AioSession(profile=profile)
    loader = session.get_component("data_loader")
    loader.load_service_model("dynamodb", "service-2")
    loader.load_service_model("dynamodb", "endpoint-rule-set-1")
    loader.load_data("endpoints")
    return session


def _config() -> Any:
    made = require("aiobotocore.config", "dynamodb", "DynamoDB")
    # One policy retries: that of the step.
    return made.AioConfig(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
    )
