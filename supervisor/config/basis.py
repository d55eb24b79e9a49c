"""What a config is composed from, and the parts of its file that are not used (pure)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from garrison.ipc.errors import ConfigError

from .compose import Sources
from .spec import ServiceSpec
from .units import AGENT, WHOLE, Selection, Unit, service_of, unit_of


class Rejection(msgspec.Struct, frozen=True):
    """A part of the file that is not used, because it does not fit."""

    unit: Unit
    error: ConfigError
    parts: frozenset[Unit] = frozenset()  # of an included file: what was accepted from it

    @property
    def service(self) -> str:
        """Return the full NAME of the service whose section it is; empty: it is none."""
        return service_of(self.unit)

    def concerns(self, spec: ServiceSpec) -> bool:
        """Return True if a service would be different with it."""
        names = {service_of(unit) for unit in self.parts}
        if spec.name in names or ("plugins", spec.plugin) in self.parts:
            return True
        return (
            self.unit in {WHOLE, ("plugins", spec.plugin)}
            or self.service == spec.name
            or (self.unit[:1] == ("hooks",) and spec.name == "hooks")
            or self.unit == (("agents", spec.agent.name) if spec.agent.name else AGENT)
        )

    def as_data(self) -> dict[str, Any]:
        """Return it for `--json`."""
        error = self.error
        return {
            "service": self.service or None,
            "path": error.path,
            "line": error.line,
            "key": error.key or None,
            "problem": error.problem,
            "text": str(error),
        }


def still_rejected(
    before: Iterable[Rejection],
    now: Iterable[Rejection],
    unread: Collection[str],
    plugins: Mapping[str, str],
) -> tuple[Rejection, ...]:
    """Return which parts that were rejected are not corrected on disk.

    Args:
        before: Those that were rejected.
        now: Those of the config on disk.
        unread: Its plugins that have not read it: what they have refused, they may refuse still.
        plugins: NAME of a service → its plugin.
    """
    found = {str(one.error) for one in now}
    return tuple(
        one
        for one in before
        if str(one.error) in found
        or plugins.get(one.service) in unread
        or (one.unit[:1] == ("plugins",) and one.unit[1] in unread)
    )


class Basis(msgspec.Struct, frozen=True):
    """What a config is composed from, and how."""

    path: Path  # of the file, absolute
    sources: Sources
    selection: Selection
    home: Path | None  # of `--home` or `$GARRISON_HOME`
    rejected: tuple[Rejection, ...] = ()
    paths: tuple[Path, ...] = ()  # of the file and its overlays, absolute
    files: tuple[Path, ...] = ()  # all that were read

    def without(self, keys: Sequence[str | int], problem: str) -> "Basis":
        """Return the basis without the part of the file that a key is in.

        Raises:
            ConfigError: There is no accepted config to go on with.
        """
        unit = unit_of(keys)
        error = self.sources.document(unit, self.selection).error_at(keys, problem)
        selection = self.selection.without(unit)
        if selection is None:
            raise self.rejected[0].error if self.rejected else error from None
        others = tuple(one for one in self.rejected if one.unit != unit)
        for former in self.rejected:
            if former.unit == unit:  # that it was replaced did not help: its place is in the file
                error = former.error
        rejection = Rejection(WHOLE if selection.whole else unit, error)
        return replace(self, selection=selection, rejected=(*others, rejection))
