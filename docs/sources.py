"""Fill made/, the folder of pages that are written from the package and never by hand."""

import subprocess
import sys
from pathlib import Path

import lesson
import museum
from minivae.learn.course import all_exercises

ROOT = Path(__file__).parents[1]


def make(folder: Path) -> None:
    """Write everything; a file whose text is the same is left alone, so that Sphinx is, too."""
    written = {**lesson.pages(), "museum.md": museum.page(), "exercises.txt": exercises()}
    for name, text in written.items():
        write(folder / name, text)
    for demo in sorted((ROOT / "demos").glob("*.py")):
        write(folder / "questions" / demo.name, demo.read_text())
    for copy in (folder / "questions").glob("*.py"):
        if not (ROOT / "demos" / copy.name).exists():
            copy.unlink()
    live_page(folder)


def exercises() -> str:
    """The exercises' names and titles, as a table."""
    rows = [f"| {i} | `{one.name}` | {one.title} |" for i, one in enumerate(all_exercises(), 1)]
    head = ["| | name | what you write or find |", "|---|---|---|"]
    return "\n".join(head + rows)


def live_page(folder: Path) -> None:
    """Train the digits, once, and write the page of `minivae explain`."""
    if not (folder / "runs" / "digits" / "model.npz").exists():
        command("train", "--out", "runs/digits", at=folder)
    (folder / "live").mkdir(exist_ok=True)
    command("explain", "runs/digits", "--out", "live/explain.html", at=folder)


def command(*words: str, at: Path) -> None:
    """Run `minivae ..` in a folder.  Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "minivae", *words, "--quiet"], cwd=at, check=True)


def write(path: Path, text: str) -> None:
    """Write the text, unless it stands there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
