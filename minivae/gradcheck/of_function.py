"""Check a function and its gradient, or a plain pair of functions forward and backward.

No layer is needed, and no Numba is loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from minivae.choices import check_kind, generator
from minivae.gradcheck.complex_step import second_reference
from minivae.gradcheck.contract import OF_A_FUNCTION, OF_A_PAIR, clauses
from minivae.gradcheck.differences import taylor_remainder
from minivae.gradcheck.problem import Problem
from minivae.gradcheck.report import FAIL, Report, unmeasured
from minivae.gradcheck.strangers import (FORGOTTEN, WrongCount, as_array, by_input, moves,
                                         name_of, unfit, unusable)


@np.errstate(all="ignore")
def check_function(f: Callable, grad: Callable, *x, rng=0, title: str | None = None) -> Report:
    """Check the gradient of a scalar function: grad(x)_i = df / dx_i.

    Parameters
    ----------
    f : function of *x -> float, or an array of one number
    grad : function of *x -> the gradient, of x's shape; a tuple where several inputs are float64
        None in the tuple says that there is no gradient to check.
    *x : float64 arrays of any shape, or Python floats
        Integer and boolean inputs are held constant and have no gradient.
    rng : seed or numpy.random.Generator, for the directions
    title : str, by default f's name

    Returns
    -------
    Report; its rows bear the names of f's arguments

    Raises
    ------
    TypeError
        For inputs of another dtype: finite differences in float32 see nothing.
    ValueError
        For an f that is not scalar, and where there is nothing to check.
        What f and grad raise at x itself goes through.
    """
    check_kind(f, Callable, "f", "a function")
    check_kind(grad, Callable, "grad", "a function")

    def backward(*x_and_dy):
        return grad(*x_and_dy[:-1])

    pair = Pair(f, backward, x)
    y = pair.y()
    if y.size != 1:
        raise ValueError(f"{name_of(f)} gives an array of shape {y.shape}, a scalar was wanted; "
                         "check_vjp(forward, backward, ..) takes functions that give arrays")
    return _report(title or name_of(f), pair, y, np.ones(y.shape), OF_A_FUNCTION, rng)


@np.errstate(all="ignore")
def check_vjp(forward: Callable, backward: Callable, *inputs, rng=0,
              title: str | None = None) -> Report:
    """Check a backward: dx_i = sum_j dy_j  dy_j / dx_i, for a random upstream gradient dy.

    Parameters
    ----------
    forward : function of *inputs -> y, an array of any shape or a tuple of arrays
    backward : function of *inputs and dy -> dx, a tuple where several inputs are float64
        dy has y's shape, and is a tuple where y is one.  None in the tuple says that there is no
        gradient to check.
    *inputs : float64 arrays of any shape, or Python floats
        Integer and boolean inputs are held constant and have no gradient.
    rng : seed or numpy.random.Generator, for dy and the directions
    title : str, by default forward's name

    Returns
    -------
    Report; its rows bear the names of forward's arguments

    Raises
    ------
    TypeError
        For inputs or a y of another dtype: finite differences in float32 see nothing.
    ValueError
        Where there is nothing to check.
        What forward and backward raise at the inputs themselves goes through.
    """
    check_kind(forward, Callable, "forward", "a function")
    check_kind(backward, Callable, "backward", "a function")
    rng = generator(rng)
    pair = Pair(forward, backward, inputs)
    y = pair.y()
    dy = rng.standard_normal(y.shape)                      # never ones: they hide what permutes y
    return _report(title or name_of(forward), pair, y, np.asarray(dy), OF_A_PAIR, rng)


def _report(title: str, pair: Pair, y: np.ndarray, dy: np.ndarray, questions: dict,
            rng) -> Report:
    """The rows of the pair's gradients at dy, and the clauses of its contract."""
    rng = generator(rng)
    if wrong := unusable(y):
        return Report(title, [wrong])
    pair.dy, pair.other = dy, np.asarray(rng.standard_normal(dy.shape))
    result = pair.result(dy.copy(), [a.copy() for a in pair.inputs])
    if result is None:
        return Report(title, [unmeasured("backward", (), FAIL, FORGOTTEN)])
    try:
        pair.base = pair.by_name(result)
    except WrongCount as wrong:
        return Report(title, [unmeasured("backward", (), FAIL, str(wrong))])
    arrays = {name: a for name, a in pair.arrays.items() if name in pair.base}
    if not arrays:
        raise ValueError(f"{title} gives no gradient: there is nothing to check")
    if wrong := unfit(arrays, pair.base):
        return Report(title, [wrong])

    def f() -> float:
        return float((dy * pair.y()).sum())

    def back(dy: np.ndarray) -> dict[str, np.ndarray]:
        return pair(dy.copy(), [a.copy() for a in pair.inputs])

    shape = next(iter(arrays.values())).shape or (1,)
    sizes = {"the number of rows": shape[0], "the number of columns": shape[-1]}
    problem = Problem(f, arrays, lambda: back(dy), dict, np.abs(dy * y).sum(), rng, sizes,
                      known=lambda: {"dy": dy, "y": pair.y()} | pair.arrays, y=pair.y, back=back)
    rows = problem.rows()

    def f_at(name: str, a: np.ndarray) -> complex:
        return (dy * pair.y(name, a)).sum()

    rows += second_reference(f_at, problem.compared, arrays, rng) + clauses(questions, pair)
    return Report(title, rows, taylor_remainder(f, arrays, pair.base, rng), problem.compared)


