"""Is this gradient right?  Finite differences that know their own error, and say what is wrong.

    report = check_layer(layer, x)          # or check_model(vae, x, eps)
    print(report)                           # one row per array
    report.raise_if_wrong()

The reference is Romberg's: central differences at h, h/2, h/4, .. extrapolated to h = 0, in float64,
through the very kernels that training runs.  It carries an error bar, truncation plus rounding, and
the verdict comes from that bar and not from a tolerance somebody chose:

    PASS          the difference is within the bar
    FAIL          it is far outside
    KINK          the function has no derivative here (a ReLU at 0): nobody is wrong
    INCONCLUSIVE  the reference is too noisy to tell

Big arrays are checked along random directions, and a failing one is bisected down to its worst entry.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from os import PathLike
from typing import NamedTuple

import numpy as np

from minivae.estimators import Terms
from minivae.latents import Latent
from minivae.layers import Layer, Sequential

PASS, FAIL, KINK, INCONCLUSIVE = "PASS", "FAIL", "KINK", "INCONCLUSIVE"

U = np.finfo(np.float64).eps
LEVELS = 5              # h, h/2, .. h/16: the truncation error of the last corner is of order h^10
FIRST_STEP = 2.0**-4
LAST_STEP = 2.0**-20    # a kink that is still crossed at this step is a kink at the point itself
FAR = 10.0              # FAIL beyond so many error bars, PASS within one
RESOLUTION = 1e-5       # a bar above this part of the gradients' size sees too little: INCONCLUSIVE
ENTRIES = 300           # arrays up to this size are checked entry by entry


class Row(NamedTuple):
    """One array's worst entry (or direction), or one clause of backward's contract."""

    name: str
    shape: tuple
    index: tuple | None
    analytic: float
    numeric: float
    bar: float
    verdict: str
    note: str = ""


class GradientError(AssertionError):
    """A gradient is wrong; the message is the report."""


class Report:
    """What a check found.  `rows`, `ok`, str(report), `raise_if_wrong()`, `plot(path)`."""

    def __init__(self, title: str, rows: list[Row], remainder: Callable[[np.ndarray], np.ndarray] | None = None):
        self.title, self.rows, self._remainder = title, rows, remainder

    @property
    def ok(self) -> bool:
        """Every row is a PASS, or a KINK, where there is nothing to compare."""
        return all(row.verdict in (PASS, KINK) for row in self.rows)

    @property
    def worst(self) -> Row:
        """The first FAIL, else the first INCONCLUSIVE, else the first KINK, else the row nearest its bar."""
        for verdict in (FAIL, INCONCLUSIVE, KINK):
            for row in self.rows:
                if row.verdict == verdict:
                    return row
        return max(self.rows, key=lambda row: abs(row.analytic - row.numeric) / row.bar if row.bar else 0.0)

    def __str__(self) -> str:
        lines = [self.title, f"  {'array':28s} {'shape':>12s} {'at':>10s} {'analytic':>18s} {'numeric':>18s} {'+-':>8s}  verdict"]
        matched = None
        for row in self.rows:
            shape, at = "x".join(map(str, row.shape)), "" if row.index is None else ",".join(map(str, row.index))
            known = (row.shape or row.index is not None) and np.isfinite(row.bar)
            numbers = f"{row.analytic:18.10g} {row.numeric:18.10g} {row.bar:8.0e}" if known else " " * 46
            lines.append(f"  {row.name:28s} {shape:>12s} {at:>10s} {numbers}  {row.verdict}")
            if row.note:
                lines.append(f"      {row.note}")
            if row.verdict == FAIL and row.shape and matched:
                lines.append(f"      the last that matched: {matched}")
            matched = row.name if row.verdict == PASS else matched
        counts = {v: sum(row.verdict == v for row in self.rows) for v in (PASS, FAIL, KINK, INCONCLUSIVE)}
        lines.append("  " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
        return "\n".join(lines)

    def raise_if_wrong(self) -> None:
        """Raise GradientError, with the table, unless `ok`."""
        if not self.ok:
            raise GradientError("\n" + str(self))

    def plot(self, path: str | PathLike) -> None:
        """Draw the central Taylor remainder |f(x+hu) - f(x-hu) - 2h<g,u>| against h: h^3 for a right gradient, h for a wrong one."""
        if self._remainder is None:
            raise ValueError(f"{self.title}: there is no gradient here to draw")
        from minivae.app import plots                          # matplotlib, only now that it is wanted

        h = 2.0 ** -np.arange(1, 24)
        plots.taylor(h, self._remainder(h), self.ok, self.title, path)


# --- the reference --------------------------------------------------------------------------------


class Kink(Exception):
    """The function changes its branch however small the step."""


def romberg(f: Callable[[float], float], step: float, noise: float) -> tuple[float, float]:
    """d f(h)/dh at h = 0 and its error bar.

    T[i, 0] = (f(h_i) - f(-h_i)) / 2 h_i, h_i = step / 2^i;  T[i, j] = (4^j T[i, j-1] - T[i-1, j-1]) / (4^j - 1).
    Of all corners the one with the smallest bar is taken: the distance to its two parents
    (truncation) plus what `noise`, the rounding error of f, becomes after division by h.
    Source: Romberg (1955); Ridders (1982), "Accurate computation of F'(x) and F'(x) F''(x)", section 2.
    """
    best, previous = (0.0, np.inf), []
    for i in range(LEVELS):
        h = step / 2**i
        up, down = f(h), f(-h)
        row, rounding = [(up - down) / (2 * h)], 2 * max(noise, 4 * U * max(abs(up), abs(down))) / h     # f may be larger out there
        for j in range(1, i + 1):
            row.append((4**j * row[j - 1] - previous[j - 1]) / (4**j - 1))
            bar = max(abs(row[j] - row[j - 1]), abs(row[j] - previous[j - 1])) + rounding
            if np.isfinite(bar):                           # outside its domain f is no number: a shorter step may do
                best = min(best, (row[j], bar), key=lambda pair: pair[1])
        previous = row
        if 2 * rounding > best[1]:                         # half the step doubles the rounding: no better corner is left
            break
    return best


class Line:
    """f along a line through the point, with what is needed to differentiate it there."""

    def __init__(self, f: Callable[[], float], array: np.ndarray, direction: np.ndarray, kinks: Callable[[], dict], noise: float):
        self.f, self.array, self.base, self.direction, self.kinks, self.noise = f, array, array.copy(), direction, kinks, noise

    def __call__(self, h: float, look: Callable | None = None) -> float:
        """f at the point plus h times the direction, or what `look` sees there; the array is put back."""
        self.array[...] = self.base + h * self.direction
        try:
            with np.errstate(all="ignore"):                # a long step may leave the domain of f
                value = self.f()
            return value if look is None else look()
        except (ValueError, FloatingPointError):
            return np.nan
        finally:
            self.array[...] = self.base

    def signs(self, h: float) -> dict:
        """On which side of its kink every unit is, there."""
        return self(h, lambda: {name: a > 0 for name, a in self.kinks().items()})

    def crossed(self, h: float) -> tuple[str, tuple] | None:
        """The first unit that is not on one side of its kink at -h, 0 and +h."""
        here, up, down = self.signs(0.0), self.signs(h), self.signs(-h)
        for name in here:
            moved = (up[name] != here[name]) | (down[name] != here[name])
            if moved.any():
                return name, tuple(map(int, np.argwhere(moved)[0]))
        return None

    def derivative(self, first: float = FIRST_STEP) -> tuple[float, float]:
        """The derivative and its bar, at the best of a few first steps; raises Kink where there is none."""
        step = first
        if self.kinks():
            while (unit := self.crossed(step)) is not None:
                step /= 2
                if step < LAST_STEP:
                    name, index = unit
                    there = self(0.0, self.kinks)[name][index]
                    raise Kink(f"unit {index} of {name} stands at its kink: its input is {there:.1e}")
        self.step = step
        best = romberg(self, step, self.noise)
        while best[1] > 1e-9 * (1 + abs(best[0])) and step > LAST_STEP:      # not converged: the step was too long for this function
            step /= 8
            best = min(best, romberg(self, step, self.noise), key=lambda pair: pair[1])
        return best

    def second_difference(self, h: float) -> float:
        """|f(h) - 2 f(0) + f(-h)| / h: proportional to h where f is smooth, constant on a kink."""
        return abs(self(h) - 2 * self(0.0) + self(-h)) / h

    def has_kink(self) -> bool:
        """For layers that do not tell of their kinks: the slope jumps at the point itself."""
        long, short = self.second_difference(2 * LAST_STEP), self.second_difference(LAST_STEP)
        return short > 100 * self.noise / LAST_STEP and short > 0.75 * long


def rounding_noise(f: Callable[[], float], array: np.ndarray, direction: np.ndarray, magnitude: float) -> float:
    """How much of f is rounding: its scatter about a straight line over steps far too small to bend it."""
    line = Line(f, array, direction, dict, 0.0)
    h = 2.0**-36 * np.arange(-4, 5)
    values = np.array([line(t) for t in h])
    scatter = values - np.polyval(np.polyfit(h * 2.0**36, values, 1), h * 2.0**36)
    return max(4 * np.abs(scatter).max(), 2 * U * magnitude)


# --- one array ------------------------------------------------------------------------------------


class Problem:
    """A scalar function f of some live arrays, and the gradients somebody claims for it."""

    def __init__(self, f, arrays: dict, gradients: Callable[[], dict], kinks: Callable[[], dict], magnitude: float, rng,
                 sizes: dict[str, int], parts=None):
        self.f, self.arrays, self.gradients, self.kinks, self.magnitude, self.rng = f, arrays, gradients, kinks, magnitude, rng
        self.sizes, self.parts = sizes, parts              # sizes: B, K, .. for naming suspects; parts: the loss's terms, if it has any

    def line(self, name: str, direction: np.ndarray) -> Line:
        return Line(self.f, self.arrays[name], direction, self.kinks, self.noise[name])

    def rows(self) -> list[Row]:
        """One row per array.  What stands at a kink is looked at a second time, a little way off."""
        rows = self.rows_here(list(self.arrays))
        at_kinks = [i for i, row in enumerate(rows) if row.verdict == KINK]
        if at_kinks:
            kept = {name: a.copy() for name, a in self.arrays.items()}
            for a in self.arrays.values():
                a += 0.01 * (1 + np.abs(a)) * self.rng.standard_normal(a.shape)
            for i, nudged in zip(at_kinks, self.rows_here([rows[i].name for i in at_kinks])):
                if nudged.verdict in (FAIL, INCONCLUSIVE):
                    rows[i] = nudged._replace(note=f"{nudged.note} (checked 0.01 away: {rows[i].note})")
                else:
                    rows[i] = rows[i]._replace(note=f"{rows[i].note}; 0.01 away: {nudged.verdict}")
            for name, a in self.arrays.items():
                a[...] = kept[name]
        return rows

    def rows_here(self, names: list[str]) -> list[Row]:
        """The rows of some arrays, at the point where all arrays stand now."""
        self.grads = {name: np.asarray(g, np.float64) for name, g in self.gradients().items()}
        self.scale = max((np.abs(g).max() for g in self.grads.values() if g.size), default=0.0)
        self.first = dict.fromkeys(self.arrays, FIRST_STEP)
        self.noise = {name: rounding_noise(self.f, self.arrays[name], unit_gaussian(self.rng, self.arrays[name].shape), self.magnitude)
                      for name in names}
        return [self.by_entry(name) if self.arrays[name].size <= ENTRIES else self.by_direction(name) for name in names]

    def judge(self, name: str, line: Line, analytic: float, scale: float) -> tuple[float, float, str, str]:
        """(numeric, bar, verdict, note) of one directional derivative."""
        try:
            numeric, bar = line.derivative(self.first[name])
            self.first[name] = min(FIRST_STEP, 8 * line.step)              # the next line of this array begins near where this one ended
        except Kink as kink:
            return np.nan, np.nan, KINK, str(kink)
        bar += 64 * U * scale                              # the analytic gradient rounds, too
        difference = abs(analytic - numeric)
        if not np.isfinite(difference):
            return numeric, bar, FAIL, "not a finite number"
        if difference > bar and not self.kinks() and line.has_kink():
            return numeric, bar, KINK, f"the slope jumps here by {line.second_difference(LAST_STEP):.3g}"
        if difference > FAR * bar:
            return numeric, bar, FAIL, ""
        if difference > bar or bar > RESOLUTION * max(scale, 1e-3 * self.scale, 1e-3 * self.magnitude):
            return numeric, bar, INCONCLUSIVE, "the reference is too noisy to tell"
        return numeric, bar, PASS, ""

    def by_entry(self, name: str) -> Row:
        """Every entry of a small array."""
        array, grad = self.arrays[name], self.grads[name]
        found = {}
        for index in np.ndindex(array.shape):
            found[index] = self.judge(name, self.line(name, entry(array.shape, index)), grad[index], np.abs(grad).max())
        wrong = [i for i in found if found[i][2] == FAIL]
        worst = self.worst_of(found, grad)
        numeric, bar, verdict, note = found[worst]
        if wrong:
            note = self.suspect(name, grad, {i: found[i][0] for i in found if found[i][2] != KINK}, wrong, bar)
        return Row(name, array.shape, worst, float(grad[worst]), numeric, bar, verdict, note)

    def worst_of(self, found: dict, grad: np.ndarray) -> tuple:
        order = {FAIL: 3, INCONCLUSIVE: 2, KINK: 1, PASS: 0}

        def badness(index):
            numeric, bar, verdict, _ = found[index]
            return order[verdict], 0.0 if verdict == KINK else np.nan_to_num(abs(grad[index] - numeric) / bar, nan=np.inf)

        return max(found, key=badness)

    def by_direction(self, name: str) -> Row:
        """A big array along two Gaussian directions of unit norm; a failing one is bisected down to its worst entry."""
        array = self.arrays[name]
        everything, found = np.arange(array.size), []
        for _ in range(2):
            found.append(self.along(name, everything))
            if found[-1][3] == FAIL:
                return self.bisect(name)
        analytic, numeric, bar, verdict, note = max(found, key=lambda v: (v[3] != PASS, abs(v[0] - v[1])))
        return Row(name, array.shape, None, analytic, numeric, bar, verdict, note or "along a random direction")

    def along(self, name: str, entries: np.ndarray) -> tuple[float, float, float, str, str]:
        """(analytic, numeric, bar, verdict, note) along a Gaussian direction of unit norm that moves only `entries`."""
        direction, grad = np.zeros(self.arrays[name].size), self.grads[name].ravel()
        direction[entries] = unit_gaussian(self.rng, len(entries))
        analytic = float(grad[entries] @ direction[entries])
        scale = float(np.linalg.norm(grad[entries])) / np.sqrt(len(entries))
        return analytic, *self.judge(name, self.line(name, direction.reshape(self.arrays[name].shape)), analytic, max(scale, abs(analytic)))

    def bisect(self, name: str) -> Row:
        """Halve the entries, keep the half whose derivative is further off, until one is left."""
        array, grad = self.arrays[name], self.grads[name]
        entries = np.arange(array.size)
        while len(entries) > 1:
            halves = np.array_split(entries, 2)
            off = []
            for half in halves:
                analytic, numeric, bar, verdict, _ = self.along(name, half)
                off.append(-1.0 if verdict == KINK else np.nan_to_num(abs(analytic - numeric), nan=np.inf) * np.sqrt(len(half)))
            entries = halves[int(np.argmax(off))]
        index = tuple(map(int, np.unravel_index(entries[0], array.shape)))
        # its row, its column and a few others tell how far the fault reaches
        sample = {index, *(tuple(int(self.rng.integers(n)) for n in array.shape) for _ in range(24))}
        for axis, n in enumerate(array.shape):
            sample |= {tuple(int(self.rng.integers(n)) if a == axis else i for a, i in enumerate(index)) for _ in range(8)}
        found = {}
        for i in sorted(sample):
            found[i] = self.judge(name, self.line(name, entry(array.shape, i)), float(grad[i]), float(np.abs(grad).max()))
        numeric, bar, verdict, _ = found[index]
        wrong = [i for i in found if found[i][2] == FAIL]
        note = self.suspect(name, grad, {i: v[0] for i, v in found.items() if v[2] != KINK}, wrong, bar, sampled=True)
        return Row(name, array.shape, index, float(grad[index]), numeric, bar, FAIL, note)

    # --- the usual suspects ---

    def suspect(self, name: str, grad: np.ndarray, numeric: dict, wrong: list, bar: float, sampled: bool = False) -> str:
        """One sentence on the pattern of the wrong entries."""
        right = len(numeric) - len(wrong)
        if not wrong:
            return ""
        if not np.isfinite([grad[i] for i in wrong]).all():
            return "suspect: not a finite number"
        if right > 0:
            where = _where(wrong, numeric, grad.shape)
            if where:
                return f"suspect: only {where} {'is' if where.startswith(('entry', 'row', 'column')) else 'are'} wrong, the rest matches"
        a, n = np.array([grad[i] for i in wrong]), np.array([numeric[i] for i in wrong])
        tolerance = 100 * bar + 1e-9 * np.abs(n).max()
        if not grad.any():
            return "suspect: never filled: backward leaves this gradient at zero"
        if not sampled and grad.ndim == 2:
            whole = np.array([numeric.get(i, np.nan) for i in np.ndindex(grad.shape)]).reshape(grad.shape)
            turned = {"transposed": whole.T, "with its columns reversed": whole[:, ::-1], "with its rows reversed": whole[::-1],
                      "with its rows shifted by one": np.roll(whole, 1, axis=0)}
            for words, array in turned.items():
                if array.shape == grad.shape and np.allclose(array, grad, rtol=0, atol=tolerance):
                    return f"suspect: the right numbers, {words}"
        if not sampled:
            for other, theirs in self.grads.items():
                same = other != name and theirs.shape == grad.shape
                if same and np.allclose([theirs[i] for i in wrong], n, rtol=0, atol=tolerance):
                    return f"suspect: this is what {other} got: the two are swapped"
        big = np.abs(n) > 1e-6 * np.abs(n).max()
        if big.any() and np.abs(a[big]).max() <= tolerance:
            return "suspect: " + ("filled exactly where it should be zero: a mask the wrong way round?" if np.abs(a).max() > tolerance
                                  else f"{_entries(len(wrong))} zero and should not be: a mask too strict, or a part left out?")
        if not np.abs(n).max() > tolerance:
            return f"suspect: {_entries(len(wrong))} not zero and should be: a mask left out?"
        ratio = a[big] / n[big]
        if np.ptp(ratio) < 1e-6 * np.abs(ratio).max() + 100 * bar / np.abs(n[big]).min():
            return f"suspect: {_entries(len(wrong))} {_ratio_in_words(float(np.median(ratio)), self.sizes)}"
        if self.parts is not None and (words := self._parts_in_words(name, wrong, a)):
            return f"suspect: {words}"
        if np.ptp(a - n) < 1e-6 * np.abs(a - n).max():
            return f"suspect: a constant {a[0] - n[0]:+.3g} was added"
        return f"suspect: no simple pattern in {len(wrong)} wrong entries{' of a sample' if sampled else ''}"

    def _parts_in_words(self, name: str, wrong: list, analytic: np.ndarray) -> str:
        """Take the gradient apart into the loss's terms: which has the wrong weight?"""
        array, names = self.arrays[name], list(self.parts()[1])
        columns = []
        for part in names:
            value = lambda part=part: self.parts()[0][part]
            try:
                columns.append([Line(value, array, entry(array.shape, i), self.kinks, self.noise[name]).derivative()[0] for i in wrong[:40]])
            except Kink:
                return ""
        terms = np.array(columns).T
        weight, *_ = np.linalg.lstsq(terms, analytic[: len(terms)], rcond=None)
        if len(terms) <= len(names) or np.abs(terms @ weight - analytic[: len(terms)]).max() > 1e-6 * np.abs(analytic).max():
            return ""
        said = []
        for part, got, wanted in zip(names, weight, self.parts()[1].values()):
            if abs(got - wanted) > 1e-7 * max(1, abs(wanted)):
                said.append(f"the {part} term is missing" if abs(got) < 1e-7 else f"the {part} term counts {got:.6g} times, not {wanted:.6g}")
        return " and ".join(said)


