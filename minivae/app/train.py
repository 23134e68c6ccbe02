"""One training run: a model, a printed line for each epoch, and a folder of files."""

import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from threading import Timer

import numpy as np

from minivae import __version__
from minivae.app.exit_codes import EXIT_OK
from minivae.app.folders import KEPT, LOCK, PICTURES, as_argument, shown
from minivae.app.lines import EpochTable, hanging, new_images, next_commands, program, warn
from minivae.app.settings import RunSettings
from minivae.app.signals import StopAsked
from minivae.data import Data
from minivae.data.published import PUBLISHED, find_folder
from minivae.estimators import multi_sample_bound
from minivae.locks import locked
from minivae.pixels import BINARIZE, choose_binarize, doubt_about_scale, is_grey, scales_of
from minivae.saving import checkpoint
from minivae.saving.archive import digest, write_whole
from minivae.saving.model_file import build
from minivae.training.batches import check_data, draw
from minivae.training.blocks import blocks_of
from minivae.training.evaluation import EVALUATION_SEED
from minivae.training.loop import fit
from minivae.training.ranks import Alone, Ranks
from minivae.vae import VAE


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
    ranks : Ranks, optional
        Those of MPI, which train together; rank 0 alone touches files, and prints.

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
    model     64 - 200 - 8 - 200 - 64, relu, bernoulli likelihood, beta 1: 30,880
              parameters
    """

    def __init__(self, data: Data, settings: RunSettings, make_folder: Callable[[], Path],
                 resume: str | PathLike | None = None, ranks: Ranks | None = None):
        self.data, self.settings, self.resume = data, settings, resume
        self.ranks = ranks or Alone()
        with self.ranks.agree():
            self._prepare(make_folder)

    def _prepare(self, make_folder: Callable[[], Path]) -> None:
        """Check everything, and only then make the folder."""
        data, settings = self.data, self.settings
        settings.check()
        rng = np.random.default_rng(settings.seed)
        if not settings.conv:
            check_memory([data.x_train.shape[1], *settings.hidden, settings.latent])
        self.vae = build(settings.model_config(data.image_shape), rng)
        self.binarize = choose_binarize(settings.binarize, self.vae.likelihood)
        self._check_together()
        _, self.scale_test = scales_of(data.x_train, data.x_test)
        self.history, self.epochs_drawn = [], 0
        self.history_throttle = checkpoint.Throttle()
        if self.ranks.first:
            if self.resume is not None:
                self.history = self._history_before()
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
        the signal that stopped it.  Raises NonFiniteError where the loss turns NaN or infinite, and
        Locked where another process trains in this folder.
        """
        with ExitStack() as stack:
            with self.ranks.agree():
                if self.ranks.first:
                    stack.enter_context(locked(self.out / LOCK, f"{self.out} is being trained"))
                    self._begin()
            return self._train()

    def _begin(self) -> None:
        """Print what the run is, write it into its folder, and compile."""
        if self.resume is not None:
            # read again: another process may have trained here until now
            self.history = self._history_before()
        print("\n".join(self.describe()), end="\n\n", flush=True)
        config = json.dumps(self.config(), indent=1) + "\n"
        write_whole(self.out / "config.json", config.encode())
        for warning in self.warnings():
            warn(warning)
        warnings.filterwarnings("ignore", "X: the images are")         # `fit` would say it again
        compile_kernels(self.data.x_train, self.settings, self.binarize)
        self.table = EpochTable(self.settings.epochs, self.history)
        print(EpochTable.LEGEND, flush=True)

    def _train(self) -> int:
        # what is not finite is found by the training, and told in its own words
        with StopAsked(says=self.ranks.first) as stop, np.errstate(all="ignore"):
            try:
                self._fit(stop)
            finally:
                if self.history:
                    self._write_history()
            signals = [number for number in self.ranks.gather(lambda: stop.number) if number]
            exit_code = 128 + signals[0] if signals else EXIT_OK
            if not self.ranks.first:
                return exit_code
            if signals:
                self._print_files()
                self._print_how_to_resume()
                return exit_code
        self._print_best()
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
            stop=stop, progress=sys.stderr.isatty(), **self._of_first())

    def _of_first(self) -> dict:
        """What `fit` gets on rank 0 alone, beside its data and settings."""
        if not self.ranks.first:
            return {"comm": self.ranks}
        comm = None if isinstance(self.ranks, Alone) else self.ranks
        return {"callback": self._after_epoch, "checkpoint": self.out / "model.npz",
                "resume": self.resume, "note": self.config(), "comm": comm}

    def _after_epoch(self, row: dict) -> None:
        """Print the epoch's line; renew the history and, now and then, the pictures."""
        self.history.append(row)
        print(self.table.row(row), flush=True)
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
        size = sum(param.size for _, param, _ in self.vae.named_params())
        parts = [self._layers_in_words(), s.activation, *self._latent_in_words(),
                 f"{s.likelihood} likelihood", f"beta {s.beta:g}"]
        lines = [
            ("data", f"{data.note}; {len(data.x_train)} to train on, {len(data.x_test)} to test"),
            ("pixels", BINARIZE[self.binarize]),
            ("model", f"{', '.join(parts)}: {size:,} parameters"),
            ("training", self._training_in_words())]
        if s.warmup:
            lines.append(("warm-up", f"beta rises from 0 to {s.beta:g} within {_epochs(s.warmup)}"))
        if s.decay < 1:
            lines.append(("decay", f"each epoch leaves {s.decay:g} of the learning rate"))
        if s.patience:
            lines.append(("stopping", f"after {_epochs(s.patience)} without a better ELBO on a "
                          "tenth of the training images, held out; the best model goes into "
                          "best.npz"))
        if not isinstance(self.ranks, Alone):
            lines.append(("ranks", f"{self.ranks.size} of MPI, each takes its part of every batch"))
        if self.resume:
            lines.append(("resumed", f"from {self.resume}, in epoch {len(self.history) + 1}"))
        lines.append(("folder", str(self.out)))
        return [hanging(name, shown(words)) for name, words in lines]

    def _layers_in_words(self) -> str:
        """The widths of the layers, or the channels of the convolutions."""
        s, D = self.settings, self.vae.x_dim
        if not s.conv:
            return " - ".join(map(str, [D, *s.hidden, s.latent, *reversed(s.hidden), D]))
        H, W, C = (*self.data.image_shape, 1)[:3]
        channels = " - ".join(map(str, [C, *s.conv]))
        return f"convolutions of {H} x {W} images, channels {channels}, {s.latent} latents"

    def _latent_in_words(self) -> list[str]:
        """The latent and its settings, unless it is the usual Gaussian one."""
        if self.settings.latent_kind == RunSettings.latent_kind:
            return []
        numbers = [f"{name} {value:g}" for name, value in self.vae.latent.settings.items()]
        return [", ".join([f"{self.settings.latent_kind} latent", *numbers])]

    def _training_in_words(self) -> str:
        """Epochs, batches, samples, estimator, step size and seed."""
        s = self.settings
        parts = [_epochs(s.epochs), f"batches of {s.batch_size}",
                 f"{s.samples} sample{'s' * (s.samples > 1)} of z per image",
                 f"estimator {s.estimator}"]
        if self.vae.estimator.takes_baseline:
            parts.append(f"baseline {s.baseline}")
        return ", ".join([*parts, f"Adam {s.lr:g}", f"seed {s.seed}"])

    def warnings(self) -> list[str]:
        """What whoever reads the numbers must know."""
        found, s = [doubt_about_scale(self.data.x_train)], self.settings
        if self.vae.likelihood.binary and self.binarize == "none" and is_grey(self.data.x_train):
            found.append("grey pixels under a Bernoulli likelihood: the loss is a cross-entropy "
                         "and no likelihood of the data; --binarize dynamic or --likelihood "
                         "gaussian mends it")
        if s.samples == 1 and self.vae.estimator.objective is multi_sample_bound:
            found.append(f"with 1 sample of z the bound of {s.estimator} is the plain ELBO: "
                         "--samples 5, for example, makes it tighter")
        blocks = len(blocks_of(min(s.batch_size, len(self.data.x_train))))
        if self.ranks.size > blocks:
            found.append(f"a batch of {s.batch_size} images makes {blocks} of the "
                         f"{self.ranks.size} ranks work: a larger --batch-size makes more")
        return [warning for warning in found if warning]

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
        rng, ink = np.random.default_rng(EVALUATION_SEED), plots.is_ink(self.settings.data)
        x = draw(self.data.x_test, rows, self.scale_test, self.binarize, rng, vae.dtype)
        few = rows[: 4 * plots.in_a_row(shape)]
        images = draw(self.data.x_test, few, self.scale_test, "none", rng, vae.dtype)
        labels = None if self.data.y_test is None else self.data.y_test[: len(rows)]
        mean, kl = vae.q_mean_and_kl(x)
        kl_per_dim = kl.mean(axis=0, dtype=np.float64)
        chance = vae.x_dim * np.log(2) if vae.likelihood.binary else None
        plots.curves(self.history, out / "curves.png", chance)
        plots.reconstructions(images, x[few], vae.reconstruct(x[few]), shape,
                              out / "reconstructions.png", ink)
        new = vae.sample(min(100, 10 * plots.in_a_row(shape)), rng=0)
        plots.samples(new, shape, out / "samples.png", vae.latent.prior, ink)
        plots.latent(mean, labels, kl_per_dim, out / "latent.png", vae.latent.mean_name,
                     vae.latent.unit)

    # --- what is printed at the end ---

    def _print_samples(self) -> None:
        """New images, on a terminal that they fit."""
        if sys.stdout.isatty():
            images = new_images(self.vae, self.data.image_shape, len(self.history))
            if images:
                print(f"\n{images}", flush=True)
                self.table.restart()

    def _print_best(self) -> None:
        """Which epoch was the best one, and why training stopped if it did so early."""
        best, patience = self.table.best, self.settings.patience
        if len(self.history) < self.settings.epochs:
            print("stopped early: no better ELBO on the held-out images in " + _epochs(patience))
        where = "; best.npz is its model" if patience else ""
        print(f"the best was epoch {best['epoch']}, test loss {-best['test_elbo']:.2f}{where}")

    def _print_files(self) -> None:
        print("\nwrote")
        for path in (self.out / name for name in (*KEPT, *PICTURES)):
            if path.exists():
                print(f"  {shown(path)}")

    def _print_how_to_resume(self) -> None:
        epoch, epochs = len(self.history) + 1, self.settings.epochs
        launcher = "" if isinstance(self.ranks, Alone) else f"mpiexec -n {self.ranks.size} "
        print(f"\nstopped in epoch {epoch} of {epochs}, and saved.  To go on, bit for bit:\n"
              f"  {launcher}{program()} train --resume {as_argument(self.out)}")

    def _print_next_commands(self) -> None:
        print(f"\ntry next\n{next_commands(self.settings, self.out)}")


def _epochs(n: float) -> str:
    return f"{n:g} epoch{'s' * (n != 1)}"


def compile_kernels(X: np.ndarray, settings: RunSettings, binarize: str) -> None:
    """Compile the kernels that training needs, and say so where that takes more than a second.

    Training a tiny model on two images compiles them.
    """
    message = "minivae: compiling the kernels, some seconds; they are kept for the next start"
    timer = Timer(1.0, print, [message], {"file": sys.stderr})
    timer.start()
    try:
        small = VAE.mlp(X.shape[1], [1], 1, likelihood=settings.likelihood,
                        activation=settings.activation, dtype=np.dtype(settings.dtype))
        fit(small, X[:2], epochs=1, batch_size=2, binarize=binarize, rng=0)
    finally:
        timer.cancel()
