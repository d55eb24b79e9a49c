"""How the chain of causes behind a service's state is shown to people."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from .lines import terminal_width
from .text import sanitize

INDENT_MOST = 12  # columns, so that a long chain leaves room for its words
STEP = 2


def explanation(
    lines: Iterable[tuple[int, str]], mend: Sequence[dict[str, Any]], again: str
) -> Iterable[RenderableType]:
    """Return the facts, each below what it has caused, and what mends them.

    Args:
        lines: Each fact with its depth.
        mend: What is to be done, by `advice` and `command`; the first is shown.
        again: The command that shows what is left then.
    """
    most = min(INDENT_MOST, terminal_width() // 4)
    for depth, line in lines:
        text = Text(sanitize(line.expandtabs(4)), "bold" if depth == 0 else "", overflow="fold")
        yield Padding(text, (0, 0, 0, min(depth * STEP, most)))
    if not mend:
        yield Text("nothing is wrong with it", "green")
        return
    advice, command = mend[0]["advice"], mend[0]["command"]
    first = f"{sanitize(advice)}, then: " if advice else ""
    yield Text.assemble("→ ", first, (sanitize(command), "bold"), overflow="fold")
    if len(mend) > 1:
        yield Text(f"  for what is left then: {sanitize(again)}", overflow="fold")