def _where(wrong: list, all_of: dict, shape: tuple) -> str:
    """The wrong entries as one entry, one row or one column, if they are."""
    if len(wrong) == 1:
        return f"entry {wrong[0]}"
    if len(shape) == 2:
        for axis, word in ((0, "row"), (1, "column")):
            lines = {i[axis] for i in wrong}
            if len(lines) == 1 and shape[1 - axis] > 1:
                return f"{word} {lines.pop()}"
    return f"entries {', '.join(map(str, wrong[:3]))}" if len(wrong) <= 3 and len(all_of) > 6 else ""


def _ratio_in_words(ratio: float, sizes: dict[str, int]) -> str:
    for size, n in sizes.items():
        if n > 2 and abs(ratio / n - 1) < 1e-6:
            return f"{n} times too large, which is {size}: a sum where a mean belongs?"
        if n > 2 and abs(ratio * n - 1) < 1e-6:
            return f"{n} times too small, which is {size}: a mean where a sum belongs, or divided twice?"
    words = {-1.0: "right but for the sign", 2.0: "twice too large: is a half forgotten?", 0.5: "half of what they should be: a half too many?"}
    for known, said in words.items():
        if abs(ratio / known - 1) < 1e-6:
            return said
    return f"{ratio:.9g} times what they should be" if abs(ratio - 1) > 1e-8 else f"1 {ratio - 1:+.1e} times what they should be: rounded on the way?"


