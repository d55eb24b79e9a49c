"""What SQLite may do for a statement: the decision for each thing that it is about to do. Pure.

SQLite asks while it prepares a statement, so nothing of a refused one runs.
"""

import sqlite3

INSPECTING = frozenset(  # pragmas whose argument is a table or an index
    {"table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
READING = frozenset(  # pragmas that are harmless without an argument
    {
        *("table_list", "user_version", "schema_version", "encoding", "page_count", "page_size"),
        *("freelist_count", "application_id", "collation_list", "foreign_keys", "compile_options"),
        *("function_list", "module_list", "pragma_list"),
    }
)
FUNCTIONS = frozenset(  # that read or write files, or load code
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "fileio_ls", "lsmode"}
)
READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
NEVER = frozenset(
    {
        *(sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH),
        *(sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT),
        *(sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DROP_VTABLE),
    }
)


def allows(action: int, first: str | None, second: str | None, write: bool) -> bool:
    """Return whether SQLite may do something.

    Args:
        action: SQLite's code for it.
        first, second: What it concerns, by SQLite's documentation of the code.
        write: Whether changes are allowed.
    """
    if action in READS:
        return True
    if action == sqlite3.SQLITE_FUNCTION:
        return (second or "").lower() not in FUNCTIONS
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        return name in INSPECTING or (name in READING and second is None)
    return write and action not in NEVER
