"""Check a layer: the gradients of its inputs and parameters, and the contract of its backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivae.gradcheck.differences import U, taylor_remainder
from minivae.gradcheck.problem import Problem
from minivae.gradcheck.report import FAIL, Report, Row, clause, unmeasured
from minivae.layers import Layer

ROUNDINGS = 1000 * U    # sums in another order may differ by this part of their size, no more


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
    rows = problem.rows() + contract(layer, inputs, dy, rng, mixes_rows)
    return Report(title, rows, taylor_remainder(f, arrays, grads, rng))


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


# --- the contract ---------------------------------------------------------------------------------


class Passes:
    """Whole passes through one layer: forward, backward, and all gradients copied."""

    def __init__(self, layer, inputs: list[np.ndarray], dy: np.ndarray):
        self.layer, self.inputs, self.dy = layer, inputs, dy
        self.base = self(dy)

    def __call__(self, dy: np.ndarray, inputs: list[np.ndarray] | None = None) -> dict:
        """The gradients of inputs and parameters, by name."""
        self.layer.forward(*(self.inputs if inputs is None else inputs))
        dx = copies(self.layer.backward(dy))
        of_inputs = {f"x{i}": a for i, a in enumerate(dx) if a is not None}
        return of_inputs | {name: np.array(g) for name, g in self.layer.grads.items()}


def contract(layer, inputs: list[np.ndarray], dy: np.ndarray, rng: np.random.Generator,
             mixes_rows: bool) -> list[Row]:
    """What backward promises besides the right numbers; each clause is a row."""
    passes = Passes(layer, inputs, dy)
    rows = [keeps_float64(passes), repeats_itself(passes),
            linear_in_dy(passes, rng.standard_normal(dy.shape)), zero_gives_zero(passes),
            leaves_its_inputs_alone(passes), takes_any_memory_layout(passes)]
    if not mixes_rows and all(len(a) == len(dy) for a in inputs):
        rows.append(adds_over_the_batch(passes))
    return [*rows, needs_a_forward_each_time(passes)]


def _apart(a: dict, b: dict) -> tuple[float, float]:
    """The largest difference between two sets of gradients, and how large it may be."""
    difference = max(float(np.abs(a[name] - b[name]).max()) for name in a)
    scale = max(1e-300, max(float(np.abs(g).max()) for g in b.values()))
    return difference, ROUNDINGS * scale


def keeps_float64(passes: Passes) -> Row:
    """float64 in, float64 out."""
    narrow = [f"{name} is {g.dtype}" for name, g in passes.base.items() if g.dtype != np.float64]
    return clause("keeps float64", float(len(narrow)), 0.0,
                  f"float64 went in, and the gradient of {', '.join(narrow)}")


def repeats_itself(passes: Passes) -> Row:
    """The same inputs and dy give the same gradients."""
    return clause("repeats itself", *_apart(passes(passes.dy), passes.base),
                  "a second forward and backward gave other gradients: does it accumulate, or draw "
                  "its own noise?")


def linear_in_dy(passes: Passes, other: np.ndarray) -> Row:
    """backward(2a - 3b) = 2 backward(a) - 3 backward(b)."""
    of_other = passes(other)
    wanted = {name: 2 * g - 3 * of_other[name] for name, g in passes.base.items()}
    return clause("linear in dy", *_apart(passes(2 * passes.dy - 3 * other), wanted),
                  "backward(2a - 3b) is not 2 backward(a) - 3 backward(b): does it use dy twice, "
                  "or not at all?")


def zero_gives_zero(passes: Passes) -> Row:
    """backward(0) = 0."""
    largest = max(float(np.abs(g).max()) for g in passes(0 * passes.dy).values())
    return clause("zero in, zero out", largest, ROUNDINGS,
                  "an upstream gradient of zeros gave something else")


def leaves_its_inputs_alone(passes: Passes) -> Row:
    """Neither forward nor backward writes into inputs, dy or parameters."""
    arrays = {f"input {i}": a for i, a in enumerate(passes.inputs)}
    arrays["dy"] = passes.dy
    kept = {name: a.copy() for name, a in arrays.items()}
    kept_params = {name: p.copy() for name, p in passes.layer.params.items()}
    passes(passes.dy)
    touched = [name for name, a in arrays.items() if (a != kept[name]).any()]
    touched += [name for name, p in passes.layer.params.items() if (p != kept_params[name]).any()]
    for name, a in arrays.items():
        a[...] = kept[name]
    return clause("leaves its inputs alone", float(len(touched)), 0.0,
                  f"forward and backward wrote into {', '.join(touched)}")


def takes_any_memory_layout(passes: Passes) -> Row:
    """Fortran-ordered inputs and a strided dy are the same numbers."""
    fortran = [np.asfortranarray(a) for a in passes.inputs]
    strided = np.repeat(passes.dy, 2, axis=-1)[..., ::2]   # every other number in memory
    return clause("takes any memory layout", *_apart(passes(strided, fortran), passes.base),
                  "Fortran-ordered or strided arrays gave other gradients")


def adds_over_the_batch(passes: Passes) -> Row:
    """A parameter's gradient is the sum over the rows, an input's is that of its row alone."""
    alone = [passes(passes.dy[n : n + 1], [a[n : n + 1] for a in passes.inputs])
             for n in range(len(passes.dy))]
    together = {}
    for name in passes.base:
        by_row = [one[name] for one in alone]
        together[name] = sum(by_row) if name in passes.layer.grads else np.concatenate(by_row)
    return clause("adds over the batch", *_apart(passes.base, together),
                  "the batch's gradients are not those of its rows: divided by B inside, or do "
                  "rows leak into each other?")


def needs_a_forward_each_time(passes: Passes) -> Row:
    """A second backward is refused, with any exception; only a Layer has promised it."""
    name = "needs a forward each time"
    passes(passes.dy)
    try:
        passes.layer.backward(passes.dy)
    except Exception:                                      # however the layer refuses
        return clause(name, 0.0, 0.0, "")
    return clause(name, float(isinstance(passes.layer, Layer)), 0.0,
                  "backward ran twice on one forward: it may use what another call left behind")
