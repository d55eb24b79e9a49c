"""Which GPUs a service uses."""

import pytest

from garrison.supervisor.placing.devices import Devices, choose, held_of


@pytest.mark.parametrize(
    ("amount", "total", "held", "expected"),
    [
        (1.0, 4.0, {}, (0,)),
        (2.0, 4.0, {0: 1.0, 2: 1.0}, (1, 3)),
        (4.0, 4.0, {}, (0, 1, 2, 3)),
        (0.5, 2.0, {}, (0,)),
        (0.5, 2.0, {1: 0.5}, (1,)),  # a GPU stays whole as long as that is possible
        (0.6, 2.0, {1: 0.5}, (0,)),
        (0.3, 1.0, {0: 0.7}, (0,)),
        (1.0, 2.0, {0: 0.5}, (1,)),
        (1.0, 2.0, {0: 0.5, 1: 0.25}, (1,)),  # there is none that is whole
        (0.5, 1.0, {0: 0.9}, (0,)),
    ],
)
def test_the_gpus_of_a_service(
    amount: float, total: float, held: dict[int, float], expected: tuple[int, ...]
) -> None:
    """Those that are free; a share goes where others have shares."""
    assert choose(amount, total, held) == expected


def test_what_services_have() -> None:
    """Of one node, without the service that is placed."""
    devices = {
        "a": Devices("box", (0, 1), 2.0),
        "b": Devices("box", (2,), 0.5),
        "c": Devices("far", (0,), 1.0),
        "d": Devices("box", (3,), 1.0),
    }
    assert held_of("box", devices, "d") == {0: 1.0, 1: 1.0, 2: 0.5}
