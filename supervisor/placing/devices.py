"""Which GPUs of a node a service uses: their numbers, for CUDA_VISIBLE_DEVICES. Pure.

Amounts are GPUs; less than one is a share of a GPU that others have shares of, too.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

GPU = "GPU"
SLACK = 1e-9  # sums of fractions are not exact


class Devices(NamedTuple):
    """The GPUs of one service."""

    node: str
    numbers: tuple[int, ...]
    amount: float  # that it has of them in all


def choose(amount: float, total: float, held: Mapping[int, float]) -> tuple[int, ...]:
    """Return the numbers of GPUs for a service.

    Whole ones are those that no service has; a share is of the GPU with the least that is left and
    enough. Where shares are so spread that none has room, the least used ones are taken.

    Args:
        amount: That the service needs.
        total: That the node has.
        held: Number → how much of it services have.
    """
    numbers, count = range(math.ceil(total - SLACK)), math.ceil(amount - SLACK)
    if amount < 1.0 - SLACK:
        fitting = [one for one in numbers if held.get(one, 0.0) + amount <= 1.0 + SLACK]
        if fitting:
            return (max(fitting, key=lambda one: (held.get(one, 0.0), -one)),)
    by_use = sorted(numbers, key=lambda one: (held.get(one, 0.0), one))
    return tuple(sorted(by_use[:count]))


def held_of(node: str, devices: Mapping[str, Devices], but: str) -> dict[int, float]:
    """Return how much of each GPU of a node services have.

    Args:
        node: The node.
        devices: Service → what it has.
        but: A service that is not counted.
    """
    sums = dict[int, float]()
    for name, one in devices.items():
        if name != but and one.node == node:
            for number in one.numbers:
                sums[number] = sums.get(number, 0.0) + one.amount / len(one.numbers)
    return sums
