"""What people see: tables within the terminal's width, and text that cannot control a terminal."""

from typing import Any

import pytest

from garrison.supervisor.cli.render import crash, status, table
from garrison.supervisor.cli.render.lines import cut, fold, width_of
from garrison.supervisor.cli.render.status_table import status_table
from garrison.supervisor.cli.render.text import compact, counted, sanitize, size, span
from garrison.supervisor.crashes.report import CrashReport, CrashSummary, InFlight, RecentMessage

LONG = "a-service-with-a-rather-long-name-indeed"
AT = "2026-05-06T07:08:09.123Z"


def report(name: str, **facts: Any) -> CrashReport:
    """Return a crash report with calls of and to services that have this name."""
    messages = [
        RecentMessage(AT, "in", "call", name, f"do_{name}", 12_345_678, "in flight", 1, '["x"]'),
        RecentMessage(AT, "out", "reply", name, "b", 1, "RemoteError", 2),
    ]
    calls = [InFlight("in", name, f"do_{name}", 12, AT, 3.0, 1, value="v" * 300)]
    return CrashReport(
        id="bot-1", n=1, service="bot", at=AT, kind="signal", cause="was\x1b[31m killed",
        messages=messages, calls=2, in_flight=calls, in_flight_count=3, **facts,
    )  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], *parts: Any) -> list[str]:
    """Return the lines that are printed."""
    table.show(*parts)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", ["bot", LONG, "メールボックス" * 4])
