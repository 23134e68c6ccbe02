"""What `minivae learn` prints: every line within 80 columns, colours on a terminal only."""

from __future__ import annotations

import difflib
import os
import sys
import textwrap

from minivae.learn.exercise import Exercise
from minivae.learn.files import BEGUN, CHANGED, NEW, PASSED, Folder
from minivae.learn.grading import Result

WIDTH = 80
BAR = 40                        # columns of the progress bar
PRINTED = 12                    # lines of what the reader's file printed, at most
GREEN, RED, BOLD = "32", "31", "1"
MARKS = {PASSED: "x", BEGUN: "/", CHANGED: "!", NEW: " "}
SEEN = "s"                      # the mark of one that passed after its solution was opened
LEGEND = ("[x] passed  [s] passed, solution seen first  [/] begun\n"
          "[!] changed since it passed  [ ] not begun")


def painted(text: str, colour: str) -> str:
    """The text in a colour, or as it is where there is no terminal or NO_COLOR is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\033[{colour}m{text}\033[0m"


def wrapped(text: str, indent: str = "") -> str:
    """Prose in lines of at most 80 columns; its own line breaks stay."""
    lines = [textwrap.fill(line, WIDTH, initial_indent=indent, subsequent_indent=indent,
                           break_on_hyphens=False) for line in text.splitlines()]
    return "\n".join(lines)


def code(text: str, indent: str = "    ") -> str:
    """Code, with an indent; a line that is too long goes on below, farther to the right."""
    lines = []
    for line in text.expandtabs(4).splitlines():
        deeper = " " * (len(line) - len(line.lstrip()) + 8)
        lines += textwrap.wrap(line, WIDTH - len(indent), subsequent_indent=deeper,
                               break_on_hyphens=False) or [""]
    return "\n".join((indent + line).rstrip() for line in lines)


def progress_bar(folder: Folder) -> str:
    """[#####.....]  5 of 36 passed"""
    passed = sum(map(folder.has_passed, folder.exercises))
    total = len(folder.exercises)
    full = BAR * passed // total
    return f"[{'#' * full}{'.' * (BAR - full)}]  {passed} of {total} passed"


def listing(folder: Folder) -> str:
    """A line for each exercise: its number, its state, its name and its title."""
    width = max(len(exercise.name) for exercise in folder.exercises)
    lines = []
    for exercise in folder.exercises:
        mark = MARKS[folder.state(exercise)]
        if mark == "x" and folder.progress(exercise).solution_seen:
            mark = SEEN
        line = f"{folder.number(exercise):3d} [{mark}] {exercise.name:{width}s}  {exercise.title}"
        lines.append(line[:WIDTH])
    return "\n".join([*lines, LEGEND, "", progress_bar(folder)])


def heading(folder: Folder, exercise: Exercise) -> str:
    """Which exercise it is, and the file to write in."""
    title = f"{folder.number(exercise)}. {exercise.title}"
    return f"{painted(title[:WIDTH], BOLD)}\n{code(str(folder.file(exercise)), '   ')}"


def result(folder: Folder, exercise: Exercise, found: Result) -> str:
    """The verdict, the line that it is about, the sentence, and the table of the check."""
    verdict = painted("PASSED", GREEN) if found.passed else painted("NOT YET", RED)
    where = f", line {found.line}" if found.line else ""
    parts = [f"{verdict}  {folder.file(exercise).name}{where}"]
    if found.source:
        parts.append(code(found.source))
    parts.append(wrapped(found.sentence, "  "))
    if found.table and not found.passed:
        parts.append("\n" + code(found.table, ""))
    if found.printed:
        lines = found.printed.splitlines()
        more = [f".. and {len(lines) - PRINTED} lines more"] if len(lines) > PRINTED else []
        parts.append("  It printed:")
        parts.append(code("\n".join([*lines[:PRINTED], *more])))
    return "\n".join(parts)


def hint(exercise: Exercise, number: int) -> str:
    """Hint 1, 2 or 3."""
    return wrapped(f"hint {number} of {len(exercise.hints)}: {exercise.hints[number - 1]}", "  ")


def solution(folder: Folder, exercise: Exercise) -> str:
    """The solution beside the reader's own lines, and where the package does the same."""
    try:
        yours = folder.file(exercise).read_text(errors="replace").splitlines()
    except OSError:
        yours = []
    compared = difflib.unified_diff(yours, exercise.solution().splitlines(), lineterm="")
    # the first two name files, and those with @@ count lines
    changed = [line for line in list(compared)[2:] if not line.startswith("@@")]
    beside = "\n".join(changed) if changed else "  The file is the solution, line for line."
    return (f"- your line    + the solution\n\n{code(beside, '')}\n\n"
            f"In the package:\n\n{code(exercise.where_it_lives())}")
