"""Imports a plugin: from an entry point, a file beside the config, or an installed module."""

import functools
import importlib
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import PluginSource
from garrison.workers.plugin import Plugin
from garrison.workers.service import Service

from .entry_points import EntryPoint, entry_points

GROUP = "garrison.plugins"


def load(source: PluginSource) -> Plugin:
    """Import a plugin.

    `use` is `module:attribute` (attribute `plugin` by default). A bare word is an entry point of
    the group `garrison.plugins`, or a file beside the config. A file is loaded by its path under a
    private name, so that a `discord.py` beside the config does not shadow a library.

    Raises:
        ConfigError: There is no such plugin, or it is ambiguous.
        Exception: The plugin's code raised it.
    """
    word, _, attribute = source.use.partition(":")
    folder = Path(source.folder)
    file = _beside(folder, word)
    if ":" not in source.use and "." not in word:
        point = _entry_point(word)
        _add_folder(folder)
        if point is not None and file is not None:
            raise _problem(
                source,
                f"{word!r} is both an entry point ({point.value}) and {file}: rename the file, "
                f'or write "{word}:plugin" for the file',
            )
        if point is not None:
            return _as_plugin(source, point.load())
        if file is None:
            raise _problem(source, _not_found(word, folder))
    _add_folder(folder)
    module = _by_path(source.name, file) if file is not None else _by_name(source, word)
    name = attribute or "plugin"
    if not hasattr(module, name):
        plugins = [key for key, value in vars(module).items() if isinstance(value, Plugin)]
        instead = ", which should be a garrison.workers.Plugin"
        if plugins:
            instead = f'; it has {", ".join(plugins)}: write use = "{word}:{plugins[0]}"'
        where = getattr(module, "__file__", None) or f"module {word}"
        raise _problem(source, f"{where} has no attribute {name!r}{instead}")
    return _as_plugin(source, getattr(module, name))


def _add_folder(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that its files shadow nothing


def _problem(source: PluginSource, text: str) -> ConfigError:
    return ConfigError(text, key=f"plugins.{source.name}.use")


def _beside(folder: Path, word: str) -> Path | None:
    if "." in word or "/" in word or not word:
        return None
    for file in (folder / f"{word}.py", folder / word / "__init__.py"):
        if file.is_file():
            return file
    return None


def _entry_point(word: str) -> EntryPoint | None:
    return next((point for point in installed_plugins() if point.name == word), None)


def installed_plugins() -> tuple[EntryPoint, ...]:
    """Return the installed plugins. A worker inherits its launcher's result while `sys.path` is
    unchanged: searching all distributions takes longer than a fork."""
    return _installed(tuple((place, _changed_at(place)) for place in sys.path))


@functools.lru_cache(maxsize=1)
def _installed(places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return entry_points(GROUP)


def _changed_at(place: str) -> int:
    try:
        return os.stat(place or ".").st_mtime_ns  # noqa: PTH116 (an entry of sys.path may be any text)
    except OSError:
        return 0


def _not_found(word: str, folder: Path) -> str:
    from difflib import get_close_matches  # seldom needed, and large

    names = sorted({one.name for one in installed_plugins()})
    near = get_close_matches(word, [*names, *(file.stem for file in folder.glob("*.py"))], n=1)
    hint = f" (did you mean `{near[0]}`?)" if near else ""
    return (
        f"no plugin {word!r}{hint}: there is no {folder / (word + '.py')}, and the installed entry "
        f"points are {', '.join(names) or 'none'}; for an installed module, write "
        f'"{word}:plugin"'
    )


class _Loader(SourceFileLoader):
    """Always compiles the source: cached bytecode misses an edit within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _by_path(plugin: str, file: Path) -> ModuleType:
    stem = file.parent.name if file.name == "__init__.py" else file.stem
    name = f"garrison_plugin_{stem}"
    places = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(
        name, file, loader=_Loader(name, str(file)), submodule_search_locations=places
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"plugin {plugin}: {file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _by_name(source: PluginSource, word: str) -> ModuleType:
    if not all(word.split(".")):
        raise _problem(source, f"no module {word!r}: a dot separates two names")
    try:
        return importlib.import_module(word)
    except ModuleNotFoundError as error:
        if error.name is not None and (word == error.name or word.startswith(f"{error.name}.")):
            raise _problem(
                source, f"no module {word!r}, installed or in {source.folder}"
            ) from error
        raise


def _as_plugin(source: PluginSource, found: object) -> Plugin:
    if not isinstance(found, Plugin):
        what, instead = f"a {type(found).__name__}", ""
        if isinstance(found, type) and issubclass(found, Service):
            what = f"the class {found.__name__}"
            instead = f'; write plugin = Plugin(name="{source.name}", services=[{found.__name__}])'
        raise _problem(source, f"{source.use!r} is {what}, not a garrison.workers.Plugin{instead}")
    return found
