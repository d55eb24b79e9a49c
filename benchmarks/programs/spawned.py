"""Floor: processes that multiprocess spawns, each with a worker's imports.

Usage: spawned.py COUNT
Prints {"seconds": from the first start until each is ready, "pss": bytes of each} as JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from multiprocess.context import SpawnContext


def worker(ready: Any, end: Any) -> None:
    """Import what a worker imports, say so, and be idle."""
    import msgspec  # noqa: F401
    import uvloop  # noqa: F401
    import zmq  # noqa: F401

    import garrison.workers.process.main  # noqa: F401

    ready.put(0)
    end.wait()


def pss(pid: int) -> int:
    """Return a process's proportional share of memory, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss of {pid}")


def main() -> None:
    """Measure, and print what was found."""
    context = SpawnContext()
    ready, end = context.SimpleQueue(), context.Event()
    began = time.perf_counter()
    processes = [
        context.Process(target=worker, args=(ready, end), daemon=True)
        for _ in range(int(sys.argv[1]))
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.get()
    seconds = time.perf_counter() - began
    shares = [pss(process.pid or 0) for process in processes]
    print(json.dumps({"seconds": seconds, "pss": shares}))
    end.set()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
