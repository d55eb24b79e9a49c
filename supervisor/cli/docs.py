"""The verb that shows the manual: the pages of `docs/`, which are installed with the package."""

import sys
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable

import click

from garrison.supervisor.cli.render.text import sanitize

from .completion import completes
from .errors import DONE
from .output import Invocation, options


@click.command(epilog="Examples: garrison docs; garrison docs guide/services")
@click.argument(
    "page", required=False, metavar="[PAGE]", shell_complete=completes(lambda home, ctx: pages())
)
@options
def docs(invocation: Invocation, page: str | None) -> int:
    """List the pages of the manual, or show one."""
    found = pages()
    if page is None:
        titles = {name: _title(path.read_text("utf-8")) for name, path in found.items()}
        invocation.answer({"pages": [{"page": n, "title": t} for n, t in titles.items()]})
        width = max(map(len, titles), default=0)
        for name, title in titles.items():
            invocation.say(f"{name:<{width}}  {title}")
        invocation.say("show one: garrison docs PAGE")
        return DONE
    name = _find(page, list(found))
    text = found[name].read_text("utf-8")
    invocation.answer({"page": name, "text": text})
    if not invocation.json:
        _show(text)
    return DONE


def pages() -> dict[str, Traversable]:
    """Return the manual's pages by name, as `guide/services`; the start page is first."""
    folder = files("garrison") / "docs"
    found = dict(_pages_in(folder)) if folder.is_dir() else {}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "index", item[0])))


def _pages_in(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for path in folder.iterdir():
        if path.is_dir():
            found += _pages_in(path, f"{prefix}{path.name}/")
        elif path.name.endswith(".md"):
            found.append((prefix + path.name.removesuffix(".md"), path))
    return found


def _title(text: str) -> str:
    heading = next((line for line in text.splitlines() if line.startswith("# ")), "")
    return sanitize(heading.removeprefix("# "))


def _find(page: str, known: list[str]) -> str:
    """Return the page with this name, or the only one whose last part it is."""
    page = page.removesuffix(".md").removeprefix("docs/")
    if page in known:
        return page
    ends = [name for name in known if name.endswith(f"/{page}")]
    if len(ends) == 1:
        return ends[0]
    close = get_close_matches(page, [*known, *(name.rpartition("/")[2] for name in known)], n=1)
    hint = f"did you mean {close[0]}?" if close else "garrison docs lists them"
    raise click.UsageError(f"there is no page {page}; {hint}", click.get_current_context())


def _show(text: str) -> None:
    """Print a page: formatted and in a pager at a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        click.echo(text.rstrip())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.pager(styles=True):
        console.print(Markdown(text))
