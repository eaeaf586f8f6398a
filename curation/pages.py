"""HTML pages: templates beside the code, one style for all of them, everything escaped and nothing left undefined."""

from __future__ import annotations

from importlib import resources


def render(template: str, **values: object) -> str:
    """The page that a template of this package gives; ``style`` is the style that all pages share."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_read(template)).render(style=_read("page.css", "sono.manifests"), **values)


def _read(name: str, package: str = __package__) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
