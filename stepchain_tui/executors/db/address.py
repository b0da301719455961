"""Where a database is: the url of a plan, read without any driver, and words for it that hold no secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qsl, unquote, urlsplit

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.db.values import text_problem

SQLITE, POSTGRESQL, DYNAMODB = "sqlite", "postgresql", "dynamodb"
_SCHEMES = {
    "sqlite": SQLITE,
    "sqlite+aiosqlite": SQLITE,
    "sqlite+pysqlite": SQLITE,
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    "postgresql+psycopg": POSTGRESQL,
    "dynamodb": DYNAMODB,
}
_SECRET_KEYS = frozenset({"password", "sslpassword", "passwd", "pwd", "token", "secret"})
_MASK = "***"
_SHORTEST = 4
"""Characters below which a password is hidden only where it stands in an address: it would be found everywhere."""


@dataclass(frozen=True)
class DatabaseAddress:
    """A database's url, taken apart.

    Attributes:
        driver: `sqlite`, `postgresql`, `dynamodb`, or the scheme of a url that only other executors know.
        url: As it was written; may hold a password, so it is never shown.
        place: Where it is, as people read it: `HOST:PORT/NAME`, a file's path.
        path: The url's path, as it was written, without the query.
        options: What stands after the `?`.
    """

    driver: str
    url: str = field(repr=False)
    place: str
    path: str = ""
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    _secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        """Driver and place, such as `postgresql db.example.org:5432/sales`."""
        return f"{self.driver} {self.place}".rstrip()

    def redacted(self, text: str) -> str:
        """Return text without this address and its password."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    @classmethod
    @lru_cache(maxsize=64)  # every step asks several times
    def of(cls, url: str) -> DatabaseAddress:
        """Take a url apart.

        Raises:
            UsageError: It is no url of a database; the message shows nothing of it but its scheme.
        """
        if "://" not in url:
            raise UsageError("`url` is no address of a database", hint=_HINT)
        scheme, _, rest = url.partition("://")
        if not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
            raise UsageError("`url` is no address of a database", hint=_HINT)
        driver = _SCHEMES.get(scheme.lower(), scheme.lower().partition("+")[0])
        if problem := text_problem(unquote(url)):
            raise UsageError(f"the `url` of {driver} {problem}", hint="Take the character out, also where it is %00.")
        try:
            parts = urlsplit(f"x://{rest}")
            options = tuple(parse_qsl(parts.query, keep_blank_values=True))
        except ValueError as error:
            raise UsageError(f"the `url` of {driver} cannot be read", hint=_HINT) from error
        if "@" in rest and "@" not in parts.netloc and driver != SQLITE:
            raise UsageError(
                f"the `url` of {driver} cannot be read: its password has a character that ends it",
                hint="Write special characters of the password as %XX: / is %2F, # is %23, ? is %3F.",
            )
        if driver == SQLITE and (parts.netloc or "#" in rest):
            problem = "`#`, which ends a path" if "#" in rest else "two slashes before the file's path"
            raise UsageError(
                f"the `url` of sqlite has {problem}",
                hint="Write sqlite:///file.db, sqlite:////srv/file.db, or sqlite:// for one in memory; # is %23.",
            )
        given = {value for key, value in options if key.lower() in _SECRET_KEYS}
        user_info, _, host = parts.netloc.rpartition("@")
        _, _, password = user_info.partition(":")
        if password:
            given.update((password, unquote(password)))
        secrets = [url, *(f":{each}@" for each in given), *(each for each in given if len(each) >= _SHORTEST)]
        place = _place(driver, host, unquote(parts.path), dict(options))
        ordered = tuple(sorted({each for each in secrets if each}, key=len, reverse=True))
        return cls(driver, url, place, unquote(parts.path), options, ordered)


_HINT = (
    "Write sqlite:///file.db, postgresql://user:password@host:5432/name, or name a secret: {{ secrets.DATABASE_URL }}."
)


def _place(driver: str, host: str, path: str, options: dict[str, str]) -> str:
    if driver == SQLITE:
        return path.removeprefix("/") or ":memory:"
    if driver != POSTGRESQL:
        return host + path
    host = host or options.get("host", "local")
    name = path.strip("/") or options.get("dbname", "")
    ports = ":" in host.rpartition("]")[2] or "," in host or host.startswith(("/", "local"))
    port = "" if ports else f":{options.get('port', '5432')}"
    return f"{host}{port}/{name}".rstrip("/")
