"""From stored pixels to the batch that the model sees: check, scale, binarise.

Bool, or uint8 whose maximum is 1, is binary.  Other uint8 counts as 0..255 and is divided by 255.
Floats are taken as they are.  Big uint8 data stays uint8 until a batch is drawn.
"""

import numpy as np

from minivae import kernels
from minivae.model import pixel_rows

TREATMENTS = ("dynamic", "threshold", "none")


def check_pixels(X: np.ndarray, name: str = "X") -> np.ndarray:
    """X as an (N, D) array of bool, uint8, float32 or float64, or a ValueError in one line."""
    X = pixel_rows(X, name)
    if X.dtype.kind == "f":
        X = X.astype(np.float32 if X.dtype.itemsize <= 4 else np.float64, copy=False)      # float16, longdouble and swapped bytes
        if not np.isfinite(X).all():
            row, pixel = np.argwhere(~np.isfinite(X))[0]
            raise ValueError(f"{name} must be finite, found {X[row, pixel]} at row {row}, pixel {pixel}: fill it, or leave the row out")
    elif X.dtype not in (np.bool_, np.uint8):
        if X.min() < 0 or X.max() > 255:
            raise ValueError(f"{name} holds whole numbers from {X.min()} to {X.max()}: scale them to floats in [0, 1], or to uint8")
        X = X.astype(np.uint8)
    return X


def scale_of(X: np.ndarray) -> float:
    """What to divide X by: 255 for uint8 that goes past 1, else 1."""
    return 255.0 if X.dtype == np.uint8 and X.max() > 1 else 1.0


def scales_of(X: np.ndarray, X_test: np.ndarray) -> tuple[float, float]:
    """The scales of both: of two uint8 arrays the training images decide, of any other pair each for itself."""
    scale, scale_test = scale_of(X), scale_of(X_test)
    if X.dtype == X_test.dtype == np.uint8:
        if scale_test > scale:
            raise ValueError(f"the training images go from 0 to {X.max()}, the test images up to {X_test.max()}: bring them to one scale")
        scale_test = scale
    return scale, scale_test


def is_grey(X: np.ndarray) -> bool:
    """Whether X has values other than its two extremes, black and white."""
    scale = scale_of(X)
    return any(bool(((part != 0) & (part != scale)).any()) for part in np.array_split(X, max(1, X.size // 10**7)))


def choose_treatment(binarize: str | None, likelihood) -> str:
    """The named treatment; left out, dynamic where the likelihood lives on {0, 1}, else none."""
    if binarize is None:
        return "dynamic" if likelihood.binary else "none"
    if binarize not in TREATMENTS:
        raise ValueError(f"unknown binarize {binarize!r}; choose from {', '.join(TREATMENTS)}")
    return binarize


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
