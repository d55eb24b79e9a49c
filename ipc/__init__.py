"""How services and programs talk: calls, proxies, errors, and `connect` for any program.

Each name is imported when it is first used: the supervisor and the command line have no use for
most of them, and imports are nearly all of the time that a command takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .connection import connect
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
    from .messages import EMPTY_MAP, TRACE_MOST, Attribution, Entry, State
    from .proxy import ServiceProxy, state, with_timeout
    from .tombstones import Tombstones
    from .trace_context import TraceContext

__all__ = [
    "DEAD_LETTER",
    "DELIVER",
    "EMPTY_MAP",
    "EVENT",
    "TRACE_MOST",
    "Attribution",
    "Busy",
    "CallError",
    "CallTimeout",
    "Client",
    "ConfigError",
    "DeadLetter",
    "DeclaredError",
    "Delivery",
    "Entry",
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
    "TraceContext",
    "WireError",
    "connect",
    "state",
    "with_timeout",
]

_MODULES = {  # name → the module that it is in
    "Attribution": "messages",
    "Busy": "declared_errors",
    "CallError": "errors",
    "CallTimeout": "errors",
    "Client": "client",
    "ConfigError": "errors",
    "DEAD_LETTER": "mail",
    "DELIVER": "mail",
    "DeadLetter": "mail",
    "DeclaredError": "declared_errors",
    "Delivery": "mail",
    "EMPTY_MAP": "messages",
    "EVENT": "mail",
    "Entry": "messages",
    "EventPost": "mail",
    "GarrisonError": "errors",
    "InvalidCall": "errors",
    "ModelError": "declared_errors",
    "NotSent": "declared_errors",
    "OrderFailed": "errors",
    "Overloaded": "errors",
    "PermanentFailure": "errors",
    "PostRequest": "mail",
    "PostedMessage": "mail",
    "RemoteError": "errors",
    "RetryLater": "declared_errors",
    "ServiceLost": "errors",
    "ServiceProxy": "proxy",
    "ServiceUnavailable": "errors",
    "StartError": "errors",
    "State": "messages",
    "SupervisorGone": "errors",
    "TRACE_MOST": "messages",
    "Tombstones": "tombstones",
    "TraceContext": "trace_context",
    "WireError": "errors",
    "connect": "connection",
    "state": "proxy",
    "with_timeout": "proxy",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value