def test_a_crash_report_fits_the_terminal(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are cut; times, sizes and outcomes are whole. A value stands below the table."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(capsys, *crash.full_report(report(name)))
    text = "\n".join(lines)

    assert max(map(len, lines)) <= columns
    assert "\x1b" not in text
    assert "died at" in lines[0]
    head = next(line.split() for line in lines if "OUTCOME" in line)
    assert head == ["TIME", "SERVICE", "METHOD", "BYTES", "KIND", "OUTCOME"]
    row = next(line for line in lines if "12345678" in line)
    assert row.split()[0].endswith("09.123")
    assert "call" in row.split()
    assert '["x"]' in text
    assert text.count("v") >= 300
    if columns == 200:
        assert name in row
        assert "raised" in text


def test_a_table_cuts_its_widest_columns_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first column is whole by default: it is what one types."""
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("0123456789abcdef", "short", "long " * 20)]
    head, row = shown(capsys, table.table(("ID", "WHAT", "WHY"), rows))

    assert head.split() == ["ID", "WHAT", "WHY"]
    assert row.startswith("0123456789abcdef  short  long")
    assert row.endswith("…")
    assert len(row) <= 40


def test_a_table_is_not_cut_where_there_is_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 200 columns a reason is whole."""
    monkeypatch.setenv("COLUMNS", "200")
    _, row = shown(capsys, table.table(("ID", "WHY"), [("a", "because " * 20)]))

    assert row.count("because") == 20


@pytest.mark.parametrize("columns", [24, 40, 60, 80])
def test_tables_can_be_read_in_a_narrow_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a column does not fit, it is left out or its cells stand below: none is cut to `4…`."""
    monkeypatch.setenv("COLUMNS", str(columns))
    facts = {"pid": 1234567, "rss_bytes": 31 << 20, "cpu_percent": 12.0, "reason": None}
    rows = [row(**facts, name="a-rather-long-name", state="running")]
    head = {"pid": 1, "uptime_s": 1.0, "home": "/h", "version": "1", "upgrade_pending": False}
    summary = CrashSummary(
        "bot-12", 12, "bot", AT, "signal", "its process was killed by SIGKILL", 61.0
    )

    listed = list(status_table({"supervisor": head, "services": rows}))
    crashes = shown(capsys, crash.summary_table([summary]))
    letter = ("0123456789", "someone", "12:00:00", "a reason " * 9)
    letters = shown(capsys, table.table(("ID", "RECEIVER", "SINCE", "WHY"), [letter]))

    for lines in (listed, crashes, letters):
        assert max(map(len, lines)) <= columns
    heads = next(line.split() for line in listed if "STATE" in line)
    cells = next(line.split() for line in listed if " running " in f"{line} " and "of" not in line)
    whole = {"PID": "1234567", "UP": "0s", "RESTARTS": "1", "RSS": "31M", "CPU": "12%"}
    assert heads[:2] == ["NAME", "STATE"]
    assert cells[1:] == ["running", *(whole[head] for head in heads[2:])]
    assert columns < 40 or any("1234567" in line for line in listed)
    assert any("bot-12" in line for line in crashes)
    words = " ".join(crashes).split()
    assert {"its", "process", "was", "killed", "by", "SIGKILL"} <= set(words)
    assert any("12:00:00" in line for line in letters)


def test_what_was_not_measured_yet_is_no_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker on a node has used memory before its node has reported how much."""
    facts = {"pid": 7, "cpu_percent": 0.0, "state": "running", "generation": 1, "beat_age_s": None}
    head = {"pid": 1, "uptime_s": 1.0, "home": "/h", "version": "1", "upgrade_pending": False}
    for rss, shown_as in ((0, ["-", "-"]), (5 << 20, ["5M", "0%"])):
        one = row(**facts, rss_bytes=rss)
        listed = [line.split() for line in status_table({"supervisor": head, "services": [one]})]
        assert next(cells for cells in listed if "running" in cells)[-2:] == shown_as
        detail = shown(capsys, status.service_detail(one, str))
        assert any("5M" in line for line in detail) == bool(rss)


def row(**facts: Any) -> dict[str, Any]:
    """Return a row of `status NAME`."""
    return {
        "name": "bot", "state": "backoff", "wanted": True, "reason": "no\x1b[2Jtoken",
        "service_type": "bot", "plugin": "bot", "pid": None, "uptime_s": 0.0, "restarts": 1,
        "health": None, "last_exit": None, "in_flight": 0, "facts": {"queue_s": 2, "held_bytes": 0},
    } | facts  # fmt: skip


def test_a_service_s_own_texts_cannot_control_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its reason, methods, notes and traceback are shown, without control characters."""
    facts = {
        "notes": ["a\x1bb"],
        "methods": [{"name": "m", "signature": "()", "summary": "s\x07"}],
        "traceback": ["T\x9bx"],
        "left_out": {"n": "w\r"},
        "deaths": [{"id": "bot-1", "at": AT, "cause": "c\x1b"}],
    }
    detail = status.service_detail(row(**facts), lambda rest: f"garrison {rest}")
    lines = shown(capsys, detail)

    assert all(line.isprintable() for line in lines)
    for part in ("bot is backoff, and wanted", "all of one: garrison death bot-1", "queue 2s"):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    ("text", "flat", "lines"),
    [
        ("a\nb\tc", "a b c", "a\nb\tc"),
        ("\x1b[31m\x9b\x7f", " [31m  ", " [31m  "),
        ("a\u202eb\u2066c\u2028d", "a b c d", "a b c d"),
        ("👩‍💻 é ä", "👩‍💻 é ä", "👩‍💻 é ä"),
    ],
)
def test_sanitize(text: str, flat: str, lines: str) -> None:
    """One rule for every text that a service or a user wrote."""
    assert sanitize(text) == flat
    assert sanitize(text, lines=True) == lines


def test_values_are_short() -> None:
    """Durations, sizes and counts take a few columns."""
    assert [span(s) for s in (0, 99, 100, 7200, 400_000)] == ["0s", "99s", "2m", "2h", "5d"]
    assert [size(n) for n in (0, 27 << 20, 12 << 30)] == ["0M", "27M", "12G"]
    assert [counted(n, "call") for n in (0, 1, 2000)] == ["0 calls", "1 call", "2,000 calls"]
    assert compact({"a": 1}) == '{"a":1}'
    assert compact("x" * 3000).endswith("(3,002 characters)")


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 20, ["one two three"]),
        ("one two three", 7, ["one two", "three"]),
        ("a-word-that-is-too-long here", 8, ["a-word-t", "hat-is-t", "oo-long", "here"]),
        ("メール box", 4, ["メー", "ル", "box"]),
        ("", 5, [""]),
    ],
)
def test_a_text_is_folded_between_words(text: str, width: int, lines: list[str]) -> None:
    """A word that is wider than a line is broken; wide characters count twice."""
    assert fold(text, width) == lines
    assert max(map(width_of, lines)) <= width


@pytest.mark.parametrize(
    ("text", "width", "shown_as"),
    [("bot", 3, "bot"), ("robot", 3, "ro…"), ("メール", 4, "メ…"), ("bot", 0, "")],
)
def test_a_text_is_cut_with_an_ellipsis(text: str, width: int, shown_as: str) -> None:
    """What is cut has at most the width; wide characters count twice."""
    assert cut(text, width) == shown_as


def test_a_crash_report_names_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    """A path or a pid in it is one of that machine; the supervisor's own machine is not named."""
    lines = shown(capsys, *crash.full_report(report("bot", node="box")))
    assert any(line.split() == ["node", "box"] for line in lines)
    lines = shown(capsys, *crash.full_report(report("bot")))
    assert not any(line.split()[:1] == ["node"] for line in lines)
