"""Which stored pixels a model can be trained on, and how a batch is drawn from them.

pixels.py says what a pixel is.
"""

import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from minivae import kernels
from minivae.likelihoods import BernoulliLikelihood
from minivae.model import Model
from minivae.pixels import check_pixels, check_range
from minivae.saving.checkpoint import TrainingState


def check_data(vae: Model, X: np.ndarray, name: str, binarize: str) -> np.ndarray:
    """X : (N, D) as bool, uint8, float32 or float64 pixels that this model can be trained on.

    name stands in the message for X; binarize is a key of pixels.BINARIZE.

    Raises
    ------
    ValueError
        In one line, for data that are no images, of another width, or that the likelihood or
        `binarize` does not take.
    """
    X = check_pixels(X, name)
    if X.shape[1] != vae.x_dim:
        raise ValueError(f"{name} must have {vae.x_dim} pixels per row for this model, "
                         f"got shape {X.shape}")
    if X.dtype.kind == "f":
        check_range(X, name, vae.dtype)
        try:
            vae.likelihood.check(X)
            # only an intensity in [0, 1] can be made black or white
            if binarize != "none":
                BernoulliLikelihood().check(X)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return X


def each_batch(state: TrainingState, settings, show_bar: bool
               ) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield each batch of an epoch, or of what is left of it: number, rows of the data, beta.

    At its start the rows get a new order.  Adam's lr is set for the batch; who takes it moves
    state.next_row on.
    """
    if state.next_row == 0:
        # sorted first: the new order depends on rng alone, and not on the old order
        state.order = state.rng.permutation(np.sort(state.order))
        state.totals = np.zeros(3)
    n, B = len(state.order), settings.batch_size
    for first in tqdm(range(state.next_row, n, B), f"epoch {state.epoch}", leave=False,
                      unit=" batches", file=sys.stderr, disable=not show_bar):
        passed = state.epoch - 1 + first / n
        beta, state.adam.lr = settings.schedule(state.vae.beta, passed)
        yield first // B + 1, state.order[first : first + B], beta


def draw(X: np.ndarray, index: np.ndarray, scale: float, binarize: str, rng: np.random.Generator,
         dtype: np.dtype) -> np.ndarray:
    """The rows `index` of X as pixels in [0, 1] : (len(index), D), a new array of dtype.

    Parameters
    ----------
    X : (N, D) array, as `check_data` returns it
    index : array of int
    scale : float
        What X is divided by, see `pixels.scale_of`.
    binarize : "dynamic" | "threshold" | "none"
        dynamic: each pixel is 1 with probability its intensity, drawn anew at every call, because
        a Bernoulli likelihood is one of binary pixels [1]_.  threshold: 1 where the intensity is
        at least 0.5.
    rng : numpy.random.Generator
    dtype : numpy.dtype, float32 or float64

    References
    ----------
    .. [1] Salakhutdinov & Murray (2008), "On the quantitative analysis of deep belief networks".
    """
    if binarize == "dynamic" and X.dtype == np.uint8 and scale == 255:
        return _draw_from_bytes(X, index, rng, dtype)
    x = X[index].astype(dtype)
    if scale != 1:
        x *= dtype.type(1 / scale)
    # bool, and whole numbers on scale 1, are binary already
    if binarize == "dynamic" and X.dtype.kind == "f":
        u = rng.random(x.shape, dtype)
        kernels.binarize(x, u, x)                          # x = (u < x)
    if binarize == "threshold":
        x = (x >= 0.5).astype(dtype)
    return x


def _draw_from_bytes(X: np.ndarray, index: np.ndarray, rng: np.random.Generator,
                     dtype: np.dtype) -> np.ndarray:
    """Dynamic binarisation of bytes 0..255, from 16 random bits for each pixel."""
    x = np.empty((len(index), X.shape[1]), dtype)
    # four pixels share a word of 64 bits; rng.bytes would take eight times as long
    words = rng.integers(0, 2**64, -(-x.size // 4), np.uint64)
    bits = words.view(np.uint16)[: x.size].reshape(x.shape)
    # x = (bits / 65536 < X[index] / 255), to within 1/131072
    kernels.binarize_bytes(X, index, bits, x)
    return x
