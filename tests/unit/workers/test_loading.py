"""A plugin is found where its config names it; files beside the config shadow no library."""

import importlib
import json
import os
import py_compile
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import PluginSource
from garrison.workers import Plugin
from garrison.workers.process.loading import load

CODE = "from garrison.workers import Plugin\nplugin = Plugin({name!r})\n"
Use = Callable[[str], Plugin]


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the process's imports as they were."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)
    importlib.invalidate_caches()


@pytest.fixture
def use(tmp_path: Path) -> Use:
    """Return what loads a plugin by its `use`, beside a config in an empty folder."""
    return lambda text: load(PluginSource("mine", text, str(tmp_path)))


def write(folder: Path, name: str = "plugin", attribute: str = "plugin") -> str:
    """Write a plugin's file; return its text."""
    text = CODE.format(name=name).replace("plugin = ", f"{attribute} = ")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text(text)
    return text


def entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Install a distribution that has one entry point of our group."""
    info = folder / "site" / "stand_in-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[garrison.plugins]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(folder / "site"))


def refused(use: Use, text: str) -> str:
    """Return the problem of a plugin that is none; its key is named."""
    with pytest.raises(ConfigError) as caught:
        use(text)
    assert caught.value.key == "plugins.mine.use"
    return caught.value.problem


# --- where a plugin is --------------------------------------------------------------------


def test_a_bare_word_is_a_file_beside_the_config(tmp_path: Path, use: Use) -> None:
    """Its attribute is `plugin`."""
    write(tmp_path / "mybot.py", "from the file")

    assert use("mybot").name == "from the file"


def test_a_bare_word_is_an_entry_point(
    tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the group `garrison.plugins`, wherever it leads."""
    write(tmp_path / "site" / "stand_in_module.py", "installed", "made")
    entry_point(tmp_path, monkeypatch, "standin", "stand_in_module:made")

    assert use("standin").name == "installed"


def test_the_bundled_plugins_are_entry_points(use: Use) -> None:
    """They are found as any other."""
    assert use("eliza").service("eliza")
    assert use("chat").services


def test_both_at_once_is_an_error(
    tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names both, and how to mean the file."""
    write(tmp_path / "standin.py", "from the file")
    entry_point(tmp_path, monkeypatch, "standin", "stand_in_module:made")

    problem = refused(use, "standin")

    assert "stand_in_module:made" in problem
    assert str(tmp_path / "standin.py") in problem
    assert '"standin:plugin"' in problem
    assert use("standin:plugin").name == "from the file"


@pytest.mark.parametrize("text", ["mybot:made", "folder.inner:made", "folder:made"])
def test_a_module_and_its_attribute(tmp_path: Path, use: Use, text: str) -> None:
    """A file, a package, and a module in a package, each beside the config."""
    write(tmp_path / "mybot.py", "mybot:made", "made")
    write(tmp_path / "folder" / "__init__.py", "folder:made", "made")
    write(tmp_path / "folder" / "inner.py", "folder.inner:made", "made")

    assert use(text).name == text


def test_a_package_beside_the_config(tmp_path: Path, use: Use) -> None:
    """Its modules import each other relatively."""
    folder = tmp_path / "mybot"
    write(folder / "parts.py", "from a part", "made")
    (folder / "__init__.py").write_text("from .parts import made as plugin\n")

    assert use("mybot").name == "from a part"


def test_an_installed_module_by_its_path(
    tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dotted word has the attribute `plugin` without saying so."""
    write(tmp_path / "site" / "stand_in" / "__init__.py")
    write(tmp_path / "site" / "stand_in" / "deep.py", "installed deep")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    assert use("stand_in.deep").name == "installed deep"


# --- nothing is shadowed ------------------------------------------------------------------


def test_a_file_named_like_a_library_shadows_nothing(tmp_path: Path, use: Use) -> None:
    """`json.py` beside the config is loaded as itself, and `import json` is the library."""
    path = tmp_path / "json.py"
    path.write_text(
        "import json\nfrom garrison.workers import Plugin\nplugin = Plugin(json.dumps([1]))\n"
    )

    assert use("json").name == "[1]"
    assert use("json:plugin").name == "[1]"
    assert sys.modules["json"] is json
    assert importlib.import_module("json") is json


def test_a_file_beside_the_config_that_no_plugin_is_shadows_nothing(
    tmp_path: Path, use: Use
) -> None:
    """The config's folder comes last: what is installed is found before it."""
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "helper_of_mybot.py").write_text("name = 'helped'\n")
    (tmp_path / "mybot.py").write_text(
        "import colorsys, helper_of_mybot\n"
        "from garrison.workers import Plugin\n"
        "plugin = Plugin(helper_of_mybot.name)\n"
    )

    assert use("mybot").name == "helped"
    assert sys.path[-1] == str(tmp_path)


def test_the_folder_is_added_once(tmp_path: Path, use: Use) -> None:
    """However many plugins are beside the config."""
    write(tmp_path / "mybot.py")
    use("mybot")
    use("mybot")

    assert sys.path.count(str(tmp_path)) == 1


# --- what is on disk ----------------------------------------------------------------------


