"""Gradient estimators: what runs along five wires.  Page 5 of the lesson (after vae.py).

Page 0 knows one estimator, `elbo`, the first row of the second table below.  Its backward begins
with drecon = dkl = 1/B; this page says what else can stand there.

"What is held constant?"  The objective reaches the parameters along five wires.  An estimator says
what each wire is multiplied by, for sample k of image n: four weights and a gain.  To hold
something constant is to multiply its wire by zero.  An estimator is a function from Terms to Wires;
the decorator above it names the objective whose value forward reports.

Signs: the weights are for the objective, which is MAXIMISED.  `Model.take_wires` turns the sign,
once, because the loss is -objective.  The 1/B of the mean over the batch is in the weights, and
nowhere else.

To begin with, read the rows `elbo` and `score`, and their functions.

    wire     from, to                                                 shape
    decoder  log p(x|z_k), to theta and to z_k                        (K, B)  a weight
    latent   log p(z_k) - log q(z_k|x), to z_k                        (K, B)  a weight
    path     all that reached z_k, on to (mu, logvar)                 (K, B)  a gain: 1 open, 0 cut
    score    log q(z_k|x), straight to (mu, logvar), z_k held fixed   (K, B)  a weight
    kl       the analytic KL, to (mu, logvar)                         (B,)    a weight

    estimator          decoder  latent      path  score                  kl       objective
    elbo               1/(K B)  0           1     0                      -beta/B  ELBO, KL analytic
    elbo_mc            1/(K B)  beta/(K B)  1     -beta/(K B)            0        ELBO, KL sampled
    stl                1/(K B)  beta/(K B)  1     0                      0        ELBO, KL sampled
    score              1/(K B)  0           0     (f - b)/(K B)          0        ELBO, KL sampled
    score_analytic_kl  1/(K B)  0           0     (log p(x|z) - b)/(K B) -beta/B  ELBO, KL analytic
    iwae               w~/B     w~/B        1     -w~/B                  0        L_K
    iwae_stl           w~/B     w~/B        1     0                      0        L_K, biased
    dreg               w~/B     w~/B        w~    0                      0        L_K
    rws                w~/B     0           0     w~/B                   0        L_K for theta only
    vimco              w~/B     0           0     (L_K - L_-k - w~)/B    0        L_K
    disarm             1/(K B)  0           0     s (log p(x|z) - b)/(K B) -beta/B ELBO, KL analytic

    L_K = log mean_k w_k,  w_k = p(x, z_k) / q(z_k|x),  w~ = w / sum_k w,
    f = log p(x|z) + beta (log p(z) - log q(z|x)),
    b = the model's baseline, by default the mean of f over the other samples (0 when K = 1).
    It may not depend on z_k itself.  baselines.py has others, with a memory.
    s = sigmoid(|a_j|) is a weight for every latent dimension, so the score of disarm is (K, B, Z).
    disarm wants binary latents and two samples from the noise u and 1 - u, see discrete.py.

Read a column downwards.  Score-function estimators cut the path, so backprop never passes from the
decoder to the encoder; pathwise ones open it.  Both give the same mean.

The loss is an estimate from one sample or a few; that of the ELBO is unbiased.  Where the decorator
says is_derivative, backward gives the derivative of the number that forward found.  Elsewhere
(score, stl, dreg, ..) it gives other numbers, whose mean is the mean of that derivative.  For
iwae_stl and rws not even the means agree.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minivae.layers import sigmoid


def others(f: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
    """f - b, b the mean of f over the other samples : (K, B).  What a model does unless told."""
    return f - mean_of_others(f)


class Terms(NamedTuple):
    """What forward knows, in nats: three log-probabilities (K, B), the analytic kl (B,), and beta.

    baseline(f, x) gives f - b, (K, B).  q holds the parameters of q(z|x) that the heads
    gave, (B, Z) each: (mu, logvar) of a Gaussian latent, (a,) of a binary one.
    """

    log_px: np.ndarray
    log_pz: np.ndarray
    log_qz: np.ndarray
    kl: np.ndarray
    beta: float
    x: np.ndarray | None = None
    baseline: Callable = others
    q: tuple[np.ndarray, ...] = ()


class Wires(NamedTuple):
    """Four weights and a gain; see the tables above."""

    decoder: np.ndarray
    latent: np.ndarray
    path: np.ndarray
    score: np.ndarray
    kl: np.ndarray


# --- the objectives: what forward reports ---------------------------------------------------------


def analytic_elbo(t: Terms) -> tuple[np.ndarray, np.ndarray]:
    """mean_k log p(x|z_k) - beta KL, and the KL, integrated on paper : (B,) each, nats."""
    return t.log_px.mean(axis=0) - t.beta * t.kl, t.kl


def sampled_elbo(t: Terms) -> tuple[np.ndarray, np.ndarray]:
    """The same with KL ~ mean_k (log q(z_k|x) - log p(z_k)), which may be negative by chance."""
    kl = (t.log_qz - t.log_pz).mean(axis=0)
    return t.log_px.mean(axis=0) - t.beta * kl, kl


def multi_sample_bound(t: Terms) -> tuple[np.ndarray, np.ndarray]:
    """L_K = log mean_k w_k, between the ELBO (K = 1) and log p(x), and the sampled KL.

    Source: Burda et al. (2016), arXiv:1509.00519, eq. 8.
    """
    return log_mean_exp(log_weights(t)), sampled_elbo(t)[1]


def estimator(objective: Callable, is_derivative: bool = False, takes_baseline: bool = False,
              antithetic: bool = False) -> Callable:
    """Decorator: what a model must know of an estimator besides its weights.

    Parameters
    ----------
    objective : function from Terms to (objective, kl), (B,) each
        Its value is what forward reports.
    is_derivative : bool
        Whether backward gives the derivative of that value, the noise held.
    takes_baseline : bool
        Whether another baseline than `others` can be given.
    antithetic : bool
        Whether the two samples come from the noise u and 1 - u.
    """
    def mark(weights: Callable) -> Callable:
        weights.objective, weights.is_derivative = objective, is_derivative
        weights.takes_baseline, weights.antithetic = takes_baseline, antithetic
        return weights

    return mark


# --- one sample is enough -------------------------------------------------------------------------


@estimator(analytic_elbo, is_derivative=True)
def elbo(t: Terms) -> Wires:
    """E_q[log p(x|z)] - beta KL, the KL analytic.  Kingma & Welling (2014), eq. 10.

    theta hears the reconstruction only; phi hears it through z, and the KL directly.
    """
    K, B = t.log_px.shape
    one, zero = np.ones_like(t.log_px), np.zeros_like(t.log_px)
    return Wires(decoder=one / (K * B), latent=zero, path=one, score=zero,
                 kl=np.full_like(t.kl, -t.beta / B))


@estimator(sampled_elbo, is_derivative=True)
def elbo_mc(t: Terms) -> Wires:
    """E_q[log p(x|z)] - beta E_q[log q(z|x) - log p(z)], from the samples.

    The total derivative: log q hears phi through z (latent, then path) and in its formula (score).
    Source: Kingma & Welling (2014), eq. 6.
    """
    K, B = t.log_px.shape
    one = np.ones_like(t.log_px)
    w = one / (K * B)
    return Wires(decoder=w, latent=t.beta * w, path=one, score=-t.beta * w, kl=np.zeros_like(t.kl))


@estimator(sampled_elbo)
def stl(t: Terms) -> Wires:
    """elbo_mc with the score wire cut, whose mean is 0: "sticking the landing".

    At q = the true posterior every single sample's gradient is 0, noise included.
    Source: Roeder et al. (2017), eq. 8.
    """
    return elbo_mc(t)._replace(score=np.zeros_like(t.log_px))


@estimator(sampled_elbo, takes_baseline=True)
def score(t: Terms) -> Wires:
    """z is held fixed and the density moves: (f - b) grad log q.

    Source: Williams (1992); Mnih & Gregor (2014), arXiv:1402.0030, eq. 4.
    """
    K, B = t.log_px.shape
    f, zero = t.log_px + t.beta * (t.log_pz - t.log_qz), np.zeros_like(t.log_px)
    return Wires(decoder=zero + 1 / (K * B), latent=zero, path=zero,
                 score=t.baseline(f, t.x) / (K * B), kl=np.zeros_like(t.kl))


@estimator(analytic_elbo, takes_baseline=True)
def score_analytic_kl(t: Terms) -> Wires:
    """z is held fixed: (log p(x|z) - b) grad log q from samples, and the KL on paper.

    Without b its mean is the sum over z of log p(x|z) grad q(z|x).
    """
    K, B = t.log_px.shape
    f, zero = t.log_px, np.zeros_like(t.log_px)
    return Wires(decoder=zero + 1 / (K * B), latent=zero, path=zero,
                 score=t.baseline(f, t.x) / (K * B), kl=np.full_like(t.kl, -t.beta / B))


# --- several samples, weighed against each other --------------------------------------------------


@estimator(multi_sample_bound, is_derivative=True)
def iwae(t: Terms) -> Wires:
    """The derivative of L_K.  Burda et al. (2016), eq. 13-14."""
    w = normalised(log_weights(t)) / t.log_px.shape[1]
    return Wires(decoder=w, latent=w, path=np.ones_like(w), score=-w, kl=np.zeros_like(t.kl))


@estimator(multi_sample_bound)
def iwae_stl(t: Terms) -> Wires:
    """iwae with the score wire cut.  BIASED for K > 1: off by E sum_k w~_k grad log q.

    Source: Roeder et al. (2017), section 4.
    """
    return iwae(t)._replace(score=np.zeros_like(t.log_px))


@estimator(multi_sample_bound)
def dreg(t: Terms) -> Wires:
    """The score rewritten as a path: w~ once more at the sampling node.  Unbiased.

    Source: Tucker et al. (2018), arXiv:1810.04152, eq. 8.
    """
    w = normalised(log_weights(t))
    return iwae_stl(t)._replace(path=w)


@estimator(multi_sample_bound)
def rws(t: Terms) -> Wires:
    """Wake-phi: phi fits q to the weighted samples, and so climbs -KL(p(z|x) || q), not L_K.

    Source: Bornschein & Bengio (2015), eq. 8.
    """
    w, zero = normalised(log_weights(t)) / t.log_px.shape[1], np.zeros_like(t.log_px)
    return Wires(decoder=w, latent=zero, path=zero, score=w, kl=np.zeros_like(t.kl))


@estimator(multi_sample_bound)
def vimco(t: Terms) -> Wires:
    """The score function of L_K, its baseline made of the other samples.

    L_-k is L_K with w_k replaced by the geometric mean of the others, so it needs K >= 2; a
    ValueError says so.  Source: Mnih & Rezende (2016), arXiv:1602.06725, section 2.4.
    """
    logw, (K, B) = log_weights(t), t.log_px.shape
    if K < 2:
        raise ValueError("vimco takes its baseline from the other samples: it wants K >= 2, "
                         "got K = 1")
    without = np.broadcast_to(logw, (K, K, B)).copy()      # [k, j]: the log weights, of which ..
    without[np.arange(K), np.arange(K)] = mean_of_others(logw)         # .. the k-th is replaced
    baseline = log_mean_exp(np.swapaxes(without, 0, 1))    # L_-k  (K, B)
    w, zero = normalised(logw), np.zeros_like(logw)
    return Wires(decoder=w / B, latent=zero, path=zero,
                 score=(log_mean_exp(logw) - baseline - w) / B, kl=np.zeros_like(t.kl))


@estimator(analytic_elbo, antithetic=True)
def disarm(t: Terms) -> Wires:
    """score_analytic_kl for binary z from an antithetic pair of noises.

    1/2 (f(z) - f(z~)) (z_j - z~_j) sigmoid(|a_j|): the leave-one-out estimator of the pair, each
    dimension's score weighed by sigmoid(|a_j|), which is what the pair's dependence asks for.
    ValueError for a latent without logits, and for K other than 2.
    Source: Dong, Mnih & Tucker (2020), arXiv:2006.10680.
    """
    K, B = t.log_px.shape
    if len(t.q) != 1:
        raise ValueError("disarm wants binary latents, which have logits a: take a DiscreteVAE "
                         "with a BernoulliLatent, or another estimator")
    if K != 2:
        raise ValueError(f"disarm wants K = 2 exactly, from the noise u and 1 - u; got K = {K}")
    (a,) = t.q
    pair = score_analytic_kl(t._replace(baseline=others))
    return pair._replace(score=pair.score[:, :, None] * sigmoid(np.abs(a)))        # (2, B, Z)


ESTIMATORS = {f.__name__: f for f in (elbo, elbo_mc, stl, score, score_analytic_kl, iwae, iwae_stl,
                                      dreg, rws, vimco, disarm)}


# --- helpers --------------------------------------------------------------------------------------


def log_weights(t: Terms) -> np.ndarray:
    """log w = log p(x|z) + log p(z) - log q(z|x) : (K, B).

    ValueError for beta other than 1, because bounds on log p(x) know no beta.
    """
    if t.beta != 1:
        raise ValueError("a multi-sample bound is one on log p(x): it wants beta = 1, "
                         f"got {t.beta:g}")
    return t.log_px + t.log_pz - t.log_qz


def normalised(logw: np.ndarray) -> np.ndarray:
    """w~ = w / sum_k w : (K, B)."""
    w = np.exp(logw - logw.max(axis=0))
    return w / w.sum(axis=0)


def log_mean_exp(a: np.ndarray) -> np.ndarray:
    """log mean_k exp(a_k) : (K, ..) -> (..); the maximum goes out first, so nothing overflows."""
    top = a.max(axis=0)
    return top + np.log(np.exp(a - top).mean(axis=0))


def mean_of_others(f: np.ndarray) -> np.ndarray:
    """For each sample the mean of f over the other K - 1, 0 when there is none : (K, B).

    Source: Kool et al. (2019), section 3.
    """
    K = len(f)
    return (f.sum(axis=0) - f) / (K - 1) if K > 1 else np.zeros_like(f)
