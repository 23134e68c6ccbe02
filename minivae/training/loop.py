"""fit: the training loop.  Draw a batch, forward, backward, step: see `_one_epoch`."""

import json
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from math import ceil
from os import PathLike
from typing import NamedTuple

import numpy as np

from minivae.choices import check_kind, generator, in_short, number, whole_number
from minivae.model import Model
from minivae.optim import Adam
from minivae.pixels import choose_binarize, doubt_about_scale, scales_of
from minivae.saving.archive import digest
from minivae.saving.checkpoint import SAVE_EVERY, TrainingState, Saver, restore
from minivae.training.batches import check_data, draw, each_batch
from minivae.training.evaluation import (EVALUATION_SEED, NonFiniteError, evaluate,
                                         first_non_finite, non_finite_param)
from minivae.training.ranks import Alone, Ranks, ranks_of


class Settings(NamedTuple):
    """What stays the same from a training's first batch to its last, also across a stop."""

    batch_size: int
    lr: float
    samples: int
    binarize: str
    warmup: float
    decay: float
    patience: int | None

    def schedule(self, beta: float, passed: float) -> tuple[float, float]:
        """beta and lr at a moment of training.

        beta : the model's; passed : epochs done so far, fractions count.

        beta * min(1, passed / warmup):  the KL is switched on slowly, so that the latents say
        something before it can silence them (Bowman et al. 2016, arXiv:1511.06349, section 3.1).
        lr * decay^passed:  one factor per epoch.  Such a fall does not depend on how many epochs
        are to come, so more can be added later.
        """
        if self.warmup:
            beta *= min(1.0, passed / self.warmup)
        return beta, self.lr * self.decay**passed


class Images(NamedTuple):
    """The checked data of a training, and what each array is divided by."""

    X: np.ndarray               # (N, D)
    scale: float
    X_test: np.ndarray | None   # (N_test, D)
    scale_test: float
    rows: np.ndarray            # (n,) indices into X that are trained on
    held: np.ndarray | None     # (m,) indices into X that are held out, where there is patience


