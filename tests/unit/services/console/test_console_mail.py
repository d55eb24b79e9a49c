"""The page Mail: lists of several mailboxes, hostile texts, what a form selects, what follows."""

from typing import Any

import pytest
from tests.support.console_visits import EVIL, FakeHost, listed, text_of, visit_of

from garrison.ipc import OrderFailed, RemoteError, State
from garrison.workers.services.console.mail_rows import (
    SELECTED_MOST,
    is_settled,
    merged,
    outcomes,
    selected,
)
from garrison.workers.services.console.pages import mail


def letter(number: int, state: str = "dead", **more: Any) -> dict[str, Any]:
    """Return a message as a mailbox lists it."""
    return {
        "id": f"id{number}",
        "receiver": "shop",
        "method": "take",
        "state": state,
        "sender": "web",
        "key": None,
        "lane": None,
        "age_s": float(number),
        "expires_s": None,
        "attempts": 3,
        "retry_s": None,
        "deaths": 1,
        "death": "",
        "reason": f"refused\n{number}",
        "bytes": 5,
        **more,
    }


def listing(*letters: dict[str, Any], receiver: str = "shop", **more: Any) -> dict[str, Any]:
    """Return the answer of a mailbox's `ls`."""
    dead = sum(row["state"] == "dead" for row in letters)
    row = {
        "receiver": receiver,
        "waiting": len(letters) - dead,
        "dead": dead,
        "oldest_s": None,
        "oldest_dead_s": 7.0,
    }
    return {"receivers": [row], "letters": list(letters), "damaged": [], **more}


def host_of(**answers: Any) -> FakeHost:
    """Return a host with one mailbox."""
    entry = listed("mailbox", "mailbox", "ls", "show", "replay", "drop", "outcomes")
    return FakeHost([entry], {("mailbox", name): one for name, one in answers.items()})


def test_lists_of_several_mailboxes_are_one() -> None:
    """The oldest first, each state with a bound of its own; an older mailbox lacks some fields."""
    one = listing(letter(1), letter(3, "waiting"), receiver="b")
    two = listing(letter(2), letter(9), receiver="a")
    found = merged([one, two], 2)
    assert [row["id"] for row in found["dead"]] == ["id9", "id2"]
    assert [row["id"] for row in found["waiting"]] == ["id3"]
    assert [row["receiver"] for row in found["receivers"]] == ["a", "b"]
    assert (found["counts"], found["damaged_count"]) == ({"dead": 3, "waiting": 1}, 0)


@pytest.mark.parametrize(
    ("form", "ids"),
    [
        ({}, []),
        ({"id.a": "1", "sure": "yes", "id.b": "on", "id.": "1"}, ["a", "b"]),
        ({"all": "yes", "shown": "a,,b", "id.a": "1"}, ["a", "b"]),
        ({f"id.{n}": "1" for n in range(500)}, [str(n) for n in range(SELECTED_MOST)]),
    ],
)
def test_a_form_selects_by_its_checkboxes(form: dict[str, str], ids: list[str]) -> None:
    """At most as many as a form may have."""
    assert selected(form) == ids


def test_what_became_of_a_message_is_known_by_the_mailbox_that_had_it() -> None:
    """The others say that it is gone. A page looks again until nothing more happens."""
    gone = {"id": "a", "state": "gone", "receiver": "", "reason": ""}
    waits = {"id": "a", "state": "waiting", "receiver": "shop", "reason": ""}
    (row,) = outcomes([[gone], [waits]])
    assert (row["state"], row["words"]) == ("waiting", "waits for its delivery")
    assert not is_settled([row])
    (row,) = outcomes([[gone], [gone | {"state": "handled"}]])
    assert row["tone"] == "good"
    assert is_settled([row])
    assert is_settled(outcomes([[gone]]))


async def test_texts_of_messages_stay_text() -> None:
    """Of a list and of one message: its reason, its lane, its arguments."""
    evil = letter(1, reason=EVIL, lane=EVIL, sender=EVIL, key=EVIL, receiver="shop")
    damaged = {
        "id": "d",
        "receiver": EVIL,
        "method": "m",
        "key": "",
        "found_at": 5.0,
        "problem": EVIL,
    }
    answer = listing(evil, damaged_messages=[damaged], damaged_count=1, damaged=[EVIL])
    host = host_of(ls=answer, show=evil | {"args": [EVIL, b"\xff"], "kwargs": {"k": EVIL}})
    text = text_of(await mail.show(visit_of(host)))
    assert "&lt;script&gt;" in text
    assert 'name="id.id1"' in text
    one = text_of(await mail.show_one(visit_of(host, path={"id": "id1"})))
    assert "&lt;script&gt;" in one
    assert "once" not in one
    assert "3 times" in one


async def test_a_read_only_console_has_no_buttons() -> None:
    """It names the command instead."""
    host = host_of(ls=listing(letter(1)), show=letter(1) | {"args": [], "kwargs": {}})
    assert "/mail/replay" not in text_of(await mail.show(visit_of(host, readonly=True)))
    one = text_of(await mail.show_one(visit_of(host, readonly=True, path={"id": "id1"})))
    assert "/mail/replay" not in one
    assert "garrison mail replay id1" in one


async def test_a_replay_leads_to_what_becomes_of_it() -> None:
    """The page looks again as long as one waits."""
    state = {"id": "a", "state": "waiting", "receiver": "shop", "method": "take", "reason": ""}
    host = host_of(replay=2, outcomes=lambda _: [state])
    answer = await mail.replay(visit_of(host, form={"id.a": "1", "id.b": "1"}))
    assert answer.headers["location"] == "/mail/replayed?ids=a%2Cb&count=2"
    assert host.calls == [("mailbox", "replay", (["a", "b"],))]
    query = {"ids": "a", "count": "1"}
    page = text_of(await mail.replayed(visit_of(host, query=query)))
    assert 'hx-trigger="every 2s"' in page
    state |= {"state": "dead", "reason": EVIL}
    part = text_of(await mail.replayed(visit_of(host, query=query, part=True)))
    assert "dead again" in part
    assert "hx-trigger" not in part
    assert "<html" not in part


async def test_a_drop_is_asked_once_more() -> None:
    """Only the second POST drops."""
    state = {"id": "a", "state": "dead", "receiver": "shop", "method": "take", "reason": EVIL}
    host = host_of(drop=1, outcomes=[state])
    page = text_of(await mail.drop(visit_of(host, form={"id.a": "1"})))
    assert 'name="sure"' in page
    assert [method for _, method, _ in host.calls] == ["outcomes"]
    answer = await mail.drop(visit_of(host, form={"id.a": "1", "sure": "yes"}))
    assert answer.headers["location"] == "/mail?dropped=1"
    assert host.calls[-1] == ("mailbox", "drop", (["a"],))
    with pytest.raises(OrderFailed, match="select"):
        await mail.drop(visit_of(host, form={"sure": "yes"}))


async def test_a_page_says_why_it_is_empty() -> None:
    """No mailbox is configured; one that does not run is named."""
    text = text_of(await mail.show(visit_of(FakeHost([], {}))))
    assert "add [plugins.mailbox]" in text
    away = listed("mailbox", "mailbox", state=State.BACKOFF, reason=EVIL)
    text = text_of(await mail.show(visit_of(FakeHost([away], {}))))
    assert "mailbox is backoff" in text
    unknown = RemoteError("mailbox", "show", "LookupError: no message x", "LookupError", "")
    with pytest.raises(OrderFailed, match="no message x") as caught:
        await mail.show_one(visit_of(host_of(show=unknown), path={"id": "x"}))
    assert caught.value.code == "not_found"
