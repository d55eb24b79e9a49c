"""What an author of services needs: `Service`, `Plugin`, `ServiceType`, `Runtime`, `idempotent`."""

from garrison.ipc import PermanentFailure, state, with_timeout

from .plugin import Plugin
from .runtime import Runtime
from .service import Service, ServiceType, idempotent

__all__ = [
    "PermanentFailure",
    "Plugin",
    "Runtime",
    "Service",
    "ServiceType",
    "idempotent",
    "state",
    "with_timeout",
]