class Pair:
    """forward and backward at one point, and the gradients by the names of forward's arguments.

    Where forward gives a tuple of arrays, y and dy are one vector here.
    """

    params: dict = {}           # it has none; a layer has

    def __init__(self, forward: Callable, backward: Callable, inputs: tuple):
        self.forward, self.backward = forward, backward
        self.is_number = [np.isscalar(a) for a in inputs]
        self.inputs = [np.array(a) for a in inputs]
        moved = [i for i, a in enumerate(self.inputs) if moves(a, i)]
        if not moved:
            raise ValueError(f"{name_of(forward)} is checked at no float64 input: there is "
                             "nothing to check; integers are held constant, write 1.0 for 1")
        names = _argument_names(forward, len(inputs))
        self.names = {i: names[i] for i in moved}
        self.arrays = {name: self.inputs[i] for i, name in self.names.items()}
        self.shapes: list[tuple] | None = None             # of y, where it is a tuple

    def __call__(self, dy: np.ndarray, inputs: list[np.ndarray] | None = None) -> dict:
        """All gradients, copied, by name."""
        return self.by_name(self.result(dy, self.inputs if inputs is None else inputs))

    def y(self, name: str | None = None, a: np.ndarray | None = None) -> np.ndarray:
        """What forward gives where the inputs stand, but for the one called `name`, which is a.

        forward gets copies, and may write into them.
        """
        inputs = [array.copy() if self.names.get(i) != name or name is None else a
                  for i, array in enumerate(self.inputs)]
        y = self.forward(*self.handed(inputs))
        parts = [np.asarray(part) for part in y] if isinstance(y, (tuple, list)) else []
        self.shapes = [part.shape for part in parts] if parts else None
        return np.concatenate([part.ravel() for part in parts]) if parts else as_array(y)

    def result(self, dy: np.ndarray, inputs: list[np.ndarray]):
        """What backward gives."""
        if self.shapes is None:
            return self.backward(*self.handed(inputs), dy if dy.ndim else dy[()])
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        parts = np.split(dy, ends[:-1])
        shaped = tuple(part.reshape(shape) for part, shape in zip(parts, self.shapes))
        return self.backward(*self.handed(inputs), shaped)

    def handed(self, inputs: list[np.ndarray]) -> list:
        """The inputs as a caller would hand them over: a Python number is no array."""
        return [a[()] if is_number else a for a, is_number in zip(inputs, self.is_number)]

    def by_name(self, result) -> dict[str, np.ndarray]:
        """The gradients of the float64 inputs, copied; one that is None is left out."""
        found = by_input(result, self.inputs, all_of_them=True)
        return {self.names[i]: grad for i, grad in found.items()}


def _argument_names(f: Callable, n: int) -> list[str]:
    """The names of a function's first n arguments; x, or x0, x1, .. where it has no n names."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):                        # some functions written in C
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(names) >= n:
        return names[:n]
    return ["x"] if n == 1 else [f"x{i}" for i in range(n)]
