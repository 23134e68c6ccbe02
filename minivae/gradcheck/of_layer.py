"""Check a layer: the gradients of its inputs and parameters, and the contract of its backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivae.gradcheck.contract import (OF_A_PAIR, adds_over_the_batch, clauses,
                                        needs_a_forward_each_time)
from minivae.gradcheck.differences import taylor_remainder
from minivae.gradcheck.problem import Problem
from minivae.gradcheck.report import FAIL, Report, Row, unmeasured


class Node:
    """Any pair of functions as a layer: Node(latent.kl, latent.kl_backward)."""

    def __init__(self, forward: Callable, backward: Callable):
        self.forward, self.backward, self.params, self.grads = forward, backward, {}, {}


def check_layer(layer, *inputs: np.ndarray, rng=0, mixes_rows: bool = False,
                title: str | None = None) -> Report:
    """Check every gradient of a layer, and that its backward keeps its contract.

    Parameters
    ----------
    layer : anything with forward(*inputs) -> y, backward(dy), params and grads
        backward returns the inputs' gradients, a tuple where there are several.  It may return
        fewer than there are inputs: they belong to the first ones.  A layer with kinks that it
        knows has kink_inputs(), see ReLU.  params must be float64.
    *inputs : float64 arrays whose rows are examples
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
    ValueError
        For a layer that gives no gradient and has no parameters.
    """
    rng, title = np.random.default_rng(rng), title or type(layer).__name__
    _want_float64(layer, inputs)
    # checked first: a kernel writing into a grads array of the wrong size would write out of bounds
    if wrong := _wrong_shape(layer.params, layer.grads):
        return Report(title, [wrong])
    inputs = [np.array(a) for a in inputs]
    y = np.array(layer.forward(*inputs))
    dy = rng.standard_normal(y.shape)                      # never ones: they hide what permutes y
    dx = copies(layer.backward(dy.copy()))
    names = {i: f"x{i}" if len(dx) > 1 else "x" for i, a in enumerate(dx) if a is not None}
    arrays = {name: inputs[i] for i, name in names.items()} | dict(layer.params)
    if not arrays:
        raise ValueError(f"{type(layer).__name__} gives no gradient and has no parameters: "
                         "there is nothing to check")

    def f() -> float:
        return float((dy * layer.forward(*inputs)).sum())

    def gradients() -> dict[str, np.ndarray]:
        layer.forward(*inputs)
        dx = copies(layer.backward(dy.copy()))
        of_inputs = {name: dx[i] for i, name in names.items()}
        return of_inputs | {name: np.array(layer.grads[name]) for name in layer.params}

    grads = gradients()
    if wrong := _wrong_shape(arrays, grads):
        return Report(title, [wrong])
    sizes = {"the batch size": len(inputs[0]), "the number of columns": inputs[0].shape[-1]}
    problem = Problem(f, arrays, gradients, lambda: layer_kinks(layer), np.abs(dy * y).sum(), rng,
                      sizes)
    questions = dict(OF_A_PAIR)
    if not mixes_rows and all(len(a) == len(dy) for a in inputs):
        questions["adds over the batch"] = adds_over_the_batch
    questions["needs a forward each time"] = needs_a_forward_each_time
    rows = problem.rows() + clauses(questions, Passes(layer, inputs, dy, rng))
    return Report(title, rows, taylor_remainder(f, arrays, grads, rng), problem.compared)


def layer_kinks(layer, name: str = "") -> dict[str, np.ndarray]:
    """The inputs of every unit with a kink, by layer, as the last forward saw them.

    A class of somebody else's need not have kink_inputs.
    """
    inputs = layer.kink_inputs() if hasattr(layer, "kink_inputs") else None
    found = {} if inputs is None else {name or type(layer).__name__: inputs}
    for i, part in enumerate(getattr(layer, "layers", ())):
        found |= layer_kinks(part, f"{name}.{i}".lstrip("."))
    return found


def _want_float64(layer, inputs: tuple) -> None:
    hints = {"input": "convert it with .astype(np.float64)",
             "params": "build the layer with dtype=np.float64"}
    of_inputs = [("input", f"input {i}", a) for i, a in enumerate(inputs)]
    of_params = [("params", name, a) for name, a in layer.params.items()]
    for kind, name, a in of_params + of_inputs:
        if np.asarray(a).dtype != np.float64:
            raise TypeError(f"{type(layer).__name__}: {name} is {np.asarray(a).dtype}; finite "
                            f"differences need float64: {hints[kind]}")


def _wrong_shape(arrays: dict, grads: dict) -> Row | None:
    """A FAIL for the first array whose gradient is missing or has another shape."""
    for name, array in arrays.items():
        if name not in grads:
            return unmeasured(name, array.shape, FAIL, f"grads has no {name!r}")
        if np.shape(grads[name]) != array.shape:
            note = f"its gradient has shape {np.shape(grads[name])}"
            return unmeasured(name, array.shape, FAIL, note)
    return None


def copies(result) -> tuple:
    """One array or a tuple, as a tuple of copies; None stays None."""
    arrays = result if isinstance(result, tuple) else (result,)
    return tuple(None if a is None else np.array(a) for a in arrays)


class Passes:
    """Whole passes through one layer: forward, backward, and all gradients copied."""

    def __init__(self, layer, inputs: list[np.ndarray], dy: np.ndarray, rng: np.random.Generator):
        self.layer, self.inputs, self.dy = layer, inputs, dy
        self.params, self.grads = layer.params, layer.grads
        self.base = self(dy)
        self.other = rng.standard_normal(dy.shape)

    def __call__(self, dy: np.ndarray, inputs: list[np.ndarray] | None = None) -> dict:
        """The gradients of inputs and parameters, by name."""
        self.layer.forward(*(self.inputs if inputs is None else inputs))
        dx = copies(self.layer.backward(dy))
        of_inputs = {f"x{i}": a for i, a in enumerate(dx) if a is not None}
        return of_inputs | {name: np.array(g) for name, g in self.layer.grads.items()}
