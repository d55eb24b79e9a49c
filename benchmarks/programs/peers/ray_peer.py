"""A Ray actor, called by its driver; one node on loopback, without dashboard or usage reports."""

# pyright: reportMissingImports=false

import asyncio
import logging
import os
import sys
from typing import Any

import rounds

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DISABLE_IMPORT_WARNING="1")

import ray


class Echo:
    """Gives back what it is given."""

    async def echo(self, value: Any) -> Any:
        """Return the value."""
        return value


async def main(folder: str) -> None:
    """Measure."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=256 << 20,
    )
    remote: Any = ray.remote(Echo)  # its stubs do not know classes
    actor = remote.options(max_concurrency=rounds.WIDTH).remote()

    async def call(value: Any) -> Any:
        return await actor.echo.remote(value)

    await rounds.measure_async(call)
    ray.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
