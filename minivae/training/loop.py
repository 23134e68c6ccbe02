"""fit: the training loop.  evaluate: the ELBO on data that the model has not seen."""

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from tqdm import tqdm

from minivae import estimators
from minivae.likelihoods import BernoulliLikelihood
from minivae.training.batches import check_pixels, choose_treatment, draw, scale_of, scales_of
from minivae.training.optim import Adam
from minivae.vae import VAE

EVALUATION_SEED = 20131220      # binarises the test images and draws their eps: the same for every run
EVALUATION_ROWS = 500           # images per forward pass


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity came up in training."""


def fit(vae: VAE, X: np.ndarray, *, X_test: np.ndarray | None = None, epochs: int = 20, batch_size: int = 128, lr: float = 1e-3,
        samples: int = 1, binarize: str | None = None, rng=None, callback: Callable[[dict], None] | None = None,
        progress: bool = False, adam: Adam | None = None) -> list[dict]:
    """Train `vae` in place: Adam on minibatches of X, reshuffled at every epoch.

    Parameters
    ----------
    vae : VAE
    X, X_test : (N, D) arrays
        bool, uint8 (0..255 is divided by 255 as each batch is drawn) or float.
    epochs, batch_size : int
    lr : float
        Adam's step size.
    samples : int
        K, the number of z drawn for each image.
    binarize : "dynamic" | "threshold" | "none"
        How grey pixels become binary ones; left out, dynamic for a Bernoulli likelihood, else none.
    rng : None, int or numpy.random.Generator
        All randomness of training: shuffling, binarisation, eps.  Same seed, same numbers.
    callback : function of one row of the history, called after each epoch
    progress : bool
        Show a bar on stderr while an epoch runs.
    adam : Adam
        The optimiser of an earlier call, to go on where it stands; left out, a new one.

    Returns
    -------
    list of dict
        One row per epoch: epoch, loss, recon, kl (training means, nats per image), test_elbo (NaN
        without X_test) and seconds (since the start).

    Raises
    ------
    ValueError
        For data that cannot be trained on, or a setting out of range.
    NonFiniteError
        When the loss turns NaN or infinite; it names the first layer that did, and the model is
        left with the parameters of the last epoch that was whole.
    """
    check_settings(epochs, batch_size, samples, lr)
    treatment = choose_treatment(binarize, vae.likelihood)
    X = check_data(vae, X, "X", treatment)
    X_test = None if X_test is None else check_data(vae, X_test, "X_test", treatment)
    scale, scale_test = scales_of(X, X if X_test is None else X_test)
    rng = np.random.default_rng(rng)
    adam = adam or Adam(vae.named_params(), lr)
    history, start = [], perf_counter()
    good = {name: p.copy() for name, p, _ in vae.named_params()}

    for epoch in range(1, epochs + 1):
        try:
            loss, recon, kl = _one_epoch(vae, adam, X, batch_size, samples, scale, treatment, rng, f"epoch {epoch}" if progress else None)
            test_elbo = float("nan") if X_test is None else evaluate(vae, X_test, binarize=treatment, scale=scale_test)["elbo"]
            if (name := non_finite_param(vae)) is not None:
                raise NonFiniteError(f"last batch: first in {name}")
        except NonFiniteError as error:
            for name, p, _ in vae.named_params():
                p[...] = good[name]
            raise NonFiniteError(f"training turned non-finite in epoch {epoch}, {error}. The model is back at the end of epoch {epoch - 1}. "
                                 + (f"Try a smaller lr than {lr:g}" if adam.t else "No step was taken yet: look at the data and the model")) from None
        good = {name: p.copy() for name, p, _ in vae.named_params()}
        history.append({"epoch": epoch, "loss": loss, "recon": recon, "kl": kl, "test_elbo": test_elbo, "seconds": perf_counter() - start})
        if callback:
            callback(history[-1])
    return history


def _one_epoch(vae, adam, X, batch_size, samples, scale, treatment, rng, bar: str | None) -> list[float]:
    """Every image once, in a new order: the training means of loss, recon and kl."""
    order, totals = rng.permutation(len(X)), np.zeros(3)
    firsts = range(0, len(X), batch_size)
    for first in tqdm(firsts, bar, leave=False, unit=" batches", file=sys.stderr, disable=bar is None):
        x = draw(X, order[first : first + batch_size], scale, treatment, rng, vae.dtype)
        eps = rng.standard_normal((samples, len(x), vae.z_dim), vae.dtype)
        result = vae.forward(x, eps)
        if not np.isfinite(result.loss):
            raise NonFiniteError(f"batch {first // batch_size + 1}: first in {first_non_finite(vae)}")
        vae.backward()
        adam.step()
        totals += [result.loss * len(x), result.recon.sum(dtype=float), result.kl.sum(dtype=float)]
    return (totals / len(X)).tolist()


def evaluate(vae: VAE, X: np.ndarray, *, binarize: str | None = None, scale: float | None = None) -> dict[str, float]:
    """Mean elbo, recon and kl of X in nats per image, with beta = 1, K = 1 and the analytic KL.

    The images are binarised once and eps is drawn once, from a seed of their own, so that two
    models are judged on the same numbers.  `scale` says what to divide uint8 by, when X alone cannot.
    """
    treatment = choose_treatment(binarize, vae.likelihood)
    X = check_data(vae, X, "X", treatment)
    scale = scale or scale_of(X)
    rng = np.random.default_rng(EVALUATION_SEED)
    totals = np.zeros(3)
    with vae.undisturbed(), vae.judged_by(estimators.elbo, beta=1.0):
        for first in range(0, len(X), EVALUATION_ROWS):
            x = draw(X, np.arange(first, min(first + EVALUATION_ROWS, len(X))), scale, treatment, rng, vae.dtype)
            result = vae.forward(x, rng.standard_normal((len(x), vae.z_dim), vae.dtype))
            if not np.isfinite(result.loss):
                raise NonFiniteError(f"judging test row {first} on: first in {first_non_finite(vae)}")
            totals += [result.elbo.sum(dtype=float), result.recon.sum(dtype=float), result.kl.sum(dtype=float)]
    return dict(zip(("elbo", "recon", "kl"), (totals / len(X)).tolist()))


def check_settings(epochs: int, batch_size: int, samples: int, lr: float) -> None:
    """Raise ValueError for a number that no training can have."""
    for name, value in {"epochs": epochs, "batch_size": batch_size, "samples": samples}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not (np.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a number > 0, got {lr}")


def check_data(vae: VAE, X: np.ndarray, name: str, treatment: str) -> np.ndarray:
    """X as pixels that this model can be trained on, or a ValueError in one line."""
    X = check_pixels(X, name)
    if X.shape[1] != vae.x_dim:
        raise ValueError(f"{name} must have {vae.x_dim} pixels per row for this model, got shape {X.shape}")
    if X.dtype.kind == "f":
        try:
            vae.likelihood.check(X)
            if treatment != "none":
                BernoulliLikelihood().check(X)             # only an intensity in [0, 1] can be made black or white
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return X


def non_finite_param(vae: VAE) -> str | None:
    """The first parameter, in forward order, that is not finite."""
    for name, param, _ in vae.named_params():
        if not np.isfinite(param).all():
            return f"the parameter {name}"
    return None


def first_non_finite(vae: VAE) -> str:
    """The first layer, in forward order, with a parameter or an output that is not finite."""
    for name, layer in vae.named_layers():
        for key, param in layer.params.items():
            if not np.isfinite(param).all():
                return f"{name}, whose parameter {key} is no longer finite"
        for key in ("y", "z"):
            if not np.isfinite(layer._buffers.get(key, 0.0)).all():
                return f"the output of {name}"
    return "the loss itself"
