"""The free space of the home's disk: what is low, and when that is an event. Sizes are bytes."""

from pathlib import Path

import pytest

from garrison.supervisor.config.amount import amount, limit_of
from garrison.supervisor.config.values import ConfigValueError
from garrison.supervisor.disk import DiskState, DiskWatch, Space, assess, event_of

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "total", "limit"),
    [
        ("1GiB", 9, GIB),
        ("1.5 g", 9, 3 * GIB // 2),
        ("512MB", 9, GIB // 2),
        ("4096", 9, 4096),
        ("5%", 200, 10),
        ("0", 9, 0),
    ],
)
def test_an_amount_is_bytes_or_a_share(text: str, total: int, limit: int) -> None:
    """Units are of 1024, with and without their second letters."""
    assert limit_of(amount(text), total) == limit


@pytest.mark.parametrize("value", ["", "much", "100%", "-1", "1EiB", "5%%", True, 0.5, ["1GiB"]])
def test_what_is_no_amount_is_refused(value: object) -> None:
    """With an example."""
    with pytest.raises(ConfigValueError, match="1GiB"):
        amount(value)


def test_little_space_is_one_event_until_there_is_clearly_more() -> None:
    """What is freed and filled again in turns is none; the fullest disk counts."""
    state, events = DiskState(), list[str]()
    for free in (200, 100, 99, 80, 100, 109, 99, 110, 105, 50):
        after = assess([Space("/big", 10**9, 10**9), Space("/h", free, 1000)], "100", state)
        found, state = event_of(state, after), after
        if found:
            events.append(f"{found[0]} {found[1]['free_bytes']}")
            assert found[1]["folder"] == "/h"
    assert events == ["disk.low 99", "disk.ok 110", "disk.low 50"]
    assert assess([], "100", state) == state


def test_the_disks_of_a_home_are_watched(tmp_path: Path) -> None:
    """Those that can be read; with "0" none ever is."""
    watch = DiskWatch((tmp_path, tmp_path / "gone"), "99.9%")
    happened = watch.turn(1.0)
    assert happened is not None
    assert happened[0] == "disk.low"
    assert "below disk_low" in happened[1]["reason"]
    assert (watch.due, watch.state.low, watch.turn(20.0)) == (11.0, True, None)
    assert DiskWatch((tmp_path,), "0").due == float("inf")
