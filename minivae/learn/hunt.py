"""Find the fault: one line of a page is wrong, and the answer is its number.

Given are the code, the loss curve beside the right one, and the report with its suspect hidden.
Curves and reports were recorded by `python -m minivae.learn.record`.
"""

from __future__ import annotations

import ast
import json
import textwrap
from difflib import SequenceMatcher
from functools import cache
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
    """A training on 400 digits, in batches of 20 and in float64, with and without the fault.

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
    """A fault of the museum, or one of its kind, in an excerpt of the page where it lives.

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
        return f'"""{self._story()}"""\n{self._code(faulty=True)}'

    def solution(self) -> str:
        """The file with LINE filled in, and the right line at its end."""
        line = self.faulty_lines()[0]
        text = self.skeleton().replace(GAP, f"LINE = {line}")
        answer = "\n".join(f"# {part}".rstrip() for part in self._answer().split("\n"))
        return f"{text}\n\n# %% The answer\n\n{answer}\n"

    def where_it_lives(self) -> str:
        """The right function, or functions, as the package has them."""
        return "\n\n".join(source_of(where) for where, _, _ in self.edits)

    def _story(self) -> str:
        """The docstring: what was seen, the curves, the report, and what to do."""
        right, wrong = self._record()["right"], self._record()["wrong"]
        parts = [f"Find the fault: {self.title}.  Level {self.level}: {LEVELS[self.level]}.",
                 self.seen,
                 f"Trained with and without the fault: {self.run.in_words()}.",
                 curves.picture(right, wrong), curves.table(right, wrong),
                 f'The check "{self.check}":', str(self.report(hidden=True)),
                 f"Below stands a part of minivae/{self.module.replace('.', '/')}.py.  One place in "
                 "it is wrong.  The comments are cut, for some of them would say it; the docstrings "
                 "are right.  Put the number of the faulty line into LINE."]
        wrapped = [part if "\n" in part else textwrap.fill(part, COLUMNS - 3) for part in parts]
        return "\n\n".join(wrapped) + "\n"

    def _code(self, faulty: bool) -> str:
        """The file after its docstring."""
        text = page(self.module)
        if faulty:
            for where, old, new in self.edits:
                text = planted(text, where.partition(":")[2], old, new)
        code = excerpt(text, self.shown)
        return ("\nfrom __future__ import annotations\n\nfrom typing import TYPE_CHECKING\n\n"
                f"import numpy as np\n\n{GAP}\n\n# %% The code, to be read: nothing calls it\n\n"
                f"{preamble(code, self.module)}\n\n{code}")

    # --- the answer ---

    def faulty_lines(self) -> list[int]:
        """The numbers, in the skeleton, of the lines that are not the package's own."""
        first = len(self._story().split("\n"))
        return [first + line for line, _ in self._changes()]

    def _changes(self) -> list[tuple[int, str]]:
        """(line, right line) of the faulty lines, counted from the docstring's end.

        The right line is "" for a line that should not be there.
        """
        right = self._code(faulty=False).split("\n")
        wrong = self._code(faulty=True).split("\n")
        found = []
        for tag, i, i_end, j, j_end in SequenceMatcher(None, right, wrong, False).get_opcodes():
            if tag != "equal":
                instead = right[i:i_end] + [""] * (j_end - j)
                found += [(line + 1, instead[line - j]) for line in range(j, j_end)]
        return found

    def _answer(self) -> str:
        """The right lines, in words."""
        parts = []
        for line, (_, right) in zip(self.faulty_lines(), self._changes()):
            should = f"should read\n    {right.strip()}" if right else "should not be there"
            parts.append(f"Line {line} {should}")
        return "\n".join([*parts, f"The mistake: {self.fault.mechanism}."])

    # --- the hints ---

    @property
    def hints(self) -> tuple[str, str, str]:
        """The function; what is off; two or three lines, one of them faulty."""
        lines = self.skeleton().split("\n")
        wrong = self.faulty_lines()[0] - 1
        asked = [i for i, line in enumerate(lines) if any(other in line for other in self.others)]
        candidates = "; or ".join(f"`{lines[i].strip()}`" for i in sorted({wrong, *asked}))
        suspect = self._record()["suspect"].removeprefix("suspect: ")
        return (f"The fault is in {' or '.join(where.partition(':')[2] for where, *_ in self.edits)}.",
                f"{self.off}  The hidden note says: {suspect}",
                f"It is one of these lines: {candidates}")

    # --- the grade ---

    def grade(self, names: dict) -> Grade:
        """Compare LINE with the faulty lines; lines that the reader put in are reckoned with."""
        line = names.get("LINE")
        if line is None:
            return Grade(False, "LINE is still None: put the number of the faulty line there.")
        if isinstance(line, bool) or not isinstance(line, Integral):
            return Grade(False, f"LINE is {line!r:.60}: it must be a whole number, as LINE = 12.")
        skeleton = self.skeleton().split("\n")
        lines = _text_of(names.get("__file__"), skeleton)
        if not 1 <= line <= len(lines):
            return Grade(False, f"LINE is {line}, and this file has {len(lines)} lines.")
        own = _line_in(skeleton, lines, int(line))
        if own in self.faulty_lines():
            return Grade(True, self._praise(line, own), self.report(hidden=False))
        return Grade(False, f"Line {line} is not it: {self._nudge(own, skeleton)}")

    def _praise(self, line: int, own: int) -> str:
        right = dict(zip(self.faulty_lines(), (right for _, right in self._changes())))[own].strip()
        should = f"It should read `{right}`." if right else "It should not be there."
        return (f"Line {line} it is, in {self.fault.where.partition(':')[2]}: "
                f"{self.fault.mechanism}.  {should}  The hidden note: {self._record()['suspect']}")

    def _nudge(self, line: int | None, skeleton: list[str]) -> str:
        """What is said to a wrong line: the way, but not how far."""
        if line is None:
            return "it is one that you wrote yourself."
        nearest = min(self.faulty_lines(), key=lambda wrong: abs(wrong - line))
        way = "below it" if nearest > line else "above it"
        tree = ast.parse("\n".join(skeleton))
        function, wanted = _innermost(tree, line), _innermost(tree, nearest)
        if function is None:
            return f"it is in no function; look {way}."
        if function is not wanted:
            return f"{function.name} is right.  Look in a function {way}."
        statement = [node for node in ast.walk(wanted) if isinstance(node, ast.stmt)
                     and not hasattr(node, "body") and node.lineno <= nearest <= node.end_lineno]
        if any(node.lineno <= line <= node.end_lineno for node in statement):
            return f"the statement is the right one; look {way}, at another of its lines."
        return f"but {function.name} is the right function.  Look {way}."

    # --- what was recorded ---

    def _record(self) -> dict:
        return recorded()[self.name]

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


# --- the reader's file ----------------------------------------------------------------------------


def _text_of(path: str | None, skeleton: list[str]) -> list[str]:
    """The lines of the reader's file; those of the skeleton where there is none."""
    if path is None or not Path(path).is_file():
        return skeleton
    return Path(path).read_text(encoding="utf-8").split("\n")


def _line_in(skeleton: list[str], lines: list[str], line: int) -> int | None:
    """The line's number in the skeleton; None for a line that was not there."""
    for tag, i, i_end, j, j_end in SequenceMatcher(None, skeleton, lines, False).get_opcodes():
        if j < line <= j_end:
            same_size = tag == "equal" or i_end - i == j_end - j
            return i + line - j if same_size else None
    return None


def _innermost(tree: ast.AST, line: int):
    """The smallest function around a line, or None."""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
              and node.lineno <= line <= node.end_lineno]
    return min(around, key=lambda node: node.end_lineno - node.lineno, default=None)
