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
    live_page(folder)


def exercises() -> str:
    """The exercises' names and titles, as a table."""
    rows = [f"| {i} | `{one.name}` | {one.title} |" for i, one in enumerate(all_exercises(), 1)]
    return "\n".join(["| | `minivae learn check ..` | what you write or find |", "|---|---|---|", *rows])


def live_page(folder: Path) -> None:
    """Train the digits, once, and write the page of `minivae explain`."""
    run, page = folder / "run", folder / "live" / "explain.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    if not (run / "model.npz").exists():
        command("train", "--out", run)
    command("explain", run, "--out", page)


def command(*words) -> None:
    """Run `minivae ..`.  Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "minivae", *map(str, words), "--quiet"], check=True)


def write(path: Path, text: str) -> None:
    """Write the text, unless it stands there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
