"""The variance of one sample's gradient is its closed form, by exact integration of the package's own backward pass.

Each node of the quadrature is one forward and one backward of a model with one latent, and its weight
is the node's.  The integrands are polynomials times a Gaussian, or finite sums: exact to rounding.
"""

import numpy as np
import pytest

from minivae import VAE, DiscreteVAE, baselines, estimators
from minivae.baselines import RunningMean
from minivae.likelihoods import GaussianLikelihood

F8 = np.float64
NO_BASELINE, OTHERS = baselines.Baseline(), baselines.Others()
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(16)    # exact up to degree 31; the squares below have degree 8
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def gaussian_model(mu, sigma, x, w, noise_variance, estimator, baseline=OTHERS, beta=1.0):
    """q = N(mu, sigma^2), p(x|z) = N(w z, noise_variance), one pixel."""
    likelihood = GaussianLikelihood(np.log(noise_variance), F8)
    vae = VAE.mlp(1, [], 1, likelihood=likelihood, estimator=estimator, baseline=baseline, beta=beta, rng=0, dtype=F8)
    values = {"to_mu.W": 0.0, "to_mu.b": mu, "to_logvar.W": 0.0, "to_logvar.b": 2 * np.log(sigma),
              "to_mean.W": w, "to_mean.b": 0.0}
    for name, p, _ in vae.named_params():
        p[...] = values[name]
    return vae, np.array([[x]])


def moments(vae, x, noises, weights, gradient):
    """Mean and variance, over the noise, of what `gradient` reads from the layers after one pass."""
    found = []
    for noise in noises:
        vae.forward(x, np.array([[noise]]))
        vae.backward()
        found.append(gradient(vae))
    found = np.array(found)
    mean = weights @ found
    return mean, weights @ (found - mean) ** 2


def fixed(b):
    """A baseline that says b, whatever comes."""
    baseline = RunningMean(0.0)
    baseline.mean, baseline.steps = b, 1
    return baseline


# --- f = (z - k)^2, z ~ N(mu, sigma^2): log p(x|z) at x = k, w = 1, variance 1/2, is -f - log(pi)/2 ---------

MU, S, K0 = 1.0, 0.8, -0.5
D = MU - K0
CONSTANT = -np.log(np.pi) / 2


def d_f(vae):
    """d f/dmu, d f/dsigma of one sample: the loss is f and a constant, dlogvar/dsigma = 2 / sigma."""
    return [vae.to_mu.grads["b"].item(), vae.to_logvar.grads["b"].item() * 2 / S]


