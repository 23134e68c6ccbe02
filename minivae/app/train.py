"""One training run: a model, a printed line for each epoch, and a folder of files."""

import csv
import io
import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from threading import Timer

import numpy as np

from minivae import __version__
from minivae.app.exit_codes import EXIT_OK
from minivae.app.settings import RunSettings
from minivae.app.signals import StopAsked
from minivae.data import Data
from minivae.data.published import PUBLISHED, find_folder
from minivae.pixels import BINARIZE, choose_binarize, is_grey, scales_of
from minivae.saving import checkpoint
from minivae.saving.archive import digest, write_whole
from minivae.saving.model_file import build
from minivae.training.batches import check_data, draw
from minivae.training.evaluation import EVALUATION_SEED
from minivae.training.loop import fit
from minivae.vae import VAE

FILES = ("model.npz", "model.prev.npz", "best.npz", "config.json", "history.csv", "curves.png",
         "reconstructions.png", "samples.png", "latent.png")
# what config.json says of a run besides its settings
ABOUT_THE_RUN = ("minivae", "image_shape", "test_sha256")

EPOCH_HEAD = "epoch       loss      recon         kl  test ELBO   (nats per image)    seconds"
SHADES = " .:-=+*#%@"            # from white to black, for pictures in letters
LETTERS = 240                   # of a line, at most; wider pictures are left out


def settings_to_resume(run: str | PathLike, given: dict) -> tuple[Path, RunSettings]:
    """The checkpoint of the run that --resume names, and the settings to go on with.

    Parameters
    ----------
    run : a run folder, or a checkpoint in it
    given : dict
        The settings that are asked for.  epochs may be raised, and data and data_dir say where the
        data are now; anything else must be as the run has it.

    Raises
    ------
    ValueError
        For a checkpoint that `minivae train` did not write, another setting, or epochs that are
        over already.
    """
    path = Path(run)
    if path.is_dir():
        path = path / "model.npz"
    _, meta = checkpoint.read(path)
    before = _settings_of(path, meta)
    for name in sorted(given.keys() - {"epochs", "data", "data_dir"}):
        if given[name] != getattr(before, name):
            raise ValueError(f"--{name.replace('_', '-')} {given[name]} with --resume: the run has "
                             f"{getattr(before, name)}, and only --epochs may be changed")
    settings = replace(before, **given)
    trained = len(meta["state"]["history"])
    if trained >= settings.epochs:
        raise ValueError(f"{path} has trained {trained} epochs of {settings.epochs} already: "
                         f"--epochs {2 * trained} would double them")
    return path, settings


def _settings_of(path: Path, meta: dict) -> RunSettings:
    """The settings in a checkpoint's note.  Raises CheckpointError where it has none."""
    note = meta.get("note")
    if not isinstance(note, dict) or "minivae" not in note:
        raise checkpoint.CheckpointError(f"{path} was not written by `minivae train`: in Python, "
                                         "fit(resume=...) goes on from it")
    try:
        return RunSettings.from_json({name: value for name, value in note.items()
                                      if name not in ABOUT_THE_RUN})
    except ValueError as error:
        raise checkpoint.CheckpointError(f"{path} describes no training that this version knows: "
                                         f"{error}") from None


def check_memory(widths: list[int]) -> None:
    """Raise ValueError for layers of these widths that the machine has no memory for.

    A weight of the encoder has its like in the decoder; each of them has a gradient and Adam's two
    moments, 4 bytes or more each.  The system might promise that memory, and then end the process.
    """
    wanted = 32 * sum(n_in * n_out for n_in, n_out in pairwise(widths))
    if not hasattr(os, "sysconf"):                         # Windows
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > memory:
        layers = " - ".join(map(str, widths))
        raise ValueError(f"an encoder of {layers} units, and its decoder, take "
                         f"{wanted / 2**30:,.0f} GiB in training, and this machine has "
                         f"{memory / 2**30:,.0f}: choose a smaller --hidden or --latent")


