"""How a platform's connection is shown."""

from typing import Any

import pytest

from garrison.supervisor.cli.render.link import is_disconnected, link_lines, link_words

QUIET: dict[str, Any] = {
    "disconnected": None,
    "deaf": None,
    "last_in_s": None,
    "last_out_s": None,
    "last_alive_s": None,
    "last_probe_s": None,
}


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({}, "no message in yet, none out yet"),
        ({"last_alive_s": 5.0}, "no message in yet, none out yet, receiving side alive 5s ago"),
        ({"last_in_s": 7.0, "last_alive_s": 7.0}, "last message in 7s ago, none out yet"),
        (
            {"last_in_s": 7200.0, "last_out_s": 60.0, "last_alive_s": 3.0},
            "last message in 2h ago, last out 60s ago, receiving side alive 3s ago",
        ),
    ],
)
def test_a_quiet_channel_is_told_from_a_dead_one(link: dict[str, Any], words: str) -> None:
    """The sign of life is named where it is younger than the last message."""
    assert link_words(QUIET | link) == words


@pytest.mark.parametrize(
    ("link", "first"),
    [
        ({"disconnected": "the session is over"}, " ! disconnected: the session is over"),
        ({"deaf": "no answer"}, " ! its receiving side is deaf: no answer"),
        ({}, ": no message in yet, none out yet"),
    ],
)
def test_what_is_wrong_comes_first(link: dict[str, Any], first: str) -> None:
    """With the mark that `status` has for it."""
    assert link_lines({"link": QUIET | link})[0] == first


@pytest.mark.parametrize(
    ("row", "gone"),
    [
        ({}, False),
        ({"link": None}, False),
        ({"link": QUIET}, False),
        ({"link": QUIET | {"deaf": "x"}}, False),
        ({"link": QUIET | {"disconnected": "x"}}, True),
    ],
)
def test_only_an_end_for_good_is_a_state(row: dict[str, Any], gone: bool) -> None:
    """A deaf platform runs; another service has no link."""
    assert is_disconnected(row) is gone
