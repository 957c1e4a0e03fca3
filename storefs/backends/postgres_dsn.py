"""Where a PostgreSQL store is: the DSN of the native store, in the form that libpq takes.

The native store is written in Go and reads the DSN by other rules than libpq: it knows keys of
its own, and sends every key it does not know to the server as a parameter of the session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

from storefs import natives
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECTIONS = 8
"""Connections of one mount, besides the one that listens."""

_GO_ONLY = {
    "pool_health_check_period",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_min_conns",
    "pool_min_idle_conns",
    "description_cache_capacity",
    "min_read_buffer_size",
}
"""Keys that mean nothing here: they are dropped."""

_PLAIN_MODES = {"simple_protocol", "exec", "describe_exec", "cache_describe"}
"""Values of default_query_exec_mode that do without prepared statements."""

_URL = re.compile("postgres(ql)?://", re.IGNORECASE)
_WORD = re.compile(r"\s*([^\s=]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)
_KEPT_ALIVE = {"keepalives_idle": "10", "keepalives_interval": "3", "keepalives_count": "3"}


@dataclass(frozen=True, slots=True)
class Place:
    """One store, as the settings name it. An empty schema: the search path decides."""

    conninfo: Mapping[str, str] = field(repr=False)
    """For libpq. Holds the password: never log or show it."""
    schema: str
    usual: str
    """The first schema of the search path that was named, else the one that every database has."""
    config_table: str
    auth_table: str
    connections: int
    plain: bool
    """No prepared statements were asked for: something between us and the server bears none."""

    @property
    def where(self) -> str:
        """Host and port as they were named."""
        host = self.conninfo.get("host") or self.conninfo.get("hostaddr") or "localhost"
        return f"{host}:{self.conninfo.get('port') or 5432}"

    def hide(self, text: str) -> str:
        """The text in one line, without the password should anybody have put it in there."""
        text = " ".join(text.split())
        password = self.conninfo.get("password")
        return text.replace(password, "***") if password else text


def place_of(env: Mapping[str, str], deadline: float) -> Place:
    """The store that the PGSTORE_* variables name; each call of it ends within `deadline`.

    What the DSN leaves open comes from libpq's own variables, such as PGPASSWORD. Raises Quit
    for a DSN that cannot be understood; the message never holds a part of it.
    """
    dsn = natives.value(env, "PGSTORE_DSN")
    if not dsn:
        raise Quit(Exit.SETTINGS, "PGSTORE_DSN is not set: postgresql://USER@HOST/DATABASE")
    known = {each.keyword.decode(): each for each in pq.Conninfo.get_defaults()}
    given, foreign = _parsed(dsn, known.keys())
    usual = foreign.get("search_path", "").split(",")[0].strip().strip('"')
    for keyword, default in known.items():
        value = env.get(default.envvar.decode(), "") if default.envvar else ""
        if value and keyword not in given:
            given[keyword] = value
    size, plain = _understood(foreign)
    if parameters := " ".join(f"-c {_option(*pair)}" for pair in foreign.items()):
        given["options"] = f"{given.get('options', '')} {parameters}".strip()
    return Place(
        conninfo={**_limits(deadline), **given, **_never_longer(given, deadline)},
        schema=natives.value(env, "PGSTORE_SCHEMA"),
        usual="public" if usual in ("", "$user") else usual,
        config_table=natives.value(env, "PGSTORE_CONFIG_TABLE") or "config_store",
        auth_table=natives.value(env, "PGSTORE_AUTH_TABLE") or "auth_store",
        connections=size,
        plain=plain,
    )


def _parsed(dsn: str, known: object) -> tuple[dict[str, str], dict[str, str]]:
    """The keys that libpq knows, and the others."""
    try:
        pairs = dict(_query(dsn) if _URL.match(dsn) else _words(dsn))
        ours = {key: value for key, value in pairs.items() if key in known}  # type: ignore[operator]
        foreign = {key: value for key, value in pairs.items() if key not in ours}
        if _URL.match(dsn):
            query = "&".join(f"{key}={quote(value, safe='')}" for key, value in ours.items())
            ours = _by_libpq(dsn.partition("?")[0] + (f"?{query}" if query else ""))
        else:
            ours = _by_libpq("", **ours)
        if not ours.get("port", "").replace(",", "").isdecimal() and ours.get("port"):
            raise ValueError  # a part of the password, most likely
    except (ValueError, ProgrammingError):
        raise Quit(
            Exit.SETTINGS,
            "PGSTORE_DSN is neither a URL nor a list of key=value: "
            "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with what is special in the "
            "password as %XX",
        ) from None
    return ours, foreign


def _by_libpq(text: str, **more: str) -> dict[str, str]:
    return {key: str(value) for key, value in {**conninfo_to_dict(text), **more}.items() if value}


def _query(url: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, url.partition("?")[2].split("&")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError
        # Go reads a plus as a space; libpq does not.
        yield unquote_plus(key), unquote_plus(value)


def _words(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while text[position:].strip():
        found = _WORD.match(text, position)
        if found is None:
            raise ValueError
        value = found[2]
        if value.startswith("'"):
            value = value[1:-1]
        yield found[1], re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = found.end()


def _understood(foreign: dict[str, str]) -> tuple[int, bool]:
    """Take the Go driver's own keys out; returns the connections and whether to be plain."""
    size, plain = CONNECTIONS, False
    for key in list(foreign):
        value = foreign[key]
        if key == "pool_max_conns" and value.isdecimal() and int(value):
            size = min(size, int(value))
        elif key == "default_query_exec_mode":
            plain |= value in _PLAIN_MODES
        elif key == "statement_cache_capacity":
            plain |= value == "0"
        elif key not in _GO_ONLY and key != "pool_max_conns":
            continue
        del foreign[key]
    return size, plain


def _option(name: str, value: str) -> str:
    return f"{name}={value}".replace("\\", "\\\\").replace(" ", "\\ ")


def _limits(deadline: float) -> dict[str, str]:
    """What ends a connection whose other end is gone; the DSN may say otherwise."""
    return {
        "application_name": "storefs",
        "gssencmode": "disable",
        "tcp_user_timeout": str(int(deadline * 1000)),
        **_KEPT_ALIVE,
    }


def _never_longer(given: Mapping[str, str], deadline: float) -> dict[str, str]:
    own = max(2, int(deadline))  # libpq takes no less than two
    try:
        asked = int(given.get("connect_timeout", "0"))
    except ValueError:
        asked = 0
    return {
        "connect_timeout": str(min(own, asked) if asked > 0 else own),
        "client_encoding": "UTF8",
    }
