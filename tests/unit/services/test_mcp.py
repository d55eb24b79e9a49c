"""The mcp service's decisions: which tools are offered, what of an answer is kept, what a server
gets."""

import itertools
from typing import Any

import msgspec
import pytest

from garrison.workers.services.mcp import McpService, backoff, secrets_problem
from garrison.workers.services.mcp.child_environment import environment, filled, missing_secrets
from garrison.workers.services.mcp.config import Config, ServerConfig
from garrison.workers.services.mcp.line_log import LineLog
from garrison.workers.services.mcp.lines import Lines, TooLong
from garrison.workers.services.mcp.results import (
    TEXT_MOST,
    as_action_result,
    resource_text,
    result_of,
)
from garrison.workers.services.mcp.tools import (
    ACTIONS_MOST,
    NAME_MOST,
    SCHEMA_MOST,
    ToolInfo,
    action_name,
    tool_of,
    with_actions,
    withheld,
)

PIXEL = "aGVsbG8="


# --- tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "tool", "expected"),
    [
        ("files", "read_file", "FILES_READ_FILE"),
        ("gh-eu", "create.issue", "GH_EU_CREATE_ISSUE"),
        ("a", "Überprüfen", "A_BERPR_FEN"),
        ("a", "日本", "A"),
    ],
)
def test_an_action_is_named_after_its_server_and_tool(
    server: str, tool: str, expected: str
) -> None:
    assert action_name(server, tool) == expected


def test_long_names_are_cut_and_stay_different() -> None:
    names = [action_name("server", f"{'x' * 80}{end}") for end in "ab"]
    assert len(set(names)) == 2
    assert all(len(name) == NAME_MOST for name in names)


def test_actions_differ_also_to_the_agent_which_ignores_case_and_underscores() -> None:
    tools = [ToolInfo("fs", "read_file"), ToolInfo("fs", "readFile"), ToolInfo("fs_read", "file")]
    tools += [ToolInfo("re", "ply"), ToolInfo("a", "日本"), ToolInfo("a", "中国")]
    names = [one.action for one in with_actions(tools)]
    assert names == ["FS_READ_FILE", "FS_READFILE_2", "FS_READ_FILE_3", "RE_PLY_2", "A", "A_2"]


DESTRUCTIVE = {"destructiveHint": True}


@pytest.mark.parametrize(
    ("hints", "allow", "deny", "is_offered"),
    [
        ({}, [], [], True),
        ({}, [], ["read_*"], False),
        ({}, ["read_*"], [], True),
        ({}, ["write_*"], [], False),
        ({}, ["read_*"], ["read_file"], False),
        (DESTRUCTIVE, [], [], False),
        (DESTRUCTIVE, ["read_file"], [], True),
        (DESTRUCTIVE, ["*"], ["*_file"], False),
        ({"destructiveHint": True, "readOnlyHint": True}, [], [], True),
        ({"destructiveHint": "yes"}, [], [], True),
    ],
)
def test_lists_and_hints_decide_what_is_offered(
    hints: dict[str, Any], allow: list[str], deny: list[str], is_offered: bool
) -> None:
    tool = tool_of("fs", {"name": "read_file", "inputSchema": {}, "annotations": hints})
    assert (withheld(tool, allow, deny) == "") is is_offered


@pytest.mark.parametrize(
    ("hints", "read_only", "may_repeat"),
    [
        (None, False, False),
        ({"readOnlyHint": True}, True, True),
        ({"idempotentHint": True}, False, True),
        ({"idempotentHint": "true", "readOnlyHint": 1}, False, False),
    ],
)
def test_a_tool_runs_twice_only_where_its_hint_says_so(
    hints: dict[str, Any] | None, read_only: bool, may_repeat: bool
) -> None:
    tool = tool_of("fs", {"name": "t", "annotations": hints})
    assert (tool.read_only, tool.idempotent) == (read_only, may_repeat)


def test_a_tool_that_no_model_can_call_is_withheld() -> None:
    odd = tool_of("fs", {"name": "odd", "inputSchema": {"type": "array"}})
    big = tool_of("fs", {"name": "big", "inputSchema": {"title": "x" * SCHEMA_MOST}})
    plain = tool_of("fs", {"name": "plain"})
    assert "not that of an object" in withheld(odd, ["*"], [])
    assert "bytes" in withheld(big, ["*"], [])
    assert (plain.parameters, withheld(plain, [], [])) == ({"type": "object"}, "")


