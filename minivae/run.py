"""One training run: a model, its line per epoch, and its folder of files."""

import csv
import io
import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minivae import __version__
from minivae.archive import digest, write_whole
from minivae.data import Data
from minivae.data.published import PUBLISHED, find_folder
from minivae.estimators import ESTIMATORS, Terms
from minivae.model import choose
from minivae.training.batches import choose_treatment, draw, is_grey, scales_of
from minivae.training.loop import EVALUATION_SEED, check_data, check_settings, fit
from minivae.training.metrics import kl_per_dim
from minivae.vae import VAE

COLUMNS = ["epoch", "loss", "recon", "kl", "test_elbo", "seconds"]
SHADES = " .:-=+*#%@"
TREATMENT_IN_WORDS = {"dynamic": "black or white, drawn afresh from their grey levels at every pass (dynamic binarisation)",
                      "threshold": "black or white, cut at one half",
                      "none": "as they are"}


class Run:
    """Train on `data` with `settings`; `make_folder` is called only once everything is known to be in order."""

    def __init__(self, data: Data, settings: Namespace, make_folder: Callable[[], Path]):
        self.data, self.settings = data, settings
        check_settings(settings.epochs, settings.batch_size, settings.samples, settings.lr)
        self.vae = VAE.mlp(data.x_train.shape[1], settings.hidden, settings.latent, likelihood=settings.likelihood,
                           activation=settings.activation, beta=settings.beta,
                           estimator=choose(settings.estimator, ESTIMATORS, "estimator"), rng=settings.seed, dtype=np.dtype(settings.dtype))
        self.treatment = choose_treatment(settings.binarize, self.vae.likelihood)
        self.history: list[dict] = []
        nothing = np.zeros((settings.samples, 1))
        self.vae.estimator(Terms(nothing, nothing, nothing, nothing[0], settings.beta))    # some refuse a beta or a single sample: say so now
        for X, name in ((data.x_train, "x_train"), (data.x_test, "x_test")):
            check_data(self.vae, X, f"{data.name}: {name}", self.treatment)
        _, self.scale_test = scales_of(data.x_train, data.x_test)
        self.out = make_folder()

    def train(self) -> None:
        """Fit, and leave the files in the folder; they are renewed as the epochs pass."""
        s, data = self.settings, self.data
        shape = " - ".join(map(str, [self.vae.x_dim, *s.hidden, s.latent, *reversed(s.hidden), self.vae.x_dim]))
        size = sum(p.size for _, p, _ in self.vae.named_params())
        print(f"data      {data.note}; {len(data.x_train)} to train on, {len(data.x_test)} to test")
        print(f"pixels    {TREATMENT_IN_WORDS[self.treatment]}")
        print(f"model     {shape}, {s.activation}, {s.likelihood} likelihood, beta {s.beta:g}: {size:,} parameters")
        epochs = f"{s.epochs} epoch{'s' * (s.epochs > 1)}"
        draws = f"{s.samples} sample{'s' * (s.samples > 1)} of z per image"
        print(f"training  {epochs}, batches of {s.batch_size}, {draws}, estimator {s.estimator}, Adam {s.lr:g}, seed {s.seed}")
        print(f"folder    {self.out}\n", flush=True)
        write_whole(self.out / "config.json", (json.dumps(self.config(), indent=1) + "\n").encode())
        if self.treatment == "none" and self.vae.likelihood.binary and is_grey(data.x_train):
            print("minivae: warning: grey pixels under a Bernoulli likelihood: the loss is a cross-entropy and no likelihood of the data; "
                  "--binarize dynamic or --likelihood gaussian mends it", file=sys.stderr)
        print("epoch       loss      recon         kl  test ELBO   (nats per image)    seconds", flush=True)
        fit(self.vae, data.x_train, X_test=data.x_test, epochs=s.epochs, batch_size=s.batch_size, lr=s.lr, samples=s.samples,
            binarize=self.treatment, rng=[s.seed, 1], callback=self._after_epoch, progress=sys.stderr.isatty())
        self._say_goodbye()

    def config(self) -> dict:
        """What the run was trained on and how, for whoever looks at it later.

        Paths are absolute, because the next command may be typed elsewhere; the digest tells whether
        the file still holds the same test images.
        """
        s, named = self.settings, self.settings.data in ("digits", *PUBLISHED)
        data_dir = find_folder(s.data, s.data_dir) if s.data in PUBLISHED else None
        names = ("epochs", "batch_size", "lr", "samples", "estimator", "beta", "likelihood", "hidden", "latent", "activation", "dtype", "seed")
        return {"minivae": __version__, "data": s.data if named else str(Path(s.data).absolute()),
                "data_dir": data_dir and str(data_dir.absolute()), "binarize": self.treatment,
                "test_sha256": digest(self.data.x_test), **{name: getattr(s, name) for name in names}}

    def _after_epoch(self, row: dict) -> None:
        self.history.append(row)
        numbers = " ".join(f"{row[name]:10.2f}" for name in ("loss", "recon", "kl", "test_elbo"))
        print(f"{row['epoch']:5d} {numbers} {row['seconds']:28.1f}", flush=True)
        self.vae.save(self.out / "model.npz")
        self._write_history()
        e, last = row["epoch"], row["epoch"] == self.settings.epochs
        if last or e in (1, 2, 5, 10) or e % 20 == 0:      # often while much changes, then seldom
            self._draw_pictures()
            if sys.stdout.isatty() and (e == 1 or last):
                print(self._in_letters(), flush=True)

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_whole(self.out / "history.csv", text.getvalue().encode())

    def _draw_pictures(self) -> None:
        from minivae import plots                          # matplotlib: heavy, so imported when wanted

        seen = np.arange(min(2000, len(self.data.x_test)))
        x = draw(self.data.x_test, seen, self.scale_test, self.treatment, np.random.default_rng(EVALUATION_SEED), self.vae.dtype)
        mu, logvar = self.vae.encode(x)
        labels = None if self.data.y_test is None else self.data.y_test[:2000]
        shape, out = self.data.image_shape, self.out
        plots.curves(self.history, out / "curves.png")
        plots.reconstructions(x[:40], self.vae.reconstruct(x[:40]), shape, out / "reconstructions.png")
        plots.samples(self.vae.sample(100, rng=0), shape, out / "samples.png")
        plots.latent(mu, labels, kl_per_dim(mu, logvar), out / "latent.png")

    def _in_letters(self) -> str:
        """Four new images as shades of text, side by side."""
        H, W = self.data.image_shape
        if 4 * 2 * W > 240:
            return ""
        images = self.vae.sample(4, rng=0).reshape(4, H, W).clip(0, 1)
        shade = np.array(list(SHADES))[(images * (len(SHADES) - 1)).round().astype(int)]
        return "\n".join("   ".join("".join(2 * pixel for pixel in shade[i, y]) for i in range(4)) for y in range(H))

    def _say_goodbye(self) -> None:
        s = self.settings
        files = ["model.npz", "config.json", "history.csv", "curves.png", "reconstructions.png", "samples.png", "latent.png"]
        print("\nwrote")
        for name in files:
            print(f"  {self.out / name}")
        print("\ntry next")
        print(f"  minivae evaluate {shlex.quote(str(self.out)):24s} log p(x), the gap above the ELBO, what each latent says")
        if s.data == "digits":
            print("  minivae --latent 2                        two latents: look at latent.png")
        else:
            place = f" --data-dir {shlex.quote(s.data_dir)}" if s.data_dir else ""
            print(f"  minivae train --data {shlex.quote(s.data)}{place} --beta 4        a stronger KL: fewer latents speak")
        print("  minivae train --data images.npy           images of your own")
        load = f"VAE.load({json.dumps(str(self.out / 'model.npz'))})"
        print(f"  python -c {shlex.quote(f'from minivae import VAE; print({load}.sample(1).round(1))')}")
