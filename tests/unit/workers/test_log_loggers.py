"""Which loggers a worker takes over: each is looked at once, and one that comes later is, too."""

import subprocess
import sys

PROGRAM = """
import logging
from garrison.workers.process import logs

logging.getLogger("garrison.late.child")  # `garrison.late` is only a name above it
logging.getLogger("other")
logs.prepare()
logs.install("svc", 1)
logging.getLogger("garrison.fresh")
late = logging.getLogger("garrison.late")
logs.take_over_loggers("svc")
names = ("svc", "asyncio", "garrison.late.child", "garrison.fresh", "garrison.late", "other")
own = [name for name in names if isinstance(logging.getLogger(name), logs.ServiceLogger)]
print(*own, type(logging.getLogger()).__name__, logging.getLogger().level)
"""


READ = """
import logging
from garrison.workers.process import logs

logs.prepare()
logging.getLogger("asyncio").error("a plugin has raised in its loop")
"""


def test_what_is_logged_before_a_service_is_known_is_shown() -> None:
    """A process that only reads a plugin installs nothing."""
    done = subprocess.run(
        [sys.executable, "-c", READ], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "a plugin has raised in its loop\n"


def test_garrisons_loggers_are_taken_over_whenever_they_appear() -> None:
    """Those of libraries and the root are not."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    taken = "svc asyncio garrison.late.child garrison.fresh garrison.late"
    assert done.stdout.split() == [*taken.split(), "RootLogger", "20"]
