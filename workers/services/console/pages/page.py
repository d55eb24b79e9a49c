"""`Page`: one address of the console."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from ..visit import Visit


@dataclass(frozen=True, slots=True)
class Page:
    """One address.

    Attributes:
        path: As Starlette takes it: `/mail`, `/deaths/{id}`.
        show: Makes the response.
        title: In the navigation; empty: it is not in it.
        method: "POST" for actions.
        needs: A permission of `[host] operators`, or "host": the host's own user and root alone.
        acts: It changes something: refused where the console is read-only.
    """

    path: str
    show: Callable[[Visit], Awaitable[Response]]
    title: str = ""
    method: str = "GET"
    needs: str = "host"
    acts: bool = False
