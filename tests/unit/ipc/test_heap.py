"""The holes of the heap are filled: what is allocated next lies side by side."""

import subprocess
import sys

PROGRAM = """
import random
from garrison.ipc.system import heap

def pages():
    kept = [bytes(20 + 16 * (n % 4)) for n in range(2000)]
    return len({id(one) >> 12 for one in kept})

random.seed(1)
crowd = [bytes(20 + 16 * (n % 4)) for n in range(200_000)]
del crowd[5::97]
left = random.sample(crowd, len(crowd) * 9 // 10)
del crowd
before = pages()
heap.fill_holes()
print(before, pages())
"""
APART = 4  # times as many pages as side by side


def test_new_objects_share_few_pages() -> None:
    """Without it each of them fills a hole, in a page that other processes share."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before > APART * after