def test_stale_bytecode_is_not_run(tmp_path: Path, use: Use) -> None:
    """An edit of the same length in the same second is seen, cached bytecode or not."""
    path = tmp_path / "mybot.py"
    write(path, "before")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert use("mybot").name == "before"
    py_compile.compile(str(path), doraise=True)

    write(path, "after!")
    os.utime(path, (1_000_000_000, 1_000_000_000))

    assert use("mybot").name == "after!"


# --- what is wrong ------------------------------------------------------------------------


def test_no_such_plugin(tmp_path: Path, use: Use) -> None:
    """The file that was looked for, the entry points that there are, and what else can be meant."""
    problem = refused(use, "mybt")

    assert str(tmp_path / "mybt.py") in problem
    assert "agent, anthropic, chat, " in problem
    assert '"mybt:plugin"' in problem
    assert "did you mean" not in problem


@pytest.mark.parametrize(("word", "near"), [("agnet", "agent"), ("my_bto", "my_bot")])
def test_the_nearest_plugin_is_named(tmp_path: Path, use: Use, word: str, near: str) -> None:
    """One that is installed, or a file beside the config."""
    write(tmp_path / "my_bot.py", "mine")

    assert f"did you mean `{near}`?" in refused(use, word)


def test_a_file_whose_name_is_not_an_identifier_is_found(tmp_path: Path, use: Use) -> None:
    """`my-bot.py` is a file beside the config, whether or not it could be imported by name."""
    write(tmp_path / "my-bot.py", "dashed")

    assert use("my-bot").name == "dashed"


@pytest.mark.parametrize("text", ["nowhere:plugin", "no.where", "garrison.nowhere:plugin"])
def test_no_such_module(use: Use, text: str) -> None:
    """It is named as it was written."""
    assert repr(text.partition(":")[0]) in refused(use, text)


def test_a_wrong_attribute_is_named_with_the_right_one(tmp_path: Path, use: Use) -> None:
    """What it has instead is a suggestion that can be copied."""
    path = tmp_path / "mybot.py"
    write(path, attribute="discord_plugin")

    for text in ("mybot", "mybot:plugin"):
        problem = refused(use, text)
        assert f"{path} has no attribute 'plugin'" in problem
        assert 'write use = "mybot:discord_plugin"' in problem


@pytest.mark.parametrize("text", ["mybot", "mybot:made", "colorsys:plugin", "sys:plugin"])
def test_a_module_without_a_plugin_is_an_error(tmp_path: Path, use: Use, text: str) -> None:
    """A file, a library and a module that is no file."""
    (tmp_path / "mybot.py").write_text("x = 1\n")

    problem = refused(use, text)

    assert "has no attribute" in problem
    assert "garrison.workers.Plugin" in problem


def test_a_folder_that_is_not_a_package_is_an_error(tmp_path: Path, use: Use) -> None:
    """Without an `__init__.py` it has no attribute either."""
    (tmp_path / "mybot").mkdir()

    assert "has no attribute 'plugin'" in refused(use, "mybot:plugin")


@pytest.mark.parametrize(
    ("value", "kind"), [("3", "int"), ("object", "type"), ("None", "NoneType")]
)
def test_a_value_that_is_not_a_plugin_is_an_error(
    tmp_path: Path, use: Use, value: str, kind: str
) -> None:
    """The attribute is there, and is something else."""
    (tmp_path / "mybot.py").write_text(f"plugin = {value}\n")

    assert refused(use, "mybot") == f"'mybot' is a {kind}, not a garrison.workers.Plugin"


def test_a_service_in_place_of_its_plugin_is_explained(tmp_path: Path, use: Use) -> None:
    """The class that does the work is what a newcomer names first."""
    code = "from garrison.workers import Service\nclass Mine(Service):\n    service_type = 'mine'\n"
    (tmp_path / "mybot.py").write_text(code)

    assert 'Plugin(name="mine", services=[Mine])' in refused(use, "mybot:Mine")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ValueError('no')", ValueError),
        ("import nowhere_at_all", ModuleNotFoundError),
        ("def (", SyntaxError),
    ],
)
def test_an_exception_of_a_plugins_code_is_passed_on(
    tmp_path: Path, use: Use, code: str, error: type[Exception]
) -> None:
    """A module that it misses is not mistaken for itself."""
    (tmp_path / "mybot.py").write_text(code)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner.py").write_text(code)

    for text in ("mybot", "mybot:plugin", "pack.inner"):
        with pytest.raises(error):
            use(text)


@pytest.mark.parametrize("text", [".mybot", "..", "my..bot", "mybot.", ".:plugin"])
def test_dots_that_lead_nowhere_are_a_config_error(use: Use, text: str) -> None:
    """A plugin is no part of a package that its config could be relative to."""
    refused(use, text)


def test_the_traceback_of_a_plugin_shows_its_file(tmp_path: Path, use: Use) -> None:
    """Though it is loaded under a private name."""
    (tmp_path / "mybot.py").write_text("\n\n1 / 0\n")

    with pytest.raises(ZeroDivisionError) as caught:
        use("mybot")

    last: Any = caught.traceback[-1]
    assert (str(last.path), last.lineno) == (str(tmp_path / "mybot.py"), 2)
