"""Orders that outlive the host: which of two files knows the later one."""

from pathlib import Path

import pytest

from garrison.supervisor.lifecycle.order_note import OrderNote, is_loop, is_overtaken
from garrison.supervisor.lifecycle.pausing import PauseNote
from garrison.supervisor.state.orders import OperatorOrders, OrderStore, load_orders


def unsaved(problem: str) -> None:
    """Fail: the disk takes everything here."""
    pytest.fail(problem)


def store(tmp_path: Path) -> OrderStore:
    """Return the orders as the next supervisor reads them."""
    orders, problem = load_orders(tmp_path)
    assert not problem
    return OrderStore(tmp_path, orders, unsaved)


@pytest.mark.parametrize(
    ("autostart", "first", "last"), [(True, False, True), (False, True, False)]
)
def test_an_order_that_was_not_carried_out_is_pending(
    tmp_path: Path, autostart: bool, first: bool, last: bool
) -> None:
    """It is written before it is carried out; the number tells whether it was."""
    one = store(tmp_path)
    numbers = [one.next_number() for _ in range(2)]
    one.record("a", first, autostart, numbers[0])
    one.record("a", last, autostart, numbers[1])

    for done, pending in ((0, {"a": last}), (numbers[0], {"a": last}), (numbers[1], {})):
        note = OrderNote(done, "start" if first else "stop")
        assert store(tmp_path).reconcile([("a", note, autostart)]) == pending


def test_an_order_that_the_disk_did_not_take_is_entered_later(tmp_path: Path) -> None:
    """It was carried out, and the snapshot knows it."""
    assert store(tmp_path).reconcile([("a", OrderNote(7, "stop"), True)]) == {}

    one = store(tmp_path)
    assert one.is_stopped("a")
    assert one.next_number() == 8


def test_a_file_of_the_release_before_has_no_numbers(tmp_path: Path) -> None:
    """Nothing is pending then."""
    (tmp_path / "orders.json").write_text('{"format": 1, "stopped": ["a"], "started": []}')

    assert store(tmp_path).reconcile([("a", OrderNote(), True)]) == {}
    assert OperatorOrders().numbers == {}


def test_only_a_later_opposite_order_overtakes() -> None:
    """Two starts are one, and an earlier stop is over."""
    start, stop = OrderNote(2, "start"), OrderNote(3, "stop")
    assert is_overtaken(start, stop)
    assert not is_overtaken(stop, start)
    assert not is_overtaken(start, OrderNote(4, "restart"))


def test_the_fourth_restart_within_a_minute_is_a_loop() -> None:
    """The first may be a minute ago."""
    assert is_loop((100.0, 101.0, 102.0), 159.9)
    assert not is_loop((100.0, 101.0, 102.0), 160.0)
    assert not is_loop((101.0, 102.0), 103.0)


def test_a_pause_is_kept_with_who_ordered_it(tmp_path: Path) -> None:
    """The first pause holds until `resume`; a NAME without a note is paused as well."""
    one = store(tmp_path)
    first = PauseNote(5.0, "an operator", "repair")
    assert one.pause("a", first)
    assert one.pause("a", PauseNote(6.0, "b"))
    one.orders.paused.append("restored")
    assert one.pause("b", PauseNote())
    assert one.resume("b")

    after = store(tmp_path)
    assert [after.pause_of(name) for name in ("a", "restored", "b")] == [first, PauseNote(), None]
