"""What a check found: a table of rows, a verdict each, and a picture of the remainder.

    PASS          the difference is within the reference's error bar
    FAIL          it is far outside
    KINK          the function has no derivative here (a ReLU at 0): nobody is wrong
    INCONCLUSIVE  the reference is too noisy to tell
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import NamedTuple

import numpy as np

PASS, FAIL, KINK, INCONCLUSIVE = "PASS", "FAIL", "KINK", "INCONCLUSIVE"

STEPS = 2.0 ** -np.arange(1, 24)     # the steps h of the picture


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
    """

    def __init__(self, title: str, rows: list[Row],
                 remainder: Callable[[np.ndarray], np.ndarray] | None = None):
        self.title, self.rows, self._remainder = title, rows, remainder

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
        lines = [self.title, f"  {'array':28s} {'shape':>12s} {'at':>10s} {'analytic':>18s} "
                             f"{'numeric':>18s} {'+-':>8s}  verdict"]
        matched = None
        for row in self.rows:
            lines.append(_as_line(row))
            if row.note:
                lines.append(f"      {row.note}")
            if row.verdict == FAIL and row.shape and matched:
                lines.append(f"      the last that matched: {matched}")
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
        """Draw the central Taylor remainder |f(x+hu) - f(x-hu) - 2h<g,u>| against h.

        It falls as h^3 for a right gradient and as h for a wrong one.
        Raises ValueError for a report without gradients.
        """
        if self._remainder is None:
            raise ValueError(f"{self.title}: there is no gradient here to draw")
        from matplotlib.figure import Figure               # draws without switching any backend

        remainder = self._remainder(STEPS)
        seen = remainder > 0
        top = remainder[seen].max() if seen.any() else 1.0
        floor = remainder[seen].min() / 10 if seen.any() else 1e-18
        figure = Figure(figsize=(5.5, 4), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        axes.loglog(STEPS[seen], remainder[seen], "o-", markersize=4, label="measured",
                    color="#0072b2" if self.ok else "#d55e00")
        axes.loglog(STEPS, top * (STEPS / STEPS[0]) ** 3, "--", color="grey", linewidth=1,
                    label="falls as $h^3$: the gradient is right")
        axes.loglog(STEPS, top * (STEPS / STEPS[0]), ":", color="grey", linewidth=1,
                    label="falls as $h$: it is wrong")
        axes.set(title=self.title, xlabel="step h", ylabel="|f(x+hu) - f(x-hu) - 2h<g,u>|",
                 ylim=(floor, None))
        axes.legend()
        figure.savefig(path)


def in_bars(row: Row) -> float:
    """How many error bars lie between the analytic and the numeric value."""
    return abs(row.analytic - row.numeric) / row.bar if row.bar else 0.0


def _as_line(row: Row) -> str:
    shape = "x".join(map(str, row.shape))
    at = "" if row.index is None else ",".join(map(str, row.index))
    of_an_array = row.shape or row.index is not None       # a clause of the contract has no numbers
    numbers = " " * 46
    if of_an_array and np.isfinite(row.bar):
        numbers = f"{row.analytic:18.10g} {row.numeric:18.10g} {row.bar:8.0e}"
    return f"  {row.name:28s} {shape:>12s} {at:>10s} {numbers}  {row.verdict}"
