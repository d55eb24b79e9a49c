"""One reading of a plugin in a process of its own. Times are monotonic seconds."""

import time
from collections.abc import Container

import msgspec

from garrison.ipc import messages
from garrison.ipc.messages import Failing, PluginRead, Token
from garrison.supervisor.config.spec import PluginSpec

from .tasks import Steps

READ_S = 60.0  # for a plugin's import


class PluginProbe(msgspec.Struct, eq=False):
    """One reading of a plugin in a process of its own."""

    plugin: PluginSpec
    plugins: Container[str]  # the plugins that its config has
    token: Token
    until: float
    sections: tuple[messages.Section, ...] = ()  # that it was read with
    result: PluginRead | Failing | None = None
    done: bool = False
    patience: float = READ_S  # seconds from its begin to `until`

    @property
    def found(self) -> PluginRead | None:
        """Return what was read."""
        return self.result if isinstance(self.result, PluginRead) else None

    @property
    def problem(self) -> Failing:
        """Return why the plugin could not be read."""
        result = self.result
        return result if isinstance(result, Failing) else Failing("read", "it reported nothing")


def take_until(deadline: float, steps: Steps) -> Steps:
    """Take steps until a time."""
    while time.monotonic() < deadline:
        try:
            next(steps)
        except StopIteration:
            return
        yield False
