"""The modules that the launcher imports once, so that workers start with them."""

import time

from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.tasks import Steps

from . import local

PRELOAD_S = 120.0  # for the launcher's imports
CHECK_S = 60.0  # for the launcher to look at the files that it has imported


class Preloader:
    """Preloaded modules and the launcher that has them.

    Args:
        engine: Has the launcher.
        log: Where events are recorded.

    Attributes:
        outdated: Whether the launcher was adopted and runs the code of another version.
    """

    def __init__(self, engine: local.LocalEngine, log: EventLog) -> None:
        self._engine, self._log = engine, log
        self._modules: tuple[str, ...] = ()
        self._importing = False
        self._changed: tuple[str, ...] | None = None  # preloaded files that changed, once known
        self.outdated = False

    def resume(self, modules: tuple[str, ...], outdated: bool) -> None:
        """Take over what an adopted launcher has imported."""
        self._modules, self.outdated = modules, outdated

    def preload(self, modules: tuple[str, ...]) -> Steps:
        """Import the modules that are not imported yet."""
        if set(modules) <= set(self._modules):
            return
        self._modules = modules
        self._importing = True
        self._engine.preload(modules)
        yield from self._until_imported()

    def refresh(self) -> Steps:
        """Start a new launcher if a preloaded file has changed."""
        self._changed = None
        self._engine.check_fresh()
        until = time.monotonic() + CHECK_S
        while self._changed is None and time.monotonic() < until:
            yield False
        if self._changed or self.outdated:
            self.outdated = False
            changed = self._changed[0] if self._changed else "the version of garrison"
            self._log.record("launcher.refreshed", changed=changed)
            self._importing = bool(self._modules)
            self._engine.refresh(self._modules)
            yield from self._until_imported()

    def _until_imported(self) -> Steps:
        until = time.monotonic() + PRELOAD_S
        while self._importing and time.monotonic() < until:
            yield False
        if self._importing:
            self._log.record("preload.late", wait_s=PRELOAD_S)
            self._engine.abandon()
            while self._importing:  # until its end was seen
                yield False

    # --- the engine's events ----------------------------------------------------------------

    def on_process_event(self, event: local.Happened) -> None:
        """Take what the engine reports of the launcher."""
        match event:
            case local.Preloaded():
                self._on_preloaded(event)
            case local.Fresh(changed):
                self._changed = changed
            case local.Lost(importing=importing):
                if importing:
                    modules = " ".join(self._modules)
                    reason = "importing them ended the launcher"
                    self._log.record("preload.refused", modules=modules, reason=reason)
                    self._modules = ()
                self._importing = False
                self._changed = self._changed or ()

    def _on_preloaded(self, report: local.Preloaded) -> None:
        self._importing = False
        for module, reason in report.failed.items():
            self._log.record("preload.failed", module=module, reason=reason)
        for module in report.threaded:
            reason = "its import starts threads"
            self._log.record("preload.refused", module=module, reason=reason)
        if report.threaded:  # only a single-threaded process may fork
            threaded = set(report.threaded)
            self._modules = tuple(module for module in self._modules if module not in threaded)
            self._importing = bool(self._modules)
            self._engine.refresh(self._modules)
        elif self._modules:
            count = len(self._modules) - len(report.failed)
            self._log.record("preload.done", modules=count, took_s=report.took_s)
