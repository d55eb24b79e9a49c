"""What tables a database has, and how that is shown to a model. Pure."""

from collections.abc import Iterable

import msgspec

TABLES_MOST, COLUMNS_MOST = 200, 2000  # of one database
NAME_MOST = 100  # characters


class ColumnInfo(msgspec.Struct):
    """One column of a table."""

    name: str
    type: str = ""
    nullable: bool = True
    is_key: bool = False  # a part of the primary key


class ForeignKey(msgspec.Struct):
    """Columns that refer to another table."""

    columns: list[str]
    table: str
    referenced: list[str]


class Table(msgspec.Struct):
    """A table or a view."""

    name: str
    kind: str = "table"  # or "view"
    columns: list[ColumnInfo] = []
    foreign_keys: list[ForeignKey] = []


class Schema(msgspec.Struct):
    """The tables of a database that its user may read."""

    database: str
    dialect: str  # "SQLite" or "PostgreSQL"
    tables: list[Table] = []
    is_cut: bool = False  # there are more tables or columns


def bounded(database: str, dialect: str, tables: Iterable[Table]) -> Schema:
    """Return a schema within its bounds."""
    schema, columns = Schema(database, dialect), 0
    for table in tables:
        columns += len(table.columns)
        if len(schema.tables) >= TABLES_MOST or columns > COLUMNS_MOST:
            schema.is_cut = True
            break
        schema.tables.append(table)
    return schema


def as_text(schema: Schema, most: int) -> str:
    """Return a schema as text, a line for each table; the last ones are left out if it is long.

    Args:
        schema: The schema.
        most: Characters.
    """
    head = f"Database {schema.database} ({schema.dialect}):"
    lines, room = [head], most - len(head) - 40
    for number, table in enumerate(schema.tables):
        line = f"- {_line(table)}"
        room -= len(line) + 1
        if room < 0:
            lines.append(f"- and {len(schema.tables) - number} more tables")
            break
        lines.append(line)
    if not schema.tables:
        lines.append("- no tables")
    return "\n".join(lines)


def _line(table: Table) -> str:
    columns = [_column(column) for column in table.columns]
    columns += [
        f"{', '.join(map(_name, key.columns))} refers to {_name(key.table)}"
        for key in table.foreign_keys
    ]
    kind = "" if table.kind == "table" else f"{table.kind} "
    return f"{kind}{_name(table.name)}({'; '.join(columns)})"


def _column(column: ColumnInfo) -> str:
    parts = [_name(column.name), _name(column.type), "primary key" if column.is_key else ""]
    return " ".join(part for part in parts if part)


def _name(name: str) -> str:
    """Return a name on one line."""
    return " ".join(name.split())[:NAME_MOST]
