"""HTML pages: templates beside the code, one shared style, everything escaped, undefined names refused."""

from __future__ import annotations

from importlib import resources


def render(package: str, template: str, **values: object) -> str:
    """A template of ``package`` rendered; ``style`` is the style that all pages share.

    Raises:
        jinja2.UndefinedError: the template uses a value that was not given.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = _read("sono.manifests", "page.css")
    return environment.from_string(_read(package, template)).render(style=style, **values)


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
