"""One finished run, judged: how tight its bound is, and which of its latents say anything."""

import sys
from os import PathLike
from pathlib import Path

import numpy as np

from minivae.app.lines import hanging
from minivae.pixels import ONCE, is_grey, scales_of
from minivae.saving.archive import digest
from minivae.saving.runs import open_run
from minivae.training.batches import check_data, draw
from minivae.training.evaluation import EVALUATION_SEED, NonFiniteError
from minivae.training.metrics import ACTIVE_VARIANCE, active_units, measure

DEFAULT_IMAGES = 500            # of a larger test set: log p(x) takes `samples` passes for each


class Evaluation:
    """The numbers of the run in `folder`.  Everything is checked before anything is computed.

    Parameters
    ----------
    folder : path
        A run folder of `minivae train`, or a model's file in it.
    samples : int
        Draws of z for each image, at least 2.
    images : int, optional
        How many test images, evenly spaced; left out, DEFAULT_IMAGES, or all of fewer.
    data, data_dir, key : str, optional
        Where the data are now, if they have moved since the run noted it.
    jobs : int
        How many processes judge the images; the numbers are the same.

    Raises
    ------
    ValueError
        In one line, for a run that is missing or damaged, and data that the model cannot take.
    """

    def __init__(self, folder: str | PathLike, samples: int, images: int | None = None,
                 data: str | None = None, data_dir: str | None = None, key: str | None = None,
                 jobs: int = 1):
        self.trained, self.samples = open_run(folder), samples
        self.n_jobs = jobs if jobs > 1 else None           # of one, this process does the work
        self.folder, self.config, self.vae, _ = self.trained
        self.data = self.trained.images(data, data_dir, key)
        x_test, binarize = self.data.x_test, self.config["binarize"]
        check_data(self.vae, x_test, f"{self.data.name}: x_test", binarize)
        self.same_images = digest(x_test) == self.config["test_sha256"]
        self.grey = binarize == "none" and self.vae.likelihood.binary and is_grey(x_test)
        self.n_images = min(images or DEFAULT_IMAGES, len(x_test))
        # evenly spaced, because the first half of a test set may be easier: in MNIST it is
        index = np.arange(self.n_images) * len(x_test) // self.n_images
        _, scale = scales_of(self.data.x_train, x_test)
        rng = np.random.default_rng(EVALUATION_SEED)
        self.x = draw(x_test, index, scale, binarize, rng, self.vae.dtype)

    def run(self) -> None:
        """Compute.  It is seeded, so the same run gets the same numbers.

        Raises NonFiniteError where the ELBO or log p(x) of an image is not finite, and
        ChildProcessError where a worker was killed.
        """
        seed, progress = [EVALUATION_SEED, 1], sys.stderr.isatty()
        self.report = r = measure(self.vae, self.x, self.samples, seed, progress, self.n_jobs)
        finite = np.isfinite(r.elbo) & np.isfinite(r.log_px)
        if not finite.all():
            raise NonFiniteError("the ELBO or log p(x) is not finite, first at image "
                                 f"{np.argmin(finite)} of those chosen")
        mean, _ = self.vae.q_mean_and_kl(self.x)
        self.active = active_units(mean)
        n = len(r.elbo)
        # images are independent, so the variances of their estimates add
        self.error_draws = float(np.sqrt((r.log_px_error**2).sum()) / n)
        self.error_images = float(r.log_px.std(ddof=1) / np.sqrt(n)) if n > 1 else None

    def warnings(self) -> list[str]:
        """What a reader of the numbers must know."""
        found = []
        if not self.same_images:
            found.append("these are not the test images that the run held out: the model may have "
                         "been trained on some of them")
        if self.grey:
            found.append("grey pixels under a Bernoulli likelihood: no likelihood of the data, so "
                         "its log p(x) compares with no other")
        return found

    def as_dict(self) -> dict:
        """For --json: nats per image, means over the images."""
        r = self.report
        return {"run": str(self.folder), "data": self.data.note,
                "binarize": self.config["binarize"], "test_images": len(self.data.x_test),
                "images": self.n_images, "samples": self.samples,
                "elbo": float(r.elbo.mean()), "recon": float(r.recon.mean()),
                "kl": float(r.kl.mean()), "log_px": float(r.log_px.mean()),
                "log_px_error": self.error_draws, "log_px_error_images": self.error_images,
                "gap": float((r.log_px - r.elbo).mean()), "kl_per_dim": r.kl_per_dim.tolist(),
                "mu_variance": r.mu_variance.tolist(), "active": self.active.tolist(),
                "active_units": int(self.active.sum()), "warnings": self.warnings()}

    def print_head(self, newest: bool) -> None:
        """Print which run it is, and what it is judged on; newest: nobody named it."""
        self.trained.print_head(newest)
        total = len(self.data.x_test)
        images = f"all {total} test images"
        if self.n_images < total:
            images = (f"{self.n_images} of {total} test images, evenly spaced; "
                      f"--images {total} takes them all")
        print(hanging("data", self.data.note))
        print(hanging("pixels", ONCE[self.config["binarize"]]))
        print(hanging("images", images))
        print(hanging("draws", f"{self.samples} of z per image (the test loss of training has one, "
                      "and more noise)"), end="\n\n", flush=True)

    def print_numbers(self) -> None:
        """Print the means over the images, and a line for each latent dimension."""
        d = self.as_dict()
        rows = [("ELBO = -(recon + KL)", d["elbo"]), ("  recon = -log p(x|z)", d["recon"]),
                ("  KL(q || prior)", d["kl"]), ("log p(x), importance sampling", d["log_px"]),
                ("  standard error from the draws", self.error_draws)]
        if self.error_images is not None:
            rows.append(("  standard error from the choice of images", self.error_images))
        rows.append(("gap = log p(x) - ELBO = KL(q || posterior)", d["gap"]))
        print(f"{'':42s} nats per image")
        for name, number in rows:
            print(f"{name:42s} {number:14.3f}")
        mean = self.vae.latent.mean_name
        print(f"\nlatent      KL  variance of {mean}, the posterior mean, over the images")
        for j in np.argsort(-self.report.kl_per_dim, kind="stable"):
            active = "active" if self.active[j] else "-"
            print(f"{j:6d} {d['kl_per_dim'][j]:7.3f}  {d['mu_variance'][j]:8.4f}  {active}")
        print(f"{d['active_units']} of {len(self.active)} active: "
              f"variance > {ACTIVE_VARIANCE:g} (Burda et al. 2016)")

    def draw_picture(self, path: Path) -> None:
        """Draw the KL of every latent dimension."""
        from minivae.app import plots                      # heavy: it brings matplotlib

        plots.kl_per_dimension(self.report.kl_per_dim, self.report.mu_variance, path,
                               self.n_images, self.vae.latent.mean_name)
