"""One function of some arrays, the gradients that somebody claims for it, and a row for each.

Small arrays are checked entry by entry.  Big ones are checked along random directions, and one that
fails is bisected down to its worst entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from minivae.gradcheck.differences import (FIRST_STEP, LAST_STEP, Kink, Line, U, entry,
                                           random_direction, survey)
from minivae.gradcheck.report import FAIL, INCONCLUSIVE, KINK, PASS, Row, in_bars
from minivae.gradcheck.suspects import suspect
from minivae.gradcheck.wrong import WrongGradient

FAR = 10.0              # FAIL beyond so many error bars, PASS within one
RESOLUTION = 1e-5       # a bar above this part of the gradients' size sees too little: INCONCLUSIVE
ENTRIES = 300           # arrays up to this size are checked entry by entry
OUTPUTS = 500           # a y up to this size is looked at output by output, for a suspect
BADNESS = {PASS: 0, KINK: 1, INCONCLUSIVE: 2, FAIL: 3}


class Comparison(NamedTuple):
    """One directional derivative: by backward, by differences, and the latter's error bar."""

    analytic: float
    numeric: float
    bar: float
    verdict: str
    note: str = ""

    @property
    def difference(self) -> float:
        """How far apart the two are; infinity where one is no number."""
        return np.nan_to_num(abs(self.analytic - self.numeric), nan=np.inf)