class Run:
    """One training run.  Everything is checked before `make_folder` is called.

    Parameters
    ----------
    data : Data
        What `load_data(settings.data)` returns.
    settings : RunSettings
    make_folder : function without arguments
        Returns the folder to write into, which exists.  A wrong setting leaves no folder behind.
    resume : path, optional
        A checkpoint in that folder, to go on from.

    Raises
    ------
    ValueError
        In one line, for a setting out of range, settings that do not go together, images that the
        model cannot be trained on, or a checkpoint of other data.

    Examples
    --------
    >>> from minivae import load_data
    >>> run = Run(load_data("digits"), RunSettings(epochs=1), lambda: Path("."))
    >>> print(run.describe()[2])
    model     64 - 200 - 8 - 200 - 64, relu, bernoulli likelihood, beta 1: 30,880 parameters
    """

    def __init__(self, data: Data, settings: RunSettings, make_folder: Callable[[], Path],
                 resume: str | PathLike | None = None):
        settings.check()
        self.data, self.settings, self.resume = data, settings, resume
        rng = np.random.default_rng(settings.seed)
        check_memory([data.x_train.shape[1], *settings.hidden, settings.latent])
        self.vae = build(settings.model_config(data.x_train.shape[1]), rng)
        self.binarize = choose_binarize(settings.binarize, self.vae.likelihood)
        self._check_together()
        _, self.scale_test = scales_of(data.x_train, data.x_test)
        self.history = [] if resume is None else self._history_before()
        self.epochs_drawn = 0
        self.history_throttle = checkpoint.Throttle()
        self.out = make_folder()

    def _check_together(self) -> None:
        """Raise ValueError for an estimator or images that this model cannot be trained with."""
        first_beta = 0.0 if self.settings.warmup else self.settings.beta
        self.vae.try_estimator(self.settings.samples, first_beta)
        for X, name in ((self.data.x_train, "x_train"), (self.data.x_test, "x_test")):
            check_data(self.vae, X, f"{self.data.name}: {name}", self.binarize)

    def _history_before(self) -> list[dict]:
        """The epochs in the checkpoint.  Raises CheckpointError where its data are others."""
        _, meta = checkpoint.read(self.resume)
        x_train, x_test = self.data.x_train, self.data.x_test
        checkpoint.check_same_data(self.resume, meta, digest(x_train), digest(x_test))
        return meta["state"]["history"]

    def train(self) -> int:
        """Train, print how it goes, and leave the files in the folder.

        The files are renewed as the epochs pass.  Returns the exit code: 0, or 128 + the number of
        the signal that stopped it.  Raises NonFiniteError where the loss turns NaN or infinite.
        A start that leaves no model leaves no folder either: its name is free for the next one.
        """
        try:
            return self._train()
        finally:
            if not self.resume and not (self.out / "model.npz").exists():
                (self.out / "config.json").unlink(missing_ok=True)
                with suppress(OSError):                    # where there is more, it stays
                    self.out.rmdir()

    def _train(self) -> int:
        print("\n".join(self.describe()), end="\n\n", flush=True)
        config = json.dumps(self.config(), indent=1) + "\n"
        write_whole(self.out / "config.json", config.encode())
        for warning in self.warnings():
            print(f"minivae: warning: {warning}", file=sys.stderr)
        compile_kernels(self.data.x_train, self.settings, self.binarize)
        print(EPOCH_HEAD, flush=True)
        # what is not finite is found by the training, and told in its own words
        with StopAsked() as stop, np.errstate(all="ignore"):
            self._fit(stop)
            if self.history:
                self._write_history()
            if stop.number is not None:
                self._print_files()
                self._print_how_to_resume()
                return 128 + stop.number
        if len(self.history) < self.settings.epochs:
            print("stopped early: no better ELBO on the held-out images in "
                  f"{self.settings.patience} epochs")
        if self.epochs_drawn < len(self.history):
            self._draw_pictures()
        self._print_samples()
        self._print_files()
        self._print_next_commands()
        return EXIT_OK

    def _fit(self, stop: StopAsked) -> None:
        """Train until the epochs are over or `stop` says so."""
        s = self.settings
        fit(self.vae, self.data.x_train, X_test=self.data.x_test, epochs=s.epochs,
            batch_size=s.batch_size, lr=s.lr, samples=s.samples, binarize=self.binarize,
            warmup=s.warmup, decay=s.decay, patience=s.patience, rng=[s.seed, 1],
            callback=self._after_epoch, checkpoint=self.out / "model.npz", resume=self.resume,
            stop=stop, note=self.config(), progress=sys.stderr.isatty())

    def _after_epoch(self, row: dict) -> None:
        """Print the epoch's line; renew the history and, now and then, the pictures."""
        self.history.append(row)
        print(epoch_line(row), flush=True)
        if self.history_throttle.due():
            with self.history_throttle.timed():
                self._write_history()
        epoch = row["epoch"]
        # often while much changes, then seldom
        if epoch in (1, 2, 5, 10) or epoch % 20 == 0:
            self._draw_pictures()
        if epoch == 1:
            self._print_samples()

    # --- what the run is, as lines and as JSON ---

    def describe(self) -> list[str]:
        """What is trained on what, and how: a line for each, as they are printed first."""
        s, data = self.settings, self.data
        widths = [self.vae.x_dim, *s.hidden, s.latent, *reversed(s.hidden), self.vae.x_dim]
        layers = " - ".join(map(str, widths))
        size = sum(param.size for _, param, _ in self.vae.named_params())
        parts = [layers, s.activation, *self._latent_in_words(), f"{s.likelihood} likelihood",
                 f"beta {s.beta:g}"]
        lines = [
            f"data      {data.note}; {len(data.x_train)} to train on, {len(data.x_test)} to test",
            f"pixels    {BINARIZE[self.binarize]}",
            f"model     {', '.join(parts)}: {size:,} parameters",
            f"training  {self._training_in_words()}"]
        if s.warmup:
            lines.append(f"warm-up   beta rises from 0 to {s.beta:g} within {s.warmup:g} epochs")
        if s.decay < 1:
            lines.append(f"decay     each epoch leaves {s.decay:g} of the learning rate")
        if s.patience:
            lines.append(f"stopping  after {s.patience} epochs without a better ELBO on a tenth of "
                         "the training images, held out; the best model goes into best.npz")
        if self.resume:
            lines.append(f"resumed   from {self.resume}, in epoch {len(self.history) + 1}")
        return [*lines, f"folder    {self.out}"]

    def _latent_in_words(self) -> list[str]:
        """The latent and its settings, unless it is the usual Gaussian one."""
        if self.settings.latent_kind == RunSettings.latent_kind:
            return []
        numbers = [f"{name} {value:g}" for name, value in self.vae.latent.settings.items()]
        return [", ".join([f"{self.settings.latent_kind} latent", *numbers])]

    def _training_in_words(self) -> str:
        """Epochs, batches, samples, estimator, step size and seed."""
        s = self.settings
        parts = [f"{s.epochs} epoch{'s' * (s.epochs > 1)}", f"batches of {s.batch_size}",
                 f"{s.samples} sample{'s' * (s.samples > 1)} of z per image",
                 f"estimator {s.estimator}"]
        if self.vae.estimator.takes_baseline:
            parts.append(f"baseline {s.baseline}")
        return ", ".join([*parts, f"Adam {s.lr:g}", f"seed {s.seed}"])

    def warnings(self) -> list[str]:
        """What whoever reads the numbers must know."""
        if not self.vae.likelihood.binary or self.binarize != "none":
            return []
        if not is_grey(self.data.x_train):
            return []
        return ["grey pixels under a Bernoulli likelihood: the loss is a cross-entropy and no "
                "likelihood of the data; --binarize dynamic or --likelihood gaussian mends it"]

    def config(self) -> dict:
        """What config.json holds: the settings, and how to find and know the data again.

        Paths are absolute, because the next command may be typed elsewhere.  The digest tells
        whether the file still holds the same test images.
        """
        data, data_dir = self.settings.data, None
        if data in PUBLISHED:
            folder = find_folder(data, self.settings.data_dir)
            data_dir = None if folder is None else str(folder.absolute())
        elif data != "digits":
            data = str(Path(data).absolute())
        settings = replace(self.settings, data=data, data_dir=data_dir, binarize=self.binarize)
        return {"minivae": __version__, **settings.to_json(),
                "image_shape": list(self.data.image_shape), "test_sha256": digest(self.data.x_test)}

    # --- files ---

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_whole(self.out / "history.csv", text.getvalue().encode())

    def _draw_pictures(self) -> None:
        """curves.png, reconstructions.png, samples.png and latent.png of the model as it is now."""
        from minivae.app import plots                      # heavy: it brings matplotlib

        self.epochs_drawn = len(self.history)
        vae, shape, out = self.vae, self.data.image_shape, self.out
        rows = np.arange(min(2000, len(self.data.x_test)))
        rng = np.random.default_rng(EVALUATION_SEED)
        x = draw(self.data.x_test, rows, self.scale_test, self.binarize, rng, vae.dtype)
        labels = None if self.data.y_test is None else self.data.y_test[: len(rows)]
        mean, kl = vae.q_mean_and_kl(x)
        kl_per_dim = kl.mean(axis=0, dtype=np.float64)
        chance = vae.x_dim * np.log(2) if vae.likelihood.binary else None
        plots.curves(self.history, out / "curves.png", chance)
        plots.reconstructions(x[:40], vae.reconstruct(x[:40]), shape, out / "reconstructions.png")
        plots.samples(vae.sample(100, rng=0), shape, out / "samples.png", vae.latent.prior)
        plots.latent(mean, labels, kl_per_dim, out / "latent.png", vae.latent.mean_name)

    # --- what is printed at the end ---

    def _print_samples(self) -> None:
        """Four new images in letters, on a terminal that they may fit."""
        if sys.stdout.isatty() and 4 * 2 * self.data.image_shape[1] <= LETTERS:
            print(in_letters(self.vae.sample(4, rng=0), self.data.image_shape), flush=True)

    def _print_files(self) -> None:
        print("\nwrote")
        for path in (self.out / name for name in FILES):
            if path.exists():
                print(f"  {path}")

    def _print_how_to_resume(self) -> None:
        epoch, epochs = len(self.history) + 1, self.settings.epochs
        print(f"\nstopped in epoch {epoch} of {epochs}, and saved.  To go on from there, bit for "
              f"bit:\n  minivae train --resume {shlex.quote(str(self.out))}")

    def _print_next_commands(self) -> None:
        s, folder = self.settings, shlex.quote(str(self.out))
        if s.data == "digits":
            another = ("minivae --latent 2", "two latents: look at latent.png")
        else:
            data_dir = f" --data-dir {shlex.quote(s.data_dir)}" if s.data_dir else ""
            another = (f"minivae train --data {shlex.quote(s.data)}{data_dir} --beta 4",
                       "a stronger KL: fewer latents speak")
        load = f"minivae.load({json.dumps(str(self.out))})"
        code = f"import minivae; print({load}.sample(1).round(1))"
        print("\ntry next")
        for command, what in (
                (f"minivae explain {folder} --open",
                 "one backward pass as a live page: every number, every gradient"),
                (f"minivae evaluate {folder}",
                 "log p(x), the gap above the ELBO, what each latent says"),
                (f"minivae latent {folder}",
                 "pictures of what each latent does, and of the way from image to image"),
                another,
                ("minivae train --data images.npy", "images of your own"),
                (f"python -c {shlex.quote(code)}", "")):
            print(f"  {command:41s} {what}".rstrip())


