"""A README that a page includes: its links lead to the manual's pages, its pictures are found."""

import os
import re
from pathlib import Path

from lesson import reading_order

ROOT = Path(__file__).parents[1]
# where the manual says what a README says
PAGES = {"README.md": "run.md", "demos/README.md": "words.md", "benchmarks/README.md": "speed.md",
         "minivae/gradcheck/README.md": "checks.md", "minivae/saving/README.md": "long_runs.md",
         "tests/README.md": "tests.md",
         **{f"minivae/{file}.py": f"made/lesson/{file}.rst" for _, file, _ in reading_order()}}


def lead_inside(app, relative_path: Path, docname: str, content: list[str]) -> None:
    """Sphinx's event: a file has been read that a page includes."""
    folder = (Path(app.srcdir) / docname).parent
    file = (folder / relative_path).resolve()
    if file.name != "README.md":
        file = (Path(app.srcdir) / relative_path).resolve()
    content[0] = re.sub(r"\]\(([^)\s#]+)(#[^)\s]*)?\)",
                        lambda link: _link(link, file.parent, folder), content[0])


def _link(link: re.Match, folder: Path, page_folder: Path) -> str:
    """One link, or picture, of a README in `folder`, for a page in `page_folder`."""
    target, anchor = link.group(1), link.group(2) or ""
    if target.startswith("http"):
        return link.group(0)
    name = os.path.relpath(folder / target, ROOT)
    if name.startswith("demos/") and re.match(r"\d", Path(name).name):
        inside = f"made/questions/{Path(name).name}"
    elif name in PAGES:
        inside = PAGES[name]
    else:
        inside = f"../{name}"
    return f"]({os.path.relpath(Path(__file__).parent / inside, page_folder)}{anchor})"
