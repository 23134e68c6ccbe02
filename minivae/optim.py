"""Adam, over the live arrays that `Model.named_params` yields."""

from collections.abc import Iterable

import numpy as np

from minivae import cores, kernels


class Adam:
    """Steps down the running mean of the gradient, each entry divided by its usual size.

    m = beta1 * m + (1 - beta1) * grad            v = beta2 * v + (1 - beta2) * grad^2
    param -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + adam_eps)

    The divisions correct the bias of m and v starting at 0; t is the step, from 1.
    Source: Kingma & Ba (2015), arXiv:1412.6980, algorithm 1.

    Parameters
    ----------
    named_params : iterable of (name, param, grad)
        The live arrays, C-contiguous; params are moved in place.
    lr, beta1, beta2, adam_eps : float

    Raises ValueError for arrays that are not C-contiguous: it would move a copy of them.

    Attributes
    ----------
    slots : dict, name -> (param, grad, m, v), each a vector; the first two are views
    """

    def __init__(self, named_params: Iterable, lr: float = 1e-3, beta1: float = 0.9,
                 beta2: float = 0.999, adam_eps: float = 1e-8):
        self.lr, self.beta1, self.beta2, self.adam_eps, self.t = lr, beta1, beta2, adam_eps, 0
        self.slots = {}
        for name, param, grad in named_params:
            _want_in_place(name, param, grad)
            m, v = (kernels.aligned_zeros(param.size, param.dtype) for _ in range(2))
            self.slots[name] = (param.reshape(-1), grad.reshape(-1), m, v)

    def step(self) -> None:
        """Move every parameter once, in place, by the gradients that stand in the layers now."""
        self.t += 1
        step_size = self.lr / (1 - self.beta1**self.t)
        unbias_v = 1 / np.sqrt(1 - self.beta2**self.t)
        for param, grad, m, v in self.slots.values():
            # m = beta1 * m + (1 - beta1) * grad;  v = beta2 * v + (1 - beta2) * grad**2
            # param -= step_size * m / (sqrt(v) * unbias_v + adam_eps)
            cores.adam(param, grad, m, v, step_size, self.beta1, self.beta2, self.adam_eps,
                       unbias_v)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all that the next step depends on besides the gradients: t, m and v."""
        state = {"t": np.array([self.t])}
        for name, (_, _, m, v) in self.slots.items():
            state[f"m.{name}"], state[f"v.{name}"] = m.copy(), v.copy()
        return state

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.t = int(state["t"][0])
        for name, (_, _, m, v) in self.slots.items():
            m[...], v[...] = state[f"m.{name}"], state[f"v.{name}"]


def _want_in_place(name: str, param: np.ndarray, grad: np.ndarray) -> None:
    """Raise ValueError for a param or grad that is a copy once it is a vector."""
    for what, array in (("the parameter", param), ("the gradient of", grad)):
        if array.size and not np.shares_memory(array, array.reshape(-1)):
            raise ValueError(f"Adam cannot move {name} in place: {what} {name} is not C-contiguous "
                             "(transposed, or a part of another array?); make it with "
                             "np.ascontiguousarray(..)")
