"""What `garrison why` gathers: the user who gave an order, from the events."""

from typing import Any

from garrison.supervisor.cli.why import add_users

AT = 1778054400.0


def given(verb: str, names: str, seconds: str = "00", user: str = "ada") -> dict[str, Any]:
    """Return the event about an order, at 08:00 and so many seconds."""
    data = {"verb": verb, "names": names, "uid": 1000, "user": user}
    return {
        "event": "order.given",
        "service": "",
        "time": f"2026-05-06T08:00:{seconds}Z",
        "data": data,
    }


def test_the_user_of_an_order_is_found_by_verb_name_and_time() -> None:
    """Not that of another order, and not where a service gave it."""

    def row(who: str = "operator", at: float = AT) -> dict[str, Any]:
        return {"order": {"verb": "stop", "who": who, "at": at}}

    rows = {
        "bot": row(),
        "ada.bot": row(),
        "agent": row("agent"),
        "late": row(at=AT + 30),
        "other": row(),
        "never": {"order": None},
    }
    events = [
        *(given("stop", "bot, ada.*, agent, late"), given("start", "other")),
        given("stop", "bot", "40", "eve"),
    ]
    add_users(rows, events)
    users = {name: (one["order"] or {}).get("user") for name, one in rows.items()}
    assert users == {
        "bot": "ada",
        "ada.bot": "ada",
        "agent": None,
        "late": None,
        "other": None,
        "never": None,
    }
