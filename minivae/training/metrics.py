"""What a trained model is worth: log p(x) by importance sampling, its ELBO, and each latent's part.

The ELBO lies below log p(x) by KL(q || true posterior), the gap.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minivae import estimators
from minivae.choices import check_kind, generator, whole_number
from minivae.model import Model
from minivae.training.workers import judge_each

# images and draws of one forward pass: enough rows for the BLAS, few enough to stay in cache
IMAGES_PER_PASS, DRAWS_PER_PASS = 10, 100
ACTIVE_VARIANCE = 0.01          # Burda et al. (2016), section 5.2


class Measured(NamedTuple):
    """What `measure` found, in nats: a number for each of N images, or for each of Z latents."""

    elbo: np.ndarray            # (N,)
    recon: np.ndarray           # (N,)
    kl: np.ndarray              # (N,)
    log_px: np.ndarray          # (N,)
    log_px_error: np.ndarray    # (N,)  standard error of log_px
    kl_per_dim: np.ndarray      # (Z,)  mean over the images
    mu_variance: np.ndarray     # (Z,)  variance over the images, no nats


class RunningLogMean:
    """log mean_k w_k of weights that come in parts, given as log w, and its standard error.

    The sums are kept divided by e^top, where top is the largest log w so far: nothing overflows,
    and memory does not grow with the number of weights.  B is the number of images.
    """

    def __init__(self, B: int):
        self.count = 0
        self.top = np.full(B, -np.inf)
        self.sum_w = np.zeros(B)            # sum_k w_k / e^top
        self.sum_w2 = np.zeros(B)           # sum_k (w_k / e^top)^2

    def add(self, logw: np.ndarray) -> None:
        """logw : (k, B), nats: k more weights for each image."""
        logw = logw.astype(np.float64)
        top = np.maximum(self.top, logw.max(axis=0))
        shrink = np.exp(self.top - top)     # the old sums were divided by e^(old top)
        w = np.exp(logw - top)
        self.sum_w = shrink * self.sum_w + w.sum(axis=0)
        self.sum_w2 = shrink**2 * self.sum_w2 + (w**2).sum(axis=0)
        self.top = top
        self.count += len(logw)

    @property
    def value(self) -> np.ndarray:
        """log mean_k w_k : (B,), nats."""
        return self.top + np.log(self.sum_w / self.count)

    @property
    def error(self) -> np.ndarray:
        """The standard error of `value`, std(w) / (mean(w) sqrt(count)) : (B,), nats."""
        mean = self.sum_w / self.count
        variance = np.maximum(self.sum_w2 / self.count - mean**2, 0)
        return np.sqrt(variance / (self.count - 1)) / mean


def log_px(vae: Model, x: np.ndarray, samples: int = 5000, rng=None, n_jobs: int | None = None
           ) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and its standard error from draws of q(z|x) : (N,) twice, nats.

    log p(x) ~ log mean_k w_k,  w_k = p(x, z_k) / q(z_k|x).  The mean of w is p(x) on average; its
    logarithm lies below log p(x) on average.
    Source: Burda et al. (2016), arXiv:1509.00519, section 5; Rezende et al. (2014), appendix E.

    Parameters
    ----------
    vae : VAE or DiscreteVAE
    x : (N, D) array
        Pixels as the model sees them: grey ones are binarised before.
    samples : int, at least 2
        Draws of z for each image.
    rng : None, int or numpy.random.Generator
    n_jobs : int
        How many workers of joblib's backend share the images, -1 for one on each core; left out,
        this process judges them.  The numbers are the same.

    Raises
    ------
    TypeError
        For samples or n_jobs that are no whole number.
    ValueError
        For an x that does not fit the model, fewer than 2 samples, or an n_jobs of 0.
    ChildProcessError
        When a worker was killed.
    """
    check_kind(vae, Model, "vae", "a VAE or DiscreteVAE")
    log_mean, error, _ = _from_draws(vae, vae.pixels(x), samples, rng, n_jobs)
    return log_mean, error