def _entries(n: int) -> str:
    return "1 entry is" if n == 1 else f"{n} entries are"


def entry(shape: tuple, index: tuple) -> np.ndarray:
    """The direction in which only one entry moves."""
    direction = np.zeros(shape)
    direction[index] = 1.0
    return direction


def unit_gaussian(rng: np.random.Generator, shape) -> np.ndarray:
    """A direction of unit norm, uniform on the sphere."""
    u = rng.standard_normal(shape)
    return u / np.linalg.norm(u)


# --- layers ---------------------------------------------------------------------------------------


class Node:
    """Any pair of functions as a layer: Node(latent.kl, latent.kl_backward)."""

    def __init__(self, forward: Callable, backward: Callable):
        self.forward, self.backward, self.params, self.grads = forward, backward, {}, {}


def _tuple(result) -> tuple:
    return result if isinstance(result, tuple) else (result,)


def _copies(result) -> tuple:
    return tuple(None if a is None else np.array(a) for a in _tuple(result))


def _kinks_of(layer, name: str = "") -> dict[str, np.ndarray]:
    """The inputs of every unit with a kink, by layer."""
    inputs = layer.kink_inputs() if hasattr(layer, "kink_inputs") else None
    found = {} if inputs is None else {name or type(layer).__name__: inputs}
    for i, part in enumerate(getattr(layer, "layers", ())):
        found |= _kinks_of(part, f"{name}.{i}".lstrip("."))
    return found


