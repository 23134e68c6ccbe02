"""Check a layer: the gradients of its inputs and parameters, and the contract of its backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivae.choices import generator
from minivae.gradcheck.contract import OF_A_PAIR, OF_LINEAR, OF_PARAMS, OF_ROWS, ONCE, clauses
from minivae.gradcheck.differences import taylor_remainder
from minivae.gradcheck.problem import Problem
from minivae.gradcheck.report import FAIL, Report, Row, unmeasured
from minivae.gradcheck.strangers import (FORGOTTEN, WrongCount, as_array, by_input, moves,
                                         name_of, params_of, unfit, unusable, want_layer)


class Node:
    """Any pair of functions as a layer: Node(latent.kl, latent.kl_backward)."""

    def __init__(self, forward: Callable, backward: Callable):
        self.forward, self.backward, self.params, self.grads = forward, backward, {}, {}


@np.errstate(all="ignore")
def check_layer(layer, *inputs: np.ndarray, rng=0, mixes_rows: bool = False,
                title: str | None = None) -> Report:
    """Check every gradient of a layer, and that its backward keeps its contract.

    Parameters
    ----------
    layer : anything with forward(*inputs) -> y and backward(dy), and params and grads if it has any
        backward returns the inputs' gradients, a tuple where there are several.  It may return
        fewer than there are inputs: they belong to the first ones.  A layer with kinks that it
        knows has kink_inputs(), see ReLU.  One with the attribute linear = True is also held to
        <J v, w> = <v, J' w>.  params must be float64.
    *inputs : float64 arrays whose rows are examples
        Integer and boolean inputs are held constant and have no gradient.
    rng : seed or numpy.random.Generator, for the upstream gradient and the directions
    mixes_rows : bool
        True for a layer in which the examples of a batch meet (batch normalisation).
    title : str, by default the layer's class

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        For parameters or inputs that are not float64: finite differences in float32 see nothing.
        For what is no layer.
    ValueError
        For a layer that gives no gradient and has no parameters.
        What forward and backward raise at the inputs themselves goes through.
    """
    rng, title = generator(rng), title or type(layer).__name__
    want_layer(layer)
    passes = Passes(layer, inputs)
    # checked first: a kernel writing into a grads array of the wrong size would write out of bounds
    if wrong := unfit(passes.params, passes.grads):
        return Report(title, [wrong])
    y = passes.y()
    if wrong := unusable(y):
        return Report(title, [wrong])
    passes.dy = np.asarray(rng.standard_normal(y.shape))   # never ones: they hide what permutes y
    try:
        passes.first()
    except WrongCount as wrong:
        return Report(title, [unmeasured("backward", (), FAIL, str(wrong))])
    if not passes.base:
        raise ValueError(f"{title} gives no gradient and has no parameters: "
                         "there is nothing to check")
    if wrong := unfit(passes.arrays, passes.base):
        return Report(title, [wrong])

    def f() -> float:
        return float((passes.dy * layer.forward(*passes.inputs)).sum())

    magnitude = np.abs(passes.dy * y).sum()
    problem = Problem(f, passes.arrays, passes, lambda: layer_kinks(layer), magnitude, rng,
                      _sizes(passes.inputs, y), passes.known, y=passes.y, back=passes)
    rows = passes.forgotten() + problem.rows()
    passes.rng, passes.other = rng, np.asarray(rng.standard_normal(y.shape))
    rows += clauses(_questions(passes, mixes_rows), passes)
    return Report(title, rows, taylor_remainder(f, passes.arrays, passes.base, rng),
                  problem.compared)


def _sizes(inputs: list[np.ndarray], y: np.ndarray) -> dict[str, int]:
    """Factors that a sum in the place of a mean would explain."""
    x = inputs[0]
    if not x.ndim:
        return {}
    sizes = {"the batch size": len(x), "the number of columns": x.shape[-1],
             "the number of entries": x.size}
    return sizes | ({"the number of samples": len(y) // len(x)} if y.ndim else {})


def _questions(passes: Passes, mixes_rows: bool) -> dict:
    """The clauses that this layer has to keep."""
    arrays = [*passes.inputs, passes.dy]
    has_rows = all(a.ndim and len(a) == len(arrays[0]) for a in arrays)
    return {**OF_A_PAIR, **(OF_LINEAR if getattr(passes.layer, "linear", False) else {}),
            **(OF_PARAMS if passes.params else {}),
            **(OF_ROWS if has_rows and not mixes_rows else {}), **ONCE}


class Passes:
    """Whole passes through one layer: forward, backward, and all gradients copied, by name."""

    def __init__(self, layer, inputs: tuple):
        if not inputs:
            raise ValueError(f"{name_of(layer)} is checked at no input: hand in an array x")
        self.layer, self.inputs = layer, [np.array(a) for a in inputs]
        self.moved = [i for i, a in enumerate(self.inputs) if moves(a, i)]
        self.held = {name: (p, self.grads.get(name)) for name, p in self.params.items()}

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The layer's parameters; {} where it has none."""
        return params_of(self.layer)

    @property
    def grads(self) -> dict[str, np.ndarray]:
        """Their gradients, as they stand."""
        return getattr(self.layer, "grads", None) or {}

    def y(self, inputs: list[np.ndarray] | None = None) -> np.ndarray:
        """What forward gives, copied."""
        y = self.layer.forward(*(self.inputs if inputs is None else inputs))
        if isinstance(y, tuple):
            raise TypeError(f"{name_of(self.layer)}.forward gives a tuple; a layer gives one "
                            "array: check_vjp takes functions that give several")
        return as_array(y)

    def first(self) -> None:
        """The pass that shows which inputs get a gradient, after one forward."""
        result = self.layer.backward(self.dy.copy())
        found = by_input(result, self.inputs, all_of_them=False)
        self.names = {i: "x" if set(found) == {0} else f"x{i}" for i in found}
        self.arrays = {name: self.inputs[i] for i, name in self.names.items()} | dict(self.params)
        self.nothing_came = result is None
        self.base = self() if self.arrays else {}

    def known(self) -> dict[str, np.ndarray]:
        """The arrays at hand, by name."""
        inputs = {self.names.get(i, f"x{i}"): self.inputs[i] for i in self.moved}
        return {"dy": self.dy, "y": self.y()} | inputs | self.params

    def forgotten(self) -> list[Row]:
        """A row where backward returned nothing at all, though x is float64."""
        if not (self.nothing_came and self.moved):
            return []
        return [unmeasured("x", self.inputs[self.moved[0]].shape, FAIL, FORGOTTEN)]

    def __call__(self, dy: np.ndarray | None = None,
                 inputs: list[np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The gradients of inputs and parameters."""
        inputs = self.inputs if inputs is None else inputs
        self.layer.forward(*inputs)
        result = self.layer.backward(self.dy.copy() if dy is None else dy)
        found = by_input(result, inputs, all_of_them=False)
        of_inputs = {self.names[i]: grad for i, grad in found.items()}
        return of_inputs | {name: np.array(self.grads[name]) for name in self.params}


def layer_kinks(layer, name: str = "") -> dict[str, np.ndarray]:
    """The inputs of every unit with a kink, by layer, as the last forward saw them.

    A class of somebody else's need not have kink_inputs.
    """
    inputs = layer.kink_inputs() if hasattr(layer, "kink_inputs") else None
    found = {} if inputs is None else {name or type(layer).__name__: inputs}
    parts = getattr(layer, "layers", ())
    for i, part in enumerate(parts if isinstance(parts, (list, tuple)) else ()):
        found |= layer_kinks(part, f"{name}.{i}".lstrip("."))
    return found
