"""Gradient estimators as weights on five wires, restated in NumPy from estimators.py.

An estimator multiplies each wire from the objective to the parameters by a weight:

    decoder  log p(x|z), to the decoder and to z                (K, B)
    latent   log p(z) - log q(z|x), to z                        (K, B)
    path     all that reached z, on to mu and logvar            (K, B)  a gain: 1 open, 0 cut
    score    log q(z|x), straight to mu and logvar, z held      (K, B)
    kl       the KL on paper, to mu and logvar                  (B,)

The weights are for the objective, which is maximised.  B images, K samples of z for each.
A test holds every function to the package's own.  The exercises of ladder.py are cut from here.
"""

import numpy as np


def elbo_wires(K, B, beta):
    """The weights of mean_n (mean_k log p(x|z_k) - beta KL), the KL on paper.

    decoder = 1/(K B);  kl = -beta/B
    """
    decoder = np.full((K, B), 1 / (K * B))
    latent = np.zeros((K, B))
    path = np.ones((K, B))
    score = np.zeros((K, B))
    kl = np.full(B, -beta / B)
    return decoder, latent, path, score, kl


def elbo_mc_wires(K, B, beta):
    """The weights of mean_kn (log p(x|z) + beta (log p(z) - log q(z|x))), the KL from samples.

    latent = beta/(K B) reaches z;  score = -beta/(K B) reaches mu and logvar in log q's formula
    """
    decoder = np.full((K, B), 1 / (K * B))
    latent = np.full((K, B), beta / (K * B))
    path = np.ones((K, B))
    score = np.full((K, B), -beta / (K * B))
    kl = np.zeros(B)
    return decoder, latent, path, score, kl


def stl_wires(K, B, beta):
    """elbo_mc without a wire whose mean is 0.  Roeder et al. (2017), eq. 8.

    score = 0: E_q[grad log q] = 0, so nothing but noise is lost
    """
    decoder = np.full((K, B), 1 / (K * B))
    latent = np.full((K, B), beta / (K * B))
    path = np.ones((K, B))
    score = np.zeros((K, B))
    kl = np.zeros(B)
    return decoder, latent, path, score, kl


def score_wires(log_px, log_pz, log_qz, beta):
    """log_px, log_pz, log_qz (K, B), K >= 2  ->  the weights of (f - baseline) grad log q.

    f = log_px + beta (log_pz - log_qz);  baseline[k] = the mean of f over the other samples;
    score = (f - baseline)/(K B).  Kool et al. (2019), section 3.
    """
    K, B = log_px.shape
    f = log_px + beta * (log_pz - log_qz)
    baseline = (f.sum(axis=0) - f) / (K - 1)
    decoder = np.full((K, B), 1 / (K * B))
    latent = np.zeros((K, B))
    path = np.zeros((K, B))
    score = (f - baseline) / (K * B)
    kl = np.zeros(B)
    return decoder, latent, path, score, kl


def log_mean_exp(a, axis):
    """log(mean(exp(a))) along one axis; the maximum goes out first, so nothing overflows."""
    top = a.max(axis=axis, keepdims=True)
    return np.log(np.exp(a - top).mean(axis=axis)) + top.squeeze(axis)


def bound_forward(logw):
    """logw (K, B), log w_k = log p(x, z_k) - log q(z_k|x)  ->  bound (B,).

    bound = log mean_k w_k, called L_K.  Burda et al. (2016), arXiv:1509.00519, eq. 8
    """
    bound = log_mean_exp(logw, axis=0)
    return bound


def bound_backward(logw, dbound):
    """logw (K, B), dbound (B,)  ->  dlogw (K, B).

    d L_K/d log w_k = share_k = w_k / sum_k w_k
    """
    w = np.exp(logw - logw.max(axis=0))
    share = w / w.sum(axis=0)
    dlogw = dbound * share
    return dlogw


def dreg_wires(log_px, log_pz, log_qz):
    """log_px, log_pz, log_qz (K, B)  ->  the weights of DReG, for L_K.

    With share = w / sum_k w:  decoder = latent = share/B;  path has share once more;  score = 0.
    Tucker et al. (2018), arXiv:1810.04152, eq. 8
    """
    B = log_px.shape[1]
    logw = log_px + log_pz - log_qz
    w = np.exp(logw - logw.max(axis=0))
    share = w / w.sum(axis=0)
    decoder = share / B
    latent = share / B
    path = share
    score = np.zeros_like(share)
    kl = np.zeros(B)
    return decoder, latent, path, score, kl


def vimco_wires(log_px, log_pz, log_qz):
    """log_px, log_pz, log_qz (K, B), K >= 2  ->  the weights of VIMCO, for L_K.

    baseline[k] = L_K with log w_k replaced by the mean of the other log w;
    score = (L_K - baseline - share)/B.  Mnih & Rezende (2016), arXiv:1602.06725, section 2.4
    """
    K, B = log_px.shape
    logw = log_px + log_pz - log_qz
    w = np.exp(logw - logw.max(axis=0))
    share = w / w.sum(axis=0)
    bound = log_mean_exp(logw, axis=0)
    own = np.eye(K, dtype=bool)[:, :, None]                       # (K, K, 1)
    others = (logw.sum(axis=0) - logw) / (K - 1)                  # (K, B)
    replaced = np.where(own, others, logw)                        # (K, K, B)
    baseline = log_mean_exp(replaced, axis=1)                     # (K, B)
    decoder = share / B
    latent = np.zeros((K, B))
    path = np.zeros((K, B))
    score = (bound - baseline - share) / B
    kl = np.zeros(B)
    return decoder, latent, path, score, kl
