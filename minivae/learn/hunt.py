"""Find the fault: one line of a page is wrong, and the answer is its number.

Given are the code, the loss curve beside the right one, and the report with its suspect hidden.
Curves and reports were recorded by `python -m minivae.learn.record`.
"""

from __future__ import annotations

import ast
import json
import textwrap
from difflib import SequenceMatcher
from functools import cache, cached_property
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivae.gradcheck.faults import Fault
from minivae.gradcheck.report import COLUMNS, FAIL, Report, Row
from minivae.learn import curves
from minivae.learn.excerpts import excerpt, page, planted, preamble, source_of
from minivae.learn.exercise import Exercise, Grade

RECORD = Path(__file__).with_name("hunts.json")
LEVELS = {1: "finite differences see it",
          2: "no finite difference sees it, a clause of the contract does",
          3: "forward and backward agree; exact means or exact numbers see it"}
HIDDEN = "suspect: hidden until you have found it"
GAP = "LINE = None      # the number of the faulty line, as your editor shows it"


class Run(NamedTuple):
    """A training on 1500 digits, in batches of 20 and in float64, with and without the fault.

    likelihood is "bernoulli", "gaussian", or the fixed log-variance of a Gaussian one.
    skip: the encoder's hidden layer is h = tanh(a) + a.
    look: each step looks at the reconstructions between forward and backward.
    """

    model: str = "VAE"
    hidden: tuple[int, ...] = (16,)
    Z: int = 4
    K: int = 1
    estimator: str = "elbo"
    likelihood: str | float = "bernoulli"
    activation: str = "tanh"
    lr: float = 3e-3
    skip: bool = False
    look: bool = False
    epochs: int = 12

    def in_words(self) -> str:
        """What was trained, e.g. "VAE 64-16-4, tanh, elbo"."""
        sizes = "-".join(map(str, (64, *self.hidden, self.Z)))
        words = [f"{self.model} {sizes}", self.activation, self.estimator]
        words += [f"K = {self.K}"] * (self.K > 1)
        if self.likelihood != "bernoulli":
            fixed = not isinstance(self.likelihood, str)
            words.append(f"Gaussian pixels of logvar {self.likelihood:g}" if fixed else
                         "Gaussian pixels")
        words += ["a skip connection"] * self.skip
        return ", ".join(words)


