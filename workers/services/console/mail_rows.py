"""What the page Mail shows of mailboxes' lists, and what a form selects. Pure.

Durations are seconds, times Unix seconds.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]

STATES = ("dead", "waiting")
SELECTED = "id."  # a checkbox of a message is named so, with its id behind it
SELECTED_MOST = 80  # fewer than a form may have fields
SETTLED = frozenset({"dead", "handled", "dropped", "expired", "damaged", "gone"})
WORDS = {
    "waiting": "waits for its delivery",
    "dead": "dead again",
    "handled": "handled by its receiver",
    "dropped": "dropped",
    "expired": "expired before it was delivered",
    "damaged": "damaged, and not delivered",
    "gone": "no longer in the mailbox: handled, dropped or expired",
}
TONES = {"handled": "good", "dead": "bad", "waiting": "odd"}


def merged(lists: Iterable[Mapping[str, Any]], most: int) -> Row:
    """Return the lists of several mailboxes as one: by receiver, and the oldest first.

    Args:
        lists: What `ls` of each mailbox returned.
        most: Messages of each state.
    """
    found = list(lists)

    def joined(key: str) -> list[Row]:
        return [row for one in found for row in one.get(key, ())]  # an older mailbox lacks some

    letters = sorted(joined("letters"), key=lambda row: -row["age_s"])
    by_state = {state: [row for row in letters if row["state"] == state][:most] for state in STATES}
    receivers = sorted(joined("receivers"), key=lambda row: str(row["receiver"]))
    damaged = sorted(joined("damaged_messages"), key=lambda row: -row["found_at"])[:most]
    return {
        "receivers": receivers,
        **by_state,
        "counts": {state: sum(row[state] for row in receivers) for state in STATES},
        "damaged_messages": damaged,
        "damaged_count": sum(one.get("damaged_count", 0) for one in found),
        "damaged": [path for one in found for path in one.get("damaged", ())],
    }


def tries(row: Mapping[str, Any]) -> int:
    """Return how often a message was delivered."""
    return int(row["attempts"]) + int(row["deaths"])


def first_line(text: str, most: int = 300) -> str:
    """Return the first line of a reason, cut where it is long."""
    line = next((one for one in text.splitlines() if one.strip()), "")
    return line if len(line) <= most else f"{line[:most]}…"


def selected(form: Mapping[str, str]) -> list[str]:
    """Return the ids that a form selects, or all that its page has, at most `SELECTED_MOST`."""
    if form.get("all") == "yes":
        return listed(form.get("shown", ""))
    ids = [name.removeprefix(SELECTED) for name in form if name.startswith(SELECTED)]
    return [one for one in ids if one][:SELECTED_MOST]


def listed(text: str) -> list[str]:
    """Return the ids of a list as an address has it."""
    return [one for one in text.split(",") if one][:SELECTED_MOST]


def outcomes(found: Iterable[Iterable[Mapping[str, Any]]]) -> list[Row]:
    """Return what became of messages, from what each mailbox knows of them, in their order."""
    known: dict[str, Row] = {}
    for rows in found:
        for row in rows:
            before = known.get(row["id"])
            if before is None or before["state"] == "gone":  # it was in another mailbox
                known[row["id"]] = dict(row)
    return [
        row
        | {
            "words": WORDS.get(row["state"], row["state"]),
            "tone": TONES.get(row["state"], "off"),
        }
        for row in known.values()
    ]


def is_settled(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether nothing more becomes of these messages by itself."""
    return all(row["state"] in SETTLED for row in rows)


def times(count: int) -> str:
    """Return how often in words; empty: never."""
    return {0: "", 1: "once", 2: "twice"}.get(count, f"{count} times")


def facts(row: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return what is known of one message: a name, how to show the value, and the value."""
    found: list[tuple[str, str, Any]] = [
        ("for", "text", f"{row['receiver']}.{row['method']}"),
        ("from", "text", row["sender"]),
        ("state", "text", row["state"]),
        ("posted", "ago", row["age_s"]),
        ("key", "text", row["key"]),
        ("lane", "text", row.get("lane")),
        ("next try in", "span", row.get("retry_s")),
        ("expires in", "span", row["expires_s"]),
        ("refused", "text", times(row["attempts"])),
        ("deaths", "text", f"{row['deaths']} of its receiver" if row["deaths"] else None),
        ("why", "lines", row["reason"]),
        ("args", "value", None if row["state"] == "damaged" else row["args"]),
        ("kwargs", "value", row["kwargs"] or None),
        ("row", "value", row.get("fields") or None),
    ]
    return [one for one in found if one[2] not in (None, "")]
