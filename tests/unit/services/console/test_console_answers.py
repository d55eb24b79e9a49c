"""The page Answers: lines of several agents, one answer in words, hostile texts."""

from typing import Any

from tests.support.console_visits import EVIL, FakeHost, listed, text_of, visit_of

from garrison.ipc import State
from garrison.workers.services.console.answer_rows import detail, merged, tools_used
from garrison.workers.services.console.pages import answers


def line(number: int, **more: Any) -> dict[str, Any]:
    """Return a line as an agent has it."""
    return {
        "id": f"discord/1/{number}",
        "source": "discord",
        "room": "1",
        "state": "done",
        "heard_at": float(number),
        "done_at": number + 2.5,
        "sender": "42",
        "name": "Lea",
        "text": "hello",
        "answer": "hi",
        "problem": "",
        **more,
    }


def whole(text: str = "x") -> dict[str, Any]:
    """Return everything that is recorded of an answer, with one text everywhere."""
    result = {"success": True, "text": text, "error": "", "values": {"k": text}, "data": {}}
    step = {
        "number": 0,
        "kind": "run",
        "name": text,
        "otherwise": False,
        "state": "done",
        "started_at": 1.0,
        "ended_at": 1.5,
        "results": [result],
        "arguments": {"a": text},
    }
    spare = step | {"kind": "reply", "state": "planned", "otherwise": True, "started_at": None}
    return line(1, text=text, name=text, sender=text, room=text) | {
        "decided_at": 1.25,
        "why": {
            "how": "model",
            "considered": {text: True, "OTHER": False},
            "providers": [text],
            "context": text,
            "models": [
                {
                    "model_type": "TEXT_LARGE",
                    "service": "openai",
                    "errors": {"anthropic": text},
                    "seconds": 0.5,
                    "tokens": {"input": 1200},
                }
            ],
            "problem": text,
            "prompt": text,
        },
        "steps": [step, spare],
        "parts": [
            {
                "number": 0,
                "step": 0,
                "id": text,
                "text": text,
                "attachments": [text],
                "outcome": "sent",
                "ids": [text, ""],
                "problem": text,
                "recorded_at": 1.0,
                "ended_at": 2.0,
            }
        ],
    }


def test_answers_of_several_agents_are_one_list() -> None:
    """The newest first; a person is found by name or id, whatever the case."""
    found = {
        "ada": {"answers": [line(1), line(5, name="Tom", sender="7")], "details": []},
        "bob": {"answers": [line(3)], "details": []},
    }
    assert [row["heard_at"] for row in merged(found, 2)["lines"]] == [5.0, 3.0]
    assert merged(found, 2)["more"]
    assert [row["agent"] for row in merged(found, 9, "tom")["lines"]] == ["ada"]
    assert [row["heard_at"] for row in merged(found, 9, "42")["lines"]] == [3.0, 1.0]


def test_an_answer_in_words() -> None:
    """A reply that was not needed is left out; times are from the message on."""
    shown = detail({"agent": "agent", **whole()})
    assert (shown["words"], shown["tone"]) == ("answered", "good")
    assert ("decided", "after", 0.25) in shown["facts"]
    (step,) = shown["shown_steps"]
    assert (step["head"], step["took"], step["given"]) == ("ran x", 0.5, '{"a":"x"}')
    assert step["results"] == ['succeeded: x: values {"k":"x"}']
    assert shown["shown_models"][0]["tokens"] == "1,200 input"
    assert shown["shown_parts"][0]["ids"] == "x, unknown"
    assert tools_used(whole("NOTIFY")) == ["NOTIFY: done"]


async def test_texts_of_answers_stay_text() -> None:
    """Of the list and of one answer with all that it has; also what was searched for."""
    entry = listed("agent", "agent", "answers")
    answer = {"answers": [line(1, text=EVIL, answer=EVIL, name=EVIL)], "details": [whole(EVIL)]}
    host = FakeHost([entry], {("agent", "answers"): answer})
    query = {"find": EVIL, "who": "<", "agent": ""}
    text = text_of(await answers.show(visit_of(host, query=query)))
    assert text.count("&lt;script&gt;") > 10
    assert host.calls == [("agent", "answers", (EVIL, 200))]


async def test_nothing_found_says_so() -> None:
    """With 404; an agent that does not run is named; none is configured."""
    entry = listed("agent", "agent", "answers")
    nothing: dict[str, Any] = {"answers": [], "details": []}
    host = FakeHost([entry], {("agent", "answers"): nothing})
    answer = await answers.show(visit_of(host, query={"find": EVIL}))
    assert answer.status_code == 404
    assert "No agent that runs has recorded" in text_of(answer)
    assert "Nothing is recorded yet" in text_of(await answers.show(visit_of(host)))
    away = FakeHost([listed("agent", "agent", state=State.STOPPED)], {})
    assert "agent is stopped" in text_of(await answers.show(visit_of(away)))
    assert "add [plugins.agent]" in text_of(await answers.show(visit_of(FakeHost([], {}))))