def epoch_line(row: dict) -> str:
    """A row of the history below EPOCH_HEAD."""
    numbers = " ".join(f"{row[name]:10.2f}" for name in ("loss", "recon", "kl", "test_elbo"))
    return f"{row['epoch']:5d} {numbers} {row['seconds']:28.1f}"


def in_letters(images: np.ndarray, image_shape: tuple[int, int]) -> str:
    """images : (n, D) in [0, 1]  ->  the images side by side, two letters for each pixel."""
    H, W = image_shape
    levels = (images.reshape(-1, H, W).clip(0, 1) * (len(SHADES) - 1)).round().astype(int)
    lines = []
    for y in range(H):
        rows = ["".join(2 * SHADES[level] for level in image[y]) for image in levels]
        lines.append("   ".join(rows))
    return "\n".join(lines)


def compile_kernels(X: np.ndarray, settings: RunSettings, binarize: str) -> None:
    """Compile the kernels that training needs, and say so where that takes more than a second.

    Training a tiny model on two images compiles them.
    """
    message = ("minivae: compiling the kernels, some seconds; they are kept, so the next start is "
               "quick")
    timer = Timer(1.0, print, [message], {"file": sys.stderr})
    timer.start()
    try:
        small = VAE.mlp(X.shape[1], [1], 1, likelihood=settings.likelihood,
                        activation=settings.activation, dtype=np.dtype(settings.dtype))
        fit(small, X[:2], epochs=1, batch_size=2, binarize=binarize, rng=0)
    finally:
        timer.cancel()
