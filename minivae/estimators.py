"""Gradient estimators: a table of five weights.  Page 4 of the lesson (after latents).

"What is held constant?"  The objective reaches the parameters along five wires, and an estimator
is nothing but the weight that it puts on each wire, for sample k of example n.  To hold something
constant is to multiply its wire by zero.  An estimator is a function from Terms to Wires, and its
attribute `objective` is the function whose value forward reports.

    wire     from, to                                                        shape
    decoder  log p(x|z_k), to theta and to z_k                               (K, B)  a weight
    latent   log p(z_k) - log q(z_k|x), to z_k                               (K, B)  a weight
    path     all that reached z_k, on to (mu, logvar): z moves with phi      (K, B)  a gain: 1 open, 0 cut
    score    log q(z_k|x), straight to (mu, logvar), z_k held fixed          (K, B)  a weight (disarm: K, B, Z)
    kl       the analytic KL, to (mu, logvar)                                (B,)    a weight

    estimator          decoder   latent      path  score               kl       objective
    elbo               1/(K B)   0           1     0                   -beta/B  ELBO, KL analytic
    elbo_mc            1/(K B)   beta/(K B)  1     -beta/(K B)         0        ELBO, KL from the samples
    stl                1/(K B)   beta/(K B)  1     0                   0        the same
    score              1/(K B)   0           0     (f - b)/(K B)       0        the same
    score_analytic_kl  1/(K B)   0           0     (log p(x|z)-b)/(KB) -beta/B  ELBO, KL analytic
    iwae               w~/B      w~/B        1     -w~/B               0        L_K = log mean_k w_k
    iwae_stl           w~/B      w~/B        1     0                   0        L_K, biased for K > 1
    dreg               w~/B      w~/B        w~    0                   0        L_K
    rws                w~/B      0           0     w~/B                0        L_K for theta; phi: see there
    vimco              w~/B      0           0     (L - L_-k - w~)/B   0        L_K
    disarm             1/(K B)   0           0     s (log p(x|z)-b)/KB -beta/B  ELBO, KL analytic

    w_k = p(x, z_k) / q(z_k|x),  w~ = w / sum_k w,  f = log p(x|z) + beta (log p(z) - log q(z|x)),
    b = the model's baseline, by default the mean of f over the other samples (0 when K = 1): it may
    not depend on z_k itself.  baselines.py has others, with a memory.
    s = sigmoid(|a_j|), a weight for every latent dimension, so disarm's score is (K, B, Z); it wants
    binary latents and two samples from the noise u and 1 - u, see discrete.py.

Read a column downwards: score-function estimators cut the path, so backprop never passes from the
decoder to the encoder; pathwise ones open it.  Both give the same mean.

Weights are for the objective to be MAXIMISED; VAE.backward turns the sign, once.  The mean over
the batch enters the gradient here, as 1/B, and nowhere else.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def mean_of_others(f: np.ndarray) -> np.ndarray:
    """For each sample the mean of f over the other K - 1, 0 when there is none.  Kool et al. (2019), section 3."""
    K = len(f)
    return (f.sum(axis=0) - f) / (K - 1) if K > 1 else np.zeros_like(f)


def others(f: np.ndarray, x: np.ndarray | None) -> np.ndarray:
    """The leave-one-out baseline, what a model has unless it is given another : (K, B)."""
    return f - mean_of_others(f)


class Terms(NamedTuple):
    """What forward knows, in nats: three log-probabilities (K, B), the analytic kl (B,), and beta.

    baseline(f, x) is f less its baseline, (K, B); a (B, Z), the logits of q, is there for binary latents only.
    """

    log_px: np.ndarray
    log_pz: np.ndarray
    log_qz: np.ndarray
    kl: np.ndarray
    beta: float
    x: np.ndarray | None = None
    baseline: Callable = others
    a: np.ndarray | None = None


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


def multi_sample_bound(t: Terms) -> tuple[np.ndarray, np.ndarray]:
    """L_K = log mean_k w_k, between the ELBO (K = 1) and log p(x), and the sampled KL.  Burda et al. (2016), eq. 8."""
    return log_mean_exp(log_weights(t)), sampled_elbo(t)[1]


def log_weights(t: Terms) -> np.ndarray:
    """log w = log p(x|z) + log p(z) - log q(z|x) : (K, B).  Bounds on log p(x) know no beta."""
    if t.beta != 1:
        raise ValueError(f"a multi-sample bound is one on log p(x): it wants beta = 1, got {t.beta:g}")
    return t.log_px + t.log_pz - t.log_qz


def log_mean_exp(a: np.ndarray) -> np.ndarray:
    """log mean_k exp(a_k) : (K, ..) -> (..); the maximum goes out before exp, so nothing overflows."""
    top = a.max(axis=0)
    return top + np.log(np.exp(a - top).mean(axis=0))


def normalised(logw: np.ndarray) -> np.ndarray:
    """w~ = w / sum_k w : (K, B)."""
    w = np.exp(logw - logw.max(axis=0))
    return w / w.sum(axis=0)


def elbo(t: Terms) -> Wires:
    """E_q[log p(x|z)] - beta KL, the KL analytic.  Kingma & Welling (2014), eq. 10.

    theta hears the reconstruction only; phi hears it through z, and the KL directly.
    """
    K, B = t.log_px.shape
    one, zero = np.ones_like(t.log_px), np.zeros_like(t.log_px)
    return Wires(decoder=one / (K * B), latent=zero, path=one, score=zero, kl=np.full_like(t.kl, -t.beta / B))


def elbo_mc(t: Terms) -> Wires:
    """E_q[log p(x|z)] - beta E_q[log q(z|x) - log p(z)], from the samples.  Kingma & Welling (2014), eq. 6.

    The total derivative: log q hears phi through z (latent, then path) and in its formula (score).
    """
    K, B = t.log_px.shape
    one = np.ones_like(t.log_px)
    w = one / (K * B)
    return Wires(decoder=w, latent=t.beta * w, path=one, score=-t.beta * w, kl=np.zeros_like(t.kl))


def stl(t: Terms) -> Wires:
    """elbo_mc with the score wire cut, whose mean is 0: "sticking the landing".  Roeder et al. (2017), eq. 8.

    At q = the true posterior every single sample's gradient is 0, noise included.
    """
    return elbo_mc(t)._replace(score=np.zeros_like(t.log_px))


def score(t: Terms) -> Wires:
    """z is held fixed and the density moves: (f - b) grad log q.  Williams (1992); Mnih & Gregor (2014), eq. 4."""
    K, B = t.log_px.shape
    f, zero = t.log_px + t.beta * (t.log_pz - t.log_qz), np.zeros_like(t.log_px)
    return Wires(decoder=zero + 1 / (K * B), latent=zero, path=zero, score=t.baseline(f, t.x) / (K * B), kl=np.zeros_like(t.kl))


def score_analytic_kl(t: Terms) -> Wires:
    """The sum over h of log p(x|h) grad q(h|x), sampled, with the KL on paper."""
    K, B = t.log_px.shape
    f, zero = t.log_px, np.zeros_like(t.log_px)
    return Wires(decoder=zero + 1 / (K * B), latent=zero, path=zero, score=t.baseline(f, t.x) / (K * B), kl=np.full_like(t.kl, -t.beta / B))


def iwae(t: Terms) -> Wires:
    """The derivative of L_K.  Burda et al. (2016), eq. 13-14."""
    w = normalised(log_weights(t)) / t.log_px.shape[1]
    return Wires(decoder=w, latent=w, path=np.ones_like(w), score=-w, kl=np.zeros_like(t.kl))


def iwae_stl(t: Terms) -> Wires:
    """iwae with the score wire cut.  BIASED for K > 1: its mean is off by E sum_k w~_k grad log q.  Roeder et al. (2017), section 4."""
    return iwae(t)._replace(score=np.zeros_like(t.log_px))


def dreg(t: Terms) -> Wires:
    """The score rewritten as a path: w~ once more at the sampling node.  Unbiased.  Tucker et al. (2018), eq. 8."""
    w = normalised(log_weights(t))
    return iwae_stl(t)._replace(path=w)


def rws(t: Terms) -> Wires:
    """Wake-phi: phi fits q to the weighted samples, and so climbs -KL(p(z|x) || q), not L_K.  Bornschein & Bengio (2015), eq. 8."""
    w, zero = normalised(log_weights(t)) / t.log_px.shape[1], np.zeros_like(t.log_px)
    return Wires(decoder=w, latent=zero, path=zero, score=w, kl=np.zeros_like(t.kl))


def vimco(t: Terms) -> Wires:
    """The score function of L_K, its baseline made of the other samples.  Mnih & Rezende (2016), section 2.4.

    L_-k is L_K with w_k replaced by the geometric mean of the others, so it needs K >= 2.
    """
    logw, (K, B) = log_weights(t), t.log_px.shape
    if K < 2:
        raise ValueError("vimco takes its baseline from the other samples: it wants K >= 2, got K = 1")
    others = np.broadcast_to(logw, (K, K, B)).copy()               # [k, j]: the weights as sample k's baseline sees them
    others[np.arange(K), np.arange(K)] = mean_of_others(logw)
    baseline = log_mean_exp(np.swapaxes(others, 0, 1))             # (K, B)
    w, zero = normalised(logw), np.zeros_like(logw)
    return Wires(decoder=w / B, latent=zero, path=zero, score=(log_mean_exp(logw) - baseline - w) / B, kl=np.zeros_like(t.kl))


def disarm(t: Terms) -> Wires:
    """score_analytic_kl for binary z from an antithetic pair of noises.  Dong, Mnih & Tucker (2020), arXiv:2006.10680.

    1/2 (f(z) - f(z~)) (z_j - z~_j) sigmoid(|a_j|): the leave-one-out estimator of the pair, each latent
    dimension's score weighed by sigmoid(|a_j|), which is what the pair's dependence asks for.
    """
    K, B = t.log_px.shape
    if t.a is None:
        raise ValueError("disarm wants binary latents, which have logits a: take a DiscreteVAE with a BernoulliLatent, or another estimator")
    if K != 2:
        raise ValueError(f"disarm wants K = 2 exactly, from the noise u and 1 - u; got K = {K}")
    pair = score_analytic_kl(t._replace(baseline=others))
    return pair._replace(score=pair.score[:, :, None] * np.exp(-np.logaddexp(0, -np.abs(t.a))))        # (2, B, Z)


ESTIMATORS = {f.__name__: f for f in (elbo, elbo_mc, stl, score, score_analytic_kl, iwae, iwae_stl, dreg, rws, vimco, disarm)}

# whose value forward reports
elbo.objective = score_analytic_kl.objective = disarm.objective = analytic_elbo
elbo_mc.objective = stl.objective = score.objective = sampled_elbo
iwae.objective = iwae_stl.objective = dreg.objective = rws.objective = vimco.objective = multi_sample_bound
# whose backward is the derivative of that value when the noise is held (the others have its mean, or not even that);
# to whom a baseline can be given; who wants the noise u and 1 - u
for f in ESTIMATORS.values():
    f.is_derivative = f in (elbo, elbo_mc, iwae)
    f.takes_baseline, f.antithetic = f in (score, score_analytic_kl), f is disarm
