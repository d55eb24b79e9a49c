"""Goes on with the trials of `garrison restart --try` that a former supervisor has begun."""

import time
from collections.abc import Callable

from garrison.ipc.messages import Order, Token
from garrison.supervisor.state.accepted_store import AcceptedStore

from .plugins import PluginRegistry
from .tasks import Steps

REPEATED_S = 3.0  # for the command that began one to give its order again


def unfinished_trials(
    accepted: AcceptedStore, plugins: PluginRegistry, take: Callable[[Token, Order], object]
) -> Steps:
    """Watch the trials that no command watches, once the services are registered.

    Args:
        accepted: Has them.
        plugins: Has what is registered.
        take: Begins to carry out an order.
    """
    stored = accepted.stored
    if stored is None or not stored.trials:
        return
    while not plugins.finished:
        yield False
    until = time.monotonic() + REPEATED_S
    while time.monotonic() < until:
        yield False
    for name, period in (accepted.stored or stored).trials.items():
        if name not in accepted.watched:
            take(b"", Order(0, "trial", (name,), options={"period": period}))
