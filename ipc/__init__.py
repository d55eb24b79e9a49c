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
from .mail import DELIVER, EVENT, Delivery, EventPost, PostedMessage, PostRequest
from .messages import EMPTY_MAP, State
from .proxy import ServiceProxy, state, with_timeout

__all__ = [
    "DELIVER",
    "EMPTY_MAP",
    "EVENT",
    "CallError",
    "CallTimeout",
    "Client",
    "ConfigError",
    "Delivery",
    "EventPost",
    "GarrisonError",
    "InvalidCall",
    "OrderFailed",
    "Overloaded",
    "PermanentFailure",
    "PostRequest",
    "PostedMessage",
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
