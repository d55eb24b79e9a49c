"""The reference of the config is generated from the specs, and has every key and default."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from garrison.supervisor.config import schema
from garrison.supervisor.config.document import Document
from garrison.supervisor.config.engine_spec import EngineSpec
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.reference import files, reference_toml
from garrison.supervisor.config.spec import PluginSpec, flat_keys, service_spec
from garrison.workers import Platform
from garrison.workers.services.anthropic import AnthropicService
from garrison.workers.services.database import DatabaseService
from garrison.workers.services.discord import DiscordService
from garrison.workers.services.eliza import ElizaService
from garrison.workers.services.image import ImageService
from garrison.workers.services.local import LocalService
from garrison.workers.services.mailbox import MailboxService
from garrison.workers.services.mcp import McpService
from garrison.workers.services.notification import NotificationService
from garrison.workers.services.openai import OpenAIService
from garrison.workers.services.sql import SqlService
from garrison.workers.services.task import TaskService
from garrison.workers.services.telegram import TelegramService
from garrison.workers.services.transcription import TranscriptionService
from garrison.workers.services.tts import TtsService
from garrison.workers.services.twitter import TwitterService
from garrison.workers.services.web_search import WebSearchService

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "config.toml"


def loaded(directory: Path, text: str) -> Config:
    """Return the configuration of a text, in a home that is short enough for a socket."""
    path = directory / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {})


@pytest.mark.parametrize("name", files())
def test_the_reference_is_generated(name: str) -> None:
    """Both files are what `python -m garrison.supervisor.config.reference` writes."""
    assert (ROOT / name).read_text("utf-8") == files()[name]


def test_the_reference_travels_with_the_package(short_path: Path) -> None:
    """The generated config loads wherever it is; a wheel has no config.toml."""
    assert loaded(short_path, reference_toml()).plugins.keys() == {
        "chat",
        "agent",
        "eliza",
        "mailbox",
    }


@pytest.fixture(name="uncommented")
def _uncommented(short_path: Path) -> str:
    """Return config.toml with every documented key and table in force."""
    return re.sub(r"^# (?=\[[a-z_.]+\]$|[a-z_]+ = )", "", REFERENCE.read_text(), flags=re.M)


def service_of(config: Config, name: str) -> dict[str, Any]:
    """Return the keys of one of the bundled services, without its agent."""
    specs = config.services({plugin: [plugin] for plugin in config.plugins})
    spec = next(spec for spec in specs if spec.name == name)
    assert spec.agent.character.name == "Eliza"
    return {**flat_keys(spec), "agent": None}


def test_every_key_is_there(short_path: Path, uncommented: str) -> None:
    """No key that garrison reads is missing from config.toml."""
    (short_path / "eliza.json").write_text('{"name": "Eliza"}')
    loaded(short_path, uncommented)
    read = Document.read(short_path / "config.toml").tables
    assert set(read["host"]) == set(schema.HOST)
    assert set(read["engine"]) == set(schema.ENGINE) - {"nodes"}
    assert set(read["defaults"]) == set(schema.DEFAULTS)
    assert set(read["plugins"]["chat"]) == set(schema.PLUGIN)
    keys = set().union(*read["services"].values())
    assert keys == set(schema.SERVICE) - set(schema.DEFAULTS)
    assert set(read["agent"]) == {"character"}
    shown = REFERENCE.read_text().partition("[agents.ada]")[2].partition("\n\n")[0]
    assert [
        key for key in schema.AGENT if f"{key} = " not in shown and f".{key}" not in shown
    ] == []
    shown = REFERENCE.read_text().partition("[hooks.page]")[2].partition("\n\n")[0]
    assert [key for key in schema.HOOK if f"#     {key} = " not in shown] == []
    shown = REFERENCE.read_text().partition("[engine.nodes.gpu-box]")[2].partition("\n\n")[0]
    assert "#     resources = " in shown


def test_the_defaults_are_right(short_path: Path, uncommented: str) -> None:
    """The defaults that config.toml shows change nothing when they are put in force."""
    (short_path / "eliza.json").write_text('{"name": "Eliza"}')
    (short_path / "config.toml").write_text(uncommented)
    plugins = ["chat", "agent", "eliza", "mailbox", "notification", "task", "database"]
    plugins += ["openai", "anthropic", "local", "tts", "image", "transcription", "mcp"]
    plugins += ["discord", "telegram", "twitter"]
    plugins += ["web_search", "sql", "hooks", "console"]
    sections = [f"[plugins.{name}]\n" for name in plugins]
    sections.append('[services.legacy]\ncommand = ["node"]\n')
    (short_path / "plain.toml").write_text("".join(sections))
    full, plain = (load(short_path / f, None, {}) for f in ("config.toml", "plain.toml"))
    shown = {name: replace(one, python=None) for name, one in full.plugins.items()}  # an example
    brought = {"pip": ("numpy==2.1.0",), "py_modules": (f"{short_path}/wheels/bots.whl",)}
    example = msgspec.structs.replace(
        plain.host.engine, listen="10.0.0.1:7700", runtime_env=brought
    )
    host = msgspec.structs.replace(plain.host, engine=example)
    assert (full.host, shown) == (host, plain.plugins)
    # A key without a default has an example.
    given: dict[str, Any] = {"priority": 10, "was": "old-chat", "env_file": short_path / "chat.env"}
    limits = {"nice": 10, "oom_score_adj": 500, "umask": 0o077, "user": "bot", "group": "bot"}
    tuning = limits | {"working_directory": short_path / "data", "node": "any"}
    given |= {"resources": {"GPU": 1.0, "memory": 2.0 * 2**30}}
    assert service_of(full, "chat") == service_of(plain, "chat") | given | tuning
    bundled = (
        ("eliza", ElizaService),
        ("notification", NotificationService),
        ("mailbox", MailboxService),
        ("openai", OpenAIService),
        ("anthropic", AnthropicService),
        ("local", LocalService),
        ("tts", TtsService),
        ("image", ImageService),
        ("transcription", TranscriptionService),
        ("task", TaskService),
        ("database", DatabaseService),
        ("mcp", McpService),
        ("web_search", WebSearchService),
        ("sql", SqlService),
    )
    platforms: tuple[tuple[str, type[Platform]], ...] = (
        ("discord", DiscordService),
        ("telegram", TelegramService),
        ("twitter", TwitterService),
    )
    for platform, service in platforms:
        shown = service_of(full, platform)["config"]
        defaults = msgspec.to_builtins(service.Config()) | {"uncertain": service.uncertain}
        assert shown == {key: defaults[key] for key in shown}  # those of every platform apart
    for name, cls in bundled:
        defaults = {"config": msgspec.to_builtins(cls.Config())}
        assert service_of(full, name) == service_of(plain, name) | defaults | tuning


def test_it_runs_the_bundled_plugins() -> None:
    """As it is, config.toml sets nothing but the plugins to run; it fits 80 columns."""
    config = load(REFERENCE, Path("/h"), {})
    names = ["chat", "agent", "eliza", "mailbox"]
    assert list(config.plugins) == names
    assert config.services({name: [name] for name in names}) == [
        service_spec(name=name, plugin=name, service_type=name, with_parts=True) for name in names
    ]
    assert max(map(len, REFERENCE.read_text().splitlines())) <= 80


def test_every_field_of_the_specs_has_a_key() -> None:
    """A field that is added to a spec can be set in config.toml."""
    assert set(schema.HOST) == set(HostSpec.__struct_fields__) - {"engine"}  # a table of its own
    assert set(schema.ENGINE) == set(EngineSpec.__struct_fields__)
    assert set(schema.PLUGIN) == set(PluginSpec.__struct_fields__) - {"name"}
    spec = flat_keys(service_spec(name="", plugin="", service_type=""))
    named = {field.replace("service_type", "type") for field in spec}
    assert set(schema.SERVICE) == named - {"name", "agent", "with_parts"}
