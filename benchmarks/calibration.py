"""How honest is the error bar?  Random smooth functions whose true derivative is known.

    python -m benchmarks.calibration

Each function is made of elementary functions, with scales of its value, its argument and its
curvature drawn over many decades.  Its derivative is computed twice: by Problem, which every
check of minivae runs through, and by dual numbers of 80 digits.  mpmath does the latter: longdouble
has 18 digits, of which 1e8 + f - 1e8 leaves ten, and exp and sin of fractions would have to be
written by hand.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mpmath import mp, mpf

from minivae.gradcheck.problem import Problem

DIGITS = 80
FAULT = 1e-6            # the relative fault that is planted


# --- dual numbers: a value and its derivative, to 80 digits ---------------------------------------


class Dual:
    """value + slope * e, with e^2 = 0: what f(x + e) is made of."""

    def __init__(self, value, slope=0):
        self.value, self.slope = mpf(value), mpf(slope)

    def __add__(self, other):
        other = _dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = _dual(other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + -1.0 * _dual(other)


def _dual(number) -> Dual:
    return number if isinstance(number, Dual) else Dual(float(number))


# name -> (the function in float64, the function and its derivative with many digits)
ELEMENTARY: dict[str, tuple[Callable, Callable, Callable]] = {
    "sin": (np.sin, mp.sin, mp.cos),
    "cos": (np.cos, mp.cos, lambda u: -mp.sin(u)),
    "exp": (np.exp, mp.exp, mp.exp),
    "tanh": (np.tanh, mp.tanh, lambda u: 1 / mp.cosh(u) ** 2),
    "arctan": (np.arctan, mp.atan, lambda u: 1 / (1 + u**2)),
    "sigmoid": (lambda u: 1 / (1 + np.exp(-u)), lambda u: 1 / (1 + mp.exp(-u)),
                lambda u: 1 / (2 * mp.cosh(u / 2)) ** 2),
    "softplus": (lambda u: np.logaddexp(0, u), lambda u: mp.log1p(mp.exp(u)),
                 lambda u: 1 / (1 + mp.exp(-u))),
    "square": (lambda u: u**2, lambda u: u**2, lambda u: 2 * u),
    "cube": (lambda u: u**3, lambda u: u**3, lambda u: 3 * u**2),
    "bump": (lambda u: np.exp(-(u**2)), lambda u: mp.exp(-(u**2)),
             lambda u: -2 * u * mp.exp(-(u**2))),
    "log(1 + u^2)": (lambda u: np.log1p(u**2), lambda u: mp.log1p(u**2),
                     lambda u: 2 * u / (1 + u**2)),
    "sqrt(1 + u^2)": (lambda u: np.sqrt(1 + u**2), lambda u: mp.sqrt(1 + u**2),
                      lambda u: u / mp.sqrt(1 + u**2)),
    # these end, or are flat, somewhere
    "log": (np.log, mp.log, lambda u: 1 / u),
    "sqrt": (np.sqrt, mp.sqrt, lambda u: 1 / (2 * mp.sqrt(u))),
    "1/u": (lambda u: 1 / u, lambda u: 1 / u, lambda u: -1 / u**2),
    "u^9": (lambda u: u**9, lambda u: u**9, lambda u: 9 * u**8),
    "exp(-1/u^2)": (lambda u: np.exp(-1 / u**2), lambda u: mp.exp(-1 / u**2),
                    lambda u: 2 / u**3 * mp.exp(-1 / u**2)),
}
ANYWHERE = list(ELEMENTARY)[:12]


def elementary(name: str, u):
    """One elementary function of a float64 or of a Dual."""
    narrow, wide, derivative = ELEMENTARY[name]
    if isinstance(u, Dual):
        return Dual(wide(u.value), derivative(u.value) * u.slope)
    return narrow(u)


# --- random functions -----------------------------------------------------------------------------
# Each maker draws a function of u, which is float64 or Dual; `at` is where u stands.  It also gives
# the function's rate (one over the length on which it changes) and the largest term in its sums.

Made = tuple[Callable, float, float]


def chain(rng: np.random.Generator, depth: int) -> Callable:
    """A composition of `depth` elementary functions, with affine maps of order 1 between them."""
    steps = [(str(rng.choice(ANYWHERE)), float(rng.normal()), float(rng.normal()))
             for _ in range(depth)]

    def value(u):
        for name, a, b in steps:
            u = a * elementary(name, u) + b
        return u
    return value


def composition(rng: np.random.Generator, at: float) -> Made:
    return chain(rng, int(rng.integers(1, 5))), 1.0, 1.0


def total(rng: np.random.Generator, at: float) -> Made:
    parts = [(10.0 ** rng.uniform(-3, 0), chain(rng, int(rng.integers(1, 4)))) for _ in range(3)]
    return lambda u: sum((size * part(u) for size, part in parts), 0.0), 1.0, 1.0


def product(rng: np.random.Generator, at: float) -> Made:
    a, b = chain(rng, 2), chain(rng, 2)
    return lambda u: a(u) * b(u), 1.0, 1.0


def cancellation(rng: np.random.Generator, at: float) -> Made:
    """(C + f) - C: the sum has lost the last digits of f."""
    large, inner = 10.0 ** rng.uniform(0, 8), chain(rng, int(rng.integers(1, 5)))
    return lambda u: (inner(u) + large) - large, 1.0, large


def fast(rng: np.random.Generator, at: float) -> Made:
    """sin(1e6 u), far from 0."""
    rate = 10.0 ** rng.uniform(1, 6)
    return lambda u: elementary("sin", rate * u), rate, 1.0


def steep(rng: np.random.Generator, at: float) -> Made:
    """exp(50 u)."""
    rate = rng.uniform(5, 100)
    sign = float(rng.choice([-1, 1]))
    return lambda u: elementary("exp", sign * rate * u), rate, 1.0


def singular(rng: np.random.Generator, at: float) -> Made:
    """log, sqrt or 1/u, near the point where it ends."""
    name, near = str(rng.choice(["log", "sqrt", "1/u"])), 10.0 ** rng.uniform(-4, 0)
    return lambda u: elementary(name, u + (near - at)), 1 / near, 1.0


def flat(rng: np.random.Generator, at: float) -> Made:
    """u^9 and exp(-1/u^2), near 0."""
    name, near = str(rng.choice(["u^9", "exp(-1/u^2)"])), 10.0 ** rng.uniform(-1.2, 0)
    return lambda u: elementary(name, u + (near - at)), near**-3, 1.0


def bump(rng: np.random.Generator, at: float) -> Made:
    """A bump much narrower than the first step, on something smooth."""
    rate, inner = 10.0 ** rng.uniform(1, 5), chain(rng, 1)
    shift = float(rng.normal() - rate * at)
    return lambda u: elementary("bump", rate * u + shift) + inner(u), rate, 1.0


KINDS = [composition, total, product, cancellation, fast, steep, singular, flat, bump]


class Sample:
    """One random function, at one point, and all that is known of it.

    f(x) = A g(sum_i k_i (x_i - c_i)), with the value's scale A, the curvature's scale K (the k_i
    are of its order) and the argument's scale X (the x_i are) drawn over many decades.
    """

    def __init__(self, rng: np.random.Generator):
        self.kind = KINDS[int(rng.integers(len(KINDS)))]
        n = int(rng.choice([1, 1, 2, 4]))
        # float64 itself has no smooth function left where its length 1/K is not far longer than
        # the gaps between numbers, X U
        while True:
            self.A, self.K, self.X = 10.0 ** rng.uniform(-8, 8, 3)
            if self.K * self.X <= 1e8:
                break
        self.x = self.X * rng.uniform(0.3, 3, n) * rng.choice([-1.0, 1.0], n)
        self.k = self.K * rng.uniform(0.3, 3, n)
        u = rng.normal(size=n)
        self.c = self.x - u / self.k
        self.g, self.rate, self.largest = self.kind(rng, float(sum(self.k * (self.x - self.c))))

    def value(self, x) -> float:
        """f, in float64 or for a list of Duals."""
        u = sum(k * (xi - c) for k, xi, c in zip(self.k, x, self.c))
        return self.A * self.g(u)

    def truth(self) -> np.ndarray:
        """The gradient, each entry rounded once."""
        one = [[Dual(xi, int(i == j)) for i, xi in enumerate(self.x)] for j in range(len(self.x))]
        return np.array([float(self.value(x).slope) for x in one])
