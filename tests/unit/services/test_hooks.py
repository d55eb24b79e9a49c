"""Hooks: what an event is, what is held back, what is delivered. Durations are seconds."""

import base64
import hashlib
import hmac
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.supervisor.config.hook_spec import HookOn
from garrison.workers.services.hooks import throttle
from garrison.workers.services.hooks.kinds import RULES, Troubled, choose, find
from garrison.workers.services.hooks.payload import (
    SENTENCES,
    call_arguments,
    headers,
    notice_id,
    parameters,
    payload_of,
    sample,
    text_of,
)
from garrison.workers.services.hooks.throttle import BURST_MOST, KEYS_MOST, Notice, Pending

STATE = "service.state"
DIED: dict[str, Any] = {"from": "running", "to": "queued", "exit": "was killed", "death": "bot-1"}


def kinds(event: str, data: dict[str, Any], troubled: Troubled | None = None) -> list[str]:
    """Return the kinds of one event."""
    return [one.kind for one in find(event, "bot", data, troubled or Troubled())]


@pytest.mark.parametrize(
    ("event", "data", "expected"),
    [
        (STATE, DIED, ["death"]),
        (STATE, {**DIED, "to": "backoff"}, ["death"]),
        (STATE, {**DIED, "to": "failed"}, ["failed", "death"]),
        (STATE, {"from": "starting", "to": "failed", "reason": "no token"}, ["failed"]),
        (STATE, {"from": "starting", "to": "backoff", "reason": "no route"}, ["death"]),
        (STATE, {"from": "running", "to": "stopping", "limit": True, "reason": "9 MiB"}, ["limit"]),
        (STATE, {"from": "running", "to": "stopping"}, []),
        (STATE, {"from": "stopping", "to": "stopped", "exit": "exited with code 0"}, []),
        (STATE, {"from": "starting", "to": "running"}, []),  # nothing was wrong
        ("service.unwell", {"problem": "no guild"}, ["unwell"]),
        ("service.well", {}, []),
        ("service.overrun", {"reason": "9 MiB"}, ["limit"]),
        ("plugin.unreadable", {"reason": "SyntaxError"}, ["failed", "config_rejected"]),
        ("disk.ok", {"reason": "2 GiB free"}, ["disk"]),
        ("platform.deaf", {"reason": "no answer"}, ["deaf"]),
        ("mail.dead", {"reason": "10 attempts failed"}, ["dead_letter"]),
        ("service.ordered", {"order": "stop"}, []),
    ],
)
def test_what_an_event_is(event: str, data: dict[str, Any], expected: list[str]) -> None:
    """A death that is the end of the restarts is delivered as that."""
    assert kinds(event, data) == expected
    assert choose(find(event, "bot", data, Troubled()), ["recovered"]) is None


def test_every_kind_of_the_config_has_a_rule_and_a_sentence() -> None:
    """Else a hook could be run on something that never is."""
    all_kinds = {one.value for one in HookOn}

    assert {kind for kind, _ in RULES.values()} | {"failed", "death", "recovered"} == all_kinds
    assert set(SENTENCES) == all_kinds


@pytest.mark.parametrize(
    ("trouble", "back"),
    [
        ((STATE, DIED), (STATE, {"from": "starting", "to": "running"})),
        ((STATE, {**DIED, "to": "failed"}), (STATE, {"from": "starting", "to": "running"})),
        (("service.unwell", {"problem": "no"}), ("service.well", {})),
        (("platform.deaf", {"reason": "no"}), ("platform.receives", {})),
    ],
)
def test_a_service_recovers_once_from_what_was_wrong(
    trouble: tuple[str, Any], back: tuple[str, Any]
) -> None:
    """Not from what another event shows, nor after it was stopped by order or removed."""
    troubled = Troubled()

    def of(one: tuple[str, Any]) -> list[str]:
        return kinds(one[0], one[1], troubled)

    of(trouble)
    assert of(("platform.receives" if back[0] != "platform.receives" else STATE, {})) == []
    assert of(back) == ["recovered"]
    assert of(back) == []
    for gone in ((STATE, {"from": "stopping", "to": "stopped"}), ("service.removed", {})):
        of(trouble)
        of(gone)
        assert of(back) == []


# --- held back ----------------------------------------------------------------------------


def notice(on: str = "death", service: str = "bot", n: int = 1) -> Notice:
    """Return a notice."""
    return Notice(notice_id("page", on, "", n), on, service, f"reason {n}", "", STATE)


