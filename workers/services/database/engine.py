"""The two engines: a SQLite file, written by one thread, and a PostgreSQL server.

An operation is a plain function of a SQLAlchemy connection. It may run again after a rollback, and
does nothing besides. Durations are seconds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from .failures import Failure, failure_of

T = TypeVar("T")
Operation = Callable[[Connection], T]


class UncertainCommit(ConnectionError):
    """The connection was lost during a commit: `committed` says later whether it took effect."""

    def __init__(self, transaction: str, outcomes: list[Any]) -> None:
        super().__init__(f"the connection was lost during the commit of {transaction}")
        self.transaction, self.outcomes = transaction, outcomes


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
            UncertainCommit: The connection was lost during the commit.
            Exception: Another error of the database; nothing was written.
        """
        ...

    async def committed(self, transaction: str) -> bool:
        """Return whether a transaction whose commit was uncertain took effect.

        Raises:
            ConnectionError: It has not ended yet.
        """
        ...

    async def migrate(self) -> None:
        """Bring the tables up to date.

        Raises:
            PermanentFailure: A later version of garrison wrote them.
        """
        ...

    async def backup(self, path: Path) -> int:
        """Write a consistent copy to a new file; return its size.

        Raises:
            FileExistsError: The file exists.
            NotImplementedError: The database has a program of its own for that.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def run_all(
    connection: Connection,
    operations: Sequence[Operation[Any]],
    begin: str,
    transaction_id: Callable[[Connection], str | None] = lambda connection: None,
) -> list[Any]:
    """Run operations in one transaction; those that fail by their own fault are left out.

    Args:
        connection: It commits each statement by itself.
        operations: They run again without the ones that failed.
        begin: The statement that begins a transaction.
        transaction_id: Returns what `committed` finds the transaction by.

    Raises:
        UncertainCommit: The connection was lost during the commit.
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
            _commit(connection, transaction_id(connection), outcomes)
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


def _commit(connection: Connection, transaction: str | None, outcomes: list[Any]) -> None:
    try:
        connection.exec_driver_sql("COMMIT")
    except Exception as error:
        if transaction is not None and failure_of(error) is Failure.LOST:
            raise UncertainCommit(transaction, outcomes) from error
        raise


def _roll_back(connection: Connection) -> None:
    """End a transaction; a connection on which that fails is not used again."""
    try:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
    except Exception:  # noqa: BLE001 (the error before it is raised)
        connection.invalidate()
