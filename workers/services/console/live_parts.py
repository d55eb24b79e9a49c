"""Parts of pages for streams: only those that have changed are sent. Pure."""

from collections.abc import Mapping


def partial(target: str, text: str, swap: str = "innerMorph") -> str:
    """Return a part for htmx: what an element, by its id, becomes."""
    return f'<hx-partial hx-target="#{target}" hx-swap="{swap}">{text}</hx-partial>'


class Changes:
    """What a page was sent last of each of its parts."""

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}

    def parts(self, now: Mapping[str, str], swap: str = "innerMorph") -> str:
        """Return the parts that are not as they were sent last; empty: all are.

        Args:
            now: The text of each part by its element's id.
            swap: How it takes the place of the former one.
        """
        changed = {key: text for key, text in now.items() if self._sent.get(key) != text}
        self._sent |= changed
        return "".join(partial(key, text, swap) for key, text in changed.items())

    def forget(self, known: Mapping[str, str]) -> None:
        """Drop what is none of these parts any more."""
        self._sent = {key: text for key, text in self._sent.items() if key in known}
