"""Background work of a service, as it ends."""

import gc
import warnings

from garrison.workers import Service
from garrison.workers.testing import run


class Busy(Service):
    """A service with work that has hardly been asked for."""

    service_type = "busy"


async def test_work_that_is_ended_before_it_began_leaves_no_warning() -> None:
    """It was spawned in the last turn of the loop."""

    async def work() -> None:
        raise AssertionError("it has begun")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with run(Busy) as service:
            service.spawn(work())
        gc.collect()
    assert [str(one.message) for one in caught] == []
