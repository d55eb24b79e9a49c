"""Reading for a page: by a program with a deadline, or by the supervisor for an operator."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from garrison.ipc import OrderFailed
from garrison.ipc.record_pages import Question
from garrison.workers.children.children import Children
from garrison.workers.services.console.records import operator_logs, reading
from garrison.workers.services.console.records.operator_logs import OperatorLogs
from garrison.workers.services.console.records.reading import RecordReading


class FakeRuntime:
    """What reading uses of a runtime."""

    def __init__(self) -> None:
        self.children = Children()

    async def process(self, command: Sequence[str], **options: Any) -> Any:
        """Start a process."""
        return await self.children.start(command, "call", None, cwd=None, **options)


async def test_a_search_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regular expression that would take years; the console goes on, and says what to do."""
    monkeypatch.setattr(reading, "READ_S", 1.0)
    runtime = FakeRuntime()
    records = RecordReading(cast(Any, runtime))
    endless = Question(texts={"bot": b"a" * 60 + b"!\n"}, pattern="(a+)+$")
    with pytest.raises(OrderFailed, match="choose fewer services") as raised:
        await records.page(endless)
    assert raised.value.code == "timed_out"
    await runtime.children.close()


async def test_a_page_is_read_and_a_mistake_is_said() -> None:
    """By the same program."""
    runtime = FakeRuntime()
    records = RecordReading(cast(Any, runtime))
    found = await records.page(Question(texts={"bot": b"one\ntwo\n"}, pattern="w"))
    assert [line.text for line in found.lines] == ["two"]
    with pytest.raises(OrderFailed, match="is no regular expression") as raised:
        await records.page(Question(texts={"bot": b""}, pattern="["))
    assert raised.value.code == "usage"
    await runtime.children.close()


class FakeLogs:
    """The order `logs`, of a service whose log grows by each order."""

    def __init__(self) -> None:
        self.whole = b"first\nsec"
        self.orders: list[tuple[str, dict[str, Any]]] = []

    async def order(self, verb: str, names: Sequence[str], **options: Any) -> dict[str, Any]:
        """Answer as the supervisor."""
        (name,) = names
        self.orders.append((verb, options))
        if name == "others":
            raise OrderFailed("not_allowed", "it is not among them")
        if options.get("rotated"):
            return {"data": b"rotated\n", "end": 8, "gap": False}
        after = options.get("after", 0)
        return {"data": self.whole[after:], "end": len(self.whole), "gap": after == 1}


async def test_an_operator_reads_by_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of each log that is allowed, then what is added; a line that is cut is one line."""
    monkeypatch.setattr(operator_logs, "EVERY_S", 0.0)
    fake = FakeLogs()
    logs = OperatorLogs(fake.order, ["bot", "others"])
    assert await logs.texts() == {"bot": b"rotated\nfirst\n"}
    fake.whole += b"ond\nthird\n"
    added = logs.added()
    assert [await anext(added), await anext(added)] == [("bot", "second"), ("bot", "third")]
    assert fake.orders[-1][1]["after"] == 9
    await added.aclose()

    with pytest.raises(OrderFailed, match="not among them"):
        await OperatorLogs(fake.order, ["others"]).texts()
