"""What a trained model is worth: log p(x) by importance sampling, the ELBO below it, and what each latent says."""

import sys
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minivae import estimators
from minivae.vae import VAE

IMAGES, DRAWS = 10, 100          # one forward pass: enough rows for the BLAS, few enough to stay in cache
ACTIVE = 0.01                    # Burda et al. (2016), section 5.2


class Report(NamedTuple):
    """What `measure` found, in nats: elbo, recon, kl, log_px, log_px_error (N,); kl_per_dim, mu_variance (Z,)."""

    elbo: np.ndarray
    recon: np.ndarray
    kl: np.ndarray
    log_px: np.ndarray
    log_px_error: np.ndarray
    kl_per_dim: np.ndarray
    mu_variance: np.ndarray


def log_px(vae: VAE, x: np.ndarray, samples: int = 5000, rng=None) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and its standard error, (N,) each, in nats, from `samples` draws of q(z|x) per image.

    log p(x) ~ log mean_k w_k,  w_k = p(x, z_k) / q(z_k|x).  The mean of w has no bias; its logarithm
    lies below log p(x) on average.  Standard error: std(w) / (mean(w) sqrt(samples)).
    The sums are streamed, relative to the largest log w so far, so memory does not grow with `samples`.
    Source: Burda et al. (2016), arXiv:1509.00519, section 5; Rezende et al. (2014), appendix E.
    """
    return _from_draws(vae, vae.pixels(x), samples, rng)[:2]


def _from_draws(vae: VAE, x: np.ndarray, samples: int, rng, progress: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p(x), its standard error and recon = mean_k -log p(x|z_k) : (N,) each, from the same draws."""
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    rng = np.random.default_rng(rng)
    estimate, error, recon = np.empty(len(x)), np.empty(len(x)), np.empty(len(x))
    firsts = tqdm(range(0, len(x), IMAGES), "images", leave=False, file=sys.stderr, disable=not progress, unit=f" x {IMAGES}")
    # only forward is wanted here, and the wires of `elbo` cost least
    with vae.undisturbed(), vae.judged_by(estimators.elbo, beta=1.0):
        for first in firsts:
            part = slice(first, first + IMAGES)
            B = len(x[part])
            top, sum_w, sum_w2 = np.full(B, -np.inf), np.zeros(B), np.zeros(B)        # sums of w / e^top and of its square
            sum_recon = np.zeros(B)
            for k in range(0, samples, DRAWS):
                eps = vae.noise(min(DRAWS, samples - k), B, rng)
                result = vae.forward(x[part], eps)
                logw = result.logw.astype(np.float64)                                 # (k, B)
                new = np.maximum(top, logw.max(axis=0))
                shrink, w = np.exp(top - new), np.exp(logw - new)
                top, sum_w, sum_w2 = new, shrink * sum_w + w.sum(axis=0), shrink**2 * sum_w2 + (w**2).sum(axis=0)
                sum_recon += len(eps) * result.recon
            mean = sum_w / samples
            estimate[part] = top + np.log(mean)
            error[part] = np.sqrt(np.maximum(sum_w2 / samples - mean**2, 0) / (samples - 1)) / mean
            recon[part] = sum_recon / samples
    return estimate, error, recon


def kl_per_dim(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """mean_n 1/2 (mu_nj^2 + e^logvar_nj - 1 - logvar_nj)   : (N, Z) twice  ->  (Z,), nats per image.

    q and the prior have independent dimensions, so KL(q || p) is this sum over j.  A dimension whose
    q is the prior for every image says nothing and has 0.  Source: Kingma & Welling (2014), appendix B.
    """
    return 0.5 * (mu**2 + np.expm1(logvar) - logvar).mean(axis=0, dtype=np.float64)


def mu_variance(mu: np.ndarray) -> np.ndarray:
    """Var_n(mu_nj) over the images, divided by N   : (N, Z)  ->  (Z,)."""
    return mu.var(axis=0, dtype=np.float64)


def active_units(mu: np.ndarray, threshold: float = ACTIVE) -> np.ndarray:
    """Which latent dimensions depend on the image: Var_n(mu_nj) > threshold   : (N, Z)  ->  (Z,) bool.

    Burda et al. (2016), arXiv:1509.00519, section 5.2, who saw a wide empty space around 0.01.
    """
    return mu_variance(mu) > threshold


def measure(vae: VAE, x: np.ndarray, samples: int = 1000, rng=None, progress: bool = False) -> Report:
    """ELBO, log p(x) and what each latent says, for the images x, with beta = 1 whatever the model was trained with.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array
        Pixels as the model sees them: grey ones are binarised before.
    samples : int
        S, the draws of z for each image.  ELBO and log p(x) come from the same ones:
        ELBO = mean_k log p(x|z_k) - KL(q || p), the KL on paper;  log p(x) ~ log mean_k w_k, see `log_px`.
    rng : None, int or numpy.random.Generator
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    Report
        elbo, recon, kl, log_px and its standard error, (N,) each, and kl_per_dim and mu_variance, (Z,).
        log_px - elbo estimates KL(q || true posterior), the gap.  mu is E_q[z]: sigmoid(a) where z is binary.

    Raises
    ------
    ValueError
        For x of another width or outside [0, 1], or fewer than 2 samples.
    """
    x = vae.pixels(x)
    estimate, error, recon = _from_draws(vae, x, samples, rng, progress)
    mean, each = vae.posterior(x)
    kl = each.sum(axis=1, dtype=np.float64)
    return Report(-(recon + kl), recon, kl, estimate, error, each.mean(axis=0, dtype=np.float64), mu_variance(mean))
