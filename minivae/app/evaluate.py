"""One finished run, judged: how tight its bound is, and which of its latents say anything."""

import json
import sys
from os import PathLike
from pathlib import Path

import numpy as np

from minivae.saving.archive import digest
from minivae.data import load_data
from minivae.pixels import ONCE, is_grey, scales_of
from minivae.training.batches import draw
from minivae.training.loop import EVALUATION_SEED, NonFiniteError, check_data
from minivae.training.metrics import ACTIVE, measure
from minivae.saving.runs import open_run

DEFAULT_IMAGES = 500            # of a larger test set: log p(x) takes `samples` passes for each


def place(out: str | PathLike | None, folder: Path, name: str) -> Path:
    """Where the file `name` goes: into `folder`, or to `out`, which means a file where it ends like one (.png), else a folder."""
    path = folder / name if out is None else Path(out) if Path(out).suffix and not Path(out).is_dir() else Path(out) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class Evaluation:
    """The numbers of the run in `folder`; everything is checked before anything is computed.

    data and data_dir stand in for what the run noted, for files that have moved.
    """

    def __init__(self, folder: str | PathLike, samples: int, images: int | None = None, data: str | None = None, data_dir: str | None = None):
        self.trained, self.samples = open_run(folder), samples
        self.folder, self.config, self.vae, _ = self.trained
        self.data = load_data(data or self.config["data"], data_dir or self.config["data_dir"])
        x_test, treatment = self.data.x_test, self.config["binarize"]
        check_data(self.vae, x_test, f"{self.data.name}: x_test", treatment)
        self.same_images = digest(x_test) == self.config["test_sha256"]
        self.grey = treatment == "none" and self.vae.likelihood.binary and is_grey(x_test)
        self.chosen = min(images or DEFAULT_IMAGES, len(x_test))
        # evenly spaced, because the first half of a test set may be easier than the second: in MNIST it is
        index = np.arange(self.chosen) * len(x_test) // self.chosen
        scale = scales_of(self.data.x_train, x_test)[1]
        self.x = draw(x_test, index, scale, treatment, np.random.default_rng(EVALUATION_SEED), self.vae.dtype)

    def run(self) -> None:
        """Compute; seeded, so that the same run gets the same numbers."""
        self.report = r = measure(self.vae, self.x, self.samples, [EVALUATION_SEED, 1], progress=sys.stderr.isatty())
        if not np.isfinite([*r.elbo, *r.log_px]).all():
            row = np.argmin(np.isfinite(r.elbo) & np.isfinite(r.log_px))
            raise NonFiniteError(f"the ELBO or log p(x) is not finite, first at image {row} of those chosen")
        self.active = r.mu_variance > ACTIVE
        n = len(r.elbo)
        self.error_draws = float(np.sqrt((r.log_px_error**2).sum()) / n)                # images are independent: their variances add
        self.error_images = float(r.log_px.std(ddof=1) / np.sqrt(n)) if n > 1 else None

    def warnings(self) -> list[str]:
        """What a reader of the numbers must know."""
        found = []
        if not self.same_images:
            found.append("these are not the test images that the run held out: the model may have been trained on some of them")
        if self.grey:
            found.append("grey pixels under a Bernoulli likelihood: no likelihood of the data, so its log p(x) compares with no other")
        return found

    def as_dict(self) -> dict:
        """For --json: nats per image, means over the images."""
        r = self.report
        return {"run": str(self.folder), "data": self.data.note, "binarize": self.config["binarize"], "test_images": len(self.data.x_test),
                "images": self.chosen, "samples": self.samples, "elbo": float(r.elbo.mean()), "recon": float(r.recon.mean()),
                "kl": float(r.kl.mean()), "log_px": float(r.log_px.mean()), "log_px_error": self.error_draws,
                "log_px_error_images": self.error_images, "gap": float((r.log_px - r.elbo).mean()), "kl_per_dim": r.kl_per_dim.tolist(),
                "mu_variance": r.mu_variance.tolist(), "active": self.active.tolist(), "active_units": int(self.active.sum()),
                "warnings": self.warnings()}

    def print_head(self, newest: bool) -> None:
        self.trained.print_head(newest)
        total = len(self.data.x_test)
        some = f"{self.chosen} of {total} test images, evenly spaced; --images {total} takes them all"
        print(f"data      {self.data.note}")
        print(f"pixels    {ONCE[self.config['binarize']]}")
        print(f"images    {some if self.chosen < total else f'all {total} test images'}")
        print(f"draws     {self.samples} of z per image (the test ELBO of training has one, and more noise)\n", flush=True)

    def print_numbers(self) -> None:
        d, dash = self.as_dict(), "-" * 9
        from_images = "" if self.error_images is None else f", {self.error_images:.3f} from the choice of images"
        print(f"{'nats per image':32s} {dash}")
        print(f"{'ELBO = -(recon + KL)':32s} {d['elbo']:9.3f}")
        print(f"{'  recon = -log p(x|z)':32s} {d['recon']:9.3f}")
        print(f"{'  KL(q || prior)':32s} {d['kl']:9.3f}")
        print(f"{'log p(x), importance sampling':32s} {d['log_px']:9.3f}   standard error {self.error_draws:.3f} from the draws{from_images}")
        print(f"{'gap = log p(x) - ELBO':32s} {d['gap']:9.3f}   = KL(q || true posterior): what a better encoder could win")
        print(f"\nlatent    KL    variance of the posterior mean, {self.vae.latent.mean_name}, over the images")
        for j in np.argsort(-self.report.kl_per_dim, kind="stable"):
            print(f"{j:6d} {d['kl_per_dim'][j]:7.3f} {d['mu_variance'][j]:9.4f}   {'active' if self.active[j] else '-'}")
        print(f"{d['active_units']} of {len(self.active)} active: variance > {ACTIVE:g} (Burda et al. 2016)")

    def draw_picture(self, out: str | PathLike | None = None) -> Path:
        from minivae.app import plots                          # matplotlib: heavy, so imported when wanted

        path = place(out, self.folder, "kl_per_dimension.png")
        plots.kl_per_dimension(self.report.kl_per_dim, self.active, path)
        return path
