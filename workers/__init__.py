"""What an author of services needs: `Service`, `Plugin`, `ServiceType`, `Runtime`."""

from garrison.ipc import PermanentFailure, state, with_timeout

from .plugin import Plugin
from .runtime import Runtime
from .service import Service, ServiceType

__all__ = [
    "PermanentFailure",
    "Plugin",
    "Runtime",
    "Service",
    "ServiceType",
    "state",
    "with_timeout",
]
