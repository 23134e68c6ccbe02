"""evaluate: the ELBO on images that the model has not seen; and where a NaN came up first.

metrics.py takes a closer look at a trained model.
"""

from collections.abc import Iterator

import numpy as np

from minivae import estimators
from minivae.choices import check_kind, in_short, number
from minivae.layers import params_of
from minivae.model import Model, Result
from minivae.pixels import choose_binarize, scale_of
from minivae.training.batches import check_data, draw
from minivae.training.workers import judge_each

EVALUATION_SEED = 20131220      # of the test images' binarisation and eps: the same for every run
EVALUATION_ROWS = 500           # images per forward pass


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity came up, in training or in a trained model."""


def evaluate(vae: Model, X: np.ndarray, *, binarize: str | None = None,
             scale: float | None = None, n_jobs: int | None = None) -> dict[str, float]:
    """Mean elbo, recon and kl of X in nats per image, with beta = 1, K = 1 and the analytic KL.

    The images are binarised once and eps is drawn once, with a seed of their own, so that two
    models are judged on the same numbers.  A pending backward of the model stays whole.

    Parameters
    ----------
    vae : VAE or DiscreteVAE
    X : (N, D) array, or images (N, H, W) or (N, H, W, 3)
        bool, uint8 or float, as in `fit`.
    binarize : "dynamic" | "threshold" | "none"
        Left out, dynamic for a Bernoulli likelihood, else none.
    scale : float
        What X is divided by.  Left out, 255 for bytes that go past 1, else 1.
    n_jobs : int
        How many workers of joblib's backend judge the images, -1 for one on each core; left out,
        this process does.  The numbers are the same.

    Raises
    ------
    TypeError
        For an n_jobs that is no whole number.
    ValueError
        For data that the model cannot be trained on, or an n_jobs of 0.
    NonFiniteError
        When the ELBO is NaN or infinite; it names the first layer that was.
    ChildProcessError
        When a worker was killed.
    """
    totals = np.zeros(3)
    for result in _judged(vae, X, binarize, scale, n_jobs):
        totals += [part.sum(dtype=float) for part in (result.elbo, result.recon, result.kl)]
    elbo, recon, kl = (totals / len(X)).tolist()
    return {"elbo": elbo, "recon": recon, "kl": kl}


def elbo(vae: Model, X: np.ndarray, *, binarize: str | None = None,
         scale: float | None = None, n_jobs: int | None = None) -> np.ndarray:
    """The ELBO of each image of X : (N,), nats; `evaluate` gives their mean.

    Parameters and errors as `evaluate`.
    """
    return np.concatenate([result.elbo for result in _judged(vae, X, binarize, scale, n_jobs)])


def _judged(vae: Model, X: np.ndarray, binarize: str | None, scale: float | None,
            n_jobs: int | None) -> list[Result]:
    """What forward found, EVALUATION_ROWS images at a time."""
    check_kind(vae, Model, "vae", "a VAE or DiscreteVAE")
    binarize = choose_binarize(binarize, vae.likelihood)
    X = check_data(vae, X, "X", binarize)
    scale = scale_of(X) if scale is None else scale
    if not 0 < number(scale, "scale") < np.inf:
        raise ValueError(f"scale must be a number > 0, got {in_short(scale)}")
    with vae.with_objective(estimators.elbo, beta=1.0):
        # all at once, for joblib warns of work that nobody takes
        found = list(judge_each(_forward, vae, _drawn(vae, X, scale, binarize), n_jobs))
    for n, (_, culprit) in enumerate(found):
        if culprit is not None:
            raise NonFiniteError(f"judging the images from row {n * EVALUATION_ROWS} on: first in "
                                 f"{culprit}")
    return [result for result, _ in found]


def _drawn(vae: Model, X: np.ndarray, scale: float, binarize: str
           ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield x (B, D) and eps (1, B, Z), EVALUATION_ROWS images at a time, drawn one by one."""
    rng = np.random.default_rng(EVALUATION_SEED)
    for first in range(0, len(X), EVALUATION_ROWS):
        index = np.arange(first, min(first + EVALUATION_ROWS, len(X)))
        x = draw(X, index, scale, binarize, rng, vae.dtype)
        yield x, vae.noise(1, len(x), rng)


def _forward(vae: Model, x: np.ndarray, eps: np.ndarray) -> tuple[Result, str | None]:
    """What forward found, and the first layer that was not finite where the loss is not."""
    result = vae.forward(x, eps)
    return result, None if np.isfinite(result.loss) else first_non_finite(vae)


def non_finite_param(vae: Model) -> str | None:
    """The first parameter, in forward order, that is not finite; None where all are."""
    for name, param, _ in vae.named_params():
        if not np.isfinite(param).all():
            return f"the parameter {name}"
    return None


def first_non_finite(vae: Model) -> str:
    """The first layer of the last forward, in its order, with a number that is not finite."""
    for name, layer in vae.named_layers():
        for key, param in params_of(layer).items():
            if not np.isfinite(param).all():
                return f"{name}, whose parameter {key} is no longer finite"
        buffers = getattr(layer, "_buffers", {})           # a layer of one's own need not have any
        for key in ("y", "z"):
            if not np.isfinite(buffers.get(key, 0.0)).all():
                return f"the output of {name}"
    return "the loss itself"
