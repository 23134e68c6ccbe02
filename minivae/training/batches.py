"""From stored pixels to the batch that the model sees; what a pixel is stands in pixels.py."""

import numpy as np

from minivae import kernels

def draw(X: np.ndarray, index: np.ndarray, scale: float, treatment: str, rng: np.random.Generator, dtype) -> np.ndarray:
    """The rows `index` of X as pixels in [0, 1], a new array of dtype.

    dynamic: each pixel is 1 with probability its intensity, drawn afresh at every call, because
    a Bernoulli likelihood is one of binary pixels [1]_.  threshold: 1 where the intensity >= 0.5.

    References
    ----------
    .. [1] Salakhutdinov & Murray (2008), "On the quantitative analysis of deep belief networks".
    """
    if X.dtype == np.uint8 and scale == 255 and treatment == "dynamic":
        x = np.empty((len(index), X.shape[1]), dtype)
        words = rng.integers(0, 2**64, -(-x.size // 4), np.uint64)     # 16 bits for a pixel; rng.bytes is eight times slower
        bits = words.view(np.uint16)[: x.size].reshape(x.shape)
        kernels.binarize_bytes(X, index, bits, x)          # x = (bits / 65536 < X[index] / 255), to within 1/131072
        return x
    x = X[index].astype(dtype)
    if scale != 1:
        x *= dtype.type(1 / scale)
    if treatment == "dynamic" and X.dtype.kind == "f":     # whole numbers on scale 1 are binary already
        u = rng.random(x.shape, dtype)
        kernels.binarize(x, u, x)                          # x = (u < x)
    elif treatment == "threshold":
        x = (x >= 0.5).astype(dtype)
    return x
