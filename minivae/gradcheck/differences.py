"""The reference: finite differences that know their own error.

Romberg's central differences at h, h/2, h/4, .. extrapolated to h = 0, in float64.  The error bar
is truncation plus rounding.  Before that a survey measures how much of f is rounding, and on what
length f changes: the first step h fits it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

U = np.finfo(np.float64).eps
LEVELS = 5              # h, h/2, .. h/16: the truncation error of T[4, 4] is of order h^10
FIRST_STEP = 2.0**-4
SHORTEST, LONGEST = 2.0**-50, 2.0**40    # steps
LAST_STEP = 2.0**-20    # a kink that is still crossed at this step is a kink at the point itself


class Kink(Exception):
    """The function changes its branch however small the step."""


def romberg(f: Callable[[float], float], step: float, noise: float) -> tuple[float, float]:
    """d f(h)/dh at h = 0 and its error bar, see `table`."""
    return table(f, step, noise)[:2]


def table(f: Callable[[float], float], step: float, noise: float) -> tuple[float, float, float]:
    """d f(h)/dh at h = 0, its error bar, and the part of the bar that is rounding.

    T[i, 0] = (f(h_i) - f(-h_i)) / 2 h_i  with  h_i = step / 2^i;
    S[i, 0] = (f(h_i) + f(-h_i)) / 2;
    T[i, j] = (4^j T[i, j-1] - T[i-1, j-1]) / (4^j - 1), and S[i, j] in the same way.
    Of all entries T[i, j], j >= 1, the one with the smallest bar is taken.  The bar is the sum of
    - the distance to the two entries that T[i, j] was made of (truncation),
    - |S[i, j] - f(0)| / h_i: S is extrapolated to f(0), which is known, by the same steps, so its
      error is what was lost on the way: a bump between two steps, or noise nobody told of,
    - what `noise`, the rounding error of f, becomes after division by h.
    Source: Romberg (1955); Ridders (1982), "Accurate computation of F'(x) and F'(x) F''(x)",
    section 2.
    """
    best, slopes, means, here = (0.0, np.inf, 0.0), [], [], f(0.0)
    for i in range(LEVELS):
        h = step / 2**i
        up, down = f(h), f(-h)
        # f may be larger at a step's end than at the point, and then it rounds more there
        rounding = 2 * max(noise, 4 * U * max(abs(up), abs(down))) / h
        slope, mean = [(up - down) / (2 * h)], [up / 2 + down / 2]
        for j in range(1, i + 1):
            slope.append((4**j * slope[j - 1] - slopes[j - 1]) / (4**j - 1))
            mean.append((4**j * mean[j - 1] - means[j - 1]) / (4**j - 1))
            bar = (max(abs(slope[j] - slope[j - 1]), abs(slope[j] - slopes[j - 1]))
                   + abs(mean[j] - here) / h + rounding)
            if np.isfinite(bar):     # where a step left the domain of f, a shorter one may stay in
                best = min(best, (slope[j], bar, rounding), key=lambda found: found[1])
        slopes, means = slope, mean
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
        self.step = FIRST_STEP                             # the first step that `derivative` chose

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

    def derivative(self, first: float = FIRST_STEP, enough: float = 0.0) -> tuple[float, float]:
        """The derivative and its bar, from the best of a few first steps.

        It stops at a bar of `enough`.  Raises Kink where f has no derivative.
        """
        step = first
        if self.kinks():
            step = self.step_before_kinks(first)
        best, self.step = table(self, step, self.noise), step
        # a bar of truncation says that the step was too long
        while best[1] > max(enough, 4 * best[2]) and step > SHORTEST:
            step /= 8
            found = table(self, step, self.noise)
            # a bar of rounding alone has no truncation: what it does not agree with was an accident
            refuted = found[1] <= 4 * found[2] and abs(found[0] - best[0]) > found[1] + best[1]
            if found[1] < best[1] or refuted:
                best, self.step = found, step
        return best[:2]

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
        """Whether the slope jumps at the point itself, for layers that do not tell their kinks.

        It does where the second difference stays the same down to steps that show only noise.
        """
        h, jump, seen = LAST_STEP, self.second_difference(LAST_STEP), False
        while h > SHORTEST and jump > 100 * self.noise / h:
            h /= 2
            shorter = self.second_difference(h)
            if not shorter > 0.75 * jump:
                return False
            jump, seen = shorter, True
        return seen


def rounding_noise(f: Callable[[], float], array: np.ndarray, direction: np.ndarray,
                   magnitude: float) -> float:
    """How much of f is rounding, at least 2 U times `magnitude`, the size of the terms in f."""
    return survey(f, array, direction, magnitude)[0]


def survey(f: Callable[[], float], array: np.ndarray, direction: np.ndarray, magnitude: float,
           everywhere: bool = False, kinks: Callable[[], dict] = dict) -> tuple[float, float]:
    """How much of f is rounding, and the first step that fits f's scale.

    f is read at 13 points on each of some intervals.  What a polynomial of degree 6 leaves of the
    values there is called the scatter: on too long an interval f is no such polynomial, on too
    short one f changes by less than its rounding.  The interval counts on which the scatter is the
    smallest part of what f changes by.  One that is good enough ends the search, unless
    `everywhere`.  An interval in which a unit crosses its kink tells nothing.
    """
    line, found = Line(f, array, direction, kinks, 0.0), []

    def best() -> tuple:
        return min(found, key=lambda interval: interval[0])

    def look(half: float) -> bool:
        """Look at one interval; whether to look no further."""
        values = np.array([line(half * t) for t in POINTS])
        if not np.isfinite(values).all() or line.crossed(half):
            found.append((np.inf, 0.0, half))
            return False
        values -= values[6]
        scatter = np.abs(SCATTER @ values).max()
        # where the slope is 0, as at an optimum, its curvature shows how far f moves
        change = max(abs(SLOPE @ values), 1e-6 * np.abs(values).max())
        part = scatter / change if scatter < change else 1.0
        found.append((part, scatter, half))
        return not everywhere and (part < 1e-8 or best()[0] < min(1e-5, part))

    if not look(FIRST_STEP / 4):
        for factor in (1 / 16, 16.0):
            half = FIRST_STEP / 4 * factor
            while SHORTEST < half < LONGEST and not look(half):
                half *= factor
    part, scatter, half = best()
    if part > (0.1 if half < found[0][2] else 0.01):
        # f does not move, or in no way that is understood; far away it may be another function
        # near by it may stand quite still, and the usual interval reach beyond a kink
        still = [one for one in found[1:] if one[:2] == (1.0, 0.0) and one[2] < found[0][2]]
        part, scatter, half = still[0] if still and found[0][1] > 0 else found[0]
    return max(4 * scatter, 2 * U * magnitude), 4 * half


# like Chebyshev's points, and 0; rounded so that x + h is exact for most x, and not to simple
# fractions, at which a staircase of roundings may look like a straight line
POINTS = np.round(2.0**16 * np.cos(np.pi * (np.arange(13) + 0.3) / 13)) / 2.0**16
POINTS[6] = 0.0
_POWERS = np.vander(POINTS, 7)
SCATTER = np.eye(13) - _POWERS @ np.linalg.pinv(_POWERS)    # values -> what a polynomial leaves
SLOPE = np.linalg.pinv(_POWERS)[5]                          # values -> the polynomial's slope at 0


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
