"""How `VAE.mlp` and `VAE.conv` build a model: its layers, from sizes; and what they check first.

Each function here gives the layers of one kind of model, as a dict with enc, heads, dec and to_out.
The decoder is the encoder's mirror image, and each has weights of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minivae.choices import choose, want_number, whole_number
from minivae.estimators import ESTIMATORS
from minivae.layers import (Dense, Layer, ReLU, Sequential, Sigmoid, Softplus, Tanh, grads_of,
                            params_of)
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood

ACTIVATIONS = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "softplus": Softplus}
LIKELIHOODS = {"bernoulli": BernoulliLikelihood, "gaussian": GaussianLikelihood}


# --- layers ---------------------------------------------------------------------------------------


def dense_layers(sizes: dict, n_heads: int, width: int, act: Callable[[], Layer],
                 rng: np.random.Generator, dtype) -> dict:
    """The layers of `Model.mlp`.

    Parameters
    ----------
    sizes : dict of x_dim, hidden and z_dim
    n_heads : how many heads the encoder has
    width : how many numbers the likelihood wants, see `Likelihood.width`
    act : an activation's class
    rng, dtype : for the weights
    """
    def stack(widths: list[int]) -> Sequential:
        pairs = zip(widths[:-1], widths[1:])
        return Sequential(*(layer for n_in, n_out in pairs
                            for layer in (Dense(n_in, n_out, rng, dtype), act())))

    hidden, z_dim = sizes["hidden"], sizes["z_dim"]
    down, up = [sizes["x_dim"], *hidden], [z_dim, *reversed(hidden)]
    return {"enc": stack(down),
            "heads": [Dense(down[-1], z_dim, rng, dtype) for _ in range(n_heads)],
            "dec": stack(up),
            "to_out": Dense(up[-1], width, rng, dtype)}


# --- what the caller chose ------------------------------------------------------------------------


def whole_numbers(values, what: str) -> list[int]:
    """`values` as a list of int, each at least 1; one number alone counts as a list of one.

    Raises TypeError for what is no sequence of whole numbers, ValueError for one below 1.
    """
    if np.ndim(values) == 0 and not isinstance(values, str):
        values = [values]
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{what} must be a sequence of whole numbers, e.g. (200, 100), "
                        f"got {values!r}")
    return [whole_number(n, f"{what}[{i}]") for i, n in enumerate(values)]


def checked_dtype(dtype) -> np.dtype:
    """float32 or float64.  Raises ValueError for another dtype, TypeError for what is none."""
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype}")
    return dtype


def checked_likelihood(likelihood, dtype: np.dtype) -> Likelihood:
    """The likelihood itself, or the one of that name.

    Raises ValueError for an unknown name or parameters of another dtype, TypeError for what is no
    likelihood.
    """
    if isinstance(likelihood, str):
        return choose(likelihood, LIKELIHOODS, "likelihood")(dtype=dtype)
    if not isinstance(likelihood, Likelihood):
        raise TypeError(f"likelihood must be one of {', '.join(LIKELIHOODS)} or an object of "
                        f"minivae.likelihoods, got {likelihood!r}")
    for name, param in likelihood.params.items():
        if param.dtype != dtype:
            raise ValueError(f"the likelihood's {name} is {param.dtype}, the model "
                             f"{dtype}: give the likelihood that dtype too")
    return likelihood


def checked_estimator(estimator) -> Callable:
    """The estimator itself, or the one of that name.

    Raises ValueError for an unknown name, TypeError for what is no estimator.
    """
    if isinstance(estimator, str):
        return choose(estimator, ESTIMATORS, "estimator")
    if not (callable(estimator) and hasattr(estimator, "objective")):
        raise TypeError("estimator must be a name or a function of minivae.estimators, "
                        f"got {estimator!r}")
    return estimator


def checked_beta(beta) -> float:
    """beta as a float.  Raises TypeError for what is no number, ValueError below 0 and for NaN."""
    want_number(beta, "beta")
    if not (np.isfinite(beta) and beta >= 0):
        raise ValueError(f"beta must be a number >= 0, got {beta}")
    return float(beta)


# --- layers of one's own --------------------------------------------------------------------------


def common_dtype(named_layers) -> np.dtype | None:
    """The dtype that all parameters have, or None where there is no parameter.

    named_layers : (name, layer) pairs.
    Raises TypeError for what is no layer, ValueError where a gradient is missing or does not fit
    its parameter, or where two parameters differ in dtype.
    """
    first = None                                           # (name, dtype) of the first parameter
    for name, layer in named_layers:
        for method in ("forward", "backward"):
            if not callable(getattr(layer, method, None)):
                raise TypeError(f"{name} is no layer: {type(layer).__name__} has no {method}")
        for key, param in params_of(layer).items():
            whole = f"{name}.{key}"
            if getattr(param, "dtype", None) not in (np.float32, np.float64):
                raise ValueError(f"{whole} must be an array of float32 or float64, got "
                                 f"{getattr(param, 'dtype', type(param).__name__)}")
            if getattr(grads_of(layer).get(key), "shape", None) != param.shape:
                raise ValueError(f"{name}, a {type(layer).__name__}: grads[{key!r}] must be an "
                                 f"array of shape {param.shape}, like params[{key!r}]")
            first = first or (whole, param.dtype)
            if param.dtype != first[1]:
                raise ValueError(f"all parameters must have one dtype: {first[0]} is {first[1]}, "
                                 f"{whole} is {param.dtype}")
    return None if first is None else first[1]


def size_of(name: str, told: int | None, ends: list[tuple[str, Layer, int]]) -> int:
    """A size of the model: read off the layers where they are Dense, or what the caller told.

    name : "x_dim" or "z_dim";  ends : (where it stands, layer, axis of its W), axis 0 for what
    goes in, 1 for what comes out.
    Raises ValueError where no end is a Dense and nothing was told, or where two sizes differ.
    """
    found = [] if told is None else [(f"{name}=", whole_number(told, name))]
    found += [(where, layer.params["W"].shape[axis]) for where, layer, axis in ends
              if isinstance(layer, Dense)]
    if not found:
        where, layer, _ = ends[0]
        raise ValueError(f"{name} can be read off a Dense only, and {where} is a "
                         f"{type(layer).__name__}: hand it in, {name}=..")
    for where, size in found[1:]:
        if size != found[0][1]:
            raise ValueError(f"{name} is {found[0][1]} by {found[0][0]} and {size} by {where}")
    return found[0][1]
