"""A task worker that does nothing but count its runs."""

from collections import Counter

from garrison.workers import Plugin, Runtime, Service, Task, TaskWorker

RUNS: Counter[str] = Counter()


async def execute(runtime: Runtime, options: dict[str, str], task: Task) -> None:
    """Count a run."""
    RUNS[task.run_id] += 1


class ErrandService(Service):
    """Runs tasks named ERRAND."""

    service_type = "errand"

    async def counts(self) -> tuple[int, int]:
        """Return how many runs began, and of how many different ones."""
        return RUNS.total(), len(RUNS)


plugin = Plugin("errand", services=[ErrandService], task_workers=[TaskWorker("ERRAND", execute)])