class Problem:
    """A scalar function of some live arrays, and the gradients that somebody claims for it.

    Parameters
    ----------
    f : function of nothing -> float
        It reads the arrays as they stand.  Its noise is held: every call is the same function.
    arrays : dict from name to float64 array
        They are moved for each value of f, and put back.
    gradients : function of nothing -> dict from name to gradient
        What backward gives at the point where the arrays stand.
    kinks : function of nothing -> dict from layer to array
        The inputs of every unit with a kink, as the last call of f saw them; {} if none is known.
    magnitude : float
        The size of the terms that f sums, for its rounding error.
    rng : numpy.random.Generator, for the directions
    sizes : dict from words ("the batch size") to a size
        Factors that a sum in the place of a mean would explain.
    known : function of nothing -> dict of arrays at hand, by name
        dy, y, the inputs, the parameters: what a wrong gradient may have been made of.
    parts : function of nothing -> list of {part: function of nothing -> its value}
        For an f that is a weighted sum; then a wrong weight is named.
    y : function of nothing -> the array y that f weighs, f = (dy * y).sum(); None for another f
    back : function of dy -> what backward gives for it, as `gradients`
    without : names of the arrays on which f is known not to depend
        Zero compared with zero in every entry is a PASS for these, INCONCLUSIVE for all others.

    Attributes
    ----------
    compared : dict from array to (analytic, numeric, bar), three arrays of its shape
        After `rows`.  NaN where an entry was not compared.
    """

    def __init__(self, f: Callable[[], float], arrays: dict[str, np.ndarray],
                 gradients: Callable[[], dict], kinks: Callable[[], dict], magnitude: float,
                 rng: np.random.Generator, sizes: dict[str, int],
                 known: Callable[[], dict] = dict, parts: Callable[[], list] = list,
                 without: Collection[str] = (), y: Callable[[], np.ndarray] | None = None,
                 back: Callable[[np.ndarray], dict] | None = None):
        self.f, self.arrays, self.gradients, self.kinks = f, arrays, gradients, kinks
        self.magnitude, self.rng, self.sizes = magnitude, rng, sizes
        self.known, self.parts, self.without = known, parts, without
        self.y, self.back = y, back

    # --- all arrays ---

    def rows(self) -> list[Row]:
        """One row per array.  An array at a kink is checked again at a point 0.01 away."""
        rows = self.rows_here(list(self.arrays))
        self.compared = {name: (self.grads[name], *self.reference[name]) for name in self.arrays}
        at_kinks = [i for i, row in enumerate(rows) if row.verdict == KINK]
        if at_kinks:
            kept = {name: a.copy() for name, a in self.arrays.items()}
            for a in self.arrays.values():
                a += 0.01 * (1 + np.abs(a)) * self.rng.standard_normal(a.shape)
            away = self.rows_here([rows[i].name for i in at_kinks])
            for i, row_away in zip(at_kinks, away):
                rows[i] = _both(rows[i], row_away)
            for name, a in self.arrays.items():
                a[...] = kept[name]
        return rows

    def rows_here(self, names: list[str]) -> list[Row]:
        """The rows of some arrays, at the point where all arrays stand now."""
        self.measure()
        for name in names:
            direction = random_direction(self.rng, self.arrays[name].shape)
            self.survey(name, direction)
        rows = [self.by_entry(name) if self.arrays[name].size <= ENTRIES else
                self.by_direction(name) for name in names]
        return [self.nothing_compared(row) if row.verdict == PASS and
                not self.grads[row.name].any() else row for row in rows]

    def nothing_compared(self, row: Row) -> Row:
        """The row of an array that is zero with zero in every entry."""
        zero = "zero in every entry, by backward and by differences: nothing depends on this array"
        if row.name in self.without:
            return row._replace(note=f"{zero}, and nothing should")
        return row._replace(verdict=INCONCLUSIVE, note=f"{zero} here, so nothing was compared; "
                            "choose another point, or return None for what has no gradient")

    def measure(self) -> None:
        """Take the gradients at the point where the arrays stand now, and their size."""
        self.grads = {name: np.asarray(g, np.float64) for name, g in self.gradients().items()}
        self.scale = max((np.abs(g).max() for g in self.grads.values() if g.size), default=0.0)
        self.first_step = dict.fromkeys(self.arrays, FIRST_STEP)
        self.longest_step = dict(self.first_step)
        self.noise: dict[str, float] = {}
        # the numeric gradient and its bar, as far as entries are compared
        self.reference = {name: (np.full(a.shape, np.nan), np.full(a.shape, np.nan))
                          for name, a in self.arrays.items()}

    def survey(self, name: str, direction: np.ndarray, everywhere: bool = False) -> None:
        """Measure f's rounding and scale along one direction of one array."""
        array = self.arrays[name]
        noise, step = survey(self.f, array, direction, self.magnitude, everywhere, self.kinks)
        self.noise[name], self.longest_step[name], self.first_step[name] = noise, step, step

    # --- one derivative ---

    def line(self, name: str, direction: np.ndarray) -> Line:
        """The line through the point along which only one array moves."""
        return Line(self.f, self.arrays[name], direction, self.kinks, self.noise[name])

    def compare(self, name: str, line: Line, analytic: float, scale: float) -> Comparison:
        """The derivative along a line beside what backward says, `analytic`.

        scale is the size of the numbers of which the gradient was made.
        """
        analytic = float(analytic)
        try:
            numeric, bar = line.derivative(self.first_step[name], 1e-9 * scale)
        except Kink as kink:
            return Comparison(analytic, np.nan, np.nan, KINK, str(kink))
        if not np.isfinite(bar):
            note = "the function is no number at any step beside the point: the end of its domain?"
            return Comparison(analytic, np.nan, np.nan, INCONCLUSIVE, note)
        # the next line of this array begins near the step where this one ended
        self.first_step[name] = min(self.longest_step[name], 8 * line.step)
        bar += 64 * U * scale                              # the analytic gradient rounds, too
        difference = abs(analytic - numeric)
        if not np.isfinite(analytic):
            return Comparison(analytic, numeric, bar, FAIL, "not a finite number")
        size = max(scale, 1e-3 * self.scale, 1e-3 * self.magnitude)
        if difference <= bar <= RESOLUTION * size:
            return Comparison(analytic, numeric, bar, PASS)
        if not self.kinks() and line.has_kink():
            note = f"the slope jumps here by {line.second_difference(LAST_STEP):.3g}"
            return Comparison(analytic, numeric, bar, KINK, note)
        if difference > FAR * bar:
            return Comparison(analytic, numeric, bar, FAIL)
        note = "the reference is too noisy to tell"
        return Comparison(analytic, numeric, bar, INCONCLUSIVE, note)

    def compare_entries(self, name: str, indices) -> dict[tuple, Comparison]:
        """Some entries of one array."""
        array, grad = self.arrays[name], self.grads[name]
        largest, found = float(np.abs(grad).max()), {}
        for i in indices:
            line = self.line(name, entry(array.shape, i))
            found[i] = self.compare(name, line, grad[i], largest)
            numeric, bar = self.reference[name]
            at_kink = found[i].verdict == KINK             # where there is nothing to compare
            numeric[i], bar[i] = (np.nan, np.nan) if at_kink else (found[i].numeric, found[i].bar)
        return found

    def compare_along(self, name: str, entries: np.ndarray) -> Comparison:
        """One array along a random direction of unit norm that moves only `entries` (flat)."""
        array, grad = self.arrays[name], self.grads[name].ravel()
        direction = np.zeros(array.size)
        direction[entries] = random_direction(self.rng, len(entries))
        analytic = float(grad[entries] @ direction[entries])
        typical = float(np.linalg.norm(grad[entries])) / np.sqrt(len(entries))
        line = self.line(name, direction.reshape(array.shape))
        return self.compare(name, line, analytic, max(typical, abs(analytic)))

    # --- one array ---

    def by_entry(self, name: str) -> Row:
        """Every entry of a small array; the row is the worst entry's."""
        shape = self.arrays[name].shape
        found = self.compare_entries(name, np.ndindex(shape))
        worst, looked_at = worst_of(found), set()
        # nobody is accused before f was looked at again, along that entry and at every scale
        while found[worst].verdict in (FAIL, INCONCLUSIVE) and worst not in looked_at:
            self.survey(name, entry(shape, worst), everywhere=True)
            found |= self.compare_entries(name, [worst])
            looked_at.add(worst)
            worst = worst_of(found)
        row = Row(name, shape, worst, *found[worst])
        if row.verdict == FAIL:
            return row._replace(note=self.name_the_fault(name, found))
        return row

    def by_direction(self, name: str) -> Row:
        """A big array along two random directions of unit norm; one that fails is bisected."""
        array, found = self.arrays[name], []
        for _ in range(2):
            found.append(self.compare_along(name, np.arange(array.size)))
            if found[-1].verdict == FAIL:
                self.survey(name, random_direction(self.rng, array.shape), everywhere=True)
                found[-1] = self.compare_along(name, np.arange(array.size))
            if found[-1].verdict == FAIL:
                return self.bisect(name)
        worst = max(found, key=lambda c: (c.verdict != PASS, c.difference))
        row = Row(name, array.shape, None, *worst)
        return row._replace(note=row.note or "along a random direction")

    def bisect(self, name: str) -> Row:
        """Halve the entries, keep the half whose derivative is further off, until one is left."""
        shape, entries = self.arrays[name].shape, np.arange(self.arrays[name].size)
        while len(entries) > 1:
            halves = np.array_split(entries, 2)
            found = [self.compare_along(name, half) for half in halves]
            off = [-1.0 if c.verdict == KINK else c.difference * np.sqrt(len(half))
                   for c, half in zip(found, halves)]
            entries = halves[int(np.argmax(off))]
        index = tuple(map(int, np.unravel_index(entries[0], shape)))
        found = self.compare_entries(name, sorted(self.around(index, shape)))
        worst = found[index]
        note = self.name_the_fault(name, found, sampled=True)
        return Row(name, shape, index, worst.analytic, worst.numeric, worst.bar, FAIL, note)

    def around(self, index: tuple, shape: tuple) -> set[tuple]:
        """An entry, some of its row and column and a few others: how far does a fault reach?"""
        some = {tuple(int(self.rng.integers(n)) for n in shape) for _ in range(24)} | {index}
        for axis, n in enumerate(shape):
            for _ in range(8):
                some.add((*index[:axis], int(self.rng.integers(n)), *index[axis + 1:]))
        return some

    # --- the name of a fault ---

    def name_the_fault(self, name: str, found: dict[tuple, Comparison],
                       sampled: bool = False) -> str:
        """One sentence on the pattern of the entries that failed."""
        wrong = [i for i, c in found.items() if c.verdict == FAIL]
        if not wrong:
            return ""
        numeric = {i: c.numeric for i, c in found.items() if c.verdict in (PASS, FAIL)}
        bar = max(found[i].bar for i in numeric)
        return suspect(WrongGradient(
            name, self.grads[name], numeric, wrong, bar, others=self.grads, sizes=self.sizes,
            known=self.known(), again=lambda: self.again(name),
            slopes=lambda *at, **where: self.slopes(name, *at, **where), parts=self.parts(),
            paths=lambda at: self.paths(name, at), sampled=sampled))

    def again(self, name: str) -> np.ndarray | None:
        """What a second pass gives; None where it raises."""
        try:
            return np.asarray(self.gradients()[name], np.float64)
        except Exception:                                  # whatever a stranger's code raises
            return None
        finally:
            self.f()               # backward may have used up what `kinks` looks at

    def slopes(self, name: str, indices: list[tuple], f: Callable[[], float] | None = None,
               point: np.ndarray | None = None) -> np.ndarray | None:
        """The derivatives of f, or of a part of it, by some entries of an array.

        point : where the array is put for this; by default it stays where it stands
        None at a kink, and where a stranger's code does not take that point.
        """
        array, kept = self.arrays[name], self.arrays[name].copy()
        try:
            array[...] = kept if point is None else point
            lines = [Line(f or self.f, array, entry(array.shape, i), self.kinks, self.noise[name])
                     for i in indices]
            return np.array([line.derivative()[0] for line in lines])
        except Exception:                                  # a Kink, or whatever f raises there
            return None
        finally:
            array[...] = kept


    def paths(self, name: str, indices: list[tuple]) -> tuple[np.ndarray, np.ndarray] | None:
        """The derivative of each output by some entries, by differences and by backward.

        Two (y.size, len(indices)) arrays.  None for a large y, which would take as many passes,
        and where a stranger's code raises.
        """
        if self.y is None or (y := self.y()).size > OUTPUTS:
            return None
        array, kept = self.arrays[name], self.arrays[name].copy()
        try:
            by_forward = []
            for i in indices:
                array[i] = kept[i] + FIRST_STEP
                up = self.y().copy()
                array[i] = kept[i] - FIRST_STEP
                by_forward.append((up - self.y()).ravel() / (2 * FIRST_STEP))
                array[i] = kept[i]
            by_backward = [[grad[i] for i in indices] for grad in self.of_each_output(name, y)]
        except Exception:                                  # whatever a stranger's code raises
            return None
        finally:
            array[...] = kept
            self.f()
        return np.array(by_forward).T, np.array(by_backward)

    def of_each_output(self, name: str, y: np.ndarray) -> list[np.ndarray]:
        """What backward gives for dy = 1 in one output after the other, and 0 elsewhere."""
        return [self.back(one.reshape(y.shape))[name] for one in np.eye(y.size)]


def worst_of(found: dict[tuple, Comparison]) -> tuple:
    """The index of the worst entry: of FAILs the one furthest off, else that of most bars."""
    def badness(i: tuple) -> tuple[int, float]:
        one = found[i]
        return BADNESS[one.verdict], one.difference if one.verdict == FAIL else in_bars(one)

    return max(found, key=badness)


def _both(row: Row, away: Row) -> Row:
    """The row of an array at a kink, with what the second check, 0.01 away, adds."""
    if away.verdict in (FAIL, INCONCLUSIVE):
        return away._replace(note=f"{away.note} (checked 0.01 away: {row.note})")
    return row._replace(note=f"{row.note}; 0.01 away: {away.verdict}")
