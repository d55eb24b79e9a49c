"""How services and programs talk: calls, proxies, errors, and `connect` for any program.

Names that need asyncio are imported when they are first used: the supervisor and most of the
command line have no use for it, and it is a quarter of the time that they take to start.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .declared_errors import Busy, DeclaredError, ModelError, NotSent, RetryLater
from .errors import (
    CallError,
    CallTimeout,
    ConfigError,
    GarrisonError,
    InvalidCall,
    OrderFailed,
    Overloaded,
    PermanentFailure,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
    StartError,
    SupervisorGone,
    WireError,
)
from .mail import (
    DEAD_LETTER,
    DELIVER,
    EVENT,
    DeadLetter,
    Delivery,
    EventPost,
    PostedMessage,
    PostRequest,
)
from .messages import EMPTY_MAP, Attribution, State
from .tombstones import Tombstones

if TYPE_CHECKING:
    from .client import Client
    from .connection import connect
    from .proxy import ServiceProxy, state, with_timeout

__all__ = [
    "DEAD_LETTER",
    "DELIVER",
    "EMPTY_MAP",
    "EVENT",
    "Attribution",
    "Busy",
    "CallError",
    "CallTimeout",
    "Client",
    "ConfigError",
    "DeadLetter",
    "DeclaredError",
    "Delivery",
    "EventPost",
    "GarrisonError",
    "InvalidCall",
    "ModelError",
    "NotSent",
    "OrderFailed",
    "Overloaded",
    "PermanentFailure",
    "PostRequest",
    "PostedMessage",
    "RemoteError",
    "RetryLater",
    "ServiceLost",
    "ServiceProxy",
    "ServiceUnavailable",
    "StartError",
    "State",
    "SupervisorGone",
    "Tombstones",
    "WireError",
    "connect",
    "state",
    "with_timeout",
]

_MODULES = {
    "Client": "client",
    "ServiceProxy": "proxy",
    "connect": "connection",
    "state": "proxy",
    "with_timeout": "proxy",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value
