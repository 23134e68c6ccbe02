"""One training run: a model, its line per epoch, and its folder of files."""

import csv
import io
import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import numpy as np

from minivae import __version__
from minivae.saving.archive import digest, write_whole
from minivae.data import Data
from minivae.data.published import PUBLISHED, find_folder
from minivae.saving.model_file import build
from minivae.app.signals import StopAsked
from minivae.saving import checkpoint
from minivae.pixels import choose_treatment, is_grey, scales_of
from minivae.training.batches import draw
from minivae.training.loop import EVALUATION_SEED, check_data, check_settings, fit
from minivae.vae import VAE

SHADES = " .:-=+*#%@"
FILES = ("model.npz", "model.prev.npz", "best.npz", "config.json", "history.csv", "curves.png", "reconstructions.png", "samples.png", "latent.png")


def settings_to_resume(said: dict) -> tuple[Path, Namespace]:
    """The checkpoint that `--resume` means, and the settings of its run with what may be said anew: epochs, and where the data are now."""
    path = Path(said["resume"])
    path = path / "model.npz" if path.is_dir() else path
    _, meta = checkpoint.read(path)
    note, trained = meta.get("note"), len(meta["progress"]["history"])
    if not isinstance(note, dict) or "epochs" not in note:
        raise checkpoint.CheckpointError(f"{path} was not written by `minivae train`: in Python, fit(resume=...) goes on from it")
    for name in sorted(set(said) & {*note, "out"} - {"epochs", "data", "data_dir"}):
        if said[name] != note.get(name):
            option = "--" + name.replace("_", "-")
            has = f"the run has {note[name]}, and only --epochs may be changed" if name in note else "a resumed run stays in its folder"
            raise ValueError(f"{option} {said[name]} with --resume: {has}")
    settings = Namespace(**{**note, **said})
    if trained >= settings.epochs:
        raise ValueError(f"{path} has trained {trained} epochs of {settings.epochs} already: --epochs {2 * trained} would double them")
    return path, settings


def compile_kernels(X: np.ndarray, settings: Namespace, treatment: str) -> None:
    """Train a twin with one hidden unit on two images: what a first use compiles is then compiled.  A word if that takes a second."""
    word = Timer(1.0, print, ["minivae: compiling the kernels, some seconds; they are kept, so the next start is quick"], {"file": sys.stderr})
    word.start()
    try:
        twin = VAE.mlp(X.shape[1], [1], 1, likelihood=settings.likelihood, activation=settings.activation, dtype=np.dtype(settings.dtype))
        fit(twin, X[:2], epochs=1, batch_size=2, binarize=treatment, rng=0)
    finally:
        word.cancel()


