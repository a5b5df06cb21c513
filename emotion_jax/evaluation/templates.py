"""Jinja2, set up alike for everything that is written from a template."""

from pathlib import Path

import jinja2


def environment(folder: Path, autoescape: bool = True) -> jinja2.Environment:
    """The templates of a folder; a name that is not given to one is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
