"""README and docs say what the code does; their links lead somewhere."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from tests.support.module_page import page as module_page
from tests.support.pages import PAGES, README, ROOT, Block, Page
from tests.support.sources import FILES, NODES

from garrison.supervisor.cli.app import verbs
from garrison.supervisor.config.load import load
from garrison.supervisor.lifecycle.policy import diagram

MARKS = {"example", "transcript", "diagram", "figures", "unit", ""}
START = "docs/index.md"
PACKAGES = ("supervisor", "workers", "ipc")
OF_THE_CODE = {"docs/architecture.md", "docs/contributing.md"}
MODULES = "docs/modules.md"
PATH = re.compile(r"(?!state/.|run/|logs/\w+\.\w*l)[a-z_]+(/[a-z_]+)*(/|\.py)")
VARIABLE = re.compile(r"\b[A-Z]+\b|…")
COMMAND = re.compile(r"(?:^|\$ |&& |bin/)garrison (?:--\w+ )*([a-z]+)\b", re.MULTILINE)
BLOCKS = [block for page in PAGES.values() for block in page.blocks]


def of(language: str) -> list[Block]:
    """Return the blocks of a language that no mark makes part of an example."""
    return [block for block in BLOCKS if block.language == language and block.mark != "example"]


# --- pages ------------------------------------------------------------------------------------


def test_readme_is_a_front_page() -> None:
    """README has at most 280 lines."""
    assert len(README.text.splitlines()) <= 280


@pytest.mark.parametrize("page", list(PAGES.values()), ids=list(PAGES))
def test_links_and_anchors_resolve(page: Page) -> None:
    """Each relative link names a file that exists, and an anchor that its page has."""
    broken = [link for link in page.links if not resolves(page, link)]

    assert broken == []


def resolves(page: Page, link: str) -> bool:
    """Return True if a link leads somewhere; those to other sites are not followed."""
    if link.startswith(("http:", "https:", "mailto:")):
        return True
    name, _, anchor = link.partition("#")
    target = (page.path.parent / name).resolve() if name else page.path
    known = PAGES.get(str(target.relative_to(ROOT)))
    return target.exists() and (not anchor or (known is not None and anchor in known.anchors))


def test_no_page_is_orphaned() -> None:
    """Every page can be reached by links from the start page."""
    reached, ahead = {START}, [START]
    while ahead:
        page = PAGES[ahead.pop()]
        for link in page.links:
            name = link.partition("#")[0]
            if not name or "://" in name:
                continue
            found = str((page.path.parent / name).resolve().relative_to(ROOT))
            if found in PAGES and found not in reached:
                reached.add(found)
                ahead.append(found)

    assert set(PAGES) - reached == set()


def test_a_page_has_one_title_and_known_marks() -> None:
    """Each page begins with its one title; a mark that no test knows is a slip."""
    for page in PAGES.values():
        titles = re.findall(r"^# .+", page.prose, re.MULTILINE)
        assert len(titles) == 1, page.name
        assert page.text.startswith(titles[0]), page.name
        marks = set(re.findall(r"^<!-- (\w+)", page.text, re.MULTILINE))
        assert marks <= MARKS, page.name


# --- what is generated from the code ----------------------------------------------------------


def test_the_diagram_is_the_table() -> None:
    """The diagram of a service's states is printed from the policy's table."""
    diagrams = [block.text for block in BLOCKS if block.mark == "diagram"]

    assert diagrams == [f"{diagram()}\n"]


def test_the_author_api_has_a_heading_or_row_for_every_name() -> None:
    """Each name that `garrison.workers` exports stands on the author's page."""
    import garrison.workers

    text = PAGES["docs/reference/author-api.md"].text
    missing = [name for name in garrison.workers.__all__ if f"{name}\n" not in text]

    assert [name for name in missing if f"`{name}" not in text] == []


