"""The two engines: a SQLite file, written by one thread, and a PostgreSQL server.

An operation is a plain function of a SQLAlchemy connection. It may run again after a rollback, and
does nothing besides. Durations are seconds.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from .failures import Failure, failure_of

T = TypeVar("T")
Operation = Callable[[Connection], T]


class Engine(Protocol):
    """Runs operations on a database; raises what the driver raises."""

    name: str  # for texts: the file or the server, without a password
    has_pgvector: bool  # the server searches vectors; known after `migrate`

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that changes nothing, outside of a transaction."""
        ...

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one transaction; return each one's result, or the error it raised.

        Raises:
            Exception: An error of the database; nothing was written.
        """
        ...

    async def migrate(self) -> None:
        """Bring the tables up to date.

        Raises:
            PermanentFailure: A later version of garrison wrote them.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def run_all(
    connection: Connection,
    operations: Sequence[Operation[Any]],
    begin: str,
    before_commit: Callable[[Connection], None] = lambda connection: None,
) -> list[Any]:
    """Run operations in one transaction; those that fail by their own fault are left out.

    Args:
        connection: It commits each statement by itself.
        operations: They run again without the ones that failed.
        begin: The statement that begins a transaction.
        before_commit: Runs at its end.

    Raises:
        Exception: Another error than an operation's own; nothing was written.
    """
    failed: dict[int, Exception] = {}
    while True:
        index, outcomes = -1, list[Any]()
        connection.exec_driver_sql(begin)
        try:
            for index, operation in enumerate(operations):
                outcomes.append(failed[index] if index in failed else operation(connection))
            index = -1
            before_commit(connection)
            connection.exec_driver_sql("COMMIT")
        except Exception as error:
            _roll_back(connection)
            if index < 0 or failure_of(error) not in {Failure.OWN, Failure.SLOW}:
                raise
            failed[index] = error
        except BaseException:
            _roll_back(connection)
            raise
        else:
            return outcomes


def _roll_back(connection: Connection) -> None:
    """End a transaction; a connection on which that fails is not used again."""
    try:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
    except Exception:  # noqa: BLE001 (the error before it is raised)
        connection.invalidate()