def check_layer(layer, *inputs: np.ndarray, rng=0, mixes_rows: bool = False, title: str | None = None) -> Report:
    """Check every gradient of a layer, and that its backward keeps its contract.

    Parameters
    ----------
    layer : anything with forward(*inputs) -> y, backward(dy) -> the inputs' gradients, params and grads
        backward may return fewer gradients than there are inputs: they belong to the first ones.
        A layer whose kinks are known to it has kink_inputs(), see ReLU.  params must be float64.
    *inputs : float64 arrays whose rows are examples
    rng : seed or numpy.random.Generator, for the upstream gradient and the directions
    mixes_rows : bool
        True for a layer in which the examples of a batch meet (batch normalisation).

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        For parameters or inputs that are not float64: finite differences in float32 see nothing.
    """
    rng = np.random.default_rng(rng)
    for name, a in {**layer.params, **{f"input {i}": a for i, a in enumerate(inputs)}}.items():
        if np.asarray(a).dtype != np.float64:
            raise TypeError(f"{type(layer).__name__}: {name} is {np.asarray(a).dtype}; finite differences need float64: "
                            + ("convert it with .astype(np.float64)" if name.startswith("input ") else "build the layer with dtype=np.float64"))
    for name, p in layer.params.items():                   # before anything runs: a compiled kernel checks no bounds
        if name not in layer.grads or np.shape(layer.grads[name]) != np.shape(p):
            note = f"its gradient has shape {np.shape(layer.grads[name])}" if name in layer.grads else f"grads has no {name!r}"
            return Report(title or type(layer).__name__, [Row(name, p.shape, None, np.nan, np.nan, np.nan, FAIL, note)])
    inputs = [np.array(a) for a in inputs]
    y = np.array(layer.forward(*inputs))
    dy = rng.standard_normal(y.shape)                      # never ones: they hide whatever permutes y
    dx = _copies(layer.backward(dy.copy()))
    names = {i: f"x{i}" if len(dx) > 1 else "x" for i, a in enumerate(dx) if a is not None}

    def f() -> float:
        return float((dy * layer.forward(*inputs)).sum())

    def gradients() -> dict[str, np.ndarray]:
        layer.forward(*inputs)
        dx = _copies(layer.backward(dy.copy()))
        return {name: dx[i] for i, name in names.items()} | {name: np.array(layer.grads[name]) for name in layer.params}

    arrays = {name: inputs[i] for i, name in names.items()} | dict(layer.params)
    if not arrays:
        raise ValueError(f"{type(layer).__name__} gives no gradient and has no parameters: there is nothing to check")
    grads = gradients()
    for name in arrays:
        if grads[name].shape != arrays[name].shape:
            row = Row(name, arrays[name].shape, None, np.nan, np.nan, np.nan, FAIL, f"its gradient has shape {grads[name].shape}")
            return Report(title or type(layer).__name__, [row])
    sizes = {"the batch size": len(inputs[0]), "the number of columns": inputs[0].shape[-1]}
    problem = Problem(f, arrays, gradients, lambda: _kinks_of(layer), np.abs(dy * y).sum(), rng, sizes)
    rows = problem.rows() + contract(layer, inputs, dy, rng, mixes_rows)
    return Report(title or type(layer).__name__, rows, taylor_remainder(f, arrays, grads, rng))


