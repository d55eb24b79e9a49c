"""What the service needs of a database, whichever it is."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, Protocol

from .results import Executed, Piece, Result
from .schema import Schema

BATCH = 200  # rows of a stream's piece


class Statement(NamedTuple):
    """A statement whose parameters are bound to places."""

    sql: str
    values: Sequence[Any]
    names: Sequence[str]


class Bounds(NamedTuple):
    """What a statement may take."""

    seconds: float
    rows: int
    size: int  # bytes


class Source(Protocol):
    """A database. Its errors are `SqlError`, and `RetryLater` where the server is away."""

    dialect: str
    numbered: bool  # its placeholders are $1, not ?1

    async def query(self, statement: Statement, bounds: Bounds) -> Result:
        """Run a statement that changes nothing."""
        ...

    def stream(self, statement: Statement, bounds: Bounds) -> AsyncGenerator[Piece, None]:
        """Yield all rows of a statement that changes nothing."""
        ...

    async def execute(self, statement: Statement, bounds: Bounds) -> Executed:
        """Run a statement in a transaction of its own, which is committed."""
        ...

    async def schema(self, name: str, bounds: Bounds) -> Schema:
        """Return the tables."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
