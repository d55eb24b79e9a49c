"""Pages of recorded lines and events: nothing is twice on them, and nothing is left out."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from garrison.ipc.log_files import rotated_path
from garrison.ipc.record_pages import (
    LATEST,
    SHOWN_CHARS,
    Answer,
    Cursor,
    Question,
    after_page,
    before_page,
    page_of,
    without_escapes,
)
from garrison.ipc.record_reader import answer

TIMES = [1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0]
ITEMS = [(at, number) for number, at in enumerate(TIMES)]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 9, 10])
def test_pages_backward_have_each_item_once(most: int) -> None:
    """Also where many have the same time, and a page ends among them."""
    cursor: Cursor | None = None
    seen: list[int] = []
    is_earlier = True
    while is_earlier:
        page, is_earlier, is_later = page_of(ITEMS, cursor, False, most)
        assert is_later == (cursor is not None)
        seen = [number for _, number in page] + seen
        cursor = before_page([at for at, _ in page], cursor, False)

    assert seen == list(range(len(TIMES)))


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 9, 10])
def test_pages_forward_have_each_item_once(most: int) -> None:
    """The same from the beginning."""
    cursor: Cursor | None = None
    seen: list[int] = []
    is_later = True
    while is_later:
        page, _, is_later = page_of(ITEMS, cursor, True, most)
        seen += [number for _, number in page]
        cursor = after_page([at for at, _ in page], cursor, True)

    assert seen == list(range(len(TIMES)))


def stamp(second: int) -> str:
    return f"2026-05-06T12:00:{second:02}.000Z"


def mark(second: int, name: str, generation: int, text: str) -> str:
    pid = 100 + generation
    return f"{stamp(second)} INFO service={name} generation={generation} pid={pid} {name}: {text}"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two services, one with a rotated file and two incarnations."""
    bot = [
        mark(1, "bot", 1, "one"),
        "printed",
        mark(5, "bot", 1, "two"),
        mark(7, "bot", 2, "three"),
    ]
    rotated_path(tmp_path / "bot.log", 1).write_text("\n".join(bot[:2]) + "\n")
    (tmp_path / "bot.log").write_text("\n".join(bot[2:]) + "\n")
    (tmp_path / "other.log").write_text(
        mark(3, "other", 9, "service=bot generation=7 pid=1 ") + "\n"
    )
    events = [
        {"n": 1, "time": stamp(1), "event": "supervisor.started"},
        {"n": 2, "time": stamp(2), "event": "service.state", "service": "bot"},
        {"n": 3, "time": stamp(3), "event": "order.given", "service": ""},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    return tmp_path


def last_words(found: Answer) -> list[str]:
    return [line.text.rpartition(" ")[2] for line in found.lines]


def test_lines_are_merged_by_time_with_their_incarnations(logs: Path) -> None:
    """A line of another service that has a mark of this one in its text is no mark."""
    found = answer(Question(folder=str(logs)))

    assert last_words(found)[:2] == ["one", "printed"]
    assert [line.service for line in found.lines] == ["bot", "bot", "other", "bot", "bot"]
    assert [line.generation for line in found.lines] == [1, 1, 9, 1, 2]
    assert [line.is_timed for line in found.lines] == [True, False, True, True, True]
    assert found.services == ["bot", "other"]


@pytest.mark.parametrize(
    ("generation", "pid", "words"),
    [
        (1, 0, ["one", "printed", "two"]),
        (1, 101, ["one", "printed", "two"]),
        (2, 0, ["three"]),
        (LATEST, 0, ["three"]),
        (LATEST, 101, ["one", "printed", "two"]),
        (1, 999, []),
        (3, 0, []),
    ],
)
def test_one_incarnation_is_found_by_its_marks(
    logs: Path, generation: int, pid: int, words: list[str]
) -> None:
    """In rotated files too, with a list of all that there were."""
    question = Question(
        folder=str(logs), names=["bot"], generation=generation, pid=pid, forward=True
    )
    found = answer(question)

    assert last_words(found) == words
    assert [(one.generation, one.pid, one.lines) for one in found.incarnations] == [
        (1, 101, 3),
        (2, 102, 1),
    ]
    assert bool(found.generation) == bool(words)


def test_a_search_reads_rotated_files_and_names_its_mistake(logs: Path) -> None:
    """A regular expression that is none is an error with its reason."""
    assert last_words(answer(Question(folder=str(logs), pattern="(one|two)$"))) == ["one", "two"]
    found = answer(Question(folder=str(logs), pattern="("))
    assert "is no regular expression: missing )" in found.problem
    assert found.lines == []


def test_what_an_operator_was_given_is_read_the_same(logs: Path) -> None:
    """Without the files, which only the host's own user can read."""
    texts = {"bot": (logs / "bot.log").read_bytes(), "plain": b"no time\nnone \xff\n"}
    found = answer(Question(texts=texts, now=1.0))

    assert [line.text for line in found.lines if line.service == "plain"] == [
        "no time",
        "none \ufffd",
    ]
    assert "two" in last_words(found)


def test_events_are_chosen_by_their_groups_and_names(logs: Path) -> None:
    """Of the host and of services."""

    def numbers(**options: object) -> list[int]:
        question = msgspec.convert({"folder": str(logs), "of_events": True, **options}, Question)
        return [event.n for event in answer(question).events]

    assert numbers() == [1, 2, 3]
    assert numbers(groups=["order", "supervisor"]) == [1, 3]
    assert numbers(names=["b*"]) == [2]
    assert numbers(most=1) == [3]
    assert numbers(pattern="given") == [3]


def test_lines_have_no_colours_and_are_cut() -> None:
    """How much is left out is known."""
    text = "\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]0;title\x07 end"
    assert without_escapes(text) == "red link end"
    found = answer(Question(texts={"bot": b"x" * (SHOWN_CHARS + 7)}))
    assert [(len(line.text), line.cut) for line in found.lines] == [(SHOWN_CHARS, 7)]


def test_the_program_answers_on_its_standard_output(logs: Path) -> None:
    """One question, one answer."""
    ran = subprocess.run(
        [sys.executable, "-m", "garrison.ipc.record_reader"],
        input=msgspec.msgpack.encode(Question(folder=str(logs), most=1)),
        capture_output=True,
        check=True,
    )
    found = msgspec.msgpack.decode(ran.stdout, type=Answer)
    assert last_words(found) == ["three"]
    assert found.is_earlier