class Hunt(Exercise):
    """A fault of the museum, or one of its kind, in a part of the page where it lives.

    Parameters
    ----------
    name, title : as in Exercise
    level : 1, 2 or 3, see LEVELS
    fault : Fault
    shown : the functions and methods of the excerpt, "f C.g C.h"
    check : the check of the suite that catches it
    seen : what a user saw, without the cause
    off : which quantity is off, and in which way
    others : two lines of the excerpt, or parts of them, that are right, for the third hint
    run : Run, whose curves are shown
    """

    def __init__(self, name: str, title: str, level: int, fault: Fault, *, shown: str, check: str,
                 seen: str, off: str, others: tuple[str, ...], run: Run | None = None):
        self.name, self.title, self.level, self.fault = name, title, level, fault
        self.shown, self.check, self.seen, self.run = shown.split(), check, seen, run or Run()
        self.off, self.others = off, others
        self.module = fault.where.partition(":")[0]
        self.edits = ((fault.where, fault.old, fault.new), *fault.also)

    # --- the file ---

    def skeleton(self) -> str:
        """The file with LINE = None."""
        return "\n".join(self._lines)

    def solution(self) -> str:
        """The file with LINE filled in, and the right line at its end."""
        text = self.skeleton().replace(GAP, f"LINE = {min(self.faulty)}")
        answer = [f"# The mistake: {self.fault.mechanism}."]
        for line, right in self.faulty.items():
            answer += [f"# Line {line} should read", f"#     {right}"] if right else \
                      [f"# Line {line} should not be there."]
        return "\n".join([text, "", "# %% The answer", "", *answer, ""])

    def where_it_lives(self) -> str:
        """The right function, or functions, as the package has them."""
        return "\n\n".join(source_of(where) for where, _, _ in self.edits)

    @cached_property
    def faulty(self) -> dict[int, str]:
        """{number of a faulty line in the skeleton: the right line}; "" where none should be."""
        right, wrong = self._code(faulty=False), self._code(faulty=True)
        first = len(self._lines) - len(wrong) + 1
        found = {}
        for tag, i, i_end, j, j_end in _edits(right, wrong):
            if tag != "equal":
                instead = right[i:i_end] + [""] * (j_end - j)
                found |= {first + line: instead[line - j].strip() for line in range(j, j_end)}
        return found

    @cached_property
    def _lines(self) -> list[str]:
        return [*f'"""{self._story()}"""'.split("\n"), *self._code(faulty=True)]

    def _story(self) -> str:
        """The docstring: what was seen, the curves, the report, and what to do."""
        kept = self._record()
        trained = f"{self.run.in_words()}; {self.run.epochs} epochs of 1500 digits"
        parts = [f"Find the fault: {self.title}.  Level {self.level}: {LEVELS[self.level]}.",
                 self.seen,
                 f"Trained with and without the fault: {trained}.",
                 curves.picture(kept["right"], kept["wrong"]),
                 curves.table(kept["right"], kept["wrong"]),
                 f'The check "{self.check}":',
                 str(self.report(hidden=True)),
                 f"Below stands a part of minivae/{self.module}.py.  One place in it is wrong.  "
                 "The comments are cut, for some of them would say it; the docstrings are right.  "
                 "Put the number of the faulty line into LINE."]
        wrapped = [part if "\n" in part else textwrap.fill(part, COLUMNS - 3) for part in parts]
        return "\n\n".join(wrapped) + "\n"

    def _code(self, faulty: bool) -> list[str]:
        """The lines of the file after its docstring."""
        text = page(self.module)
        if faulty:
            for where, old, new in self.edits:
                text = planted(text, where.partition(":")[2], old, new)
        code = excerpt(text, self.shown)
        return ["", "from __future__ import annotations", "", "from typing import TYPE_CHECKING",
                "", "import numpy as np", "", GAP, "",
                "# %% The code, to be read: nothing calls it", "",
                *preamble(code, self.module).split("\n"), "", *code.split("\n")]

    # --- the hints ---

    @property
    def hints(self) -> tuple[str, str, str]:
        """The function; what is off; three lines, one of them faulty."""
        functions = " or ".join(where.partition(":")[2] for where, _, _ in self.edits)
        asked = [line for line in self._lines if any(other in line for other in self.others)]
        lines = sorted([self._lines[min(self.faulty) - 1], *asked], key=self._lines.index)
        return (f"The fault is in {functions}.",
                f"{self.off}  The hidden note: {self.note}",
                f"It is one of these: {'; or '.join(line.strip() for line in lines)}")

    # --- the grade ---

    def grade(self, names: dict) -> Grade:
        """Compare LINE with the faulty lines; lines that the reader put in are reckoned with."""
        line = names.get("LINE")
        if line is None:
            return Grade(False, "LINE is still None: put the number of the faulty line there.")
        if isinstance(line, bool) or not isinstance(line, Integral):
            return Grade(False, f"LINE is {line!r:.60}: it must be a whole number, as LINE = 12.")
        lines = _text_of(names.get("__file__")) or self._lines
        if not 1 <= line <= len(lines):
            return Grade(False, f"LINE is {line}, and this file has {len(lines)} lines.")
        own = _number_in(self._lines, lines, line)
        if own not in self.faulty:
            return Grade(False, f"Line {line} is not it: {self._nudge(own)}")
        right = self.faulty[own]
        should = f"It should read: {right}" if right else "It should not be there."
        return Grade(True, f"Line {line} it is: {self.fault.mechanism}.  {should}  "
                           f"The hidden note: {self.note}", self.report(hidden=False))

    def _nudge(self, line: int | None) -> str:
        """What is said to a wrong line of the skeleton: the way, but not how far."""
        if line is None:
            return "it is one that you wrote yourself."
        tree = ast.parse(self.skeleton())
        name, here = next(((name, node) for name, node in _functions(tree).items()
                           if _holds(node, line)), ("", None))
        inside = [wrong for wrong in self.faulty if here is not None and _holds(here, wrong)]
        nearest = min(inside or self.faulty, key=lambda wrong: abs(wrong - line))
        way = "below" if nearest > line else "above"
        if here is None:
            return f"it is in no function.  Look {way}."
        if not inside:
            return f"{name} is right.  Look in a function {way}."
        if any(_holds(part, line) and _holds(part, nearest) for part in _statements(here)):
            return f"but it is a line of the faulty statement.  Look {way}."
        return f"but {name} is the faulty function.  Look {way}."

    # --- what was recorded ---

    def _record(self) -> dict:
        return recorded()[self.name]

    @property
    def note(self) -> str:
        """What the report's first FAIL says of its cause: hidden until the fault is found."""
        return self._record()["note"].removeprefix("suspect: ")

    def report(self, hidden: bool) -> Report:
        """The recorded report of the check; hidden: without what its notes say."""
        kept, rows = self._record(), []
        for name, shape, index, *numbers, verdict, note in kept["rows"]:
            numbers = [np.nan if number is None else number for number in numbers]
            if hidden and verdict == FAIL:
                first = all(row.verdict != FAIL for row in rows)
                note = HIDDEN if first else ""
            rows.append(Row(name, tuple(shape), None if index is None else tuple(index), *numbers,
                            verdict, note))
        return Report(kept["title"], rows)


@cache
def recorded() -> dict[str, dict]:
    """{hunt: its curves and its report}, as `python -m minivae.learn.record` wrote them."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


# --- lines ----------------------------------------------------------------------------------------


def _edits(before: list[str], after: list[str]) -> list[tuple]:
    """difflib's (tag, i, i_end, j, j_end): before[i:i_end] became after[j:j_end]."""
    return SequenceMatcher(None, before, after, autojunk=False).get_opcodes()


def _text_of(path: str | None) -> list[str]:
    """The lines of the reader's file; none where there is no file."""
    if path is None or not Path(path).is_file():
        return []
    return Path(path).read_text(encoding="utf-8").split("\n")


def _number_in(skeleton: list[str], lines: list[str], line: int) -> int | None:
    """The number in the skeleton of a line of the reader's file; None for one of the reader's."""
    for tag, i, i_end, j, j_end in _edits(skeleton, lines):
        if j < line <= j_end:
            return i + line - j if tag == "equal" or i_end - i == j_end - j else None
    return None


def _functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """Every function, "f", and every method of a class, "C.f"; none inside another."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}": part for part in node.body
                      if isinstance(part, ast.FunctionDef)}
    return found


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of a function that hold no others."""
    return [node for node in ast.walk(function)
            if isinstance(node, ast.stmt) and not hasattr(node, "body")]


def _holds(node, line: int) -> bool:
    """Whether a line is one of the node's."""
    return node.lineno <= line <= node.end_lineno