class Run:
    """Train on `data` with `settings`; `make_folder` is called only once everything is known to be in order.

    resume : a checkpoint to go on from, in the folder that make_folder returns.
    """

    def __init__(self, data: Data, settings: Namespace, make_folder: Callable[[], Path], resume: Path | None = None):
        self.data, self.settings, self.resume = data, settings, resume
        check_settings(settings.epochs, settings.batch_size, settings.samples, settings.lr, settings.warmup, settings.decay, settings.patience)
        named = {"temperature": settings.temperature} if settings.latent_kind == "concrete" else {}
        rng = np.random.default_rng(settings.seed)
        self.vae = build({
            "x_dim": data.x_train.shape[1], "hidden": settings.hidden, "z_dim": settings.latent,
            "activation": settings.activation, "likelihood": settings.likelihood,
            "logvar": "shared", "beta": settings.beta, "estimator": settings.estimator,
            "baseline": {"name": settings.baseline}, "dtype": settings.dtype,
            "latent": {"name": settings.latent_kind, **named}}, rng)
        self.treatment = choose_treatment(settings.binarize, self.vae.likelihood)
        self.history: list[dict] = []
        self.seldom, self.drawn = checkpoint.Throttle(), 0
        # some refuse a beta, a single sample or a latent: say so now
        self.vae.try_estimator(settings.samples, 0.0 if settings.warmup else settings.beta)
        for X, name in ((data.x_train, "x_train"), (data.x_test, "x_test")):
            check_data(self.vae, X, f"{data.name}: {name}", self.treatment)
        if resume:
            _, meta = checkpoint.read(resume)
            self.history = meta["progress"]["history"]
            checkpoint.check_same_data(resume, meta, digest(data.x_train), digest(data.x_test))
        _, self.scale_test = scales_of(data.x_train, data.x_test)
        self.out = make_folder()

    def train(self) -> int:
        """Fit, and leave the files in the folder; they are renewed as the epochs pass.  Returns the exit code."""
        s, data = self.settings, self.data
        shape = " - ".join(map(str, [self.vae.x_dim, *s.hidden, s.latent, *reversed(s.hidden), self.vae.x_dim]))
        size = sum(p.size for _, p, _ in self.vae.named_params())
        print(f"data      {data.note}; {len(data.x_train)} to train on, {len(data.x_test)} to test")
        print(f"pixels    {TREATMENTS[self.treatment]}")
        print(f"model     {shape}, {s.activation}, {self._latent_in_words()}{s.likelihood} likelihood, beta {s.beta:g}: {size:,} parameters")
        epochs = f"{s.epochs} epoch{'s' * (s.epochs > 1)}"
        draws = f"{s.samples} sample{'s' * (s.samples > 1)} of z per image"
        baseline = f", baseline {s.baseline}" if self.vae.estimator.takes_baseline else ""
        print(f"training  {epochs}, batches of {s.batch_size}, {draws}, estimator {s.estimator}{baseline}, Adam {s.lr:g}, seed {s.seed}")
        for line in self._schedules():
            print(line)
        print(f"folder    {self.out}\n", flush=True)
        write_whole(self.out / "config.json", (json.dumps(self.config(), indent=1) + "\n").encode())
        if self.treatment == "none" and self.vae.likelihood.binary and is_grey(data.x_train):
            print("minivae: warning: grey pixels under a Bernoulli likelihood: the loss is a cross-entropy and no likelihood of the data; "
                  "--binarize dynamic or --likelihood gaussian mends it", file=sys.stderr)
        compile_kernels(data.x_train, s, self.treatment)
        print("epoch       loss      recon         kl  test ELBO   (nats per image)    seconds", flush=True)
        with StopAsked() as stop:
            fit(self.vae, data.x_train, X_test=data.x_test, epochs=s.epochs, batch_size=s.batch_size, lr=s.lr, samples=s.samples,
                binarize=self.treatment, warmup=s.warmup, decay=s.decay, patience=s.patience, rng=[s.seed, 1], callback=self._after_epoch,
                checkpoint=self.out / "model.npz", resume=self.resume, stop=stop, note=self.config(), progress=sys.stderr.isatty())
        if self.history:
            self._write_history()
        if stop.number is not None:
            self._name_files()
            print(f"\nstopped in epoch {len(self.history) + 1} of {s.epochs}, and saved.  To go on from there, bit for bit:\n"
                  f"  minivae train --resume {shlex.quote(str(self.out))}")
            return 128 + stop.number
        if len(self.history) < s.epochs:
            print(f"stopped early: no better ELBO on the held-out images in {s.patience} epochs")
        if self.drawn < len(self.history):
            self._draw_pictures()
        if sys.stdout.isatty():
            print(self._in_letters(), flush=True)
        self._name_files()
        self._say_goodbye()
        return 0

    def _schedules(self) -> list[str]:
        """In words, what changes while the training runs."""
        s, lines = self.settings, []
        if s.warmup:
            lines.append(f"warm-up   beta rises from 0 to {s.beta:g} within {s.warmup:g} epochs")
        if s.decay < 1:
            lines.append(f"decay     each epoch leaves {s.decay:g} of the learning rate")
        if s.patience:
            lines.append(f"stopping  after {s.patience} epochs without a better ELBO on a tenth of the training images, held out; "
                         "the best model goes into best.npz")
        if self.resume:
            lines.append(f"resumed   from {self.resume}, in epoch {len(self.history) + 1}")
        return lines

    def config(self) -> dict:
        """What the run was trained on and how, for whoever looks at it later.

        Paths are absolute, because the next command may be typed elsewhere; the digest tells whether
        the file still holds the same test images.
        """
        s, named = self.settings, self.settings.data in ("digits", *PUBLISHED)
        data_dir = find_folder(s.data, s.data_dir) if s.data in PUBLISHED else None
        names = ("epochs", "batch_size", "lr", "samples", "estimator", "baseline", "latent_kind", "temperature", "beta", "likelihood",
                 "hidden", "latent", "activation", "dtype", "seed", "warmup", "decay", "patience")
        return {"minivae": __version__, "data": s.data if named else str(Path(s.data).absolute()),
                "data_dir": data_dir and str(data_dir.absolute()), "image_shape": list(self.data.image_shape), "binarize": self.treatment,
                "test_sha256": digest(self.data.x_test), **{name: getattr(s, name) for name in names}}

    def _latent_in_words(self) -> str:
        if self.settings.latent_kind == "gaussian":
            return ""
        return f"{self.settings.latent_kind} latent{''.join(f', {k} {v:g}' for k, v in self.vae.latent.settings.items())}, "

    def _after_epoch(self, row: dict) -> None:
        self.history.append(row)
        numbers = " ".join(f"{row[name]:10.2f}" for name in ("loss", "recon", "kl", "test_elbo"))
        print(f"{row['epoch']:5d} {numbers} {row['seconds']:28.1f}", flush=True)
        if self.seldom.due():
            with self.seldom.timed():
                self._write_history()
        e = row["epoch"]
        if e in (1, 2, 5, 10) or e % 20 == 0:              # often while much changes, then seldom
            self._draw_pictures()
            if sys.stdout.isatty() and e == 1:
                print(self._in_letters(), flush=True)

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_whole(self.out / "history.csv", text.getvalue().encode())

    def _draw_pictures(self) -> None:
        from minivae.app import plots                          # matplotlib: heavy, so imported when wanted

        self.drawn = len(self.history)
        seen = np.arange(min(2000, len(self.data.x_test)))
        x = draw(self.data.x_test, seen, self.scale_test, self.treatment, np.random.default_rng(EVALUATION_SEED), self.vae.dtype)
        mean, kl = self.vae.posterior(x)
        labels = None if self.data.y_test is None else self.data.y_test[:2000]
        shape, out = self.data.image_shape, self.out
        plots.curves(self.history, out / "curves.png")
        plots.reconstructions(x[:40], self.vae.reconstruct(x[:40]), shape, out / "reconstructions.png")
        plots.samples(self.vae.sample(100, rng=0), shape, out / "samples.png", self.vae.latent.prior)
        plots.latent(mean, labels, kl.mean(axis=0, dtype=np.float64), out / "latent.png", self.vae.latent.mean_name)

    def _in_letters(self) -> str:
        """Four new images as shades of text, side by side."""
        H, W = self.data.image_shape
        if 4 * 2 * W > 240:
            return ""
        images = self.vae.sample(4, rng=0).reshape(4, H, W).clip(0, 1)
        shade = np.array(list(SHADES))[(images * (len(SHADES) - 1)).round().astype(int)]
        return "\n".join("   ".join("".join(2 * pixel for pixel in shade[i, y]) for i in range(4)) for y in range(H))

    def _name_files(self) -> None:
        print("\nwrote")
        for path in (self.out / name for name in FILES):
            if path.exists():
                print(f"  {path}")

    def _say_goodbye(self) -> None:
        s, folder = self.settings, shlex.quote(str(self.out))
        print("\ntry next")
        print(f"  minivae evaluate {folder:24s} log p(x), the gap above the ELBO, what each latent says")
        print(f"  minivae latent {folder:26s} pictures of what each latent does, and of the way from image to image")
        if s.data == "digits":
            print("  minivae --latent 2                        two latents: look at latent.png")
        else:
            place = f" --data-dir {shlex.quote(s.data_dir)}" if s.data_dir else ""
            print(f"  minivae train --data {shlex.quote(s.data)}{place} --beta 4        a stronger KL: fewer latents speak")
        print("  minivae train --data images.npy           images of your own")
        load = f"minivae.load({json.dumps(str(self.out))})"
        print(f"  python -c {shlex.quote(f'import minivae; print({load}.sample(1).round(1))')}")
