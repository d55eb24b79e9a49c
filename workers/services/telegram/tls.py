"""The TLS settings that all clients of a bot share, loaded in the launcher where it is warmed.

Loading the trusted certificates takes more memory and time than all else that a client begins with.
"""

import functools
import os
from typing import Any

from garrison.workers import load_library

CHOICES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the environment's choice of certificates


def tls_context() -> Any:
    """Return the context, by the environment of this process."""
    return _context(tuple(os.environ.get(name) for name in CHOICES))


@functools.lru_cache(maxsize=1)
def _context(_: tuple[str | None, ...]) -> Any:
    return load_library("httpx", "python-telegram-bot").create_ssl_context()
