"""The TLS settings that the clients of a process share.

Loading the trusted certificates takes more memory and time than all else that a client begins with.
Where the launcher has loaded them, its workers share those pages.
"""

import functools
import os
from typing import Any

from garrison.workers import load_library

CHOICES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the environment's choice of certificates


def tls_context() -> Any:
    """Return the context of `httpx2`, by the environment of this process."""
    return _context(tuple(os.environ.get(name) for name in CHOICES))


@functools.lru_cache(maxsize=1)
def _context(_: tuple[str | None, ...]) -> Any:
    return load_library("httpx2", "httpx2").create_ssl_context()
