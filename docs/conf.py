"""The site: a page of pictures in front, guides, notebooks as they are stored, the API.

`make docs` builds it; nothing is executed and nothing fetched.
"""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.util.logging import getLogger

sys.path.insert(0, str(Path(__file__).parent / "hooks"))
import figures
import pictures

project = "prunelab"
author = "The prunelab developers"
html_title = "prunelab"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",  # leaves a file that keeps a code host from dropping _static
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
html_theme = "furo"
html_theme_options = {"source_edit_link": "", "source_view_link": ""}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_domain_indices = html_use_index = False  # the search finds every name
html_show_copyright = False

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/**.md",
    "data/*.md",
    "notebooks/**.ipynb",
]
exclude_patterns = ["**/.ipynb_checkpoints"]
ROOT = Path(__file__).parents[1]

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
GUIDES = "figures teaching into_use recipes sweeps networks measuring speed lab"
REFERENCE = """docs/reference/api CONTRIBUTING SECURITY CHANGELOG data/README data/coverage
data/libraries data/faults docs/reference/operators docs/reference/dependencies"""
CAPTIONS = {
    "Guides": ["README </README>", *(f"/docs/{name}" for name in GUIDES.split())],
    **{
        caption: sorted(f"/{path.with_suffix('').relative_to(ROOT)}" for path in ROOT.glob(names))
        for caption, names in {
            "Notebooks": "notebooks/*.ipynb",
            "Solutions": "notebooks/solutions/*.ipynb",
            "Stills": "notebooks/still/*.ipynb",
        }.items()
    },
    "Reference": [f"/{name}" for name in REFERENCE.split()],
}
warn = getLogger(__name__).warning  # `make docs` takes each for an error


class Site(StandaloneHTMLBuilder):
    """HTML, with the landing page at the site's root, where its links count from."""

    def get_output_path(self, page_name: str, /) -> Path:
        return super().get_output_path("index" if page_name == root_doc else page_name)

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        return super().get_target_uri("index" if docname == root_doc else docname, typ)

    def index_page(self, pagename: str, doctree: nodes.document, title: str) -> None:
        if pagename != root_doc:  # what it says is found where it leads to
            super().index_page(pagename, doctree, title)


def fill_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Pictures, figures and the table of contents, which no page need hold on a code host."""
    index, results = ROOT / "docs" / "figures.md", ROOT / "data" / "results"
    if page == "docs/figures":
        source[0] = figures.fill_rows(source[0], index, results)
        for path in [*results.rglob("*.csv"), *(ROOT / "notebooks").rglob("*.ipynb")]:
            app.env.note_dependency(path)
    if page == root_doc:
        folder = Path(app.outdir).parent / "pictures"
        text = source[0]
        try:
            text = pictures.show_pictures(text, index, ROOT / "notebooks", folder)
        except (OSError, ValueError) as error:
            warn("%s: %s", page, error)
        rows = figures.list_rows(index.read_text(encoding="utf-8"))
        source[0] = text.replace("<!-- figures -->", rows)
        for caption, pages in CAPTIONS.items():
            source[0] += CONTENTS.format(caption=caption, pages="\n".join(pages))
        for path in [index, *(ROOT / "notebooks").rglob("*.ipynb")]:
            app.env.note_dependency(path)


def describe_outputs(app: Sphinx, doctree: nodes.document) -> None:
    """Each picture of a notebook's outputs gets the words that are stored with it."""
    page = app.env.doc2path(app.env.docname)
    if page.suffix != ".ipynb":
        return
    outputs = pictures.read_pictures(page)
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code" and cell["cell_index"] in outputs:
            images = [
                image
                for box in cell.findall(nodes.container)
                if box.get("mime_type") == "image/png"
                for image in box.findall(nodes.image)
            ]
            for image, output in zip(images, outputs[cell["cell_index"]], strict=True):
                image["alt"] = pictures.describe(output)


def check_images(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    for image in pictures.Images(context.get("body", "")).silent:
        warn("an image of %s has no words for who cannot see it (alt): %s", page, image)


def drop_maps(app: Sphinx, error: Exception | None) -> None:
    """What only those who write the theme need."""
    static = Path(app.outdir) / "_static"
    for path in [*static.rglob("*.map"), *static.glob("debug.css")]:
        path.unlink()


def setup(app: Sphinx) -> None:
    app.add_builder(Site, override=True)
    app.connect("source-read", fill_pages)
    app.connect("doctree-read", describe_outputs)
    app.connect("html-page-context", check_images)
    app.connect("build-finished", drop_maps)
