"""The example `docs/examples/community-bot`, as it stands, on Discord, Telegram and a model."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.commands import ROOT
from tests.support.discord_client import discord_bridge
from tests.support.host import hosting
from tests.support.model_server import ModelServer, Turn
from tests.support.telegram_client import telegram_server
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.external

EXAMPLE = ROOT / "docs" / "examples" / "community-bot"
CHAT = "77"
TOKENS = {
    "discord": f"DISCORD_TOKEN=token-{os.getpid()}\n",
    "telegram": f"TELEGRAM_BOT_TOKEN={os.getpid()}:token\n",
    "openai": "OPENAI_API_KEY=key\n",
}
RULES = "1. Be kind.\n2. No advertising.\n3. Ask in the channel"


def config(**places: str) -> str:
    """Return the example's config, with where a test's counterparts are."""
    text = (EXAMPLE / "config.toml").read_text()
    for name, url in places.items():
        heading = f"[services.{name}.config]\n"
        assert heading in text
        text = text.replace(heading, f'{heading}base_url = "{url}"\n')
    return text


async def test_it_talks_shows_its_rules_and_announces() -> None:
    """On Discord and on Telegram, by the model, in the words of its character."""
    names = ("community.py", "rowan.json")
    files = {name: (EXAMPLE / name).read_text() for name in names}
    with discord_bridge("general") as discord, telegram_server() as telegram:
        async with ModelServer() as model:
            channel = discord.channels["general"]
            text = config(discord=discord.url, telegram=telegram.url, openai=f"{model.url}/v1")
            targets = f'targets = {{ discord = "{channel}", telegram = "{CHAT}" }}'
            files["config.toml"] = text.replace("targets = {}", targets)
            with hosting("", files=files, up=False) as host:
                for name, line in TOKENS.items():
                    file = Path(host.folder) / f".env.{name}"
                    file.write_text(line)
                    file.chmod(0o600)
                host.up()
                states = {name: row["state"] for name, row in host.rows().items()}
                assert states == dict.fromkeys(states, "running")

                model.script(Turn("Hello, Ada!"), Turn("Good evening."))
                telegram.say(CHAT, "Hi there")

                async def answered(wanted: str) -> bool:
                    return any(one.startswith(wanted) for one in telegram.answers())

                await eventually(lambda: answered("Hello, Ada!"))
                system = str(model.body["messages"][0]["content"])
                assert "You are Rowan" in system
                assert "2. No advertising." in system

                discord.say("general", "not for the bot")
                telegram.say(CHAT, "/rules")
                await eventually(lambda: answered(RULES))
                done = await host.call("community", "announce", "We meet at eight")
                assert done == ["discord", "telegram"]
        assert discord.answers() == ["We meet at eight"]
        assert telegram.answers()[-1] == "We meet at eight"


def test_its_own_test_passes(tmp_path: Path) -> None:
    """Without a host, in a copy of the folder."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "bot")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:simcord", "-o", "asyncio_mode=auto"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / ".src")}
    ran = subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
