"""Renders templates: everything from outside is text, which jinja2 escapes."""

from pathlib import Path
from typing import Any

import jinja2

from . import words

FOLDER = Path(__file__).parent / "templates"


class Templates:
    """The templates of the console."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER),
            autoescape=True,
            finalize=words.harmless,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(
            size=words.size,
            span=words.span,
            coarse=words.coarse,
            utc=words.utc,
            plain=words.plain,
        )

    def page(self, name: str, values: dict[str, Any]) -> str:
        """Return a whole page."""
        return self._environment.get_template(name).render(values)

    def block(self, name: str, block: str, values: dict[str, Any]) -> str:
        """Return one block of a template."""
        template = self._environment.get_template(name)
        context = template.new_context(values)
        # What a template imports and defines outside of its blocks is there once it has begun.
        next(iter(template.root_render_func(context)), None)
        return "".join(template.blocks[block](context))

    def load(self) -> None:
        """Compile all templates, so that workers share them with the launcher."""
        for name in self._environment.list_templates(["html"]):
            self._environment.get_template(name)

    def macro(self, name: str, macro: str, *args: Any) -> str:
        """Return what a macro of a template makes of some values."""
        module = self._environment.get_template(name).module
        return str(getattr(module, macro)(*args))


TEMPLATES = Templates()  # one, so that what the launcher has compiled is used by its workers