def _from_draws(vae: Model, x: np.ndarray, samples: int, rng, n_jobs: int | None,
                progress: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p(x), its standard error, and recon = mean_k -log p(x|z_k) : (N,) each, nats."""
    whole_number(samples, "samples", at_least=2)
    groups = _groups(x, samples, generator(rng))
    # backward is never called here, and `elbo` is the estimator whose weights cost least
    with vae.with_objective(estimators.elbo, beta=1.0):
        found = list(tqdm(judge_each(_draw_for_few, vae, groups, n_jobs), "images", leave=False,
                          total=-(-len(x) // IMAGES_PER_PASS), file=sys.stderr,
                          disable=not progress, unit=f" x {IMAGES_PER_PASS}"))
    estimate, error, recon = (np.concatenate(parts) for parts in zip(*found))
    return estimate, error, recon


def _groups(x: np.ndarray, samples: int, rng: np.random.Generator) -> Iterator[tuple]:
    """Yield a few images of x (N, D), how many draws they get, and the seed of these draws.

    Groups have seeds of their own, so that none waits for the draws of those before it.
    """
    seed = rng.integers(2**32, size=4).tolist()
    for first in range(0, len(x), IMAGES_PER_PASS):
        yield x[first : first + IMAGES_PER_PASS], samples, [*seed, first]


def _draw_for_few(vae: Model, x: np.ndarray, samples: int, seed: list[int]
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for images that fit into one forward pass : (B,) each."""
    rng = np.random.default_rng(seed)
    log_mean, recon = RunningLogMean(len(x)), np.zeros(len(x))
    for done in range(0, samples, DRAWS_PER_PASS):
        eps = vae.noise(min(DRAWS_PER_PASS, samples - done), len(x), rng)
        result = vae.forward(x, eps)
        log_mean.add(result.logw)                          # (k, B)
        recon += len(eps) * result.recon
    return log_mean.value, log_mean.error, recon / samples


def mu_variance(mu: np.ndarray) -> np.ndarray:
    """Var_n(mu_nj) over the images, divided by N   : (N, Z)  ->  (Z,)."""
    return mu.var(axis=0, dtype=np.float64)


def active_units(mu: np.ndarray, threshold: float = ACTIVE_VARIANCE) -> np.ndarray:
    """Which latents depend on the image: Var_n(mu_nj) > threshold   : (N, Z)  ->  (Z,) bool.

    Source: Burda et al. (2016), arXiv:1509.00519, section 5.2.  They found the variances far from
    0.01, on either side.
    """
    return mu_variance(mu) > threshold


def measure(vae: Model, x: np.ndarray, samples: int = 1000, rng=None, progress: bool = False,
            n_jobs: int | None = None) -> Measured:
    """ELBO, log p(x) and the part of each latent, with beta = 1 whatever training had.

    Parameters
    ----------
    vae : VAE or DiscreteVAE
    x : (N, D) array
        Pixels as the model sees them: grey ones are binarised before.
    samples : int, at least 2
        Draws of z for each image.  ELBO and log p(x) come from the same ones:
        ELBO = mean_k log p(x|z_k) - KL(q || p), the KL on paper;
        log p(x) ~ log mean_k w_k, see `log_px`.
    rng : None, int or numpy.random.Generator
    progress : bool
        Show a bar on stderr.
    n_jobs : int
        How many workers of joblib's backend share the images, -1 for one on each core; left out,
        this process judges them.  The numbers are the same.

    Returns
    -------
    Measured
        elbo, recon, kl, log_px and its standard error, (N,) each, and kl_per_dim and mu_variance,
        (Z,).  log_px - elbo estimates KL(q || true posterior), the gap.  mu is E_q[z], which is
        sigmoid(a) where z is binary.

    Raises
    ------
    TypeError
        For samples or n_jobs that are no whole number.
    ValueError
        For an x that does not fit the model, fewer than 2 samples, or an n_jobs of 0.
    ChildProcessError
        When a worker was killed.
    """
    check_kind(vae, Model, "vae", "a VAE or DiscreteVAE")
    x = vae.pixels(x)
    estimate, error, recon = _from_draws(vae, x, samples, rng, n_jobs, progress)
    mu, kl_each = vae.q_mean_and_kl(x)                         # (N, Z) twice
    kl = kl_each.sum(axis=1, dtype=np.float64)
    return Measured(elbo=-(recon + kl), recon=recon, kl=kl, log_px=estimate, log_px_error=error,
                    kl_per_dim=kl_each.mean(axis=0, dtype=np.float64), mu_variance=mu_variance(mu))


def interpolate(vae: Model, x_from: np.ndarray, x_to: np.ndarray, steps: int = 9) -> np.ndarray:
    """Images on the way from each row of x_from to that of x_to : (N, steps, D), ends included.

    Each is E[x|z] of a z between the likeliest ones of the two images: on a line, or for coins with
    those that differ turned over one by one.

    x_from, x_to : (N, D), pixels as the model sees them;  steps : int, at least 2
    Raises ValueError for images that do not fit the model, TypeError for steps that are no number.
    """
    steps = whole_number(steps, "steps", at_least=2)
    check_kind(vae, Model, "vae", "a VAE or DiscreteVAE")
    ends = []                                                                  # (N, Z) twice
    for name, x in (("x_from", x_from), ("x_to", x_to)):
        try:
            ends.append(vae.likeliest_z(x))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    a, b = ends
    if len(a) != len(b):
        raise ValueError(f"x_from has {len(a)} images, x_to {len(b)}: wanted as many")
    t = np.linspace(0, 1, steps, dtype=vae.dtype)[:, None]
    z = vae.latent.between(a[:, None], b[:, None], t)                          # (N, steps, Z)
    return vae.decode(z.reshape(-1, vae.z_dim)).reshape(len(a), steps, -1)