def contract(layer, inputs: list, dy: np.ndarray, rng, mixes_rows: bool) -> list[Row]:
    """What backward promises besides the right numbers; each clause is a row."""

    def run(d, xs=inputs) -> dict[str, np.ndarray]:
        layer.forward(*xs)
        dx = _copies(layer.backward(d))
        return {f"x{i}": a for i, a in enumerate(dx) if a is not None} | {name: np.array(g) for name, g in layer.grads.items()}

    def worst(a: dict, b: dict) -> tuple[float, float]:
        """The largest difference, and the size it is measured against."""
        return max(float(np.abs(a[k] - b[k]).max()) for k in a), max(1e-300, max(float(np.abs(b[k]).max()) for k in b))

    rows = []

    def clause(name: str, difference: float, scale: float, broken: str) -> None:
        bar = 1000 * U * scale                             # sums in another order, no more
        rows.append(Row(name, (), None, difference, 0.0, bar, PASS if difference <= bar else FAIL, "" if difference <= bar else broken))

    base, other = run(dy), rng.standard_normal(dy.shape)
    narrow = [f"{name} is {a.dtype}" for name, a in base.items() if a.dtype != np.float64]
    clause("keeps float64", float(len(narrow)), 0.0, f"float64 went in, and the gradient of {', '.join(narrow)}")
    clause("repeats itself", *worst(run(dy), base), "a second forward and backward gave other gradients: does it accumulate, or draw its own noise?")
    mixed = {k: 2 * base[k] - 3 * v for k, v in run(other).items()}
    clause("linear in dy", *worst(run(2 * dy - 3 * other), mixed),
           "backward(2a - 3b) is not 2 backward(a) - 3 backward(b): does it use dy twice, or not at all?")
    clause("zero in, zero out", worst(run(0 * dy), {k: 0 * v for k, v in base.items()})[0], 1.0, "an upstream gradient of zeros gave something else")

    kept_x, kept_dy, kept_params = [a.copy() for a in inputs], dy.copy(), {k: p.copy() for k, p in layer.params.items()}
    run(dy)
    touched = [f"input {i}" for i, (a, b) in enumerate(zip(inputs, kept_x)) if (a != b).any()]
    touched += ["dy"] * bool((dy != kept_dy).any()) + [k for k, p in layer.params.items() if (p != kept_params[k]).any()]
    for a, b in zip([*inputs, dy], [*kept_x, kept_dy]):
        a[...] = b
    clause("leaves its inputs alone", float(len(touched)), 0.0, f"forward and backward wrote into {', '.join(touched)}")

    strange = [np.asfortranarray(a) for a in inputs]
    spread = np.repeat(dy, 2, axis=-1)[..., ::2]           # every other number in memory
    clause("takes any memory layout", *worst(run(spread, strange), base), "Fortran-ordered or strided arrays gave other gradients")

    B = len(dy)
    if not mixes_rows and all(len(a) == B for a in inputs):
        alone = [run(dy[n : n + 1], [a[n : n + 1] for a in inputs]) for n in range(B)]
        summed = {k: sum(one[k] for one in alone) if k in layer.grads else np.concatenate([one[k] for one in alone]) for k in base}
        clause("adds over the batch", *worst(base, summed),
               "the batch's gradients are not those of its rows: divided by B inside, or do rows leak into each other?")

    run(dy)
    try:
        layer.backward(dy)
        of_ours = isinstance(layer, Layer)                 # a class of somebody else's has not promised this
        clause("needs a forward each time", float(of_ours), 0.0, "backward ran twice on one forward: it may use what another call left behind")
    except RuntimeError:
        clause("needs a forward each time", 0.0, 0.0, "")
    return rows