def fit(vae: Model, X: np.ndarray, *, X_test: np.ndarray | None = None, epochs: int = 20,
        batch_size: int = 128, lr: float = 1e-3, samples: int = 1, binarize: str | None = None,
        warmup: float = 0, decay: float = 1.0, patience: int | None = None, rng=None,
        callback: Callable[[dict], None] | None = None, checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None, stop: Callable[[], bool] | None = None,
        note: dict | None = None, adam: Adam | None = None, progress: bool = False,
        comm=None) -> list[dict]:
    """Train `vae` in place: Adam on minibatches of X, reshuffled at every epoch.

    Parameters
    ----------
    vae : VAE or DiscreteVAE
    X, X_test : (N, D) arrays, or images (N, H, W) or (N, H, W, 3)
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
        The factor by which lr falls in an epoch, a little at every batch; 1 keeps it.
    patience : int
        Stop early, after so many epochs without a better ELBO (beta = 1) on a tenth of X, which is
        held out of training.  The best model goes beside the checkpoint: best.npz beside model.npz,
        name.best.npz beside name.npz.  Epochs of warm-up do not count.
    rng : None, int or numpy.random.Generator
        All randomness of training: shuffling, binarisation, eps.  Same seed, same numbers.
    callback : function of one row of the history
        Called after each epoch.
    checkpoint : path
        Where to save what resuming needs.  It is written when training stops or ends, also where
        the callback raises or the loss turns NaN, and in between; saving takes at most 0.5 % of the
        time.  A file that minivae did not write is never replaced.  `minivae.load` reads it too.
    resume : path
        A checkpoint to go on from, with the same data and settings (epochs may be raised) and a
        model built alike.  The rng goes on where it stood, too.
    stop : function without arguments
        Asked after every batch; where it says True, fit saves and returns.
    note : dict, ready for JSON
        Kept in the checkpoint for whoever reads it.
    adam : Adam
        An Adam over this model's parameters, to keep its moments across calls; its lr is
        overwritten.  Default: a new one.
    progress : bool
        Show a bar on stderr while an epoch runs.
    comm : communicator of mpi4py, e.g. MPI.COMM_WORLD
        Every rank calls fit alike, and takes a part of each batch.  Any number of ranks gives the
        same numbers, bit for bit; without comm the noise is another.  Rank 0 alone writes files,
        shows the bar and calls callback; its rng and parameters count.  Where `stop` says True on
        any rank, all stop.  See training/ranks.py.

    Returns
    -------
    list of dict
        One row per epoch, from the first: epoch, loss, recon, kl (training means, nats per image),
        test_elbo (NaN without X_test), held_elbo (only with patience), beta and lr (at the epoch's
        end) and seconds (of training, since the start, without what callback took).

    Raises
    ------
    TypeError
        For an argument of the wrong kind, e.g. epochs that are no whole number.
    ValueError
        For data that cannot be trained on, or a setting out of range.
    CheckpointError
        A ValueError, for a file that cannot be resumed from with these data and settings.
    ArchiveError
        A ValueError, where the checkpoint cannot be written.
    Locked
        A ValueError, where another training saves into the same checkpoint.
    NonFiniteError
        When the loss turns NaN or infinite.  It names the first layer that did.  The model is left
        as it was after the last good epoch, or at the point of resuming if none has ended since.
    """
    ranks = ranks_of(comm)
    with ranks.at_work(), ExitStack() as stack:
        with ranks.agree():
            check_settings(epochs, batch_size, samples, lr, warmup, decay, patience)
            _check_kinds(vae, adam, callback, stop, checkpoint, resume, note)
            binarize = choose_binarize(binarize, vae.likelihood)
            settings = Settings(int(batch_size), float(lr), int(samples), binarize, float(warmup),
                                float(decay), None if patience is None else int(patience))
            images = _check_images(vae, X, X_test, settings)
            if ranks.first and (doubt := doubt_about_scale(images.X)):
                warnings.warn(f"X: {doubt}", stacklevel=2)
            rng = ranks.generator(generator(rng))
            first_beta, _ = settings.schedule(vae.beta, passed=0.0)
            vae.try_estimator(samples, first_beta)

            state = TrainingState(vae, adam or Adam(vae.named_params(), lr), rng, images.rows)
            must_stay = {}
            if not (checkpoint is None and resume is None and comm is None):
                must_stay = _what_must_stay(settings, rng, images) | ranks.must_stay
        ranks.check(vae, must_stay | {"epochs": epochs})
        with ranks.agree():
            saver = Saver(checkpoint if ranks.first else None, state, must_stay, note)
            stack.enter_context(saver.alone())
            if resume is not None and ranks.first:
                restore(resume, state, must_stay, epochs)
        ranks.share(state)
        return _train(state, images, settings, epochs, saver, callback, stop, progress, ranks)


