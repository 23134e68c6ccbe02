"""Check what somebody names on the command line, `module:name`.

What is named is one of

    a class             made as name(), name(n_in, n_out), name(n_in, n_out, rng) or
                        name(n_in, n_out, rng, dtype), whichever it takes first; its parameters
                        are moved off their start, and it is checked on a random x
    a layer             anything with forward and backward; checked on a random x
    (layer, *inputs)    checked on these
    (f, grad, *inputs)              a scalar function and its gradient, grad(*inputs)
    (forward, backward, *inputs)    a pair, backward(*inputs, dy); without inputs, on random ones
    a function          that takes no argument, and returns any of these
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from minivae.gradcheck.cases import B, D, F8, H, perturbed
from minivae.gradcheck.of_function import check_function, check_vjp
from minivae.gradcheck.of_layer import check_layer
from minivae.gradcheck.report import Report
from minivae.gradcheck.strangers import is_layer, name_of

WANTED = ("wanted a class, a layer, a pair (f, grad) or (forward, backward), with inputs after it "
          "if need be, or a function that takes no argument and returns one of these")


def user_check(spec: str, seed: int, mixes_rows: bool = False) -> Report:
    """Check the class, layer, pair or function that `module:name` names; see the top of this file.

    mixes_rows : for a layer in which the examples of a batch meet.
    Raises ValueError for what gives nothing to check, and for what raises when it is called.
    """
    rng = np.random.default_rng(seed)
    try:
        thing = _found(spec)
        is_function = callable(thing) and not isinstance(thing, type) and not is_layer(thing)
        if is_function and _takes(thing, 0):
            thing = thing()
        parts = list(thing) if isinstance(thing, (tuple, list)) else [thing]
        check = _check_of(parts, rng, mixes_rows)
    except (Exception, SystemExit) as error:               # whatever a strange module raises
        raise ValueError(f"{spec} gives nothing to check ({type(error).__name__}: {error})"
                         ) from None
    try:
        return check(rng=rng, title=spec)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{spec} cannot be checked, {type(error).__name__} in what it calls: "
                         f"{error}{_hint(parts)}") from error


def _found(spec: str):
    """The object that `module:name` names; module.py:name and folder/module.py:name will do."""
    module_name, _, name = spec.rpartition(":")
    path = Path(module_name)
    if path.suffix == ".py":
        sys.path.insert(0, str(path.parent))
        module_name = path.stem
    thing = import_module(module_name)
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def _check_of(parts: list, rng: np.random.Generator, mixes_rows: bool) -> Callable:
    """The check of what was named, with all its arguments but rng and title."""
    first, *rest = parts
    if isinstance(first, type):
        first = perturbed(_made(first, rng), rng)
    if is_layer(first):
        inputs = rest or [rng.standard_normal((B, D))]
        return lambda **settings: check_layer(first, *inputs, mixes_rows=mixes_rows, **settings)
    if not callable(first):
        raise TypeError(f"it is of type {type(first).__name__}; {WANTED}")
    if not rest or not callable(rest[0]):
        raise TypeError(f"{name_of(first)} comes without its gradient; {WANTED}")
    second, *inputs = rest
    if not inputs:
        inputs = [rng.standard_normal((B, D)) for _ in range(_needs(first))]
    if _takes(second, len(inputs)) and not _takes(second, len(inputs) + 1):
        return lambda **settings: check_function(first, second, *inputs, **settings)
    return lambda **settings: check_vjp(first, second, *inputs, **settings)


def _made(kind: type, rng: np.random.Generator):
    """A layer of the class, by the first list of arguments with which it can be called."""
    for arguments in ((), (D, H), (D, H, rng), (D, H, rng, F8)):
        if _takes(kind, len(arguments)):
            return kind(*arguments)
    raise TypeError(f"{kind.__name__}{inspect.signature(kind)} takes other arguments")


def _takes(f: Callable, n: int) -> bool:
    """Whether f can be called with n arguments; where its signature is not known, no."""
    try:
        inspect.signature(f).bind(*range(n))
    except (TypeError, ValueError):
        return False
    return True


def _needs(f: Callable) -> int:
    """How many arguments f must have; 1 where that is not known."""
    return next((n for n in range(1, 10) if _takes(f, n)), 1)


def _hint(parts: list) -> str:
    """What to do where the inputs were random ones, which may not fit."""
    if len(parts) > 2 or (is_layer(parts[0]) and len(parts) > 1):
        return ""
    return (f"; it was called with random inputs of shape ({B}, {D}): for your own, name a "
            "function that takes no argument and returns (layer, x)")
