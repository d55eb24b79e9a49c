"""The tables of a PostgreSQL database that its role may read."""

from typing import Any

from .schema import COLUMNS_MOST, ColumnInfo, ForeignKey, Table

KINDS = {"r": "table", "p": "table", "v": "view", "m": "view", "f": "table"}
COLUMNS = f"""
SELECT n.nspname, c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod),
  NOT a.attnotnull,
  EXISTS (SELECT 1 FROM pg_constraint k
          WHERE k.conrelid = c.oid AND k.contype = 'p' AND a.attnum = ANY (k.conkey))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
  AND has_column_privilege(c.oid, a.attnum, 'SELECT')
  AND has_schema_privilege(n.oid, 'USAGE')
ORDER BY n.nspname, c.relname, a.attnum LIMIT {COLUMNS_MOST + 1}
"""
KEYS = f"""
SELECT n.nspname, c.relname, fn.nspname, f.relname,
  ARRAY(SELECT attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(num, place)
        JOIN pg_attribute ON attrelid = k.conrelid AND attnum = u.num ORDER BY place),
  ARRAY(SELECT attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(num, place)
        JOIN pg_attribute ON attrelid = k.confrelid AND attnum = u.num ORDER BY place)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f' ORDER BY k.conname LIMIT {COLUMNS_MOST}
"""


async def read_tables(connection: Any) -> list[Table]:
    """Return the tables and views, by name; with their schema where that is not public."""
    tables: dict[str, Table] = {}
    for schema, name, kind, column, type_name, nullable, is_key in await connection.fetch(COLUMNS):
        full = _full(schema, name)
        table = tables.setdefault(full, Table(full, KINDS.get(kind, "table")))
        table.columns.append(ColumnInfo(column, type_name, nullable, is_key))
    for schema, name, other_schema, other, columns, referenced in await connection.fetch(KEYS):
        found = tables.get(_full(schema, name))
        if found is not None:
            key = ForeignKey(list(columns), _full(other_schema, other), list(referenced))
            found.foreign_keys.append(key)
    return list(tables.values())


def _full(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"
