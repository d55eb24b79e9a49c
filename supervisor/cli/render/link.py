"""How a platform's connection is shown to people: its last traffic, and what is wrong. Pure."""

from typing import Any

from .text import span

SAME_S = 1.0  # two signs of life as close as that are one


def is_disconnected(row: dict[str, Any]) -> bool:
    """Return whether a service's process runs, and its connection has ended for good.

    Args:
        row: As `status` has it.
    """
    return bool((row.get("link") or {}).get("disconnected"))


def link_lines(row: dict[str, Any]) -> list[str]:
    """Return the lines about a platform's connection, without its NAME; else none."""
    link = row.get("link")
    if not link:
        return []
    return [*(f" ! {problem}" for problem in link_problems(row)), f": {link_words(link)}"]


def link_problems(row: dict[str, Any]) -> list[str]:
    """Return what is wrong with a platform's connection."""
    link, found = row.get("link") or {}, []
    if link.get("disconnected"):
        found.append(f"disconnected: {link['disconnected']}")
    if link.get("deaf"):
        found.append(f"its receiving side is deaf: {link['deaf']}")
    return found


def link_words(link: dict[str, Any]) -> str:
    """Return a platform's last traffic. A quiet channel is not a dead one: both are named."""
    last_in, alive = link["last_in_s"], link["last_alive_s"]
    words = ["no message in yet" if last_in is None else f"last message in {_ago(last_in)}"]
    out = link["last_out_s"]
    words.append("none out yet" if out is None else f"last out {_ago(out)}")
    if alive is not None and (last_in is None or alive < last_in - SAME_S):
        words.append(f"receiving side alive {_ago(alive)}")
    return ", ".join(words)


def _ago(seconds: float) -> str:
    return f"{span(seconds)} ago"
