"""`up --watch` looks at what the config names, too: environment files, secret files, characters."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from garrison.supervisor.cli.watch import Watcher
from garrison.supervisor.config.load import Config

CONFIG = """
[defaults]
env_file = "all.env"
[plugins.bot]
[services.bot]
secrets = { TOKEN = { file = "token.txt" }, OTHER = "NAME" }
[services.odd]
plugin = "bot"
env_file = "odd.env"
"""
NAMED = ("all.env", "token.txt", "odd.env")


def row(name: str) -> dict[str, Any]:
    """Return a service as `status` has it."""
    return {"name": name, "agent": None, "plugin": "bot"}


def test_the_files_that_a_config_names_are_watched(tmp_path: Path) -> None:
    """Their mode as well: a refused file is closed for others, and that is all."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    for name in NAMED:
        (tmp_path / name).write_text("X=1")
        (tmp_path / name).chmod(0o644)
    host = SimpleNamespace(home=tmp_path / ".garrison")
    watcher = Watcher(cast("Config", SimpleNamespace(host=host, path=path, paths=(path,))), print)
    before = watcher._stamps()
    for name in NAMED:
        (tmp_path / name).chmod(0o600)
    now = watcher._stamps()
    assert {one.name for one in now if now[one] != before[one]} == set(NAMED)
    rows = [row("bot"), row("odd")]
    affected = {name: watcher._affected([tmp_path / name], rows) for name in NAMED}
    assert affected == {"all.env": {"bot", "odd"}, "token.txt": {"bot"}, "odd.env": {"odd"}}
