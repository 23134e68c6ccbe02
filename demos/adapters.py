"""Gradients that were written for PyTorch or JAX, under minivae's checker.  Not a demo itself.

Each adapter turns a function of the other library into a forward and a backward in NumPy, for
minivae.check_vjp.  The forward runs in float64.  The backward is the one that the library itself
would call.  Integer inputs are held constant, and outputs that need no gradient are left out.
"""

from importlib import import_module

import numpy as np

from minivae import check_vjp
from minivae.gradcheck import Report


def check_torch(function, *inputs) -> Report:
    """Check a torch.autograd.Function, or any function of tensors that PyTorch differentiates.

        check_torch(MyFunction, x, w).raise_if_wrong()

    inputs are tensors or arrays; floats become float64.  Raises ImportError without PyTorch.
    """
    torch = library("torch")
    is_class = isinstance(function, type) and issubclass(function, torch.autograd.Function)
    run = function.apply if is_class else function

    def leaves_and_outputs(arrays):
        x = [torch.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
        return x, [y for y in several(run(*x)) if y.requires_grad]

    def forward(*arrays):
        return alone([y.detach().numpy() for y in leaves_and_outputs(arrays)[1]])

    def backward(*arrays_and_dy):
        *arrays, dy = arrays_and_dy
        x, y = leaves_and_outputs(arrays)
        moved, dy = [a for a in x if a.requires_grad], [torch.tensor(d) for d in several(dy)]
        dx = torch.autograd.grad(y, moved, dy, materialize_grads=True)
        return tuple(d.numpy() for d in dx)

    return check(forward, backward, [torch.as_tensor(a).detach().numpy() for a in inputs], function)


def check_jax(function, *inputs) -> Report:
    """Check a jax.custom_vjp, or any function that JAX differentiates.

        check_jax(my_function, x, w).raise_if_wrong()

    inputs are arrays of JAX or NumPy; floats become float64.  Raises ImportError without JAX.
    """
    jax = library("jax")

    def floats(*x):
        y = jax.tree.leaves(function(*x))
        return [a for a in y if jax.numpy.issubdtype(a.dtype, jax.numpy.inexact)]

    def forward(*arrays):
        with jax.enable_x64(True):
            return alone([np.array(y) for y in floats(*map(jax.numpy.array, arrays))])

    def backward(*arrays_and_dy):
        *arrays, dy = arrays_and_dy
        with jax.enable_x64(True):
            _, pull_back = jax.vjp(floats, *map(jax.numpy.array, arrays))
            dx = pull_back([jax.numpy.array(d) for d in several(dy)])
        return tuple(np.array(d) for d, a in zip(dx, arrays) if a.dtype == np.float64)

    return check(forward, backward, inputs, function)


# --- what both need -------------------------------------------------------------------------------


def check(forward, backward, inputs, function) -> Report:
    """minivae.check_vjp, on arrays whose floats are float64."""
    arrays = [np.asarray(a) for a in inputs]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    title = getattr(function, "__name__", type(function).__name__)
    return check_vjp(forward, backward, *arrays, title=title)


def library(name: str):
    """The module of that name.  Raises ImportError in one plain line."""
    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f"{name} is not installed, and check_{name} runs it: "
                          f"pip install {name}") from None


def several(y) -> tuple:
    """One array or a tuple or list of them, as a tuple."""
    return tuple(y) if isinstance(y, (tuple, list)) else (y,)


def alone(y: list):
    """A single output by itself, several as a tuple.  Raises ValueError where there is none."""
    if not y:
        raise ValueError("no output of the function needs a gradient: there is nothing to check")
    return y[0] if len(y) == 1 else tuple(y)