def _train(state: TrainingState, images: Images, settings: Settings, epochs: int, saver: Saver,
           callback, stop, show_bar: bool, ranks: Alone | Ranks) -> list[dict]:
    """Epoch after epoch, from where `state` stands.  Returns the history."""
    vae = state.vae
    one_epoch = ranks.one_epoch or _one_epoch
    show_bar = show_bar and ranks.first
    # what training goes back to when a number is no longer finite
    good, good_since = (state.arrays(), state.numbers()), f"the end of epoch {state.epoch - 1}"
    if state.epoch == 1:
        good_since = "its initial parameters"
    if state.next_row > 0:
        good_since = "the batch where it was resumed"

    while not _is_over(state, epochs, settings):
        try:
            stopped = one_epoch(state, images, settings, saver, stop, show_bar)
            row = None
            with ranks.agree():
                _check_params(vae)
                if not stopped and ranks.first:
                    row = _row(state, settings, _judge(vae, images, settings))
            row = ranks.from_first(row)
        except NonFiniteError as error:
            epoch, advice = state.epoch, _advice(state, settings, images.X)
            state.restore(*good)
            if state.history:
                saver.save()
            raise NonFiniteError(
                f"training turned non-finite in epoch {epoch}, {error}. "
                f"The model is back at {good_since}. {advice}") from None
        if stopped:
            with ranks.agree():
                saver.save()
            return state.history
        if "held_elbo" in row and row["held_elbo"] > state.best_elbo:
            state.best_elbo, state.best_epoch = row["held_elbo"], state.epoch
            state.best = vae.state()
        state.history.append(row)
        state.epoch, state.next_row = state.epoch + 1, 0
        good, good_since = (state.arrays(), state.numbers()), f"the end of epoch {state.epoch - 1}"
        with ranks.agree():
            if ranks.first:
                _save_and_call(state, saver, callback, _is_over(state, epochs, settings))
    return state.history


def _save_and_call(state: TrainingState, saver: Saver, callback, over: bool) -> None:
    """The end of an epoch.  It is saved before the callback, which may fail: that writes files."""
    save_now = saver.due() or over
    if save_now:
        saver.save()
    try:
        if callback:
            with state.clock_stopped():
                callback(state.history[-1])
    except BaseException:
        if not save_now:
            saver.save()
        raise


def _one_epoch(state: TrainingState, images: Images, settings: Settings, saver: Saver, stop,
               show_bar: bool) -> bool:
    """Every row once, in a new order, or what is left of an epoch.  True where `stop` ended it."""
    vae, adam, rng = state.vae, state.adam, state.rng
    for n, index, beta in each_batch(state, settings, show_bar):
        x = draw(images.X, index, images.scale, settings.binarize, rng, vae.dtype)     # (B, D)
        eps = vae.noise(settings.samples, len(x), rng)                                 # (K, B, Z)
        with vae.at_beta(beta):
            result = vae.forward(x, eps)
        if not np.isfinite(result.loss):
            raise NonFiniteError(f"batch {n}: first in {first_non_finite(vae)}")
        vae.backward()                      # every layer's grads
        adam.step()                         # every parameter, by its grads
        vae.baseline.update()

        state.totals += [result.loss * len(x), result.recon.sum(dtype=float),
                            result.kl.sum(dtype=float)]
        state.next_row += len(x)
        if saver.due(SAVE_EVERY) and non_finite_param(vae) is None:
            saver.save()
        if stop is not None and stop():
            return True
    return False


def _check_images(vae: Model, X: np.ndarray, X_test: np.ndarray | None, settings: Settings
                  ) -> Images:
    """The data as a training needs them.  Raises ValueError for what cannot be trained on."""
    X = check_data(vae, X, "X", settings.binarize)
    if X_test is not None:
        X_test = check_data(vae, X_test, "X_test", settings.binarize)
    scale, scale_test = scales_of(X, X if X_test is None else X_test)
    rows, held = np.arange(len(X)), None
    if settings.patience is not None:
        rows, held = _hold_out(len(X))
    return Images(X, scale, X_test, scale_test, rows, held)


