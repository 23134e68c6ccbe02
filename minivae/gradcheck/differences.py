"""The reference: finite differences that know their own error.

Romberg's central differences at h, h/2, h/4, .. extrapolated to h = 0, in float64.  The error bar
is truncation plus rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

U = np.finfo(np.float64).eps
LEVELS = 5              # h, h/2, .. h/16: the truncation error of T[4, 4] is of order h^10
FIRST_STEP = 2.0**-4
LAST_STEP = 2.0**-20    # a kink that is still crossed at this step is a kink at the point itself


class Kink(Exception):
    """The function changes its branch however small the step."""


def romberg(f: Callable[[float], float], step: float, noise: float) -> tuple[float, float]:
    """d f(h)/dh at h = 0 and its error bar.

    T[i, 0] = (f(h_i) - f(-h_i)) / 2 h_i  with  h_i = step / 2^i;
    T[i, j] = (4^j T[i, j-1] - T[i-1, j-1]) / (4^j - 1).
    Of all entries T[i, j], j >= 1, the one with the smallest bar is taken.  The bar is the distance
    to the two entries that it was made of (truncation) plus what `noise`, the rounding error of f,
    becomes after division by h.
    Source: Romberg (1955); Ridders (1982), "Accurate computation of F'(x) and F'(x) F''(x)",
    section 2.
    """
    best, previous = (0.0, np.inf), []
    for i in range(LEVELS):
        h = step / 2**i
        up, down = f(h), f(-h)
        # f may be larger at a step's end than at the point, and then it rounds more there
        rounding = 2 * max(noise, 4 * U * max(abs(up), abs(down))) / h
        row = [(up - down) / (2 * h)]
        for j in range(1, i + 1):
            row.append((4**j * row[j - 1] - previous[j - 1]) / (4**j - 1))
            bar = max(abs(row[j] - row[j - 1]), abs(row[j] - previous[j - 1])) + rounding
            if np.isfinite(bar):     # where a step left the domain of f, a shorter one may stay in
                best = min(best, (row[j], bar), key=lambda pair: pair[1])
        previous = row
        if 2 * rounding > best[1]:   # half the step doubles the rounding: no better entry is left
            break
    return best


class Line:
    """f along a line through the point, with what is needed to differentiate it there.

    Parameters
    ----------
    f : function of nothing, which reads `array`
    array : float64 array, live
        It is moved for each value of f, and put back.
    direction : array of the same shape
    kinks : function that gives, by layer, the inputs of every unit with a kink
        As the last call of f saw them.  An empty dict where nothing is known of kinks.
    noise : float
        The rounding error of f, see `rounding_noise`.
    """

    def __init__(self, f: Callable[[], float], array: np.ndarray, direction: np.ndarray,
                 kinks: Callable[[], dict], noise: float):
        self.f, self.array, self.base, self.direction = f, array, array.copy(), direction
        self.kinks, self.noise = kinks, noise
        self.step = FIRST_STEP                             # the longest step that `derivative` took
        self.reach = float(np.linalg.norm(self.base[direction != 0]))    # how far away 0 is

    def __call__(self, h: float, look: Callable | None = None) -> float:
        """f at the point plus h times the direction, or what `look` sees there."""
        self.array[...] = self.base + h * self.direction
        try:
            with np.errstate(all="ignore"):                # a long step may leave the domain of f
                value = self.f()
            return value if look is None else look()
        except Exception:                                  # however f says so
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
        """The derivative and its bar, from the best of a few first steps.

        Raises Kink where f has no derivative.
        """
        step = self.step_before_kinks(first) if self.kinks() else first
        self.step = step
        best = romberg(self, step, self.noise)
        # a bar that is still large says that the step was too long for this function
        while best[1] > 1e-9 * (1 + abs(best[0])) and step > LAST_STEP:
            step /= 8
            best = min(best, romberg(self, step, self.noise), key=lambda pair: pair[1])
        return best

    def second_opinion(self, first: tuple[float, float], magnitude: float) -> tuple[float, float]:
        """`first`, or the derivative by a step that suits the size of the numbers that are moved.

        log x at x = 1e-8 bends within a step of 1e-6; x^2 at x = 1e8 rounds too much in one of
        2^-4.  Of two that contradict each other the one with the shorter step is believed, of two
        that agree the one with the smaller bar.
        """
        step = self.reach * FIRST_STEP
        if not 0 < step < np.inf:
            return first
        noise = rounding_noise(self.f, self.array, self.direction, magnitude, step * 2.0**-30)
        other = romberg(self, step, noise)
        contradict = abs(first[0] - other[0]) > first[1] + other[1]
        if contradict:
            return other if step < self.step else first
        return min(first, other, key=lambda pair: pair[1])

    def step_before_kinks(self, step: float) -> float:
        """`step`, halved until no unit crosses its kink.

        Raises Kink for a unit that crosses it at every step down to LAST_STEP.
        """
        while (unit := self.crossed(step)) is not None:
            step /= 2
            if step < LAST_STEP:
                name, index = unit
                there = self(0.0, self.kinks)[name][index]
                raise Kink(f"unit {index} of {name} stands at its kink: its input is {there:.1e}")
        return step

    def second_difference(self, h: float) -> float:
        """|f(h) - 2 f(0) + f(-h)| / h: proportional to h where f is smooth, constant on a kink."""
        return abs(self(h) - 2 * self(0.0) + self(-h)) / h

    def has_kink(self) -> bool:
        """Whether the slope jumps at the point itself, for layers that do not tell their kinks."""
        h = self.kink_step
        long, short = self.second_difference(2 * h), self.second_difference(h)
        return short > 100 * self.noise / h and short > 0.75 * long

    @property
    def kink_step(self) -> float:
        """A step so short that smooth functions are straight along it."""
        return min(LAST_STEP, self.reach * 2.0**-10) if self.reach else LAST_STEP


def rounding_noise(f: Callable[[], float], array: np.ndarray, direction: np.ndarray,
                   magnitude: float, step: float | None = None) -> float:
    """How much of f is rounding, at least 2 U times `magnitude`, the size of the terms in f.

    It is f's scatter about a straight line, over steps far too small to bend it; but array + step
    rounds, too, so they are many times U |array|.
    """
    line = Line(f, array, direction, dict, 0.0)
    step = max(2.0**-36, 2.0**-42 * line.reach) if step is None else step
    t = np.arange(-4, 5)
    values = np.array([line(h) for h in step * t])
    scatter = values - np.polyval(np.polyfit(t, values, 1), t)
    return max(4 * np.abs(scatter).max(), 2 * U * magnitude)


def entry(shape: tuple, index: tuple) -> np.ndarray:
    """The direction in which only one entry moves."""
    direction = np.zeros(shape)
    direction[index] = 1.0
    return direction


def random_direction(rng: np.random.Generator, shape) -> np.ndarray:
    """A random direction of unit norm, uniform on the sphere."""
    u = rng.standard_normal(shape)
    return u / np.linalg.norm(u)


def taylor_remainder(f: Callable[[], float], arrays: dict, grads: dict,
                     rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """h -> |f(x + hu) - f(x - hu) - 2h <g, u>| along one direction u through all arrays."""
    u = {name: rng.standard_normal(a.shape) for name, a in arrays.items()}
    norm = np.sqrt(sum((d**2).sum() for d in u.values()))
    slope = sum((grads[name] * u[name]).sum() for name in arrays) / norm

    def value_at(h: float) -> float:
        base = {name: a.copy() for name, a in arrays.items()}
        for name, a in arrays.items():
            a += h / norm * u[name]
        value = f()
        for name, a in arrays.items():
            a[...] = base[name]
        return value

    return lambda steps: np.array([abs(value_at(h) - value_at(-h) - 2 * h * slope) for h in steps])
