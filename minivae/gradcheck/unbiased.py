"""Checks of the mean of every estimator, by exact means over the noise.

An estimator may give another number than the derivative of the loss and still be right: its MEAN
must be the mean of that derivative.  No finite difference sees this.
"""

from collections.abc import Callable

import numpy as np

from minivae import estimators
from minivae.discrete import DiscreteVAE
from minivae.estimators import ESTIMATORS, Terms, Wires, estimator
from minivae.gradcheck.cases import F8, perturbed
from minivae.gradcheck.exact_means import (all_coins, all_pairs, gauss_hermite, mean_gradient,
                                           phi_mask)
from minivae.gradcheck.report import Report, Row, claim
from minivae.vae import VAE

X = np.array([[1.0, 0.0, 1.0]])


# --- a Gaussian latent ----------------------------------------------------------------------------


def gaussian_estimators(seed: int) -> Report:
    """Every estimator of a VAE, by a Gauss-Hermite sum over two samples of one latent.

    The model is a gentle one, so that 30 nodes are exact to 1e-8; a bias is far larger.
    """
    rng = np.random.default_rng(seed)
    vae = perturbed(VAE.mlp(3, [4], 1, rng=3, dtype=F8, activation="tanh"), rng, by=0.1)
    vae.dec.layers[0].params["W"] *= 0.15
    eps, weights = gauss_hermite(K=2, nodes=30)

    def mean(name: str) -> np.ndarray:
        return mean_gradient(vae, ESTIMATORS[name], X, eps, weights)

    def agree(name: str, reference: str) -> Row:
        off = np.abs(mean(name) - mean(reference)).max()
        return claim(f"{name} has the mean of {reference}", off, 0.0, 1e-7, f"{name} is biased")

    vae.beta = 1.7
    rows = [agree(name, "elbo") for name in ("elbo_mc", "stl", "score", "score_analytic_kl")]
    vae.beta = 1.0
    rows += [agree(name, "iwae") for name in ("dreg", "vimco")]
    off = (mean("iwae_stl") - mean("iwae") - mean("rws"))[phi_mask(vae)]
    rows.append(claim("iwae_stl is off by rws", np.abs(off).max(), 0.0, 1e-7,
                      "iwae_stl's bias must be E sum w~ grad log q, which rws climbs"))
    return Report("the mean of every estimator", rows)


# --- coins ----------------------------------------------------------------------------------------


@estimator(estimators.analytic_elbo)
def score_without_baseline(t: Terms) -> Wires:
    """The sum over z of log p(x|z) grad q(z), term by term."""
    f, (K, B) = t.log_px, t.log_px.shape
    return estimators.score_analytic_kl(t)._replace(score=f / (K * B))


@estimator(estimators.multi_sample_bound)
def bound_without_baseline(t: Terms) -> Wires:
    """grad L_K = E sum_k (L_K - w~_k) grad log q_k."""
    logw = estimators.log_weights(t)
    weight = estimators.log_mean_exp(logw) - estimators.normalised(logw)
    return estimators.vimco(t)._replace(score=weight / logw.shape[1])


def discrete_estimators(seed: int) -> Report:
    """Every estimator of a DiscreteVAE, by enumeration of two samples of two coins."""
    rng = np.random.default_rng(seed)
    vae = perturbed(DiscreteVAE.mlp(3, [4], 2, rng=rng, dtype=F8, activation="tanh"), rng)
    theta = vae.q_mean_and_kl(X)[0][0]
    rows = [*_means_of_coins(vae, all_coins(theta, K=2), all_pairs(theta)),
            _refuses_independent_noise(vae, all_coins(theta, K=2)[0]),
            _draws_pairs(vae, rng)]
    return Report("the mean of every discrete estimator", rows)


def _means_of_coins(vae: DiscreteVAE, coins: tuple, pairs: tuple) -> list[Row]:
    """Four estimators against an enumerated gradient that has no baseline."""
    def off(rule: Callable, outcomes: tuple, reference: Callable) -> float:
        found = mean_gradient(vae, rule, X, *outcomes)
        return np.abs(found - mean_gradient(vae, reference, X, *coins)).max()

    by_coin = estimators.score_analytic_kl
    vae.beta = 1.7
    rows = [claim("score has the mean of score_analytic_kl",
                  off(estimators.score, coins, by_coin), 0.0, 1e-12, "score is biased"),
            claim("disarm has the mean of score_analytic_kl",
                  off(estimators.disarm, pairs, by_coin), 0.0, 1e-12, "disarm is biased"),
            claim("score_analytic_kl has the enumerated gradient",
                  off(by_coin, coins, score_without_baseline), 0.0, 1e-12,
                  "the baseline depends on its own sample")]
    vae.beta = 1.0
    rows.append(claim("vimco has the enumerated gradient",
                      off(estimators.vimco, coins, bound_without_baseline), 0.0, 1e-12,
                      "vimco is biased"))
    return rows


def _refuses_independent_noise(vae: DiscreteVAE, u: np.ndarray) -> Row:
    vae.estimator, refused = estimators.disarm, 0.0
    try:
        vae.forward(np.tile(X, (u.shape[1], 1)), u)
    except ValueError:
        refused = 1.0
    return claim("disarm refuses independent noise", refused, 1.0, 0.0,
                 "disarm with u and another u is biased, and took them")


def _draws_pairs(vae: DiscreteVAE, rng: np.random.Generator) -> Row:
    vae.estimator = estimators.disarm
    u = vae.noise(2, 5, rng)
    return claim("disarm draws u and 1 - u", np.abs(u.sum(axis=0) - 1).max(), 0.0, 1e-15,
                 "the noises of the pair do not add up to 1")
