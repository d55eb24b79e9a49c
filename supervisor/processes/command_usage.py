"""Measures what a plain command uses: the processes below its worker, without the worker itself."""

from garrison.ipc.system import process_tree

PROCESSES_MOST = 256  # that are measured


def usage_below(pid: int) -> tuple[int, int, float]:
    """Return a worker's start ticks, and the resident bytes and CPU seconds of what runs below it.

    What has ended and was waited for counts with its CPU seconds. All are 0 if the worker has
    ended. A command is a child of the worker's main thread.

    Args:
        pid: The worker.
    """
    worker = process_tree.usage_with_ended(pid)
    if not worker.ticks:
        return 0, 0, 0.0
    resident, seconds = 0, worker.ended_seconds
    found = process_tree.children_of_main_thread(pid)
    for one in found:  # grows
        used = process_tree.usage_with_ended(one)
        resident += used.resident
        seconds += used.seconds + used.ended_seconds
        if len(found) < PROCESSES_MOST:
            found += [child for child in process_tree.children(one) if child not in found]
    return worker.ticks, resident, seconds
