"""What an administrator would query by hand: connections, table sizes, the latest updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.backends.postgres_sql import CONFIG_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.postgres_pool import Session
    from storefs.backends.postgres_schema import Tables

_CONNECTIONS = """
SELECT count(*), count(*) FILTER (WHERE state = 'active'), current_setting('max_connections')::int
FROM pg_stat_activity WHERE datname = current_database()
"""


def inspect(session: Session, tables: Tables) -> Mapping[str, object]:
    """See Inspected. Raises psycopg.Error."""
    (row,) = session.execute(_CONNECTIONS).fetchall()
    used, active, most = row
    found: dict[str, object] = {
        "connections": f"{used} to this database, {active} active, of {most}"
    }
    for table in (tables.config, tables.auth):
        size = f"SELECT count(*), pg_total_relation_size('{_text(table)}'::regclass) FROM {table}"
        ((rows, taken),) = session.execute(size.encode()).fetchall()
        found[f"table {table}"] = f"{rows} rows, {taken} bytes on disk with indexes"
    latest = f"""
        SELECT path, extract(epoch FROM updated_at)::float8, size FROM (
            SELECT 'config/config.yaml' AS path, updated_at, octet_length(content::text) AS size
            FROM {tables.config} WHERE id = '{CONFIG_ID}'
            UNION ALL
            SELECT 'auths/' || id, updated_at, octet_length(content::text) FROM {tables.auth}
        ) AS documents ORDER BY updated_at DESC LIMIT 10
    """
    found["latest"] = [
        {"path": path, "time": moment, "size": size}
        for path, moment, size in session.execute(latest.encode()).fetchall()
    ]
    return found


def _text(table: object) -> str:
    """A quoted name inside a literal."""
    return str(table).replace("'", "''")