def test_the_bundled_plugins_are_documented() -> None:
    """Each plugin of the package's entry points has a section, and stands in README."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = set(project["project"]["entry-points"]["garrison.plugins"])
    table = set(re.findall(r"^\| `(\w+)` \|", README.text, re.MULTILINE))

    assert table == names
    assert names <= PAGES["docs/guide/bundled-services.md"].anchors


def test_every_path_of_the_code_exists() -> None:
    """A file or folder of the code that a page names is there.

    A bare file name counts on the pages about the code alone: elsewhere it can be an author's.
    """
    for page in PAGES.values():
        if page.name == "docs/changelog.md":
            continue  # it speaks of what was
        named = [path for path in paths(page) if "/" in path or page.name in OF_THE_CODE]
        assert [path for path in named if not exists(path)] == [], page.name


def test_the_architecture_has_every_module_and_folder() -> None:
    """Each module and folder at the top of a package has its job on the page."""
    named = paths(PAGES["docs/architecture.md"])
    found = [path for package in PACKAGES for path in (ROOT / package).iterdir()]
    folders = {f"{path.name}/" for path in found if (path / "__init__.py").exists()}
    modules = {path.name for path in found if path.suffix == ".py"} - {"__init__.py"}

    assert folders | modules <= named


def test_the_page_of_modules_is_made_of_their_first_sentences() -> None:
    """The page of modules is the one that is printed of the code."""
    assert PAGES[MODULES].text == module_page()


def paths(page: Page) -> set[str]:
    """Return the paths that a page names, in code within a sentence."""
    spans = re.findall(r"`([^`\n]+)`", page.prose)
    return {span for span in spans if PATH.fullmatch(span) and "NAME" not in span}


def exists(path: str) -> bool:
    """Return True if a path exists, from the root or within one of the packages."""
    return any((ROOT / base / path).exists() for base in ("", *PACKAGES))


@pytest.mark.xdist_group("sources")  # parsed once
def test_troubleshooting_has_the_texts_of_the_code() -> None:
    """A literal text that heads a section of the page on troubleshooting is one that is printed.

    Words in capitals and `…` stand for what varies.
    """
    page = PAGES["docs/troubleshooting.md"]
    printed = "\0".join(texts())
    titles = re.findall(r"^### `(.+)`$", page.text, re.MULTILINE)
    parts = {part.strip() for title in titles for part in VARIABLE.split(title)}

    assert [part for part in parts if part not in printed] == []


def texts() -> list[str]:
    """Return the text of each string in the code that is no docstring; a NUL is a value in it."""
    found = list[str]()
    for name in FILES:
        nodes = NODES[name]
        alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in alone:
                continue
            if isinstance(node, ast.JoinedStr):
                values = [getattr(value, "value", "\0") for value in node.values]
                found.append("".join(v if isinstance(v, str) else "\0" for v in values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


# --- commands ---------------------------------------------------------------------------------


def test_two_commands_stand_on_lines_of_their_own() -> None:
    """A machine that has Python alone needs two commands; the second is the one of `.ci/run`."""
    commands = re.findall(r"^python3 -m venv .*$", README.text, re.MULTILINE)

    assert len(commands) == 2
    up, tests = commands
    assert up == "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/garrison up"
    assert f'command="{tests}"' in (ROOT / ".ci" / "run").read_text()


def test_every_command_names_a_verb_that_exists() -> None:
    """Each `garrison VERB` in a block or in code within a sentence is one of the verbs."""
    for page in PAGES.values():
        shell = [b.text for b in page.blocks if b.language in {"sh", "console", "ini"}]
        spans = re.findall(r"`([^`\n]+)`", page.prose)
        named = COMMAND.findall("\n".join(shell + spans))
        unknown = set(named) - set(verbs())
        assert unknown == set(), page.name


# --- blocks that are no example ---------------------------------------------------------------


@pytest.mark.parametrize("block", of("python"), ids=lambda block: block.where)
def test_python_compiles(block: Block) -> None:
    """A fragment of Python is valid, with `await` allowed outside of functions."""
    compile(block.text, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", of("toml"), ids=lambda block: block.where)
def test_toml_has_known_keys(block: Block, tmp_path: Path) -> None:
    """A fragment of a config can be loaded, with the plugins and files that it assumes."""
    document = tomllib.loads(block.text)
    present = document.get("plugins", {})
    named = {
        name: table.get("plugin", name) for name, table in document.get("services", {}).items()
    }
    assumed = [name for name in dict.fromkeys(named.values()) if name not in present]
    head = "" if "plugins" in document or not assumed else "[plugins]\n"
    lines = "".join(f"{name} = {{}}\n" for name in assumed)
    text = block.text.replace("[plugins]\n", f"[plugins]\n{lines}") if not head else block.text
    (tmp_path / "config.toml").write_text(f"{head}{lines if head else ''}{text}")
    for name in re.findall(r'character = "([^"#]+)', block.text):
        (tmp_path / name).write_text('{"name": "Ada"}')

    load(tmp_path / "config.toml", tmp_path / "home")
