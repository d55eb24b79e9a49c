"""Notices from the mailbox to the service that posted a message: it could not be delivered.

The mailbox calls `$dead_letter`; only it does, so `dead_letter` is in no manifest.
"""

import inspect
from typing import Any

from garrison.ipc.mail import DeadLetter

from .internal_methods import logged

NAME = "dead_letter"


class DeadLetterNotices:
    """Receives the notices for one service.

    Args:
        service: The service.
    """

    def __init__(self, service: Any) -> None:
        self._service = service

    async def pass_dead_letter(self, mail: DeadLetter, reason: str) -> bool:
        """Call the service's `dead_letter`; return False if it has none."""
        if not inspect.isfunction(getattr(type(self._service), NAME, None)):
            return False
        with logged(NAME):
            result = self._service.dead_letter(mail, reason)
            if inspect.isawaitable(result):
                await result
        return True
