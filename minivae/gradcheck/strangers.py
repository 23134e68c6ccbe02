"""What a stranger's functions take and give: made ready to be compared, or refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minivae.gradcheck.report import FAIL, INCONCLUSIVE, Row, unmeasured


FORGOTTEN = "backward returned None: is its return forgotten?"


def name_of(thing) -> str:
    """What a function or class is called; of anything else, its class."""
    return getattr(thing, "__name__", type(thing).__name__)


def params_of(layer) -> dict[str, np.ndarray]:
    """A layer's parameters; {} where it has none."""
    return getattr(layer, "params", None) or {}


def is_layer(thing) -> bool:
    """Whether it has what every layer has, and is not the class itself."""
    return (not isinstance(thing, type)
            and callable(getattr(thing, "forward", None))
            and callable(getattr(thing, "backward", None)))


def want_layer(layer) -> None:
    """Raise TypeError for what is no layer, or has parameters that cannot be moved and compared."""
    name = name_of(layer)
    if isinstance(layer, type):
        raise TypeError(f"{name} is a class; wanted a layer made of it, {name}(..)")
    if not is_layer(layer):
        raise TypeError(f"{name} is no layer, it lacks forward or backward; of functions, "
                        "check_function(f, grad, x) takes a scalar one, and "
                        "check_vjp(forward, backward, x) any")
    if not isinstance(params_of(layer), dict):
        raise TypeError(f"{name}.params is a {type(layer.params).__name__}; wanted a dict from "
                        "name to array")
    for key, param in params_of(layer).items():
        if not isinstance(param, np.ndarray):
            raise TypeError(f"{name}: params[{key!r}] is a {type(param).__name__}; wanted an "
                            "array, which can be moved in place")
        if param.dtype != np.float64:
            raise TypeError(f"{name}: {key} is {param.dtype}; finite differences need float64: "
                            "build the layer with dtype=np.float64")


def moves(a: np.ndarray, i: int) -> bool:
    """Whether input i is differentiated (float64) or held constant (integers, booleans).

    Raises TypeError for any other dtype, and ValueError for an array without entries.
    """
    if a.dtype.kind in "iub":
        return False
    if a.dtype.kind == "f" and a.dtype != np.float64:
        raise TypeError(f"input {i} is {a.dtype}; finite differences need float64: "
                        "convert it with .astype(np.float64)")
    if a.dtype.kind == "c":
        raise TypeError(f"input {i} is {a.dtype}; gradients are checked by real numbers: "
                        "hand in its real and its imaginary part as two inputs")
    if a.dtype != np.float64:
        raise TypeError(f"input {i} is {a.dtype}; wanted float64, or integers, which are held "
                        "constant: bind anything else with a lambda")
    if a.size == 0:
        raise ValueError(f"input {i} has no entries, its shape is {a.shape}: there is nothing "
                         "to check")
    return True


def as_array(number_or_array) -> np.ndarray:
    """A copy, as an array; a Python int is the number that it is."""
    try:
        return np.array(number_or_array, float if isinstance(number_or_array, int) else None)
    except ValueError:                                     # rows of different lengths
        return np.array(number_or_array, object)


def copies(result) -> tuple:
    """One array or a tuple, as a tuple of copies; None stays None."""
    arrays = result if isinstance(result, tuple) else (result,)
    return tuple(None if a is None else np.array(a) for a in arrays)


class WrongCount(ValueError):
    """backward gave more or fewer gradients than it should."""


def by_input(result, inputs: Sequence[np.ndarray], all_of_them: bool) -> dict[int, np.ndarray]:
    """What backward gave, copied, by the number of the input; a gradient of None is left out.

    There is one gradient for each input, or one for each that is differentiated.  Unless
    all_of_them, fewer will do: they belong to the first ones.
    Raises WrongCount for any other number of gradients.
    """
    moved = [i for i, a in enumerate(inputs) if a.dtype == np.float64]
    several = isinstance(result, (tuple, list))
    if isinstance(result, list) and len(inputs) == 1:      # the gradient itself, as a list?
        several = len(result) == 1 and np.shape(result[0]) == inputs[0].shape
    found = list(result) if several else [result]
    if len(found) == len(inputs):
        pairs = [(i, found[i]) for i in moved]
    elif len(found) > len(moved) or (all_of_them and len(found) < len(moved)):
        raise WrongCount(f"it gives {len(found)} gradient{'s' * (len(found) != 1)} for "
                         f"{len(moved)} float64 input{'s' * (len(moved) != 1)}: return a tuple "
                         "with one for each, None for one that has no gradient")
    else:
        pairs = list(zip(moved, found))
    return {i: as_array(grad) for i, grad in pairs if grad is not None}


def unusable(y: np.ndarray) -> Row | None:
    """The row of a forward whose y cannot be differentiated, or is no number at the point."""
    if y.dtype == object and y.shape == () and y[()] is None:
        return unmeasured("forward", (), FAIL, "forward returned None: is its return forgotten?")
    if y.dtype != np.float64:
        return unmeasured("forward", y.shape, FAIL, f"forward gives {y.dtype} for float64 inputs; "
                          "finite differences need float64 all the way")
    if np.isfinite(y).all():
        return None
    i = tuple(map(int, np.argwhere(~np.isfinite(y))[0]))
    value = "NaN" if np.isnan(y[i]) else "infinity"
    where = f", in entry {i} of y" if i else ""
    return unmeasured("forward", y.shape, INCONCLUSIVE,
                      f"forward gives {value} at the point itself{where}: choose inputs where it "
                      "is defined")


def unfit(arrays: dict, grads: dict) -> Row | None:
    """A FAIL for the first array whose gradient is missing, no number, or of another shape."""
    for name, array in arrays.items():
        if grads.get(name) is None:
            return unmeasured(name, array.shape, FAIL, f"grads has no {name!r}")
        grad = np.asarray(grads[name])
        if grad.shape != array.shape:
            note = f"its gradient has shape {grad.shape}"
            return unmeasured(name, array.shape, FAIL, note)
        if grad.dtype.kind not in "fiub":
            return unmeasured(name, array.shape, FAIL, f"its gradient is {grad.dtype}")
    return None
