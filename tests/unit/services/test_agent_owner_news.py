"""What an owner is told of services: one line for each, however much it was."""

from typing import Any

import msgspec
import pytest

from garrison.workers.services.agent.owner import news as owner_news
from garrison.workers.services.agent.owner.news import News, span

KILLED = {"exit": "was killed by SIGKILL"}
ORDERED = "service.ordered"

Told = tuple[float, str, dict[str, Any]]  # seconds, event or the next state, its fields


def moves(*steps: Told, news: News | None = None, name: str = "discord") -> News:
    """Return the news after a service's transitions, each at a time."""
    found, before = news or News(), "running"
    for at, what, data in steps:
        if "." in what:
            found.take(what, name, data, at)
            continue
        found.take("service.state", name, {"from": before, "to": what, **data}, at)
        before = what
    return found


BACK: list[Told] = [(1.0, "initializing", {}), (2.0, "starting", {}), (2.5, "running", {})]


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        ([], []),
        (
            [(0.0, "queued", KILLED), *BACK],
            ["discord was restarted: it was killed by SIGKILL. It is back after 2.5 s."],
        ),
        (
            [(0.0, "queued", {**KILLED, "reason": "ValueError: no"}), *BACK],
            ["discord was restarted: ValueError: no. It is back after 2.5 s."],
        ),
        (
            [(0.0, "stopping", {"reason": "its loop was silent"}), (0.5, "queued", KILLED), *BACK],
            ["discord was restarted: its loop was silent. It is back after 2.0 s."],
        ),
        (
            [(0.0, "queued", KILLED), (0.5, "initializing", {})],
            ["discord is down: it was killed by SIGKILL. It is tried again."],
        ),
        (
            [(0.0, "backoff", {**KILLED, "wait_s": 3600.0})],
            ["discord is down: it was killed by SIGKILL. It is tried again in 60 min."],
        ),
        (
            [(0.0, "failed", {"exit": "exited with code 1", "reason": "the token is refused"})],
            ["discord gave up: the token is refused. To start it: garrison restart discord"],
        ),
        (
            [(0.0, "failed", {**KILLED, "wait_s": 15.0})],
            ["discord gave up: it was killed by SIGKILL. It is tried again in 15 s."],
        ),
        (
            [(0.0, "stopped", {"exit": "exited with code 0"})],
            ["discord has ended: it exited with code 0. It is not started again."],
        ),
        ([(0.0, "stopping", {}), (0.1, "stopped", {**KILLED, "reason": "by order"})], []),
        ([(0.0, "stopping", {}), (0.1, "queued", {"exit": "exited with code 0"}), *BACK], []),
        ([(0.0, ORDERED, {}), (0.1, "stopping", {"reason": "old"}), (0.2, "queued", KILLED)], []),
        ([(0.0, "service.taken_along", {}), (0.1, "stopping", {}), (0.2, "queued", KILLED)], []),
        ([(0.0, "unheard.of", {}), (0.1, "service.unwell", {})], []),
    ],
)  # fmt: skip
def test_a_history_is_a_line(steps: list[Told], lines: list[str]) -> None:
    """The operator's own orders are no news."""
    news = moves(*steps)

    assert news.lines() == lines
    assert news.is_any == bool(lines)


def test_a_flapping_service_is_one_line_with_a_count() -> None:
    """However often it was restarted since the last message."""
    crash: list[Told] = [(10.0 * n, "queued", KILLED) for n in range(5)]
    steps = [step for one in crash for step in (one, (one[0] + 1, "running", {}))]
    news = News()
    for at, what, data in steps:
        moves((at, what, data), news=news)

    assert news.lines() == [
        "discord was restarted 5 times within 41 s: it was killed by SIGKILL. It runs now."
    ]
    news.note_reported()
    assert news.lines() == []


def test_what_was_told_is_not_told_again_and_its_end_is() -> None:
    """A service that stays down is one message; its return another."""
    news = moves((0.0, "backoff", KILLED))
    assert "is down" in news.lines()[0]
    news.note_reported()
    moves((5.0, "backoff", KILLED), news=news)
    assert not news.is_any

    moves((6.0, "failed", KILLED), news=news)
    assert "gave up" in news.lines()[0]
    news.note_reported()
    moves((40.0, "running", {}), news=news)
    assert news.lines() == ["discord is back after 40 s."]
    news.note_reported()
    assert not news.is_any


def test_a_crash_after_a_return_that_was_not_told_is_counted() -> None:
    """Its owner reads of one outage, and of each crash in it."""
    news = moves((0.0, "backoff", KILLED))
    news.note_reported()
    moves((5.0, "running", {}), news=news)
    moves((6.0, "queued", {"exit": "exited with code 1"}), news=news)
    assert not news.is_any
    moves((7.0, "failed", KILLED), news=news, name="telegram")
    news.note_reported()  # of another one

    moves((9.0, "running", {}), news=news)
    assert news.lines() == [
        "discord is back after 9.0 s. It was restarted 1 more time: it exited with code 1."
    ]


def test_a_start_that_fails_after_an_order_is_news() -> None:
    """The order itself is none."""
    news = moves((0.0, "stopping", {}), (0.1, "queued", {"exit": "exited with code 0"}))
    assert not news.is_any

    moves((0.2, "backoff", {"reason": "the port is taken", **KILLED}), news=news)
    assert news.lines() == ["discord is down: the port is taken. It is tried again."]


def test_an_order_to_stop_ends_what_was_told() -> None:
    """Its later start is no news."""
    news = moves((0.0, "backoff", KILLED))
    news.note_reported()
    news.take("service.state", "discord", {"from": "stopping", "to": "stopped"}, 1.0)
    moves((9.0, "running", {}), news=news)

    assert not news.is_any


def test_a_platform_that_receives_nothing_is_news_and_so_is_its_end() -> None:
    """Its process runs all the time."""
    news = News()
    news.take_link("discord", "the gateway does not answer")
    assert news.lines() == ["discord receives nothing: the gateway does not answer."]
    news.note_reported()
    news.take_link("discord", "")
    assert news.lines() == ["discord receives again."]


def test_a_message_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, the characters of a reason, and the services that are known."""
    monkeypatch.setattr(owner_news, "SERVICES_MOST", 30)
    news = News()
    for number in range(40):
        moves((0.0, "failed", {"reason": "x" * 999, **KILLED}), news=news, name=f"s{number}")

    assert len(news.services) == 30
    assert len(news.lines()) == 21
    assert news.lines()[-1] == "and 10 more: garrison status"
    assert max(map(len, news.lines())) < 300


def test_news_outlast_the_agent() -> None:
    """They are stored as JSON."""
    news = moves((0.0, "backoff", KILLED))
    again = msgspec.json.decode(msgspec.json.encode(news), type=News)

    assert again.lines() == news.lines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "1 ms"), (0.034, "34 ms"), (2.54, "2.5 s"), (40, "40 s"), (180, "3 min"), (9000, "2 h")],
)
def test_spans(seconds: float, text: str) -> None:
    """As people read them."""
    assert span(seconds) == text
