"""float32 against float64: does the training precision round more than it must?"""

from __future__ import annotations

import numpy as np

from minivae.gradcheck.report import FAIL, PASS, Report, Row, unmeasured
from minivae.gradcheck.strangers import copies

U32 = float(np.finfo(np.float32).eps)


def check_precision(layer64, layer32, *inputs: np.ndarray, rng=0,
                    title: str | None = None) -> Report:
    """Hold a float32 layer to its float64 twin by the a-posteriori bound, not a loose tolerance.

    |g32 - g64| <= 4 sqrt(n) u32 S, where S is the same sum with every term's absolute value,
    (|A|'|D|) for a matrix product, and n its number of terms.  S comes from running the
    float64 layer on absolute values.
    Source: Higham (2002), section 3.5, with sqrt(n) for random rounding [p. 48].

    Parameters
    ----------
    layer64, layer32 : two layers of one make, in float64 and float32
        The first takes over the second's parameters.
    *inputs : arrays whose rows are examples
    rng : seed or numpy.random.Generator, for the upstream gradient
    title : str, by default the layer's class
    """
    rng = np.random.default_rng(rng)
    # the same numbers for both: whatever differs then is arithmetic
    inputs32 = [np.asarray(a, np.float32) for a in inputs]
    inputs64 = [a.astype(np.float64) for a in inputs32]
    for name, p in layer32.params.items():
        layer64.params[name][...] = p
    dy32 = rng.standard_normal(layer32.forward(*inputs32).shape).astype(np.float32)
    dy64 = dy32.astype(np.float64)
    exact, got = _run(layer64, inputs64, dy64), _run(layer32, inputs32, dy32)
    size = _size_of_terms(layer64, inputs64, dy64)
    terms = max([*inputs64[0].shape, exact["y"].shape[-1]])
    rows = [_row(name, got[name], exact[name], _bound(name, size[name], exact[name], dy64, terms))
            for name in exact]
    return Report(title or f"{type(layer32).__name__} in float32", rows)


def _run(layer, inputs: list[np.ndarray], dy: np.ndarray) -> dict[str, np.ndarray]:
    """y, the inputs' gradients and the parameters', by name."""
    y = np.array(layer.forward(*inputs))
    dx = copies(layer.backward(dy))
    of_inputs = {f"dx{i}": a for i, a in enumerate(dx) if a is not None}
    return {"y": y} | of_inputs | {f"d{name}": np.array(g) for name, g in layer.grads.items()}


def _size_of_terms(layer, inputs: list[np.ndarray], dy: np.ndarray) -> dict[str, np.ndarray]:
    """S: the same pass with absolute values of inputs, parameters and dy."""
    kept = {name: p.copy() for name, p in layer.params.items()}
    for p in layer.params.values():
        p[...] = np.abs(p)
    size = _run(layer, [np.abs(a) for a in inputs], np.abs(dy))
    for name, p in layer.params.items():
        p[...] = kept[name]
    return size


def _bound(name: str, size: np.ndarray, exact: np.ndarray, dy: np.ndarray,
           terms: int) -> np.ndarray:
    """4 sqrt(n) u32 S, S at least as large as the largest result.

    Some results are differences of terms as large as that; and a derivative like 1 - y^2 is one of
    terms as large as dy.
    """
    size = np.maximum(np.abs(size), np.abs(exact).max())
    if size.shape == dy.shape and name != "y":
        size = np.maximum(size, np.abs(dy))
    return 4 * np.sqrt(terms) * U32 * size


def _row(name: str, got: np.ndarray, exact: np.ndarray, bound: np.ndarray) -> Row:
    """The entry that is furthest outside its bound, or nearest to it."""
    if got.dtype != np.float32:
        return unmeasured(name, exact.shape, FAIL, f"float32 went in, {got.dtype} came out")
    over = np.abs(got - exact) / np.maximum(bound, np.finfo(np.float32).tiny)
    worst = np.argmax(np.nan_to_num(over, nan=np.inf))
    i = tuple(map(int, np.unravel_index(worst, over.shape)))
    good = over[i] <= 1
    return Row(name, exact.shape, i, float(got[i]), float(exact[i]), float(bound[i]),
               PASS if good else FAIL,
               "" if good else "further from its float64 twin than rounding explains")
