"""HTML pages and figures: templates beside the code, one style for all pages, everything escaped."""

from __future__ import annotations

from importlib import resources


def render(template: str, **values: object) -> str:
    """What a template of this package gives; ``style`` is the style that all pages share.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = _read("page.css", "sono.manifests")
    return environment.from_string(_read(template, "sono.training")).render(style=style, **values)


def _read(name: str, package: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
