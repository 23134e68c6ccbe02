"""Gradients that were written for PyTorch or JAX, under minivae's checker.  Not a demo itself.

`check_torch` and `check_jax` turn a function of the other library into a pair of NumPy functions
for minivae.check_vjp.  The forward runs in float64.  The backward is the one that the library
itself would call.  Integer inputs are held constant.  Both give a minivae.Report.
"""

from importlib import import_module

import numpy as np

from minivae import check_vjp


def check_torch(function, *inputs, rng=0, title: str | None = None):
    """Check a torch.autograd.Function, or any function of tensors that PyTorch differentiates.

        check_torch(MyFunction, x, w).raise_if_wrong()

    function : a subclass of torch.autograd.Function, or a function of tensors
    inputs : arrays or CPU tensors; floats become float64
    Outputs that need no gradient are left out.
    Raises ImportError without PyTorch, and what `minivae.check_vjp` raises.
    """
    torch = _library("torch")
    apply = function.apply if _is_torch_function(function, torch) else function

    def run(arrays):
        x = [torch.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
        y = apply(*x)
        return x, [out for out in (y if isinstance(y, tuple) else (y,)) if out.requires_grad]

    def forward(*arrays):
        return tuple(out.detach().numpy() for out in run(arrays)[1])

    def backward(*arrays_and_dy):
        *arrays, dy = arrays_and_dy
        x, y = run(arrays)
        leaves = [a for a in x if a.requires_grad]
        dx = iter(torch.autograd.grad(y, leaves, list(map(torch.tensor, dy)),
                                      materialize_grads=True))
        return tuple(next(dx).numpy() if a.requires_grad else None for a in x)

    inputs = [_float64(torch.as_tensor(a).detach()) for a in inputs]
    return check_vjp(forward, backward, *inputs, rng=rng, title=title or function.__name__)


def check_jax(function, *inputs, rng=0, title: str | None = None):
    """Check a jax.custom_vjp, or any function that JAX differentiates.

        check_jax(my_function, x, w).raise_if_wrong()

    function : takes and returns arrays, one or several
    inputs : arrays of NumPy or JAX; floats become float64
    Integer outputs are left out.
    Raises ImportError without JAX, and what `minivae.check_vjp` raises.
    """
    jax = _library("jax")

    def floats(*x):
        y = jax.tree.leaves(function(*x))
        return tuple(out for out in y if out.dtype == np.float64)

    def forward(*arrays):
        with jax.enable_x64(True):
            return tuple(map(np.asarray, floats(*map(jax.numpy.asarray, arrays))))

    def backward(*arrays_and_dy):
        *arrays, dy = arrays_and_dy
        with jax.enable_x64(True):
            _, pull_back = jax.vjp(floats, *map(jax.numpy.asarray, arrays))
            dx = pull_back(tuple(map(jax.numpy.asarray, dy)))
            return tuple(np.asarray(d) if d.dtype == np.float64 else None for d in dx)

    inputs = list(map(_float64, inputs))
    return check_vjp(forward, backward, *inputs, rng=rng, title=title or function.__name__)
