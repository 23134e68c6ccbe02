"""log p(x) by importance sampling."""

import numpy as np

from minivae.vae import VAE

IMAGES, DRAWS = 10, 100          # one forward pass: enough rows for the BLAS, few enough to stay in cache


def log_px(vae: VAE, x: np.ndarray, samples: int = 5000, rng=None) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and its standard error, (N,) each, in nats, from `samples` draws of q(z|x) per image.

    log p(x) ~ log mean_k w_k,  w_k = p(x, z_k) / q(z_k|x).  The mean of w has no bias; its logarithm
    lies below log p(x) on average.  Standard error: std(w) / (mean(w) sqrt(samples)).
    The sums are streamed, relative to the largest log w so far, so memory does not grow with `samples`.
    Source: Burda et al. (2016), arXiv:1509.00519, section 5; Rezende et al. (2014), appendix E.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    x, rng = vae.pixels(x), np.random.default_rng(rng)
    estimate, error = np.empty(len(x)), np.empty(len(x))
    with vae.undisturbed():
        for first in range(0, len(x), IMAGES):
            part = slice(first, first + IMAGES)
            B = len(x[part])
            top, sum_w, sum_w2 = np.full(B, -np.inf), np.zeros(B), np.zeros(B)        # sums of w / e^top and of its square
            for k in range(0, samples, DRAWS):
                eps = rng.standard_normal((min(DRAWS, samples - k), B, vae.z_dim), vae.dtype)
                logw = vae.forward(x[part], eps).logw.astype(np.float64)              # (k, B)
                new = np.maximum(top, logw.max(axis=0))
                shrink, w = np.exp(top - new), np.exp(logw - new)
                top, sum_w, sum_w2 = new, shrink * sum_w + w.sum(axis=0), shrink**2 * sum_w2 + (w**2).sum(axis=0)
            mean = sum_w / samples
            estimate[part] = top + np.log(mean)
            error[part] = np.sqrt(np.maximum(sum_w2 / samples - mean**2, 0) / (samples - 1)) / mean
    return estimate, error
