"""A flood among others' messages, gates, and `garrison answer`: a real host, and a platform in a
process of its own that keeps count."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.host import Host, Ran, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until

SLOW = "Too many messages: please wait a moment."
CONFIG = """
[defaults]
intensity = 0

[plugins.mailbox]
[plugins.eliza]
[plugins.fakechat]
use = "fakechat:complete"
[services.fakechat]
env = {{ FAKE = "{fake}" }}
[plugins.guard]
[plugins.agent]
[services.agent]
record_values = true
[services.agent.config]
per_person = {{ per_minute = 1, burst = 3 }}
gate_failure = "refuse"
gate_timeout = 2.0
"""
GUARD = '''
"""A gate, and a provider of context."""

from garrison.workers import Memory, Plugin, Provider, Refusal


async def gate(runtime: object, memory: Memory) -> str | Refusal | None:
    """Refuse advertising."""
    if "casino" in memory.content.text:
        return Refusal(reason="advertising")
    return "Not in here." if "secret" in memory.content.text else None


plugin = Plugin("guard", gate=gate, providers=[Provider("WEATHER", get=lambda: "It rains.")])
'''


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run one host for them."""
    files = {"guard.py": GUARD}
    with hosting(CONFIG.format(fake=fake.path), ["fakechat"], files=files) as running:
        fake.until_bots(1)
        yield running


def replies(fake: FakePlatform) -> dict[str, str]:
    """Return what was said to each message, by the message's id on the platform."""
    return {one.reply_to: one.text for one in fake.read() if one.bot and one.reply_to}


def until_replied(fake: FakePlatform, *messages: str) -> dict[str, str]:
    """Wait until each of some messages has a reply."""
    until(lambda: set(messages) <= set(replies(fake)), what="each message has a reply")
    return replies(fake)


def counted(host: Host, what: str) -> int:
    """Return what the agent counts, as `status` shows it."""
    found: int = (host.status("agent")["facts"] or {}).get(what, 0)
    return found


def warned(host: Host) -> str:
    """Return the agent's warnings."""
    return "\n".join(host.status("agent")["warnings"])


def answered(host: Host, *words: str, code: int = 0) -> Any:
    """Return the data of `garrison answer --json`."""
    ran: Ran = host.run("--json", "answer", *words)
    assert ran.code == code, ran
    return ran.answer["data"] if code == 0 else ran.answer["error"]


def test_a_flood_of_one_costs_the_others_nothing(host: Host, fake: FakePlatform) -> None:
    """Of 200 messages the burst is answered; the sender is told once; each other message, between
    them in the same room, is answered. A killed agent goes on where it was."""
    others, flood = [], []
    for number in range(200):
        flood.append(fake.say("hall", f"flood {number}", author="flooder"))
        if number % 20 == 0:
            others.append(fake.say("hall", "I am sad.", author=f"person{number}"))
    said = until_replied(fake, *others)
    own = [said[one] for one in flood if one in said]

    assert [text for text in own if text == SLOW] == [SLOW]
    assert len(own) == 4
    assert all(said[one] != SLOW for one in others)
    until(lambda: counted(host, "dropped") == 197, what="each excess message is counted")
    data = answered(host, flood[199])
    (row,) = data["details"]
    assert (row["state"], row["why"]["how"], row["sender"]) == ("dropped", "per_person", "flooder")

    host.until_reborn("agent", host.kill("agent"))
    late = fake.say("hall", "flood again", author="flooder")
    after = fake.say("hall", "I am sad.", author="afterwards")
    until_replied(fake, after)
    assert late not in replies(fake)


def test_a_gate_in_its_own_worker_refuses(host: Host, fake: FakePlatform) -> None:
    """With a text or in silence; where it is down, the config says that nothing passes."""
    silent = fake.say("gated", "casino!", author="a")
    told = fake.say("gated", "the secret is", author="b")
    passed = fake.say("gated", "I am sad.", author="c")
    said = until_replied(fake, told, passed)
    assert said[told] == "Not in here."
    assert silent not in said
    (row,) = answered(host, silent)["details"]
    assert (row["state"], row["why"]["how"], row["why"]["problem"]) == (
        "dropped", "gate guard", "advertising"
    )  # fmt: skip

    assert host.run("stop", "guard").code == 0
    try:
        refused = fake.say("gated", "I am glad.", author="d")
        assert until_replied(fake, refused)[refused] == "Sorry, I cannot answer just now."
        (row,) = answered(host, refused)["details"]
        assert "cannot be called" in row["why"]["problem"]
        until(lambda: "the gate of guard fails" in warned(host), what="status shows it")
    finally:
        host.run("start", "guard")
    again = fake.say("gated", "I am sad.", author="e")
    assert until_replied(fake, again)[again] not in {"", "Sorry, I cannot answer just now."}


async def test_what_is_old_when_its_turn_comes_has_no_answer(
    host: Host, fake: FakePlatform
) -> None:
    """It is recorded as expired."""
    content = {"text": "I am sad.", "source": "fakechat"}
    old = {"content": content, "id": "fakechat/attic/old", "room_id": "attic", "entity_id": "x"}
    await host.call("agent", "process_actions", old | {"created_at": time.time() - 3600})
    (row,) = answered(host, "old")["details"]

    assert row["state"] == "expired"
    assert "3600 s old" in row["why"]["problem"]
    assert not [one for one in fake.read() if one.channel == "attic"]


def test_why_an_answer_was_given(host: Host, fake: FakePlatform) -> None:
    """Found by the platform's id of the message or of the answer, and by the room; at 80 and at 200
    columns; with the prompt, because the config wants values recorded."""
    asked = fake.say("desk", "I am sad.", author="ada")
    said = until_replied(fake, asked)[asked]
    (own,) = [one.id for one in fake.read() if one.bot and one.channel == "desk"]
    until(lambda: answered(host, asked)["details"][0]["state"] == "done", what="it is recorded")
    by_question, by_answer = answered(host, asked), answered(host, own)

    assert by_question == by_answer
    (row,) = by_question["details"]
    assert (row["agent"], row["sender"], row["text"]) == ("agent", "ada", "I am sad.")
    assert row["why"]["providers"] == ["WEATHER"]
    assert row["why"]["context"] == "It rains."
    assert [one["service"] for one in row["why"]["models"]] == ["eliza"]
    assert "[user]\nI am sad." in row["why"]["prompt"]
    assert [(one["outcome"], one["ids"], one["text"]) for one in row["parts"]] == [
        ("sent", [own], said)
    ]
    room = answered(host, "fakechat/desk")
    assert room["details"] == by_question["details"]
    assert [one["answer"] for one in room["answers"]] == [said]
    for columns in ("80", "200"):
        shown = host.run("answer", asked, env={"COLUMNS": columns})
        assert shown.code == 0
        assert max(map(len, shown.out.splitlines())) <= int(columns)
        assert "It rains." in shown.out
        lines = host.run("answer", "-n", "3", env={"COLUMNS": columns}).out.splitlines()
        assert lines[0].split()[:2] == ["ID", "WHEN"]
        assert len(lines) == 5
    assert answered(host, "nix", code=4)["code"] == "no_such_message"


def test_an_agent_that_is_stopped_is_named(host: Host) -> None:
    """With what to do; without a supervisor the error is as of any verb."""
    assert host.run("stop", "agent").code == 0
    try:
        error = answered(host, code=1)
        assert "agent is stopped" in error["message"]
        assert "garrison" in error["message"]
        assert "start agent" in error["message"]
    finally:
        assert host.run("start", "agent").code == 0
    assert answered(host)["answers"]
