"""What a check found: a table of rows, a verdict each, and a picture of the remainder.

    PASS          the difference is within the reference's error bar
    FAIL          it is far outside
    KINK          the function has no derivative here (a ReLU at 0): nobody is wrong
    INCONCLUSIVE  the reference is too noisy to tell, or there was nothing to compare
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PASS, FAIL, KINK, INCONCLUSIVE = "PASS", "FAIL", "KINK", "INCONCLUSIVE"

STEPS = 2.0 ** -np.arange(1, 24)     # the steps h of the picture
COLUMNS = 80                         # of the table
PLACE = 29                           # columns for an array's name, its shape and the entry


class Row(NamedTuple):
    """One array's worst entry (or direction), or one clause of backward's contract.

    analytic is the gradient that backward gave, numeric the reference, bar the reference's error.
    """

    name: str
    shape: tuple
    index: tuple | None
    analytic: float
    numeric: float
    bar: float
    verdict: str
    note: str = ""


def unmeasured(name: str, shape: tuple, verdict: str, note: str) -> Row:
    """A row without numbers: what is wrong was seen before anything was differentiated."""
    return Row(name, shape, None, np.nan, np.nan, np.nan, verdict, note)


def claim(name: str, found: float, wanted: float, allowed: float, if_not: str) -> Row:
    """A row for one number: PASS where it is within `allowed` of what is wanted."""
    good = abs(found - wanted) <= allowed
    return Row(name, (1,), None, float(found), float(wanted), float(allowed),
               PASS if good else FAIL, "" if good else if_not)


def clause(name: str, difference: float, allowed: float, if_broken: str) -> Row:
    """A row for one clause of backward's contract: PASS where the difference is allowed."""
    kept = difference <= allowed
    return Row(name, (), None, difference, 0.0, allowed,
               PASS if kept else FAIL, "" if kept else if_broken)


def in_bars(found) -> float:
    """How many error bars lie between the analytic and the numeric value of a Row or Comparison.

    0 at a kink, where there is nothing to compare; infinity where one of the two is no number.
    """
    if found.verdict == KINK or found.analytic == found.numeric:
        return 0.0
    if found.bar == 0:
        return np.inf
    return np.nan_to_num(abs(found.analytic - found.numeric) / found.bar, nan=np.inf)


class GradientError(AssertionError):
    """A gradient is wrong; the message is the report."""