def taken(pending: Pending) -> list[tuple[str, str, int]]:
    """Return what waits, and take it away."""
    found = [(one.on, one.reason, one.held) for one in pending.queue]
    pending.queue.clear()
    return found


def test_the_first_is_delivered_at_once_and_the_rest_is_a_count() -> None:
    """The next one has the last reason; after a quiet time it is at once again."""
    pending = Pending()
    for n in range(1, 6):
        pending.take(notice(n=n), 100.0 + n, 60.0)
    assert taken(pending) == [("death", "reason 1", 0)]
    assert pending.due(105.0, 60.0) == 161.0
    pending.release(160.9, 60.0)
    assert taken(pending) == []
    pending.release(161.0, 60.0)
    assert taken(pending) == [("death", "reason 5", 3)]
    pending.release(221.0, 60.0)
    pending.take(notice(n=6), 222.0, 60.0)
    assert taken(pending) == [("death", "reason 6", 0)]
    pending.take(notice(service="other"), 222.0, 60.0)
    assert len(taken(pending)) == 1


def test_that_it_is_back_comes_after_its_deaths_and_not_if_it_has_failed_since() -> None:
    """The last message that is read is true."""
    pending = Pending()
    for on, n in (("death", 1), ("recovered", 2), ("death", 3), ("recovered", 4)):
        pending.take(notice(on, n=n), 100.0 + n, 60.0)
    assert [on for on, _, _ in taken(pending)] == ["death", "recovered"]
    pending.release(170.0, 60.0)
    assert taken(pending) == [("death", "reason 3", 0), ("recovered", "reason 4", 0)]

    pending.take(notice("recovered", n=5), 171.0, 60.0)
    pending.take(notice("failed", n=6), 172.0, 60.0)
    pending.release(300.0, 60.0)
    assert taken(pending) == [("failed", "reason 6", 0)]

    late = Pending()
    for on, at in (("recovered", 100.0), ("death", 165.0), ("death", 166.0), ("recovered", 167.0)):
        late.take(notice(on, n=int(at)), at, 60.0)
    late.release(168.0, 60.0)  # its own time is over since 160
    assert [on for on, _, _ in taken(late)] == ["recovered", "death"]


def test_a_flood_is_a_bounded_number_of_deliveries() -> None:
    """10,000 deaths of one service, and of 5,000 services."""
    one, many = Pending(), Pending()
    for n in range(10_000):
        one.take(notice(n=n), 100.0 + n / 1000, 60.0)
        many.take(notice(service=f"bot-{n % 5000}", n=n), 100.0, 60.0)
        if n % 500 == 0:
            many.release(100.0, 60.0)

    assert len(one.queue) == 1
    assert one.windows["death bot"].held == 9_999
    assert len(many.queue) == BURST_MOST
    assert len(many.windows) == KEYS_MOST
    assert many.others > 4_000
    taken(many)
    many.release(161.0, 60.0)
    assert len(many.queue) == BURST_MOST
    assert many.queue[0].others == 10_000 - many_counted(many)


def many_counted(pending: Pending) -> int:
    """Return how many events are delivered or counted by kind and service."""
    held = sum(one.held for one in pending.windows.values())
    return BURST_MOST + held + sum(1 + one.held for one in pending.queue)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["death", "failed", "unwell", "disk"]),
            st.sampled_from(["a", "b", ""]),
            st.floats(0.0, 40.0),
            st.booleans(),
        ),
        max_size=80,
    )
)
def test_no_event_is_lost_and_none_comes_too_often(events: list[Any]) -> None:
    """Each is delivered, or counted in one that is; also where the file is read again."""
    pending, now, last = Pending(), 1000.0, dict[tuple[str, str], float]()
    seen = Counter[tuple[str, str]]()

    def deliver() -> None:
        for one in pending.queue:
            key = (one.on, one.service)
            assert now >= last.get(key, float("-inf")) + 30.0
            last[key] = now
            seen[key] += 1 + one.held
        pending.queue.clear()

    for n, (on, service, wait, is_read_again) in enumerate(events):
        now += wait
        if is_read_again:
            pending = msgspec.json.decode(msgspec.json.encode(pending), type=Pending)
            pending.restored(now, 30.0)
        pending.release(now, 30.0)
        deliver()
        pending.take(notice(on, service, n), now, 30.0)
        deliver()
    for _ in range(20):
        now += 31.0
        pending.release(now, 30.0)
        deliver()

    assert seen == Counter((on, service) for on, service, _, _ in events)
    assert pending.windows == {}


