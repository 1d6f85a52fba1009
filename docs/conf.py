"""The site: the README in front, guides, notebooks as they are stored, the API of the docstrings.

`make docs` builds it; nothing is executed and nothing fetched.
"""

from pathlib import Path

from sphinx.application import Sphinx

project = "prunelab"
author = "The prunelab developers"
html_title = "prunelab"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "furo"
html_theme_options = {"source_edit_link": "", "source_view_link": ""}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/*.md",
    "data/*.md",
    "notebooks/*.ipynb",
    "notebooks/still/*.ipynb",
]
ROOT = Path(__file__).parents[1]
notebooks = sorted(
    str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "notebooks").rglob("*.ipynb")
)

nb_execution_mode = "off"  # what `make notebooks` stored is shown
myst_heading_anchors = 3
myst_enable_extensions = []  # formulas are written in plain signs: no script is needed to set them
suppress_warnings = ["mystnb.unknown_mime_type"]  # of a live chart; the picture beside it is shown
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a class's attributes are a list, and not documented twice
python_use_unqualified_type_names = True
default_role = "code"  # docstrings write `names` as Markdown does

CONTENTS = """
```{{toctree}}
:hidden:
:caption: {caption}

{pages}
```
"""
GUIDES = ["into_use", "recipes", "sweeps", "networks", "measuring", "speed", "lab"]
REFERENCE = ["docs/api", "CONTRIBUTING", "SECURITY", "CHANGELOG", "data/README", "data/coverage"]
REFERENCE += ["data/libraries", "data/faults", "docs/operators", "docs/dependencies"]


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """The table of contents, which the README need not hold on a code host."""
    if page == root_doc:
        for caption, pages in (
            ("Guides", [f"docs/{name}" for name in GUIDES]),
            ("Notebooks", notebooks),
            ("Reference", REFERENCE),
        ):
            source[0] += CONTENTS.format(caption=caption, pages="\n".join(pages))


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
