"""The home that a command line or the environment names: read without anything about configs."""

from collections.abc import Mapping
from pathlib import Path

from garrison.ipc.errors import ConfigError


def home_override(home: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the home of `--home` or `$GARRISON_HOME`.

    Raises:
        ConfigError: It begins with the home directory of a user that has none.
    """
    text, origin = environ.get("GARRISON_HOME"), "$GARRISON_HOME"
    if home:
        text, origin = str(home), "--home"
    if not text:
        return None
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        problem = f"{text.split('/')[0]} has no home directory; write the path out"
        raise ConfigError(problem, key=origin) from None
