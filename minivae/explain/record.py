"""One pass of a model, recorded: what every node took in and gave out.

The layers carry no tracing code.  While `intercepted` is open, every call of a node's methods goes
through a function of ours; afterwards nothing of it is left.  The pass itself is the model's own
forward and backward, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from minivae.estimators import Wires
from minivae.gradcheck.strangers import copies
from minivae.layers import Layer
from minivae.model import Model, Result

LATENT_NODES = ("kl", "sample", "log_q", "log_prior")
PHI = ("enc", "to_mu", "to_logvar", "to_a")                # the encoder's nodes; the rest is theta


def record(vae: Model, x: np.ndarray, eps: np.ndarray) -> tuple[Result, Wires, dict]:
    """Run forward and backward; what forward found, its weights, and every visit to a node.

    Visits are {(node, "forward" or "backward"): (inputs, outputs)}, in the order of the calls.
    """
    visits = {}

    def visit(node, direction, method, *inputs, **options):
        taken = copies(inputs)
        result = method(*inputs, **options)
        visits[node, direction] = taken, copies(result)
        return result

    with intercepted(vae, visit), np.errstate(all="ignore"):
        result = vae.forward(x, eps)
        wires = vae._wires
        vae.backward()
    return result, wires, visits


@contextmanager
def intercepted(vae: Model, visit: Callable) -> Iterator[None]:
    """While open, each call of a node's method is visit(node, direction, method, *arguments).

    The direction is "forward" or "backward".  The stand-ins are attributes of the layers
    themselves, which hide the methods of their classes.
    """
    try:
        for node, layer, *methods in nodes(vae):
            for direction, method in zip(("forward", "backward"), methods):
                if method:
                    stand_in = partial(visit, node, direction, getattr(layer, method))
                    setattr(layer, method, stand_in)
        yield
    finally:
        for _, layer, *methods in nodes(vae):
            for method in methods:
                vars(layer).pop(method, None)


def nodes(vae: Model) -> Iterator[tuple[str, Layer, str, str | None]]:
    """Yield (name, layer, its forward method, its backward method); the latent is four nodes.

    A coin's step and its prior pass no gradient on: they have no backward method, so None.
    """
    for name, layer in vae.named_layers():
        if name != "latent":
            yield name, layer, "forward", "backward"
            continue
        for node in LATENT_NODES:
            backward = f"{node}_backward"
            yield node, layer, node, backward if hasattr(layer, backward) else None
