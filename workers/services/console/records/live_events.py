"""Turns events into rows for a page that is already shown. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from garrison.ipc.log_events import LogEvent
from garrison.ipc.record_pages import has_group

from .event_words import GROUPS, EventRow, row_of


class LiveEvents:
    """Goes on after a page.

    Args:
        groups: Groups of events that are shown; none: all.
        grep: A text that events contain; empty: any.
    """

    def __init__(self, groups: Sequence[str] = (), grep: str = "") -> None:
        self._groups, self._grep = groups, grep
        self._last = ("", 0)

    def go_on_after(self, page: Sequence[LogEvent]) -> None:
        """Note which event the page shows last."""
        if page:
            self._last = (page[-1].time, page[-1].n)

    def rows(self, added: Iterable[LogEvent]) -> Iterator[EventRow]:
        """Yield what is shown of events that were added."""
        for event in added:
            is_shown = (event.time, event.n) <= self._last
            text = f"{event.time} {event.text()}"
            if not is_shown and has_group(event, self._groups, list(GROUPS)) and self._grep in text:
                yield row_of(event)