def test_a_clock_of_another_boot_holds_nothing_back_for_longer() -> None:
    """The machine's clock begins again at a boot."""
    pending = Pending()
    pending.take(notice(), 1e6, 60.0)
    pending.take(notice(n=2), 1e6, 60.0)
    pending.restored(5.0, 60.0)
    assert pending.due(5.0, 60.0) == 65.0


def test_without_a_time_each_is_delivered_as_far_as_there_is_room() -> None:
    """`every = 0`."""
    pending = Pending()
    for n in range(throttle.QUEUE_MOST + 5):
        pending.take(notice(n=n), 1.0, 0.0)
    assert len(pending.queue) == throttle.QUEUE_MOST
    taken(pending)
    pending.release(1.0, 0.0)
    assert taken(pending) == [("death", f"reason {throttle.QUEUE_MOST + 4}", 4)]


# --- what is delivered --------------------------------------------------------------------


def test_the_json_has_the_end_of_the_crash_report() -> None:
    """And a command that shows more."""
    report = {"kind": "signal", "cause": "it was killed", "exit": "…", "log": ["x" * 999] * 50}
    one = msgspec.structs.replace(notice(), death="bot-1", held=3)
    body = payload_of(one, "page", "alpha", "/h", report)

    assert body["death"]["log"] == ["x" * 300] * 10
    assert (body["look"], body["version"]) == ("garrison --home /h why bot", 1)
    assert body["text"] == "bot has died: reason 1 (3 more before this)"
    assert payload_of(one, "page", "alpha", "/h", None)["death"] == {"id": "bot-1"}
    assert (
        payload_of(notice("disk", ""), "p", "a", "/h", None)["look"] == "garrison --home /h status"
    )
    assert text_of(sample("death", "1", "")).startswith("[test] example has died: ")


@pytest.mark.parametrize("secret", ["plain", "whsec_" + base64.b64encode(b"key").decode()])
def test_a_webhook_is_signed_as_standard_webhooks_are(secret: str) -> None:
    """Over id, time and body, by the key itself or the one in base64."""
    key = b"key" if secret.startswith("whsec_") else b"plain"
    digest = hmac.new(key, b"m1.1700000000.{}", hashlib.sha256).digest()
    signed = headers("m1", 1_700_000_000, b"{}", secret)

    assert signed["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert "webhook-signature" not in headers("m1", 1, b"{}", "")


BODY = {"id": "h1", "text": "bot has died"}
NOTIFY = "(text: str, platform: str | None = None, attachments: list[Media] | None = None)"
DIRECT = "(person: str, content: str | Content, id: str = '', expect: bool = False) -> Sent"


@pytest.mark.parametrize(
    ("signature", "given_", "expected"),
    [
        (NOTIFY, {}, {"text": "bot has died"}),
        (NOTIFY, {"platform": "x"}, {"platform": "x", "text": "bot has died"}),
        (DIRECT, {"person": "7"}, {"person": "7", "content": "bot has died", "id": "h1"}),
        ("(what: dict[str, Any])", {}, {"what": BODY}),
        ("(a: Callable[[int, str], int], b: str)", {"a": 1}, {"a": 1, "b": "bot has died"}),
    ],
)
def test_the_first_parameter_that_is_not_set_gets_the_text(
    signature: str, given_: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Or all of the JSON; an `id` makes a repeated call one."""
    assert call_arguments(signature, given_, BODY) == expected


@pytest.mark.parametrize(
    ("signature", "given_", "problem"),
    [
        ("()", {}, "no parameter is left"),
        ("(text: str)", {"text": "x"}, "no parameter is left"),
        ("(text: str)", {"channel": "x"}, "`with` has channel"),
    ],
)
def test_a_method_that_cannot_take_it_is_named(
    signature: str, given_: dict[str, Any], problem: str
) -> None:
    """With what the method takes."""
    with pytest.raises(ValueError, match=problem) as raised:
        call_arguments(signature, given_, BODY)
    assert signature in str(raised.value)


def test_parameters_of_a_signature_that_was_cut() -> None:
    """A manifest has 500 characters of one."""
    assert parameters("(a: str, b: dict[str, An") == {"a": "str", "b": "dict[str, An"}
