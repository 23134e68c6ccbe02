"""Suspects that look for arrays at hand: dy, y, the inputs, the parameters, and functions of them.

Four questions.  Is the gradient one formula, and should be another?  Is it off by a factor, or by a
term, that is at hand?  Does one array stand where another belongs?  Each is a function of a
WrongGradient that gives its sentence, or None.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from minivae.gradcheck.wrong import ROUND, WrongGradient


def _sigmoid(a: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * a))


FUNCTIONS = {
    "{}": lambda a: a,
    "{}^2": lambda a: a**2,
    "(1 - {})": lambda a: 1 - a,
    "(1 - {}^2)": lambda a: 1 - a**2,
    "{} (1 - {})": lambda a: a * (1 - a),
    "exp({})": np.exp,
    "exp(-{})": lambda a: np.exp(-a),
    "exp({}/2)": lambda a: np.exp(a / 2),
    "exp(-{}/2)": lambda a: np.exp(-a / 2),
    "(exp({}) - 1)": np.expm1,
    "sigmoid({})": _sigmoid,
    "sigmoid(-{})": lambda a: _sigmoid(-a),
    "sigmoid({}) sigmoid(-{})": lambda a: _sigmoid(a) * _sigmoid(-a),
    "{} sigmoid({}) sigmoid(-{})": lambda a: a * _sigmoid(a) * _sigmoid(-a),
    "(1 - tanh({})^2)": lambda a: 1 - np.tanh(a) ** 2,
    "sqrt({})": np.sqrt,
}


def one_formula_for_another(gradient: WrongGradient) -> str | None:
    """The gradient is one formula in every entry, and should be another."""
    if not gradient.clear:
        return None
    compared = gradient.compared
    got = _formula(gradient, gradient.at(gradient.grad, compared))
    wanted = None if got is None else _formula(gradient, np.array(list(gradient.numeric.values())))
    if wanted is None:
        return None
    return f"{gradient.entries_are} wrong: backward gives {got}, and should give {wanted}"


def _formula(gradient: WrongGradient, numbers: np.ndarray) -> str | None:
    """The first formula that gives these numbers, in every entry that was compared."""
    for words, array in _formulas(gradient):
        c = gradient.multiple(numbers, gradient.at(array, gradient.compared))
        if c is not None and np.isclose(c, ROUND, rtol=1e-7).any():
            return _times(c, words)
    return None


def a_factor_at_hand(gradient: WrongGradient) -> str | None:
    """analytic * F = numeric, or analytic = F * numeric, up to a constant."""
    if not gradient.clear:
        return None
    for words, array in _functions(gradient):
        F = gradient.at(array)
        error = np.abs(F).max()
        if (c := gradient.multiple(gradient.reference, F * gradient.analytic, error)) is not None:
            return f"{gradient.entries_are} short of a factor {_times(c, words)}: left out?"
        if (c := gradient.multiple(gradient.analytic, F * gradient.reference, error)) is not None:
            return (f"{gradient.entries_are} {_times(c, words)} times what they should be: a "
                    "factor too many?")
    return None


def a_chain_rule_too_many(gradient: WrongGradient) -> str | None:
    """analytic = F(g) * g, where g is the right gradient: it was taken for an output."""
    if not gradient.clear:
        return None
    g = gradient.reference
    for words, F in _functions_of("g", g):
        if (c := gradient.multiple(gradient.analytic, F * g)) is not None:
            return (f"{gradient.entries_are} {_times(c, words)} times what they should be, g the "
                    "right gradient: a chain rule applied once too often?")
    return None


def a_softplus_slope(gradient: WrongGradient) -> str | None:
    """analytic * sigmoid(a + c) = numeric: a is bent by a softplus with a floor or a ceiling."""
    if not gradient.clear or (np.abs(gradient.analytic) <= gradient.tolerance).any():
        return None
    ratio = gradient.reference / gradient.analytic
    if not ((ratio > 0) & (ratio < 1)).all():
        return None
    for words, array in _arrays(gradient):
        for sign in (1, -1):
            a = sign * gradient.at(array)
            c = float(np.median(np.log(ratio / (1 - ratio)) - a))
            if gradient.same(gradient.analytic * _sigmoid(a + c), gradient.reference):
                minus = "-" * (sign < 0)
                return (f"{gradient.entries_are} short of a factor sigmoid({minus}{words} "
                        f"{'-' if c < 0 else '+'} {abs(c):.4g}): the slope of a softplus left out?")
    return None


def a_term_at_hand(gradient: WrongGradient) -> str | None:
    """analytic - numeric = c * F, or c * F * dy."""
    if not gradient.clear:
        return None
    for words, array in _terms(gradient):
        if (c := gradient.multiple(gradient.off, gradient.at(array))) is not None:
            return (f"{gradient.entries_are} off by {_times(c, words)}: a term missing, or one too "
                    "many?")
    return None


def one_thing_for_another(gradient: WrongGradient) -> str | None:
    """analytic - numeric = c * (F - G), or c * (F - G) * dy, c a round number.

    F and G are two arrays, or two functions of one: x and sigmoid(x).
    """
    if not gradient.clear:
        return None
    upstreams = [*_upstream(gradient), ("", np.ones(gradient.grad.shape))]
    for (first, F), (second, G) in _pairs(gradient):
        apart = gradient.at(F - G)
        for dy, upstream in upstreams:
            c = gradient.multiple(gradient.off, apart * gradient.at(upstream))
            if c is not None and np.isclose(c, ROUND, rtol=1e-7).any():
                of_dy = f" times {dy}" * bool(dy)
                return (f"{gradient.entries_are} off by {_times(c, f'({first} - {second})')}"
                        f"{of_dy}: does one stand where the other belongs?")
    return None


def _pairs(gradient: WrongGradient) -> Iterator[tuple]:
    """Two arrays, or two functions of one array, with their names."""
    arrays = list(_arrays(gradient))
    yield from combinations(arrays, 2)
    for name, a in arrays:
        yield from combinations(_functions_of(name, a), 2)


# --- the arrays at hand, in the gradient's shape --------------------------------------------------


def _times(c: float, words: str) -> str:
    """c times a formula, in words."""
    if np.isclose(c, 1, rtol=1e-9):
        return words
    return f"-{words}" if np.isclose(c, -1, rtol=1e-9) else f"{c:.6g} times {words}"


def _in_its_shape(name: str, a: np.ndarray, shape: tuple) -> Iterator[tuple[str, np.ndarray]]:
    """An array, as far as it can be laid out like the gradient."""
    if not shape or a.ndim == 0:
        return
    if a.shape == shape:
        yield name, a
    elif a.ndim == 1 and len(shape) == 2 and len(a) == shape[0]:          # a number for each row
        yield name, np.broadcast_to(a[:, None], shape)
    elif a.ndim == 1 and len(shape) == 2 and len(a) == shape[1]:
        yield name, np.broadcast_to(a, shape)
    elif a.ndim == len(shape) + 1 and a.shape[1:] == shape:
        yield f"{name} summed over its first axis", a.sum(axis=0)
        yield f"{name}[0]", a[0]
    elif len(a) > shape[0] and len(a) % shape[0] == 0 and a.shape[1:] in ((), shape[1:]):
        # row k*B + n is sample k of example n
        blocks = a.reshape(-1, shape[0], *a.shape[1:])
        for words, block in ((f"{name} summed over {len(blocks)} samples", blocks.sum(axis=0)),
                             (f"{name} of the first sample", blocks[0])):
            yield from _in_its_shape(words, block, shape)


def _arrays(gradient: WrongGradient) -> Iterator[tuple[str, np.ndarray]]:
    """y, the inputs and the parameters; not dy."""
    for name, a in gradient.known.items():
        if name != "dy":
            yield from _in_its_shape(name, a, gradient.grad.shape)


def _upstream(gradient: WrongGradient) -> list[tuple[str, np.ndarray]]:
    """dy."""
    dy = gradient.known.get("dy")
    return [] if dy is None else list(_in_its_shape("dy", dy, gradient.grad.shape))


def _functions_of(name: str, a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """An array, and simple functions of it that are finite."""
    for words, function in FUNCTIONS.items():
        if np.isfinite(values := function(a)).all():
            yield words.replace("{}", name), values


def _functions(gradient: WrongGradient) -> Iterator[tuple[str, np.ndarray]]:
    """dy, and functions of the other arrays."""
    yield from _upstream(gradient)
    for name, a in _arrays(gradient):
        yield from _functions_of(name, a)


def _terms(gradient: WrongGradient) -> Iterator[tuple[str, np.ndarray]]:
    """dy, functions of the other arrays, and their products."""
    yield from _functions(gradient)
    for dy, upstream in _upstream(gradient):
        for name, a in _arrays(gradient):
            for words, F in _functions_of(name, a):
                yield f"{words} times {dy}", F * upstream


def _formulas(gradient: WrongGradient) -> Iterator[tuple[str, np.ndarray]]:
    """What a backward may be in full: the terms, masks of dy, products of two matrices."""
    yield from _terms(gradient)
    for dy, upstream in _upstream(gradient):
        for name, a in [(dy, upstream), *reversed(list(_arrays(gradient)))]:     # x before y
            yield f"{dy} where {name} > 0", np.where(a > 0, upstream, 0)
            yield f"{dy} where {name} <= 0", np.where(a <= 0, upstream, 0)
    matrices = {name: a for name, a in gradient.known.items() if a.ndim == 2}
    for first, a in matrices.items():
        for second, b in matrices.items():
            for words, left, right in ((f"{first} @ {second}", a, b),
                                       (f"{first} @ {second}.T", a, b.T),
                                       (f"{first}.T @ {second}", a.T, b)):
                fits = left.shape[1] == right.shape[0]
                if fits and (len(left), right.shape[1]) == gradient.grad.shape:
                    yield words, left @ right
