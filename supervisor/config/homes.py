"""Which home a command addresses, and where a config has its home.

Every command needs this first, so it imports little.
"""

from collections.abc import Mapping
from pathlib import Path

from garrison.ipc.errors import ConfigError

from .document import HOME_BESIDE, as_given
from .main_file import ConfigPaths, as_paths, read_main
from .named_home import home_override


def find_home(home: Path | None, config: ConfigPaths | None, environ: Mapping[str, str]) -> Path:
    """Return the home of the host that a command addresses.

    It is `--home`, else `$GARRISON_HOME`, else the config's `[host] home`, else `.garrison` beside
    the config. The config is read only if the answer depends on it, and only this key is checked.

    Args:
        home: `--home`.
        config: `--config`, all of them; None: `config.toml` in the current folder, if there is
            one.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: The config is needed and cannot be read, and there is no accepted one.
    """
    if override := home_override(home, environ):
        return override
    if config is None and not Path("config.toml").exists():
        return Path(HOME_BESIDE).absolute()
    path = config or Path("config.toml")
    try:
        return read_main(path).home()
    except ConfigError:
        beside = home_beside(path)
        if accepted_file(beside).exists():
            return beside
        raise


def home_beside(config: ConfigPaths) -> Path:
    """Return the home of a config that names no other."""
    first, *overlays = as_paths(config)
    name = f"{HOME_BESIDE}-{overlays[-1].stem}" if overlays else HOME_BESIDE
    return as_given(first).parent.resolve() / name


def accepted_file(home: Path) -> Path:
    """Return the file of the accepted config of a home."""
    return home / "state" / "accepted.json"
