"""The README's examples run as they stand, with a stand-in where the outer library would be."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STAND_INS = ROOT / "tests" / "services" / "standins"
README = (ROOT / "README.md").read_text()

SECRETS = {"DISCORD_TOKEN": "token-of-one", "DISCORD_TOKEN_EU": "token-of-eu"}


def example(name: str) -> str:
    """Return the README's example file of that name."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found[1]


def with_path(folder: Path) -> dict[str, str]:
    """Return an environment in which the stand-ins are installed."""
    return {"PYTHONPATH": f"{ROOT / '.src'}:{folder}"}


async def test_the_discord_example_runs_twice_with_a_token_each(
    host: Callable[..., Any], tmp_path: Path
) -> None:
    """The example's plugin and config run: two bots of one class, each with its own secret, and a
    notifier that finds the first of the type."""
    sent = tmp_path / "sent"
    config = example("config.toml") + f'\n[defaults]\nenv = {{ DISCORD_STAND_IN = "{sent}" }}\n'
    files = {"my_discord.py": example("my_discord.py")}
    running = host(config, files=files, env=SECRETS | with_path(STAND_INS))
    rows = running.rows()

    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(
        ("discord", "discord-eu", "tick", "notification"), "running"
    )
    async with running.connect() as client:
        notification = client.get_service("notification")
        assert notification is not None
        await notification.notify("42", "hello")
        eu = client.get_service("discord-eu")
        assert eu is not None
        assert await eu.send_message("43", "bonjour") == "7"
    assert sent.read_text().splitlines() == ["token-of-one 42 hello", "token-of-eu 43 bonjour"]


@pytest.mark.parametrize("in_background", [False, True])
def test_a_token_that_is_refused_is_a_failed_start_with_its_reason(
    host: Callable[..., Any], tmp_path: Path, in_background: bool
) -> None:
    """What `start` raises, or background work that it waits for, ends it, and `status` says why."""
    config = example("config.toml") + f'\n[defaults]\nenv = {{ DISCORD_STAND_IN = "{tmp_path}" }}\n'
    code = example("my_discord.py")
    if in_background:
        login = '        await client.login(runtime.get_setting("DISCORD_TOKEN"))\n'
        assert login in code
        code = code.replace(login, "").replace(
            "client.connect()", 'client.start(runtime.get_setting("DISCORD_TOKEN"))'
        )
    files = {"my_discord.py": code}
    secrets = {"DISCORD_TOKEN": "bad", "DISCORD_TOKEN_EU": "token-of-eu"}
    running = host(config, files=files, env=secrets | with_path(STAND_INS))
    row = running.status("discord")

    assert row["state"] != "running"
    assert "Improper token" in row["reason"]
    assert running.status("discord-eu")["state"] == "running"


def test_the_example_is_typed(tmp_path: Path) -> None:
    """mypy in strict mode finds nothing in the example, with a typed stand-in for discord.py."""
    shutil.copy(STAND_INS / "discord.py", tmp_path)
    (tmp_path / "my_discord.py").write_text(example("my_discord.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "my_discord.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": f"{ROOT / '.src'}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout + done.stderr == ""


def test_what_init_writes_runs(host: Callable[..., Any], tmp_path: Path) -> None:
    """`garrison init` writes a config and a first service that run and answer."""
    made = tmp_path / "bot"
    subprocess.run(
        [sys.executable, "-m", "garrison.supervisor.cli", "init", str(made)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / ".src")},
        check=True,
        capture_output=True,
    )
    files = {"hello.py": (made / "hello.py").read_text()}
    running = host((made / "config.toml").read_text(), files=files)

    assert {row["state"] for row in running.rows().values()} == {"running"}
    assert running.run("call", "hello", "greet", '["Ada"]').out == "Hello, Ada!\n"
    assert running.run("call", "hello", "count", '{"until": 2}').out == "1\n2\n"