def test_tools_beyond_what_a_manifest_holds_are_withheld() -> None:
    schema = {"type": "object", "title": "x" * 30_000}
    tools = with_actions(ToolInfo("fs", f"t{n}", parameters=schema) for n in range(10))
    assert [bool(one.action) for one in tools] == [n < ACTIONS_MOST // 30_300 for n in range(10)]
    assert "`allow`" in tools[-1].withheld


# --- results --------------------------------------------------------------------------------


def test_a_result_has_texts_attachments_and_data() -> None:
    found = result_of(
        {
            "content": [
                {"type": "text", "text": "one"},
                {"type": "image", "data": PIXEL, "mimeType": "image/png"},
                {"type": "audio", "data": PIXEL, "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "a:b", "text": "two"}},
                {"type": "resource", "resource": {"uri": "a:c", "blob": PIXEL, "mimeType": "x/y"}},
                {"type": "resource_link", "uri": "a:d", "name": "three"},
                {"type": "dance"},
            ],
            "structuredContent": {"n": 1},
        }
    )
    assert found.text == "one\ntwo\na:d: three\n[dance: it cannot be shown]"
    assert [one.url for one in found.attachments] == [
        f"data:image/png;base64,{PIXEL}",
        f"data:audio/wav;base64,{PIXEL}",
        f"data:x/y;base64,{PIXEL}",
    ]
    assert found.structured == {"n": 1}
    assert as_action_result(found, "A").data == {
        "structured": {"n": 1},
        "attachments": ["image/png", "audio/wav", "a:c"],
    }


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "data": "no base64!", "mimeType": "image/png"},
        {"type": "image", "data": PIXEL, "mimeType": "image/png;x=\n"},
        {"type": "image", "data": PIXEL},
        {"type": "image"},
        {},
    ],
)
def test_a_part_that_is_damaged_is_no_attachment(block: dict[str, Any]) -> None:
    assert result_of({"content": [block]}).attachments == []


def test_a_result_is_bounded() -> None:
    image = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
    found = result_of(
        {
            "content": [{"type": "text", "text": "é" * 300_000}, *[image] * 12],
            "structuredContent": {"text": "x" * 300_000},
        }
    )
    assert len(found.text) < TEXT_MOST + 100
    assert len(found.attachments) == 10
    assert found.structured is None


def test_a_failure_of_a_tool_is_a_failed_action() -> None:
    found = result_of({"content": [{"type": "text", "text": "no disk"}], "isError": True})
    made = as_action_result(found, "A")
    assert (made.success, made.error, made.text) == (False, "no disk", "")
    assert as_action_result(result_of({"isError": True}), "A").error


def test_data_that_the_text_says_already_is_left_out_for_the_model() -> None:
    raw = {"content": [{"type": "text", "text": '{"n": 1}'}], "structuredContent": {"n": 1}}
    assert as_action_result(result_of(raw), "A").data == {}


def test_the_text_of_a_resource_is_bounded_in_bytes() -> None:
    contents = [{"text": "é" * 10}, {"blob": PIXEL, "mimeType": "image/png"}]
    assert resource_text(contents, 1000) == "é" * 10 + "\n[binary: image/png]"
    assert resource_text(contents, 5) == "éé"


# --- lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_whole_however_they_arrive(size: int) -> None:
    data, lines = b"one\n\ntwo, longer\nhalf", Lines(10)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(itertools.chain.from_iterable(map(lines.feed, parts)))
    assert found == [b"one", b"", TooLong(11, None)]


BODY = b'"result":{"text":"%s"}' % (b"x" * 5000)
REQUEST = b'{"jsonrpc":"2.0","id":7,' + BODY + b"}"


@pytest.mark.parametrize(
    ("line", "request_id"),
    [
        (REQUEST, 7),
        (b"{" + BODY + b',"jsonrpc":"2.0","id":8}', 8),
        (b'{"jsonrpc":"2.0","id":"7",' + BODY + b"}", None),
        (b'{"result":{"x":"' + b"y" * 5000 + b'","jsonrpc":"2.0","id":8}}', None),
        (b"x" * 5000, None),
    ],
)
@pytest.mark.parametrize("size", [1, 300, 10_000])
def test_the_request_of_an_answer_that_is_too_long_is_known_by_its_ends(
    line: bytes, request_id: int | None, size: int
) -> None:
    lines, data = Lines(1000), line + b"\nnext\n"
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(itertools.chain.from_iterable(map(lines.feed, parts)))
    assert found == [TooLong(len(line), request_id), b"next"]


class Recorder:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, *args: Any) -> None:
        """Keep a line."""
        self.lines.append(text % args)

    warning = info


