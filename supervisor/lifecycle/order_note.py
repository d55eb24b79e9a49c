"""An order to services: its place among all orders, and who gave it. Pure.

Times are Unix seconds; those of `is_loop` are monotonic.
"""

from collections.abc import Sequence

import msgspec

OPERATOR = "operator"  # who gave an order that came from no service
LOOP_ORDERS, LOOP_S = 3, 60.0  # restarts from inside in that time; the next one is refused


class OrderNote(msgspec.Struct, frozen=True):
    """One order, as each service that it is about remembers it."""

    number: int = 0  # a later order has a higher one; 0: none was given
    verb: str = ""
    who: str = OPERATOR  # or the NAME of the service that gave it
    why: str = ""  # in the words of who gave it
    at: float = 0.0
    chain: tuple[str, ...] = ()  # the services whose orders led to it, its sender first

    @property
    def wanted(self) -> bool:
        """Return whether the order is to run."""
        return self.verb not in {"stop", "down"}

    def words(self, name: str) -> str:
        """Return the order in words, for an error of a call that it ended.

        Args:
            name: The service that it ended.
        """
        origin = {OPERATOR: "", name: " from inside it"}.get(self.who, f" from {self.who}")
        order = self.verb if self.verb == "down" else f"{self.verb} {name}"
        why = f" ({self.why})" if self.why else ""
        return f"it was ended by the order `garrison {order}`{origin}{why}"


NO_ORDER = OrderNote()


def is_overtaken(note: OrderNote, latest: OrderNote) -> bool:
    """Return True if a later order to the same service says the opposite of this one."""
    return latest.number > note.number and latest.wanted is not note.wanted


def is_loop(accepted: Sequence[float], now: float) -> bool:
    """Return True if a service has restarted itself so often that the next order is refused.

    Args:
        accepted: When it gave the orders that were carried out.
        now: The time.
    """
    return sum(now - at < LOOP_S for at in accepted) >= LOOP_ORDERS
