"""Which threads are listed before the others."""

from garrison.supervisor.processes.stacks import BUSY_MOST, busiest


def test_the_busiest_threads() -> None:
    """Those that used the processor, most first, a few of them; a new one has no measure yet."""
    before = {1: 100, 2: 50, 3: 7, 4: 0}
    assert busiest(before, {1: 110, 2: 90, 3: 7, 5: 1000}) == [2, 1]
    many = {number: number for number in range(1, 50)}
    assert busiest(dict.fromkeys(many, 0), many) == [*range(49, 49 - BUSY_MOST, -1)]
    assert busiest({}, {}) == []
