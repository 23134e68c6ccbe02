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
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def lead_inside(app, relative_path: Path, docname: str, content: list[str]) -> None:
    """Sphinx's event: a file has been read that a page includes."""
    folder = (Path(app.srcdir) / docname).parent
    file = (folder / relative_path).resolve()
    if file.name != "README.md":
        file = (Path(app.srcdir) / relative_path).resolve()
    content[0] = LINK.sub(lambda link: _link(link, file.parent, folder), content[0])


def _link(link: re.Match, folder: Path, page_folder: Path) -> str:
    """One link, or picture, of a README in `folder`, for a page in `page_folder`."""
    sign, words, target, anchor = link.groups("")
    if target.startswith("http"):
        return link.group(0)
    name = os.path.relpath(folder / target, ROOT) if target else "README.md"
    if not target and folder != ROOT:
        return link.group(0)                               # to the same page
    here = Path(__file__).parent
    if re.match(r"demos/\d", name):
        file = here / "made" / "questions" / Path(name).name
    elif name in PAGES:
        file = here / PAGES[name]
    else:
        file = ROOT / name
    path = os.path.relpath(file, page_folder)
    if sign or file.is_relative_to(here):
        return f"{sign}[{words}]({path}{anchor})"
    return f"{{download}}`{words} <{path}>`" if file.is_file() else words