class Report:
    """The rows of one check.

    Parameters
    ----------
    title : str
        The first line of the table.
    rows : list of Row
    remainder : function from steps h to the Taylor remainder at each, or None
        What `plot` draws; see differences.taylor_remainder.
    gradients : dict from array to (analytic, numeric, bar), three arrays of its shape
        NaN where an entry was not compared: big arrays are checked along directions.
    """

    def __init__(self, title: str, rows: list[Row],
                 remainder: Callable[[np.ndarray], np.ndarray] | None = None,
                 gradients: dict[str, tuple] | None = None):
        self.title, self.rows, self._remainder = title, rows, remainder
        self.gradients = gradients or {}

    @property
    def ok(self) -> bool:
        """Every row is a PASS, or a KINK, where there is nothing to compare."""
        return all(row.verdict in (PASS, KINK) for row in self.rows)

    @property
    def worst(self) -> Row:
        """The first FAIL, INCONCLUSIVE or KINK, in that order; else the row nearest its bar."""
        for verdict in (FAIL, INCONCLUSIVE, KINK):
            for row in self.rows:
                if row.verdict == verdict:
                    return row
        return max(self.rows, key=in_bars)

    def __str__(self) -> str:
        lines = [self.title, f"  {'array':13s} {'shape':>7s} {'at':>7s} {'analytic':>13s} "
                             f"{'numeric':>13s} {'+-':>6s}  verdict"]
        matched = None
        for row in self.rows:
            lines += _lines_of(row)
            lines += _indented(row.note)
            if row.verdict == FAIL and row.shape and matched:
                lines += _indented(f"the last that matched: {matched}")
            matched = row.name if row.verdict == PASS else matched
        verdicts = [row.verdict for row in self.rows]
        counts = [(verdicts.count(v), v) for v in (PASS, FAIL, KINK, INCONCLUSIVE)]
        lines.append("  " + ", ".join(f"{n} {verdict}" for n, verdict in counts if n))
        return "\n".join(lines)

    def raise_if_wrong(self) -> None:
        """Raise GradientError, with the table, unless `ok`."""
        if not self.ok:
            raise GradientError("\n" + str(self))

    def plot(self, path: str | PathLike) -> None:
        """Write a picture of the Taylor remainder, see `draw`.

        Raises ValueError for a report without gradients.
        """
        from matplotlib.figure import Figure               # draws without switching any backend

        figure = Figure(figsize=(5.5, 4), dpi=150, layout="constrained")
        self.draw(figure.add_subplot())
        figure.savefig(path)

    def draw(self, axes: Axes) -> None:
        """Draw the central Taylor remainder |f(x+hu) - f(x-hu) - 2h<g,u>| against h.

        It falls as h^3 for a right gradient and as h for a wrong one, down to the rounding floor:
        the rounding of f, about 1e-16 of it.  Two grey lines beside the dots have these slopes.
        Raises ValueError for a report without gradients.
        """
        if self._remainder is None:
            raise ValueError(f"{self.title}: there is no gradient here to draw")
        remainder = self._remainder(STEPS)
        seen = remainder > 0
        top = remainder[seen].max() if seen.any() else 1.0
        lowest = remainder[seen].min() if seen.any() else 1e-17
        color = "#0072b2" if self.ok else "#d55e00"
        axes.loglog(STEPS[seen], remainder[seen], "o-", markersize=4, color=color, label="measured")
        ratio = STEPS / STEPS[0]
        axes.loglog(STEPS, 20 * top * ratio, ":", color="grey", linewidth=1.2,
                    label="falls as $h$: the gradient is wrong")
        axes.loglog(STEPS, top * ratio**3 / 20, "--", color="grey", linewidth=1.2,
                    label="falls as $h^3$: it is right")
        # where h^3 has fallen a thousand times below what is measured, only rounding is left
        floor = seen & (remainder > 1000 * top * ratio**3) & (remainder < 1e-12 * max(top, 1.0))
        if floor.any():
            axes.text(STEPS[floor].min(), 3 * remainder[floor].max(), "rounding floor", color=color,
                      va="bottom")
        axes.set(title=f"{self.title}: {self.worst.verdict}", xlabel="step h",
                 ylabel="|f(x+hu) - f(x-hu) - 2h<g,u>|", ylim=(lowest / 10, 2000 * top))
        axes.legend(loc="upper left", frameon=False)


def _lines_of(row: Row) -> list[str]:
    """A row of the table; a name that is too long for its column has a line of its own."""
    is_array = row.index is not None or row.shape not in ((), (1,))        # else a clause or claim
    shape = "x".join(map(str, row.shape)) if is_array else ""
    at = "" if row.index is None else ",".join(map(str, row.index))
    where = f"{shape:>7s} {at:>7s}".lstrip()
    numbers = ""
    is_clause = row.shape == () and row.index is None
    if np.isfinite(row.bar) and not is_clause:             # what a clause measured is not shown
        numbers = f"{row.analytic:13.7g} {row.numeric:13.7g} {row.bar:6.0e}"
    lines, name = [], row.name
    if len(name) + len(where) >= PLACE:
        lines, name = [f"  {name}"], ""
    place = name + where.rjust(PLACE - len(name))
    return [*lines, f"  {place} {numbers:34s}  {row.verdict}"]


def _indented(text: str) -> list[str]:
    """Lines of text below a row."""
    return textwrap.wrap(text, COLUMNS, initial_indent=" " * 6, subsequent_indent=" " * 6)
