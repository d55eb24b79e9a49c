"""How services and programs talk: calls, proxies, errors, and `connect` for any program."""

from .client import Client, connect
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
from .mail import DELIVER, Delivery, Mail, Post
from .messages import State
from .proxy import ServiceProxy, state, with_timeout

__all__ = [
    "DELIVER",
    "CallError",
    "CallTimeout",
    "Client",
    "ConfigError",
    "Delivery",
    "GarrisonError",
    "InvalidCall",
    "Mail",
    "OrderFailed",
    "Overloaded",
    "PermanentFailure",
    "Post",
    "RemoteError",
    "ServiceLost",
    "ServiceProxy",
    "ServiceUnavailable",
    "StartError",
    "State",
    "SupervisorGone",
    "WireError",
    "connect",
    "state",
    "with_timeout",
]