def taylor_remainder(f: Callable[[], float], arrays: dict, grads: dict, rng) -> Callable[[np.ndarray], np.ndarray]:
    """h -> |f(x + hu) - f(x - hu) - 2h <g, u>| along one direction u through all arrays."""
    u = {name: rng.standard_normal(a.shape) for name, a in arrays.items()}
    norm = np.sqrt(sum((d**2).sum() for d in u.values()))
    slope = sum((grads[name] * u[name]).sum() for name in arrays) / norm

    def at(h: float) -> float:
        base = {name: a.copy() for name, a in arrays.items()}
        for name, a in arrays.items():
            a += h / norm * u[name]
        value = f()
        for name, a in arrays.items():
            a[...] = base[name]
        return value

    return lambda steps: np.array([abs(at(h) - at(-h) - 2 * h * slope) for h in steps])


# --- models ---------------------------------------------------------------------------------------


def check_model(vae, x: np.ndarray, eps: np.ndarray, *, rng=0, title: str | None = None) -> Report:
    """Check the gradient of every parameter of a VAE, whatever its size, and that its passes keep their contract.

    Parameters
    ----------
    vae : VAE
        A float32 model is checked as its float64 twin, through the same kernels.
    x : (B, D), eps : (B, Z) or (K, B, Z)
        The noise is held: every evaluation must see the same function.
    rng : seed or numpy.random.Generator, for the directions

    Notes
    -----
    An estimator that is not the derivative of its objective (attribute is_derivative = False) is
    checked through a surrogate: its weights, phi and z of this pass are frozen, and what is left to
    move is  sum path (decoder log p(x|z) + latent (log p(z) - log q(z; phi0))) + score log q(z0; phi) + kl KL.
    So is a latent whose backward is not that of its `sample`; its `straightened` gives the function that it is of.
    """
    rng = np.random.default_rng(rng)
    vae = float64_twin(vae)
    x, eps = (np.array(a) for a in vae.inputs(x, eps))
    result = vae.forward(x, eps)
    vae.backward()
    arrays = {name: param for name, param, _ in vae.named_params()}
    grads = {name: np.array(grad) for name, _, grad in vae.named_params()}

    surrogate = None                                       # frozen at the point where the arrays stand

    def gradients() -> dict[str, np.ndarray]:
        nonlocal surrogate
        surrogate = frozen_surrogate(vae, x, eps) if parts is None else None
        vae.forward(x, eps)
        vae.backward()
        return {name: np.array(grad) for name, _, grad in vae.named_params()}

    f, parts = lambda: vae.forward(x, eps).loss, None
    if getattr(vae.estimator, "is_derivative", True) and type(vae.latent).straightened is Latent.straightened:
        def parts():
            r = vae.forward(x, eps)
            return {"reconstruction": float(r.recon.mean()), "KL": float(r.kl.mean())}, {"reconstruction": 1.0, "KL": vae.beta}
    else:
        f = lambda: surrogate()

    def kinks() -> dict:
        return kinks_of(vae) | (surrogate.moved if surrogate else {})

    K, B, Z = eps.shape
    magnitude = float(np.abs(result.recon).mean() + vae.beta * np.abs(result.kl).mean()) + x.shape[1]
    sizes = {"the batch size": B, "the samples": K, "the pixels": x.shape[1], "the latents": Z}
    problem = Problem(f, arrays, gradients, kinks, magnitude, rng, sizes, parts)
    rows = problem.rows() + model_contract(vae, x, eps, grads)
    gradients()                                            # the arrays stand where they stood at first: what the report draws is of there
    return Report(title or f"VAE, {getattr(vae.estimator, '__name__', type(vae.estimator).__name__)}", rows, taylor_remainder(f, arrays, grads, rng))