# the baseline is one on log p = -f + constant; the optimal one, E[f s^2] / E[s^2], is another for each parameter
OPTIMAL = D**2 + 3 * S**2, D**2 + 5 * S**2                 # E[f s^2] / E[s^2], s = eps / sigma or (eps^2 - 1) / sigma
ROWS = {
    "score": (estimators.score_analytic_kl, (0.0, 0.0),
              (D**4 / S**2 + 14 * D**2 + 15 * S**2, 2 * D**4 / S**2 + 60 * D**2 + 74 * S**2)),
    "score, baseline E f": (estimators.score_analytic_kl, (D**2 + S**2,) * 2,
                            (8 * D**2 + 10 * S**2, 40 * D**2 + 56 * S**2)),
    "score, optimal baseline": (estimators.score_analytic_kl, OPTIMAL, (8 * D**2 + 6 * S**2, 40 * D**2 + 24 * S**2)),
    "pathwise": (estimators.elbo, (None, None), (4 * S**2, 4 * D**2 + 8 * S**2)),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("column", [0, 1], ids=["mu", "sigma"])
def test_the_variance_of_one_gradient_of_a_square_is(row, column):
    estimator, b, variances = ROWS[row]
    baseline = OTHERS if b[column] is None else fixed(CONSTANT - b[column])
    vae, x = gaussian_model(MU, S, K0, 1.0, 0.5, estimator, baseline, beta=0.0)
    mean, variance = moments(vae, x, NODES[:, None], WEIGHTS, d_f)
    assert mean == pytest.approx([2 * D, 2 * S], rel=1e-12)                # one mean for all rows
    assert variance[column] == pytest.approx(variances[column], rel=1e-11)     # sums of 16 terms, the largest some 1e4


def test_the_optimal_baseline_is_where_the_variance_is_least():
    for column, best in enumerate(OPTIMAL):
        around = []
        for shift in (-0.1, 0.0, 0.1):
            baseline = fixed(CONSTANT - best + shift)
            vae, x = gaussian_model(MU, S, K0, 1.0, 0.5, estimators.score_analytic_kl, baseline, beta=0.0)
            around.append(moments(vae, x, NODES[:, None], WEIGHTS, d_f)[1][column])
        assert around[1] < min(around[0], around[2])


# --- the ELBO in one dimension: posterior N(m_p, v), q = N(m, s^2), r = log s ---------------------------

W, NOISE, XX = 1.3, 0.6, 0.7
V = 1 / (1 + W**2 / NOISE)
M_P = V * W * XX / NOISE


def ascent(vae):
    """d ELBO/dm and d ELBO/dr; logvar = 2 r."""
    return [-vae.to_mu.grads["b"].item(), -2 * vae.to_logvar.grads["b"].item()]


@pytest.mark.parametrize("m, s", [(M_P + 0.4, 0.9), (M_P - 1.1, 0.3), (M_P, np.sqrt(V))],
                         ids=["wide", "narrow", "the posterior itself"])
@pytest.mark.parametrize("name", ["elbo_mc", "stl"])
def test_the_variance_of_the_elbos_gradient_is(name, m, s):
    """Total derivative: s^2/v^2 and 2 s^4/v^2 + delta^2 s^2/v^2.

    STL: s^2 (1/s^2 - 1/v)^2 and 2 (1 - s^2/v)^2 + delta^2 s^2/v^2.
    """
    delta = m - M_P
    wanted = {"elbo_mc": (s**2 / V**2, 2 * s**4 / V**2 + delta**2 * s**2 / V**2),
              "stl": (s**2 * (1 / s**2 - 1 / V) ** 2, 2 * (1 - s**2 / V) ** 2 + delta**2 * s**2 / V**2)}[name]
    vae, x = gaussian_model(m, s, XX, W, NOISE, estimators.ESTIMATORS[name])
    mean, variance = moments(vae, x, NODES[:, None], WEIGHTS, ascent)
    assert mean == pytest.approx([-delta / V, 1 - s**2 / V], rel=1e-11, abs=1e-13)
    # 0 for STL at the posterior: the square of a rounding error
    assert variance == pytest.approx(wanted, rel=1e-11, abs=1e-24)


def test_at_the_posterior_stl_has_no_noise_and_the_total_derivative_has_the_fisher_information():
    at = dict(mu=M_P, sigma=np.sqrt(V), x=XX, w=W, noise_variance=NOISE)
    stl = moments(*gaussian_model(**at, estimator=estimators.stl), NODES[:, None], WEIGHTS, ascent)[1]
    total = moments(*gaussian_model(**at, estimator=estimators.elbo_mc), NODES[:, None], WEIGHTS, ascent)[1]
    assert stl.max() < 1e-24 and total == pytest.approx([1 / V, 2], rel=1e-11)


@pytest.mark.parametrize("s2_over_v, wins", [(0.45, False), (0.55, True)])
def test_stl_beats_the_total_derivative_where_the_variance_of_q_is_above_half_of_the_posteriors(s2_over_v, wins):
    at = dict(mu=M_P + 0.4, sigma=np.sqrt(s2_over_v * V), x=XX, w=W, noise_variance=NOISE)
    stl, total = (moments(*gaussian_model(**at, estimator=estimator), NODES[:, None], WEIGHTS, ascent)[1]
                  for estimator in (estimators.stl, estimators.elbo_mc))
    assert ((stl < total) == wins).all()


# --- one coin ---------------------------------------------------------------------------------------------


def coin_model(a, target, estimator=estimators.score_analytic_kl, baseline=NO_BASELINE):
    """One coin, q(z = 1) = sigmoid(a); log p(x|z) at x = target is -(z - target)^2 - log(pi)/2."""
    half = GaussianLikelihood(np.log(0.5), F8)
    vae = DiscreteVAE.mlp(1, [], 1, likelihood=half, estimator=estimator, baseline=baseline, beta=0.0, rng=0, dtype=F8)
    for (_, p, _), value in zip(vae.named_params(), (0.0, a, 1.0, 0.0)):
        p[...] = value
    theta = 1 / (1 + np.exp(-a))
    f0, f1 = -(target**2) + CONSTANT, -((1 - target) ** 2) + CONSTANT
    return vae, np.array([[target]]), theta, f0, f1


@pytest.mark.parametrize("a", [-1.2, 0.0, 0.7])
@pytest.mark.parametrize("offset", [0.0, -0.6, 2.0])
def test_the_variance_of_one_coins_score_is_that_of_its_distance_from_the_optimal_baseline(a, offset):
    """Var[(f - B) s] = theta (1 - theta) (b* - B)^2, b* = (1 - theta) f(1) + theta f(0): zero at B = b*."""
    _, _, theta, f0, f1 = coin_model(a, 0.3)
    best = (1 - theta) * f1 + theta * f0
    vae, x, *_ = coin_model(a, 0.3, baseline=fixed(best + offset))
    u, probabilities = [[(1 - theta) / 2], [1 - theta / 2]], np.array([1 - theta, theta])
    mean, variance = moments(vae, x, u, probabilities, lambda vae: [-vae.to_a.grads["b"].item()])
    assert mean[0] == pytest.approx(theta * (1 - theta) * (f1 - f0), rel=1e-12)
    assert variance[0] == pytest.approx(theta * (1 - theta) * offset**2, rel=1e-11, abs=1e-28)


def test_disarms_variance_is_below_that_of_two_independent_coins():
    """One coin, a > 0: the pair differs with probability 2 (1 - theta).

    Then its gradient is (f1 - f0) theta / 2, without noise in its sign.
    """
    a, target = 0.7, 0.3
    vae, x, theta, f0, f1 = coin_model(a, target, estimators.disarm, OTHERS)
    read = lambda vae: [-vae.to_a.grads["b"].item()]
    edges = np.array([0.0, 1 - theta, theta, 1.0])
    u, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    pair = []
    for v in u:
        vae.forward(x, np.array([[[v]], [[1 - v]]]))
        vae.backward()
        pair.append(read(vae)[0])
    mean = widths @ pair
    variance = widths @ (np.array(pair) - mean) ** 2
    p = 2 * (1 - theta)
    assert mean == pytest.approx(theta * (1 - theta) * (f1 - f0), rel=1e-12)
    assert variance == pytest.approx(((f1 - f0) * theta / 2) ** 2 * p * (1 - p), rel=1e-11)
    # two independent coins, leave-one-out: 1/2 (f1 - f0) whenever they differ, 2 theta (1 - theta) of the time
    q = 2 * theta * (1 - theta)
    vae, x, *_ = coin_model(a, target, baseline=OTHERS)
    alone = [((1 - theta) / 2, 1 - theta), (1 - theta / 2, theta)]
    found, weights = [], []
    for v, w in alone:
        for v2, w2 in alone:
            vae.forward(x, np.array([[[v]], [[v2]]]))
            vae.backward()
            found.append(read(vae)[0])
            weights.append(w * w2)
    independent = np.array(weights) @ (np.array(found) - mean) ** 2
    assert independent == pytest.approx(((f1 - f0) / 2) ** 2 * q * (1 - q), rel=1e-11) and variance < independent
