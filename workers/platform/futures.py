"""Futures whose errors may go unread."""

import asyncio
from typing import Any


def retrieve_exception(future: "asyncio.Future[Any]") -> None:
    """Retrieve the exception, so that asyncio does not log it when no caller waits any more."""
    if not future.cancelled():
        future.exception()