def kinks_of(vae) -> dict[str, np.ndarray]:
    """The inputs of every unit with a kink, as the last pass saw them, by layer."""
    return {name: layer.kink_inputs() for name, layer in vae.named_layers() if layer.kink_inputs() is not None}


def float64_twin(vae):
    """The same model in float64; a float64 model is copied, so that the check leaves the caller's untouched."""
    vae = copy.deepcopy(vae)                               # keeps every reference that a layer has to its own arrays
    if vae.dtype == np.float64:
        return vae
    for _, layer in vae.named_layers():
        layer._cache, layer._buffers = {}, {}
        wide = {id(a): a.astype(np.float64) for a in [*layer.params.values(), *layer.grads.values()]}
        vars(layer).update({name: wide[id(a)] for name, a in vars(layer).items() if id(a) in wide})
        layer.params = {name: wide[id(p)] for name, p in layer.params.items()}
        layer.grads = {name: wide[id(g)] for name, g in layer.grads.items()}
    vae.enc, vae.dec = Sequential(*vae.enc.layers), Sequential(*vae.dec.layers)
    return vae


def frozen_surrogate(vae, x: np.ndarray, eps: np.ndarray) -> Callable[[], float]:
    """The function whose plain derivative an estimator's backward must be, all that it holds constant being constant.

    Its attribute `moved` holds the decoder's kink inputs for the z that moved with phi, which another pass then overwrites.
    """
    def encode():
        h = vae.enc.forward(x)
        return [np.array(getattr(vae, head).forward(h)) for head in vae.heads]         # mu, logvar; or a

    def log_px(z):
        return np.array(vae.likelihood.forward(vae.to_out.forward(vae.dec.forward(z)), x))

    latent, (K, B, _) = vae.latent, eps.shape
    q0 = encode()
    z0 = np.array(latent.sample(*q0, eps))
    terms = Terms(*(np.array(t).reshape(K, B) for t in (log_px(z0), latent.log_prior(z0), latent.log_q(z0, *q0))),
                  np.array(latent.kl(*q0)), vae.beta, x, vae.baseline, tuple(q0))
    wires = vae.estimator(terms)
    decoder, weight, path = (w.ravel() for w in wires[:3])
    moves = latent.straightened(*q0, eps) or (lambda *q: latent.sample(*q, eps))       # what backward takes for the sampling node
    by_dimension = wires.score.ndim == 3                   # a weight for each latent dimension's part of log q
    score = wires.score.reshape(K * B, -1) if by_dimension else wires.score.ravel()
    log_q = latent.log_q_each if by_dimension else latent.log_q
    theta0 = {id(p): p.copy() for part in (vae.dec, vae.to_out, vae.likelihood) for p in part.params.values()}

    def phi_part() -> float:
        """theta as it was: what z and q's own formula do when phi moves."""
        moved = {id(p): p.copy() for part in (vae.dec, vae.to_out, vae.likelihood) for p in part.params.values()}
        _restore(vae, theta0)
        q = encode()
        value = (score * log_q(z0, *q)).sum() + (wires.kl * latent.kl(*q)).sum()
        if path.any():                                     # else z is held, and may have no way to move
            z = np.array(moves(*q))
            along_z = decoder * log_px(z) + weight * (latent.log_prior(z) - latent.log_q(z, *q0))
            value_at.moved = {f"{name}, z moved": np.array(a) for name, a in kinks_of(vae).items() if name.startswith("dec.")}
            value += (path * along_z).sum()
        _restore(vae, moved)
        return value

    def value_at() -> float:
        return -float(phi_part() + (decoder * log_px(z0)).sum())

    value_at.moved = {}
    return value_at


