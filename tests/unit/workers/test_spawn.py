"""Background work at the end of a service."""

import gc
import warnings

from garrison.workers import Service
from garrison.workers.testing import run


class Busy(Service):
    """A service without methods."""

    service_type = "busy"


async def test_work_that_is_cancelled_before_its_first_step_leaves_no_warning() -> None:
    """It is spawned in the last turn of the loop."""

    async def work() -> None:
        raise AssertionError("it has begun")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with run(Busy) as service:
            service.spawn(work())
        gc.collect()
    assert [str(one.message) for one in caught] == []
