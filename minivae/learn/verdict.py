"""What a grade says: one sentence on what the reader's functions gave."""

from __future__ import annotations

import re

import numpy as np

from minivae.gradcheck.differences import U
from minivae.gradcheck.problem import FAR
from minivae.gradcheck.report import FAIL, PASS, Report, Row
from minivae.gradcheck.suspects import WrongGradient, suspect

ROUNDINGS = 1000 * U        # two right formulas may differ by this part of their size, no more


class Refused(Exception):
    """What was written is wrong; the message is the sentence.

    report holds the rows of the check, None where nothing came to be compared.
    """

    def __init__(self, sentence: str, report: Report | None = None):
        super().__init__(sentence)
        self.sentence, self.report = sentence, report


# --- before anything is compared ------------------------------------------------------------------


def as_parts(result, targets: list[str], function: str) -> list:
    """What a function returned, one value for each target.  Raises Refused for another count."""
    if len(targets) == 1:
        return [result]
    if result is None or result is ...:
        raise Refused(f"{function} returns {_named(result)}: it should return "
                      f"{', '.join(targets)}.")
    count = len(result) if isinstance(result, (tuple, list)) else 1
    if count != len(targets):
        raise Refused(f"{function} returns {count} value{'s' * (count != 1)} and should return "
                      f"{len(targets)}: {', '.join(targets)}.")
    return list(result)


def look_over(name: str, mine, want: np.ndarray) -> None:
    """Raise Refused unless `mine` is a finite float64 array of the shape of `want`."""
    if mine is ... or mine is None:
        raise Refused(f"{name} is still open: write what belongs in the place of the `...`."
                      if mine is ... else f"{name} is None: is a return missing?")
    if not isinstance(mine, (np.ndarray, np.number, float, int)):
        raise Refused(f"{name} is a {type(mine).__name__} and should be an array of shape "
                      f"{want.shape}.")
    shape, dtype = np.shape(mine), np.asarray(mine).dtype
    if shape != want.shape:
        raise Refused(f"{name} has shape {shape} and should have {want.shape}.")
    if dtype != want.dtype:
        raise Refused(f"{name} is {dtype} and should be {want.dtype}.")
    if not np.isfinite(mine).all():
        i = tuple(map(int, np.argwhere(~np.isfinite(mine))[0]))
        value = "NaN" if np.isnan(np.asarray(mine)[i]) else "infinity"
        report = Report(name, [_row(name, mine, want, i, FAIL, "not a finite number")])
        raise Refused(f"{name} holds {value}, first at {_at(i)}.", report)


def _named(thing) -> str:
    return "nothing" if thing is None else "a `...`"


# --- compared with the package's own numbers ------------------------------------------------------


def compared(title: str, mine: dict[str, np.ndarray], want: dict[str, np.ndarray],
             sizes: dict[str, int]) -> Report:
    """A row for each array, the reader's beside the package's: equal but for rounding.

    sizes: {"the batch size": B}, factors that a sum in the place of a mean would explain.
    """
    rows = []
    for name, right in want.items():
        off = np.abs(mine[name] - right)
        bar = ROUNDINGS * max(1e-3, float(np.abs(right).max()))
        worst = tuple(map(int, np.unravel_index(off.argmax(), off.shape)))
        wrong = [tuple(map(int, i)) for i in np.argwhere(off > bar)]
        note = _suspect(name, mine[name], right, wrong, bar, sizes) if wrong else ""
        rows.append(_row(name, mine[name], right, worst, FAIL if wrong else PASS, note, bar))
    gradients = {name: (np.asarray(mine[name]), right, np.full(right.shape, row.bar / FAR))
                 for (name, right), row in zip(want.items(), rows)}
    return Report(title, rows, gradients=gradients)


def _suspect(name: str, mine, right: np.ndarray, wrong: list, bar: float, sizes: dict) -> str:
    """The suspect's sentence on numbers that need not be a gradient."""
    numeric = {i: float(right[i]) for i in np.ndindex(right.shape)}
    note = suspect(WrongGradient(name, np.asarray(mine), numeric, wrong, bar, sizes=sizes))
    return "" if "right gradient" in note else note


def _row(name: str, mine, want: np.ndarray, i: tuple, verdict: str, note: str,
         bar: float = 0.0) -> Row:
    mine = np.asarray(mine)
    return Row(name, want.shape, i, float(mine[i]), float(want[i]), bar, verdict, note)


# --- the sentence ---------------------------------------------------------------------------------


def sentence(report: Report, called: dict[str, str]) -> str:
    """The first wrong row of a report as a sentence; called: the reader's name for each row.

    "dlogvar is twice too large in all 12 entries, at (0, 2): yours 0.412, should be 0.206.  Is a
    half forgotten?"
    """
    row = report.worst
    name = called.get(row.name, row.name)
    if row.index is None:                                  # a clause of the contract, or one number
        return f"{row.name}: {row.note}."
    if row.verdict != FAIL:
        return f"{name} cannot be told from its reference at {_at(row.index)}: {row.note}."
    yours, should = _apart(row.analytic, row.numeric)
    place = f" in {_count(report, row)}, at {_at(row.index)}"
    if row.shape in ((), (1,), (1, 1)):
        place = ""
    fact, question = _pattern(row.note)
    return f"{name} is {fact}{place}: yours {yours}, should be {should}.  {question}".strip()


def _pattern(note: str) -> tuple[str, str]:
    """What is wrong, to follow "dlogvar is", and a question or a sentence about the cause.

    What belongs there instead is left out: it is for the reader to find.
    """
    words = re.sub(r",? and should give .*", "", note.removeprefix("suspect: "))
    if words.startswith(("never filled", "zero in every entry")):
        return "zero", "Was it never filled, or fed from the wrong wire?"
    if words.startswith("no simple pattern") or not words:
        return "wrong", ""
    known = re.fullmatch(r"(?:1 entry is|\d+(?: of \d+)? entries are) ([^:]*)(?:: (.*))?", words)
    fact, cause = known.groups() if known else ("wrong", words)
    fact = re.sub(", which is (.*)", r" (\1)", fact.replace("they should", "it should"))
    cause = (cause or "")[:1].upper() + (cause or "")[1:]
    return fact, cause if cause.endswith("?") or not cause else f"{cause}."


def has_no_pattern(report: Report) -> bool:
    """Whether the worst row has a number that is wrong and no suspect that says why."""
    note = report.worst.note
    return not note or bool(re.search(r"no simple pattern|times what they should be$", note))


def _count(report: Report, row: Row) -> str:
    """How many entries are wrong, in words."""
    analytic, numeric, bar = report.gradients[row.name]
    wrong, size = int((np.abs(analytic - numeric) > FAR * bar).sum()), analytic.size
    if size == 1:
        return "its one entry"
    return f"all {size} entries" if wrong == size else f"{max(wrong, 1)} of {size} entries"


def _apart(yours: float, should: float) -> tuple[str, str]:
    """Both numbers with as few digits as tell them apart, three at least."""
    for digits in range(3, 18):
        a, b = f"{yours + 0.0:.{digits}g}", f"{should + 0.0:.{digits}g}"   # no -0
        if a != b:
            break
    return a, b


def _at(index: tuple) -> str:
    return f"({', '.join(map(str, index))})" if len(index) != 1 else f"({index[0]},)"
