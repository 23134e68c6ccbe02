"""fit: the training loop.  evaluate: the ELBO on data that the model has not seen."""

import sys
from collections.abc import Callable
from math import ceil
from os import PathLike
from time import perf_counter
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minivae import estimators
from minivae.saving.archive import digest
from minivae.likelihoods import BernoulliLikelihood
from minivae.pixels import check_pixels, choose_treatment, scale_of, scales_of
from minivae.training.batches import draw
from minivae.saving.checkpoint import SAVE_EVERY, Progress, Saver, restore
from minivae.optim import Adam
from minivae.vae import VAE

EVALUATION_SEED = 20131220      # binarises the test images and draws their eps: the same for every run
EVALUATION_ROWS = 500           # images per forward pass


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity came up in training."""


class Settings(NamedTuple):
    """What a training keeps to from its first batch to its last, also across a stop."""

    batch_size: int
    lr: float
    samples: int
    binarize: str
    warmup: float
    decay: float
    patience: int | None

    def schedule(self, beta: float, passed: float) -> tuple[float, float]:
        """beta and lr after `passed` epochs, a fraction: beta min(1, passed / warmup), lr decay^passed.

        The KL is switched on slowly so that latents say something before it can silence them
        (Bowman et al. 2016, arXiv:1511.06349, section 3.1).  lr falls by one factor per epoch, because
        such a fall does not depend on how many epochs are to come: they can be added later.
        """
        return beta * min(1.0, passed / self.warmup) if self.warmup else beta, self.lr * self.decay**passed


def fit(vae: VAE, X: np.ndarray, *, X_test: np.ndarray | None = None, epochs: int = 20, batch_size: int = 128, lr: float = 1e-3,
        samples: int = 1, binarize: str | None = None, warmup: float = 0, decay: float = 1.0, patience: int | None = None, rng=None,
        callback: Callable[[dict], None] | None = None, checkpoint: str | PathLike | None = None, resume: str | PathLike | None = None,
        stop: Callable[[], bool] | None = None, note: dict | None = None, adam: Adam | None = None,
        progress: bool = False) -> list[dict]:
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
    warmup : float
        Epochs in which beta rises from 0 to the model's own, a little at every batch.
    decay : float in (0, 1]
        What an epoch leaves of lr, a little less at every batch; 1 keeps it.
    patience : int
        Stop early, after so many epochs without a better ELBO (beta = 1) on a tenth of X, which is then
        held out of training; the best model goes into best.npz beside the checkpoint.  Epochs of warm-up
        do not count.
    rng : None, int or numpy.random.Generator
        All randomness of training: shuffling, binarisation, eps.  Same seed, same numbers.
    callback : function of one row of the history, called after each epoch
    checkpoint : path
        Where to save what resuming needs: at the end, when stopped, and in between as often as costs
        less than a hundredth of the time.  `VAE.load` reads it too.
    resume : path
        A checkpoint to go on from, with the same data and settings (epochs may be raised) and a model
        built alike; what `rng` was given does not matter then.
    stop : function without arguments
        Asked after every batch; where it says True, fit saves and returns.
    note : dict
        Ready for JSON: kept in the checkpoint for whoever reads it.
    progress : bool
        Show a bar on stderr while an epoch runs.
    adam : Adam
        The optimiser of an earlier call, to go on where it stands; left out, a new one.

    Returns
    -------
    list of dict
        One row per epoch, from the first: epoch, loss, recon, kl (training means, nats per image),
        test_elbo (NaN without X_test), held_elbo (where there is patience), beta and lr (as they stand at
        the epoch's end) and seconds (of training, since the start).

    Raises
    ------
    ValueError
        For data that cannot be trained on, or a setting out of range.
    CheckpointError
        A ValueError, for a file that cannot be resumed from with these data and settings.
    NonFiniteError
        When the loss turns NaN or infinite; it names the first layer that did, and the model is
        left with the parameters of the last epoch that was whole.
    """
    check_settings(epochs, batch_size, samples, lr, warmup, decay, patience)
    treatment = choose_treatment(binarize, vae.likelihood)
    X = check_data(vae, X, "X", treatment)
    X_test = None if X_test is None else check_data(vae, X_test, "X_test", treatment)
    scale, scale_test = scales_of(X, X if X_test is None else X_test)
    rng = np.random.default_rng(rng)
    settings = Settings(int(batch_size), float(lr), int(samples), treatment, float(warmup), float(decay), patience and int(patience))
    rows, held = _hold_out(len(X)) if patience else (np.arange(len(X)), None)
    vae.try_estimator(samples, settings.schedule(vae.beta, 0.0)[0])

    run = Progress(vae, adam or Adam(vae.named_params(), lr), rng, rows)
    fixed = {} if checkpoint is None and resume is None else _identity(settings, rng, X, X_test)
    if resume is not None:
        restore(resume, run, fixed, epochs)
    saver = Saver(checkpoint, run, fixed, note)
    good, since = vae.state(), f"the end of epoch {run.epoch - 1}" if run.first == 0 else "the batch where it was resumed"

    while not _is_over(run, epochs, settings):
        try:
            whole = _one_epoch(run, X, scale, settings, saver, stop, f"epoch {run.epoch}" if progress else None)
            if (name := non_finite_param(vae)) is not None:
                raise NonFiniteError(f"last batch: first in {name}")
            if not whole:
                saver.save()
                return run.history
            test_elbo = float("nan") if X_test is None else evaluate(vae, X_test, binarize=treatment, scale=scale_test)["elbo"]
            judged = {} if held is None else {"held_elbo": evaluate(vae, X[held], binarize=treatment, scale=scale)["elbo"]}
        except NonFiniteError as error:
            saver.save_best()
            vae.restore(good)
            advice = f"Try a smaller lr than {lr:g}" if run.adam.t else "No step was taken yet: look at the data and the model"
            raise NonFiniteError(f"training turned non-finite in epoch {run.epoch}, {error}. The model is back at {since}. {advice}") from None
        good, since = vae.state(), f"the end of epoch {run.epoch}"
        if judged and judged["held_elbo"] > run.best_elbo:
            run.best_elbo, run.best_epoch, run.best = judged["held_elbo"], run.epoch, good
        loss, recon, kl = (run.totals / len(rows)).tolist()
        beta, lr_now = settings.schedule(vae.beta, run.epoch)
        run.history.append({"epoch": run.epoch, "loss": loss, "recon": recon, "kl": kl, "test_elbo": test_elbo, **judged,
                            "beta": beta, "lr": lr_now, "seconds": perf_counter() - saver.start})
        run.epoch, run.first = run.epoch + 1, 0
        if callback:
            callback(run.history[-1])
        if saver.due() or _is_over(run, epochs, settings):
            saver.save()
    return run.history