def test_a_server_that_talks_much_does_not_fill_the_log() -> None:
    recorder: Any = Recorder()
    log = LineLog(recorder, "files")
    for number in range(1000):
        log.add("stderr", b"%d " % number + b"x" * 10_000)
    assert 100 <= len(recorder.lines) < 150
    assert max(map(len, recorder.lines)) < 600
    assert log.last[-1].startswith("999 ")
    log.add("stderr", b"\x1b[31mred\r\xff")
    assert log.last[-1] == "\ufffd[31mred\ufffd\ufffd"


# --- secrets --------------------------------------------------------------------------------


def test_a_server_gets_its_own_secrets_alone() -> None:
    server = ServerConfig(command="x", secrets=["A"], env={"KEY": "Bearer ${A}", "PLAIN": "1"})
    found = environment(server, {"A": "secret", "B": "other"})
    assert found == {
        "A": "secret",
        "KEY": "Bearer secret",
        "PLAIN": "1",
    }


def test_headers_are_filled_and_what_is_missing_is_named() -> None:
    server = ServerConfig(url="http://x/mcp", secrets=["A", "B"], headers={"x-key": "${A}-${B}"})
    assert filled(server.headers, {"A": "1", "B": r"\1${A}"}) == {"x-key": r"1-\1${A}"}
    assert missing_secrets(server, {"A": "", "B": "2"}) == ["A"]


def test_a_secret_that_would_break_a_header_is_found_before_it_is_sent() -> None:
    web, local = ServerConfig(url="http://x", secrets=["A"]), ServerConfig("x", secrets=["A"])
    assert "A has characters" in secrets_problem(web, {"A": "a\r\nb: c"}, "mcp")
    assert secrets_problem(web, {"A": "ab"}, "mcp") == ""
    assert secrets_problem(local, {"A": "a\r\nb: c"}, "mcp") == ""
    assert "A has characters" in secrets_problem(local, {"A": "a\0b"}, "mcp")
    assert "[services.ada.mcp]" in secrets_problem(local, {"A": ""}, "ada.mcp")


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({}, "either a `command` or a `url`"),
        ({"command": "x", "url": "http://x"}, "either a `command` or a `url`"),
        ({"url": "ftp://x"}, "no address"),
        ({"url": "http://[x"}, "no address"),
        ({"url": "http://me:hush@x/mcp"}, "secret"),
        ({"url": "http://x/${A}", "secrets": ["A"]}, "secret"),
        ({"url": "http://x", "args": ["a"]}, "`args`"),
        ({"command": "x", "headers": {"a": "b"}}, "`headers`"),
        ({"command": "x", "args": ["--token=${A}"], "secrets": ["A"]}, "other users see them"),
        ({"command": "x", "env": {"KEY": "${A}"}}, "not among its `secrets`"),
        ({"url": "http://x", "headers": {"a": "b\r\nc: d"}}, "cannot be sent"),
        ({"command": "x", "env": {"A=B": "c"}}, "cannot be sent"),
        ({"command": "x\0"}, "NUL"),
        ({"command": "x", "timeout": 0}, "timeout"),
    ],
)
def test_a_server_that_cannot_be_is_an_error_of_the_config(
    server: dict[str, Any], problem: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem) as raised:
        msgspec.convert({"servers": {"files": server}}, Config)
    assert "hush" not in str(raised.value)
    assert "the server files: " in str(raised.value) or "timeout" in server


@pytest.mark.parametrize("name", ["", "1a", "a b", "a" * 33, "ä"])
def test_a_servers_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="no name of a server"):
        msgspec.convert({"servers": {name: {"command": "x"}}}, Config)


def test_the_service_has_the_keys_of_its_config() -> None:
    made = msgspec.convert({"servers": {"a": {"command": "x"}}}, McpService.Config)
    assert (made.servers["a"].timeout, made.wait, made.probe) == (60.0, 5.0, 60.0)


# --- coming back ----------------------------------------------------------------------------


def test_waits_double_to_a_minute_and_begin_anew_after_a_steady_time() -> None:
    assert [backoff.wait(n, 0.5) for n in (1, 2, 3, 8, 1000)] == [0.5, 1.0, 2.0, 60.0, 60.0]
    assert (backoff.wait(1, 0.0), backoff.wait(1, 1.0)) == (0.375, 0.625)
    assert backoff.failures_now(4, lasted=1.0, answered=False) == 5
    assert backoff.failures_now(4, lasted=30.0, answered=False) == 1
    assert backoff.failures_now(4, lasted=1.0, answered=True) == 1
