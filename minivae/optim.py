"""Adam, over the live arrays that `VAE.named_params` yields."""

from collections.abc import Iterable

import numpy as np

from minivae import kernels


class Adam:
    """m, v: running means of the gradient and of its square, both freed of their start at zero.

    param -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + adam_eps)
    Source: Kingma & Ba (2015), arXiv:1412.6980, algorithm 1.
    """

    def __init__(self, named_params: Iterable, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, adam_eps: float = 1e-8):
        self.lr, self.beta1, self.beta2, self.adam_eps, self.t = lr, beta1, beta2, adam_eps, 0
        zeros = kernels.aligned_zeros
        self.slots = {name: (p.reshape(-1), g.reshape(-1), zeros(p.size, p.dtype), zeros(p.size, p.dtype)) for name, p, g in named_params}

    def step(self) -> None:
        """Move every parameter once, in place, by the gradients that stand in the layers now."""
        self.t += 1
        step_size = self.lr / (1 - self.beta1**self.t)
        unbias_v = 1 / np.sqrt(1 - self.beta2**self.t)
        for param, grad, m, v in self.slots.values():
            # m = beta1*m + (1-beta1)*grad;  v = beta2*v + (1-beta2)*grad**2;  param -= step_size * m / (sqrt(v)*unbias_v + adam_eps)
            kernels.adam(param, grad, m, v, step_size, self.beta1, self.beta2, self.adam_eps, unbias_v)

    def state(self) -> dict[str, np.ndarray]:
        """t, and m and v of every parameter by name, as copies: all that the next step depends on besides the gradients."""
        moments = {f"{kind}.{name}": moment.copy() for name, (_, _, m, v) in self.slots.items() for kind, moment in (("m", m), ("v", v))}
        return {"t": np.array([self.t]), **moments}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.t = int(state["t"][0])
        for name, (_, _, m, v) in self.slots.items():
            m[...], v[...] = state[f"m.{name}"], state[f"v.{name}"]