def _one_epoch(run: Progress, X, scale: float, s: Settings, saver: Saver, stop, bar: str | None) -> bool:
    """Every row once, in a new order, or what is left of an epoch; False where `stop` broke it off."""
    vae, rng = run.vae, run.rng
    if run.first == 0:                                     # sorted, so that an epoch's order depends on rng alone
        run.order, run.totals = rng.permutation(np.sort(run.order)), np.zeros(3)
    n = len(run.order)
    firsts = range(run.first, n, s.batch_size)
    for first in tqdm(firsts, bar, leave=False, unit=" batches", file=sys.stderr, disable=bar is None):
        x = draw(X, run.order[first : first + s.batch_size], scale, s.binarize, rng, vae.dtype)
        noise = vae.noise(s.samples, len(x), rng)
        beta, run.adam.lr = s.schedule(vae.beta, run.epoch - 1 + first / n)
        with vae.at_beta(beta):
            result = vae.forward(x, noise)
        if not np.isfinite(result.loss):
            raise NonFiniteError(f"batch {first // s.batch_size + 1}: first in {first_non_finite(vae)}")
        vae.backward()
        run.adam.step()
        vae.baseline.update()
        run.totals += [result.loss * len(x), result.recon.sum(dtype=float), result.kl.sum(dtype=float)]
        run.first = first + len(x)
        if saver.due(SAVE_EVERY) and non_finite_param(vae) is None:
            saver.save()
        if stop is not None and stop():
            return False
    return True


def _hold_out(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n rows are trained on, and which tenth is held out to judge by; it never depends on the seed."""
    if n < 10:
        raise ValueError(f"patience holds out a tenth of the training images: it wants at least 10, got {n}")
    order = np.random.default_rng(EVALUATION_SEED).permutation(n)
    return np.sort(order[n // 10 :]), np.sort(order[: n // 10])


def _is_over(run: Progress, epochs: int, s: Settings) -> bool:
    """Whether all epochs are done, or `patience` of them, not counting the warm-up's, have brought no better model."""
    done = run.epoch - 1
    return done >= epochs or (s.patience is not None and done - max(run.best_epoch, ceil(s.warmup)) >= s.patience)


def _identity(settings: Settings, rng: np.random.Generator, X: np.ndarray, X_test: np.ndarray | None) -> dict:
    """What must be the same, beside the model, for a training to go on: settings, kind of rng, data."""
    return settings._asdict() | {"rng": type(rng.bit_generator).__name__, "X": digest(X), "X_test": None if X_test is None else digest(X_test)}


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
            result = vae.forward(x, vae.noise(1, len(x), rng))
            if not np.isfinite(result.loss):
                raise NonFiniteError(f"judging test row {first} on: first in {first_non_finite(vae)}")
            totals += [result.elbo.sum(dtype=float), result.recon.sum(dtype=float), result.kl.sum(dtype=float)]
    return dict(zip(("elbo", "recon", "kl"), (totals / len(X)).tolist()))


def check_settings(epochs: int, batch_size: int, samples: int, lr: float, warmup: float = 0, decay: float = 1.0,
                   patience: int | None = None) -> None:
    """Raise ValueError for a number that no training can have."""
    for name, value in {"epochs": epochs, "batch_size": batch_size, "samples": samples, "patience": patience}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not (np.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a number > 0, got {lr}")
    if not (np.isfinite(warmup) and warmup >= 0):
        raise ValueError(f"warmup must be a number of epochs >= 0, got {warmup}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be a number > 0 and at most 1, what an epoch leaves of lr, got {decay}")


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
