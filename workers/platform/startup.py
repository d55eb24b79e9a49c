"""A platform's steps before and after its `start`: credential, send log, catch-up."""

import asyncio

from garrison.workers.runtime import Runtime
from garrison.workers.sqlite.opening import open_or_explain

from .credential import take_credential
from .engine import ENGINES, Defaults, Engine
from .platform import Platform, parts_of
from .send_log import FILE, SendLog


async def prepare(cls: type[Platform], runtime: Runtime, lock_credential: bool = True) -> None:
    """Take a platform's credential and open its log, before its `start`.

    Args:
        cls: The author's class.
        runtime: The service's.
        lock_credential: Whether to take the credential.

    Raises:
        GarrisonError: Another service uses the credential.
        PermanentFailure, RuntimeError: The log cannot be opened.
    """
    loop, config = asyncio.get_running_loop(), runtime.config
    secret = runtime.get_setting(cls.credential) if cls.credential and lock_credential else None
    if secret:
        await take_credential(runtime.name, cls.credential, str(secret))
    folder = runtime.data_folder
    send_log = await asyncio.to_thread(
        open_or_explain, folder / FILE, runtime.name, lambda: SendLog(folder, config.keep_sends)
    )
    send_log.start(loop)
    defaults = Defaults(cls.settle, cls.uncertain, cls.max_length, cls.deliver_timeout)
    engine = ENGINES[runtime] = Engine(runtime, config, defaults, send_log)
    runtime.spawn(engine.run(), "send log", False)


def begin(platform: Platform) -> None:
    """Have a platform catch up: its `start` has returned."""
    parts_of(platform).begin()
