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


def percent(share: float) -> str:
    """With one decimal; a share that is not quite 0 or 1 is never rounded to it."""
    if 0 < share < 0.0005 or 0.9995 <= share < 1:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.1f} %"


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
