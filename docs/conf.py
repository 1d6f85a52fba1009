"""The site: the README as its front page, the notebooks as they are stored, the API from the docstrings.

`make docs` builds it; nothing is executed and nothing fetched.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

project = "prunelab"
author = "The prunelab developers"
html_title = "prunelab"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
html_theme = "furo"
html_theme_options = {"source_edit_link": "", "source_view_link": ""}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/api.md", "data/*.md", "notebooks/*.ipynb"]
notebooks = sorted(path.stem for path in Path(__file__).parents[1].glob("notebooks/*.ipynb"))

nb_execution_mode = "off"  # what `make notebooks` stored is shown
myst_heading_anchors = 3
myst_enable_extensions = []  # formulas are written in plain signs: no script is needed to set them
suppress_warnings = ["mystnb.unknown_mime_type"]  # of a live chart; the picture beside it is shown
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
default_role = "code"  # docstrings write `names` as Markdown does

CONTENTS = """
```{{toctree}}
:hidden:
:caption: {caption}

{pages}
```
"""


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """The table of contents, which the README need not hold on a code host."""
    if page == root_doc:
        source[0] += CONTENTS.format(caption="Notebooks", pages="\n".join(f"notebooks/{name}" for name in notebooks))
        source[0] += CONTENTS.format(caption="Reference", pages="docs/api\nCONTRIBUTING\ndata/README\ndata/coverage")


def read_docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Plain text as we write it: `ratios: fraction removed, …` at a line's start is an item, signs are signs."""
    listed, inside = [], False
    for line in lines:
        begins = re.match(r"([a-z_]+(?:, [a-z_]+)*): ", line)
        inside = bool(begins) or (inside and line.startswith("    "))
        if not line.startswith(">>>"):
            line = re.sub(r"(`[^`]*`)|([*|\\])", lambda found: found[1] or f"\\{found[2]}", line)
        if begins:
            listed += ["", f"- **{begins[1]}**: {line[begins.end() :]}"]
        elif inside:
            listed.append("  " + line.strip())
        else:
            listed += ["", line] if listed and listed[-1].startswith(("- ", "  ")) else [line]
    lines[:] = listed


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", read_docstring)
