"""Gradient estimators: a table of five weights.  Page 4 of the lesson (after latents).

"What is held constant?"  The objective reaches the parameters along five wires, and an estimator
is nothing but the weight that it puts on each wire, for sample k of example n.  To hold something
constant is to multiply its wire by zero.  An estimator is a function from Terms to Wires, and its
attribute `objective` is the function whose value forward reports.

    wire     from, to                                                        shape
    decoder  log p(x|z_k), to theta and to z_k                               (K, B)  a weight
    latent   log p(z_k) - log q(z_k|x), to z_k                               (K, B)  a weight
    path     all that reached z_k, on to (mu, logvar): z moves with phi      (K, B)  a gain: 1 open, 0 cut
    score    log q(z_k|x), straight to (mu, logvar), z_k held fixed          (K, B)  a weight
    kl       the analytic KL, to (mu, logvar)                                (B,)    a weight

    estimator   decoder    latent      path   score        kl          maximises
    elbo        1/(K B)    0           1      0            -beta/B     mean log p(x|z) - beta KL
    elbo_mc     1/(K B)    beta/(K B)  1      -beta/(K B)  0           the same, KL from the samples

Weights are for the objective to be MAXIMISED; VAE.backward turns the sign, once.  The mean over
the batch enters the gradient here, as 1/B, and nowhere else.
"""

from typing import NamedTuple

import numpy as np


class Terms(NamedTuple):
    """What forward knows, in nats: three log-probabilities (K, B), the analytic kl (B,), and beta."""

    log_px: np.ndarray
    log_pz: np.ndarray
    log_qz: np.ndarray
    kl: np.ndarray
    beta: float


class Wires(NamedTuple):
    """Four weights and a gain; see the table above."""

    decoder: np.ndarray
    latent: np.ndarray
    path: np.ndarray
    score: np.ndarray
    kl: np.ndarray


def analytic_elbo(t: Terms) -> tuple[np.ndarray, np.ndarray]:
    """mean_k log p(x|z_k) - beta KL, and the KL, integrated on paper : (B,) each, nats."""
    return t.log_px.mean(axis=0) - t.beta * t.kl, t.kl


def sampled_elbo(t: Terms) -> tuple[np.ndarray, np.ndarray]:
    """The same with KL ~ mean_k (log q(z_k|x) - log p(z_k)), which may be negative by chance."""
    kl = (t.log_qz - t.log_pz).mean(axis=0)
    return t.log_px.mean(axis=0) - t.beta * kl, kl


def elbo(t: Terms) -> Wires:
    """E_q[log p(x|z)] - beta KL, the KL analytic.  Kingma & Welling (2014), eq. 10.

    theta hears the reconstruction only; phi hears it through z, and the KL directly.
    """
    K, B = t.log_px.shape
    one, zero = np.ones_like(t.log_px), np.zeros_like(t.log_px)
    return Wires(decoder=one / (K * B), latent=zero, path=one, score=zero, kl=np.full_like(t.kl, -t.beta / B))


elbo.objective = analytic_elbo


def elbo_mc(t: Terms) -> Wires:
    """E_q[log p(x|z)] - beta E_q[log q(z|x) - log p(z)], from the samples.  Kingma & Welling (2014), eq. 6.

    The total derivative: log q hears phi through z (latent, then path) and in its formula (score).
    """
    K, B = t.log_px.shape
    one = np.ones_like(t.log_px)
    w = one / (K * B)
    return Wires(decoder=w, latent=t.beta * w, path=one, score=-t.beta * w, kl=np.zeros_like(t.kl))


elbo_mc.objective = sampled_elbo

ESTIMATORS = {"elbo": elbo, "elbo_mc": elbo_mc}
