"""Sphinx's settings; `lop.site.build` runs it."""

import sys
import tomllib
from typing import Any

sys.path.insert(0, __file__.rpartition("/lop/")[0])

from lop.site import api_pages, places

_about = tomllib.loads((places.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project = _about["name"]
release = version = _about["version"]
author = "The lop-companion authors"
copyright = f"2026, {author}"
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "lop.site.mathematics",
]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline"]
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["misc.highlighting_failure", "ref.python"]
default_role = "literal"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
napoleon_use_ivar = True
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["static"]
html_extra_path = [str(places.EXTRA)]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}
html_last_updated_fmt = None


def _ours(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a class of ours has from torch."""
    return True if str(getattr(thing, "__module__", "")).startswith("torch.") else None


def _focusable(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the keyboard reach, and so scroll, what may be wider than the page."""
    for start in ("<pre", '<div class="table-wrapper'):
        context["body"] = context.get("body", "").replace(start, f'{start[:4]} tabindex="0"{start[4:]}')


def setup(app: Any) -> None:
    """Let docstrings, which are Markdown, be read as reStructuredText, and the keyboard reach all of a page."""
    app.connect("autodoc-process-docstring", api_pages.docstring, priority=400)
    app.connect("autodoc-skip-member", _ours)
    app.connect("html-page-context", _focusable, priority=900)
