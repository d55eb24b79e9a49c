"""What a command says to the supervisor, and what it is answered; a part of the control messages.

Most commands need no others, and the others take longer to import than most commands take.
"""

from typing import Any

import msgspec

from garrison.ipc.marks import Identifier, Text


class Leave(msgspec.Struct, tag="bye", frozen=True):
    """A program leaves."""


class Order(msgspec.Struct, tag="order", frozen=True):
    """A request of the command line. The supervisor sends one `Answer`, or several."""

    id: int
    verb: Identifier
    names: tuple[Identifier, ...] = ()
    wait: float = 0.0  # seconds until the answer is "timed out"
    options: dict[Identifier, Any] = {}
    mark: Identifier = ""  # of the incarnation whose process, or its child, gives the order
    why: Text = ""
    person: Text = ""  # the operator in a chat whose order a service passes on
    behalf: int = -1  # uid of the user whose order a service passes on; -1: it is its own


class Identify(msgspec.Struct, tag="introduce", frozen=True):
    """The supervisor does not know this connection: send Hello or Join, as after a restart."""


class Answer(msgspec.Struct, tag="answer", frozen=True):
    """The result of an `Order`; with `more`, another answer follows."""

    id: int
    ok: bool
    data: Any = None
    code: str = ""
    message: str = ""
    more: bool = False
