"""How the manual is built.

    sphinx-build -W -b html docs docs/_build/html

The folder made/ is filled first: lesson/ and museum.md from the package, questions/ from demos/,
live/ with the page of `minivae explain`.  Then Sphinx reads all, and MyST-NB runs the demos.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gallery  # noqa: E402
import readmes  # noqa: E402
import sources  # noqa: E402
from docstrings import as_rst  # noqa: E402

import minivae  # noqa: E402

project, author, version = "minivae", "the minivae authors", minivae.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
# docs/*.py build the manual; the demos' two helpers are no demos
exclude_patterns = ["_build", "*.py", "made/runs", "made/live",
                    "made/questions/pictures.py", "made/questions/adapters.py"]
templates_path = ["_templates"]
highlight_language = "none"                    # an indented block is a formula or a drawing
default_role = "literal"                       # `name` in a docstring is code

# Furo: a search that needs no server, light and dark, narrow screens, no request but its own files.
html_theme = "furo"
html_title = "minivae"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_extra_path = ["made/live"]
html_copy_source = html_show_copyright = False
html_show_search_summary = False               # summaries are fetched, and file: forbids fetching

# A demo is a script of `# %%` cells: a notebook to MyST-NB, which runs it as it is.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"                    # rm -r docs/_build runs unchanged demos again, too
nb_execution_timeout = 300                     # seconds for one cell
nb_execution_raise_on_error = True
nb_merge_streams = True

myst_heading_anchors = 4                       # READMEs link to headings as GitHub names them
myst_enable_extensions = ["colon_fence", "attrs_block"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"                     # the docstrings say shapes, which types cannot
autosummary_generate = True
napoleon_google_docstring = False
# the types of our docstrings are words, not names to link to
napoleon_use_param = napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]


def setup(app) -> None:
    """Hook in what this folder adds to Sphinx."""
    sources.make(HERE / "made")
    app.connect("include-read", readmes.lead_inside)
    # before napoleon, which listens with 500
    app.connect("autodoc-process-docstring", _mend, priority=400)
    gallery.add_to(app)


def _mend(app, what, name, obj, options, lines) -> None:
    lines[:] = as_rst(lines)