def _restore(vae, values: dict) -> None:
    for part in (vae.dec, vae.to_out, vae.likelihood):
        for p in part.params.values():
            p[...] = values[id(p)]


def model_contract(vae, x: np.ndarray, eps: np.ndarray, grads: dict) -> list[Row]:
    """What forward and backward of a model promise besides the right numbers."""
    rows = []

    def clause(name: str, broken: str, why: str) -> None:
        rows.append(Row(name, (), None, float(bool(broken)), 0.0, 0.0, FAIL if broken else PASS, f"{broken}: {why}" if broken else ""))

    def changed() -> str:
        return ", ".join(name for name, _, g in vae.named_params() if not np.array_equal(g, grads[name]))[:60]

    kept_x, kept_eps = x.copy(), eps.copy()
    vae.forward(x, eps)
    vae.backward()
    clause("repeats itself", changed(), "the same x and eps gave other gradients; is noise drawn inside, or do gradients accumulate?")
    clause("leaves its inputs alone", "x or eps" if (x != kept_x).any() or (eps != kept_eps).any() else "", "they were written into")
    vae.forward(x, eps)
    vae.encode(x[::-1]), vae.reconstruct(x[:1]), vae.sample(2, rng=0)
    why = "encode, reconstruct or sample between forward and backward changed the gradients"
    try:
        vae.backward()
        clause("evaluating disturbs nothing", changed(), why)
    except (ValueError, RuntimeError, IndexError) as error:
        clause("evaluating disturbs nothing", f"{type(error).__name__}, {error}", why)
    try:
        vae.backward()
        clause("needs a forward each time", "backward ran twice", "it may use what another pass left behind")
    except RuntimeError:
        clause("needs a forward each time", "", "")
    return rows


# --- float32 against float64 ----------------------------------------------------------------------


def check_precision(layer64, layer32, *inputs: np.ndarray, rng=0, title: str | None = None) -> Report:
    """Hold a float32 layer to its float64 twin by the a-posteriori bound, not by a loose tolerance.

    |g32 - g64| <= 4 sqrt(n) u32 S, where S is the same sum with every term's absolute value,
    (|A|'|D|) for a matrix product, and n its number of terms.  S is had by running the float64
    layer on absolute values.  Source: Higham (2002), section 3.5, with sqrt(n) for random rounding [p. 48].
    """
    rng = np.random.default_rng(rng)
    u32 = float(np.finfo(np.float32).eps)
    # the same numbers for both: whatever differs then is arithmetic
    inputs32 = [np.asarray(a, np.float32) for a in inputs]
    inputs64 = [a.astype(np.float64) for a in inputs32]
    for name, p in layer32.params.items():
        layer64.params[name][...] = p

    def run(layer, xs, d):
        y = np.array(layer.forward(*xs))
        dx = _copies(layer.backward(d))
        return {"y": y} | {f"dx{i}": a for i, a in enumerate(dx) if a is not None} | {f"d{k}": np.array(g) for k, g in layer.grads.items()}

    dy32 = rng.standard_normal(layer32.forward(*inputs32).shape).astype(np.float32)
    exact, got = run(layer64, inputs64, dy32.astype(np.float64)), run(layer32, inputs32, dy32)
    kept = {name: p.copy() for name, p in layer64.params.items()}
    for p in layer64.params.values():
        p[...] = np.abs(p)
    size = run(layer64, [np.abs(a) for a in inputs64], np.abs(dy32.astype(np.float64)))
    for name, p in layer64.params.items():
        p[...] = kept[name]
    n = max([*inputs64[0].shape, exact["y"].shape[-1]])
    rows = []
    for name in exact:
        if got[name].dtype != np.float32:
            rows.append(Row(name, exact[name].shape, None, np.nan, np.nan, np.nan, FAIL, f"float32 went in, {got[name].dtype} came out"))
            continue
        terms = np.maximum(np.abs(size[name]), np.abs(exact[name]).max())    # some subtract terms as large as the largest result
        if terms.shape == dy32.shape and name != "y":
            terms = np.maximum(terms, np.abs(dy32))        # so does a derivative like 1 - y^2
        bound = 4 * np.sqrt(n) * u32 * terms
        over = np.abs(got[name] - exact[name]) / np.maximum(bound, np.finfo(np.float32).tiny)
        i = tuple(map(int, np.unravel_index(np.argmax(np.nan_to_num(over, nan=np.inf)), over.shape)))
        verdict = PASS if over[i] <= 1 else FAIL
        rows.append(Row(name, exact[name].shape, i, float(got[name][i]), float(exact[name][i]), float(bound[i]), verdict,
                        "" if verdict == PASS else "further from its float64 twin than rounding explains"))
    return Report(title or f"{type(layer32).__name__} in float32", rows)
