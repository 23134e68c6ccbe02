"""Where a NaN or an infinity came up first."""

import numpy as np

from minivae.model import Model


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity came up, in training or in a trained model."""


def non_finite_param(vae: Model) -> str | None:
    """The first parameter, in forward order, that is not finite; None where all are."""
    for name, param, _ in vae.named_params():
        if not np.isfinite(param).all():
            return f"the parameter {name}"
    return None


def first_non_finite(vae: Model) -> str:
    """The first layer of the last forward, in its order, with a number that is not finite."""
    for name, layer in vae.named_layers():
        for key, param in layer.params.items():
            if not np.isfinite(param).all():
                return f"{name}, whose parameter {key} is no longer finite"
        for key in ("y", "z"):
            if not np.isfinite(layer._buffers.get(key, 0.0)).all():
                return f"the output of {name}"
    return "the loss itself"