def _hold_out(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n rows are trained on, and which tenth is held out; the seed has no part in it."""
    if n < 10:
        raise ValueError("patience holds out a tenth of the training images: it wants at least "
                         f"10, got {n}")
    order = np.random.default_rng(EVALUATION_SEED).permutation(n)
    return np.sort(order[n // 10 :]), np.sort(order[: n // 10])


def _is_over(state: TrainingState, epochs: int, settings: Settings) -> bool:
    """Whether all epochs are done, or `patience` of them have brought no better model."""
    done = state.epoch - 1
    if settings.patience is None:
        return done >= epochs
    waiting_since = max(state.best_epoch, ceil(settings.warmup))
    return done >= epochs or done - waiting_since >= settings.patience


def _judge(vae: Model, images: Images, settings: Settings) -> dict[str, float]:
    """The ELBO of the test images, and of those held out, in nats per image."""
    test_elbo, binarize = float("nan"), settings.binarize
    if images.X_test is not None:
        test = evaluate(vae, images.X_test, binarize=binarize, scale=images.scale_test)
        test_elbo = test["elbo"]
    if images.held is None:
        return {"test_elbo": test_elbo}
    held = evaluate(vae, images.X[images.held], binarize=binarize, scale=images.scale)
    return {"test_elbo": test_elbo, "held_elbo": held["elbo"]}


def _row(state: TrainingState, settings: Settings, judged: dict[str, float]) -> dict:
    """The epoch's row of the history."""
    loss, recon, kl = (state.totals / len(state.order)).tolist()
    beta, lr = settings.schedule(state.vae.beta, state.epoch)
    return {"epoch": state.epoch, "loss": loss, "recon": recon, "kl": kl, **judged,
            "beta": beta, "lr": lr, "seconds": state.seconds}


def _check_params(vae: Model) -> None:
    """Raise NonFiniteError if the epoch's last step broke a parameter; no forward has run since."""
    name = non_finite_param(vae)
    if name is not None:
        raise NonFiniteError(f"last batch: first in {name}")


def _advice(state: TrainingState, settings: Settings, X: np.ndarray) -> str:
    """What to try after a NonFiniteError."""
    doubt = doubt_about_scale(X)
    if doubt:
        return doubt[0].upper() + doubt[1:]
    if state.adam.t == 0:
        return "No step was taken yet: look at the data, the model and its beta"
    return f"Try a smaller lr than {settings.lr:g}"


def _what_must_stay(settings: Settings, rng: np.random.Generator, images: Images) -> dict:
    """What must be as before, beside the model, to resume: settings, kind of rng, data."""
    test = None if images.X_test is None else digest(images.X_test)
    return {**settings._asdict(), "rng": type(rng.bit_generator).__name__,
            "X": digest(images.X), "X_test": test}


def _check_kinds(vae, adam, callback, stop, checkpoint, resume, note) -> None:
    """Raise TypeError for an argument of `fit` that is of another kind than it says there."""
    path = str | PathLike | None
    for name, value, kind, words in (
            ("vae", vae, Model, "a VAE or DiscreteVAE"), ("adam", adam, Adam | None, "an Adam"),
            ("callback", callback, Callable | None, "a function"),
            ("stop", stop, Callable | None, "a function"),
            ("checkpoint", checkpoint, path, "a path"), ("resume", resume, path, "a path"),
            ("note", note, dict | None, "a dict ready for JSON")):
        check_kind(value, kind, name, words)
    try:
        json.dumps(note)
    except (TypeError, ValueError) as error:
        raise TypeError(f"note must be ready for JSON: {error}") from None


def check_settings(epochs: int, batch_size: int, samples: int, lr: float, warmup: float = 0,
                   decay: float = 1.0, patience: int | None = None) -> None:
    """Raise TypeError for a setting of the wrong kind, ValueError for one out of range.

    They are explained at `fit`.
    """
    counts = {"epochs": epochs, "batch_size": batch_size, "samples": samples}
    if patience is not None:
        counts["patience"] = patience
    for name, value in counts.items():
        whole_number(value, name)
    if not 0 < number(lr, "lr") < np.inf:
        raise ValueError(f"lr must be a number > 0, got {in_short(lr)}")
    if not 0 <= number(warmup, "warmup") < np.inf:
        raise ValueError(f"warmup must be a number of epochs >= 0, got {in_short(warmup)}")
    if not 0 < number(decay, "decay") <= 1:
        raise ValueError(f"decay must be a number > 0 and at most 1, got {in_short(decay)}: lr is "
                         "multiplied by it in each epoch")
