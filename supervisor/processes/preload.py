"""Keeps the launcher's preloaded modules as the config and the plugins want them."""

import time
from collections.abc import Callable
from typing import Any

from garrison.supervisor.tasks import Steps

from .engine import Engine, Fresh, Happened, Lost, Preloaded

PRELOAD_S = 120.0  # for the imports of the launcher
CHECK_S = 60.0  # for the answer whether files have changed


class Preloader:
    """The modules that the launcher has imported for all workers.

    Args:
        engine: Imports them.
        record: Records an event in the event log.

    Attributes:
        refused: Why the launcher does without a module, by its name.
    """

    def __init__(self, engine: Engine, record: Callable[..., Any]) -> None:
        self._engine, self._record = engine, record
        self._modules: tuple[str, ...] = ()  # requested last, without those refused
        self.refused: dict[str, str] = {}  # module → why the launcher does without it
        self._importing = False
        self._changed: tuple[str, ...] | None = None  # files; None: not answered yet

    def resume(self, modules: tuple[str, ...]) -> None:
        """Take over what a former supervisor had preloaded."""
        self._modules = modules

    def take(self, happened: Happened) -> None:
        """Take an answer of the engine; ignore everything else."""
        match happened:
            case Preloaded():
                self._preloaded(happened)
            case Fresh(changed):
                self._changed = changed
            case Lost():
                if happened.importing:
                    reason = "importing them ended the launcher"
                    self._record("preload.refused", modules=" ".join(self._modules), reason=reason)
                    self.refused |= dict.fromkeys(self._modules, reason)
                    self._modules = ()
                self._importing = False
                self._changed = self._changed or ()
            case _:
                pass

    def preload(self, modules: tuple[str, ...]) -> Steps:
        """Import these modules if one of them is missing; return when they are imported."""
        wanted = tuple(one for one in modules if one not in self.refused)
        if set(wanted) <= set(self._modules):
            return
        self._modules = wanted
        self._importing = True
        self._engine.preload(wanted)
        yield from self._until_imported()

    def refresh(self, outdated: bool) -> Steps:
        """Replace the launcher if a preloaded file has changed.

        Args:
            outdated: The launcher runs the code of another version of garrison.
        """
        self._changed = None
        self._engine.check_fresh()
        until = time.monotonic() + CHECK_S
        while self._changed is None and time.monotonic() < until:
            yield False
        if self._changed or outdated:
            changed = self._changed[0] if self._changed else "the version of garrison"
            self._record("launcher.refreshed", changed=changed)
            self.refused = {}  # `preload` tries these again
            self._replace_launcher()
            yield from self._until_imported()

    def _replace_launcher(self) -> None:
        self._importing = bool(self._modules)
        self._engine.refresh(self._modules)

    def _until_imported(self) -> Steps:
        until = time.monotonic() + PRELOAD_S
        while self._importing and time.monotonic() < until:
            yield False
        if self._importing:
            self._record("preload.late", wait_s=PRELOAD_S)
            self._engine.abandon()
            while self._importing:  # until the end of the launcher was reported
                yield False

    def _preloaded(self, report: Preloaded) -> None:
        self._importing = False
        for module, reason in report.failed.items():
            self._record("preload.failed", module=module, reason=reason)
        refused = {
            module: f"its import leaves {what} open" for module, what in report.opened.items()
        }
        refused |= dict.fromkeys(report.threaded, "its import starts threads")
        for module, reason in refused.items():
            self._record("preload.refused", module=module, reason=reason)
        if refused:  # only a process with one thread may fork, and workers share what is open
            self.refused |= refused
            self._modules = tuple(one for one in self._modules if one not in refused)
            self._replace_launcher()
        elif self._modules:
            count = len(self._modules) - len(report.failed)
            self._record("preload.done", modules=count, took_s=report.took_s)
