"""Pages from the templates beside this file. Imports no TensorFlow."""

from __future__ import annotations

from importlib import resources
from typing import Any

from tfdistill.errors import optional


def render_page(name: str, **values: Any) -> str:
    """The template `name` with these values, as HTML; texts are escaped.

    Raises MissingExtra when jinja2 is missing.
    """
    jinja2 = optional("jinja2", "quickstart")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda each: resources.files(__package__).joinpath(each).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name).render(**values)
