"""Every estimator proved by exact integration over the noise, not by Monte Carlo.

The mean over eps is a Gauss-Hermite sum: every combination of nodes is one example of a batch, and
its weights on the wires carry the quadrature's weight, so that ONE backward pass gives the
integrated gradient, exactly to rounding.
"""

import numpy as np
import pytest

from minivae import VAE, check_model, estimators
from minivae.estimators import ESTIMATORS, Terms
from minivae.gradcheck import exact_means
from minivae.gradcheck.cases import perturbed

from conftest import JIT

F8 = np.float64
NODES = 40
SEVERAL = [2, 3] if JIT else [2]            # 40^3 examples are too many for kernels in plain Python


def model(**settings):
    """Three pixels, one latent.  The decoder is gentle and q near the posterior, so that the poles of tanh
    and of the softmax lie far from the nodes and the quadrature converges."""
    vae = VAE.mlp(3, [4], 1, rng=3, dtype=F8, activation="tanh", **settings)
    perturbed(vae, np.random.default_rng(11), by=0.2)
    vae.dec.layers[0].params["W"] *= 0.15
    vae.to_logvar.params["b"] -= 0.1
    return vae


X = np.array([[1.0, 0.0, 1.0]])


def quadrature(K):
    """eps (K, N, 1) and weights (N,), N = nodes^K."""
    return exact_means.gauss_hermite(K, NODES)


def mean_gradient(estimator, K, **settings):
    """E over the noise of the gradient of the loss, all parameters in one vector; and phi's mask."""
    vae = model(**settings)
    return exact_means.mean_gradient(vae, estimator, X, *quadrature(K)), exact_means.phi_mask(vae)


def mean_loss(estimator, K, vae):
    eps, weights = quadrature(K)
    vae.estimator = estimator
    vae.forward(np.tile(X, (len(weights), 1)), eps)
    t = caught[-1]
    return -(estimator.objective(t)[0] * weights).sum()


caught: list[Terms] = []


@pytest.fixture(autouse=True)
def remember_terms(monkeypatch):
    """Keep the last pass's log-probabilities where the proofs can read them."""
    from minivae import model as module

    def keep(*arguments):
        caught.append(Terms(*arguments))
        return caught[-1]

    caught.clear()
    monkeypatch.setattr(module, "Terms", keep)


def integrated_derivative(estimator, K, **settings):
    """The derivative of the exactly integrated loss, by central differences extrapolated once: good to some 1e-11."""
    vae, out = model(**settings), []
    for _, p, _ in vae.named_params():
        for i in np.ndindex(p.shape):
            keep, slopes = p[i], []
            for h in (2e-3, 1e-3):
                p[i] = keep + h
                up = mean_loss(estimator, K, vae)
                p[i] = keep - h
                slopes.append((up - mean_loss(estimator, K, vae)) / (2 * h))
                p[i] = keep
            out.append((4 * slopes[1] - slopes[0]) / 3)
    return np.array(out)


def close(a, b):
    """To 1e-10, some hundred times the rounding error of these sums of up to 64,000 terms."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


OBJECTIVE_OF = {"elbo": ["stl", "score", "elbo_mc", "score_analytic_kl"], "iwae": ["dreg", "vimco"]}


@pytest.mark.parametrize("reference, K", [("elbo", 1), ("elbo_mc", 1), ("iwae", 1), ("iwae", 2)])
def test_the_references_are_the_derivative_of_the_integrated_objective(reference, K):
    estimator = ESTIMATORS[reference]
    found, wanted = mean_gradient(estimator, K)[0], integrated_derivative(estimator, K)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)           # extrapolation error, h^4


@pytest.mark.parametrize("K", [1, *SEVERAL])
@pytest.mark.parametrize("beta", [1.0, 1.7])
@pytest.mark.parametrize("name", OBJECTIVE_OF["elbo"])
def test_single_sample_estimators_are_unbiased(name, beta, K):
    """Pathwise or score function, total derivative or STL: one mean."""
    close(mean_gradient(ESTIMATORS[name], K, beta=beta)[0], mean_gradient(estimators.elbo, K, beta=beta)[0])


@pytest.mark.parametrize("K", SEVERAL)
@pytest.mark.parametrize("name", OBJECTIVE_OF["iwae"])
def test_multi_sample_estimators_are_unbiased(name, K):
    close(mean_gradient(ESTIMATORS[name], K)[0], mean_gradient(estimators.iwae, K)[0])


@pytest.mark.parametrize("K", SEVERAL)
def test_iwae_stl_is_biased_by_exactly_the_score_it_drops(K):
    """E[iwae_stl] - E[iwae] is E sum_k w~_k grad log q, which is what rws climbs; theta is right in both."""
    (biased, phi), (right, _), (rws, _) = (mean_gradient(ESTIMATORS[name], K) for name in ("iwae_stl", "iwae", "rws"))
    close(biased[~phi], right[~phi])
    close((biased - right)[phi], rws[phi])
    assert np.abs((biased - right)[phi]).max() > 1e-3


@pytest.mark.parametrize("K", SEVERAL)
def test_wake_phi_equals_its_pathwise_rewriting(K):
    """E sum w~ s = E sum (w~ - w~^2) path.  Tucker et al. (2018)."""

    @estimators.estimator(estimators.multi_sample_bound)
    def rewritten(t):
        w = estimators.normalised(estimators.log_weights(t))
        return estimators.iwae_stl(t)._replace(path=1 - w)

    (a, phi), (b, _) = mean_gradient(estimators.rws, K), mean_gradient(rewritten, K)
    close(a[phi], b[phi])


def test_at_one_sample_the_bounds_fall_back_to_the_elbo():
    """iwae = total derivative; dreg = iwae_stl = stl; rws moves phi by a mean of 0; vimco refuses."""
    grad = {name: mean_gradient(ESTIMATORS[name], 1) for name in ("iwae", "elbo_mc", "dreg", "iwae_stl", "stl", "rws")}
    close(grad["iwae"][0], grad["elbo_mc"][0])
    close(grad["dreg"][0], grad["stl"][0])
    close(grad["iwae_stl"][0], grad["stl"][0])
    close(grad["rws"][0][grad["rws"][1]], 0.0)
    with pytest.raises(ValueError, match="K >= 2"):
        model(estimator=estimators.vimco).forward(X)


@pytest.mark.parametrize("name", ["iwae", "iwae_stl", "dreg", "rws", "vimco"])
def test_bounds_on_log_p_refuse_a_beta(name):
    with pytest.raises(ValueError, match="beta = 1, got 1.7"):
        model(estimator=ESTIMATORS[name], beta=1.7).forward(X, np.zeros((2, 1, 1)))


def test_the_bound_does_not_fall_with_more_samples():
    losses = []
    for K in (1, *SEVERAL):
        losses.append(mean_loss(estimators.iwae, K, model()))
    grid = np.linspace(-12, 12, 4001)
    vae = model()
    log_px = vae.likelihood.forward(vae.to_out.forward(vae.dec.forward(grid[:, None])), np.tile(X, (len(grid), 1)))
    log_p = np.log((np.exp(log_px - grid**2 / 2) / np.sqrt(2 * np.pi)).sum() * (grid[1] - grid[0]))
    assert all(a > b for a, b in zip(losses, [*losses[1:], -log_p]))


# disarm wants coins: test_discrete.py
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "disarm"])
def test_every_estimators_backward_is_what_its_weights_say(name, rng):
    """Held to the loss where it is its derivative, else to the surrogate that freezes what it holds constant."""
    beta = 1.0 if ESTIMATORS[name].objective is estimators.multi_sample_bound else 1.7
    vae = VAE.mlp(7, [6], 2, rng=rng, dtype=F8, activation="tanh", beta=beta, estimator=ESTIMATORS[name])
    check_model(vae, rng.random((5, 7)), rng.standard_normal((3, 5, 2))).raise_if_wrong()


def test_holding_something_constant_is_cutting_its_wire(rng):
    """Neither rewriting gives 0, each alone gives the gradient, both together twice the gradient.

    Of the reconstruction, for phi.
    """
    recon = {}
    for name, path, score in (("neither", 0, 0), ("path", 1, 0), ("score", 0, 1), ("both", 1, 1)):

        @estimators.estimator(estimators.analytic_elbo)
        def estimator(t, path=path, score=score):
            e, s = estimators.elbo(t), estimators.score_analytic_kl(t)
            return e._replace(path=path * e.path, score=score * s.score, kl=0 * e.kl)

        recon[name], phi = mean_gradient(estimator, 2)
    assert not recon["neither"][phi].any() and np.abs(recon["path"][phi]).max() > 1e-3
    close(recon["path"][phi], recon["score"][phi])
    close(recon["both"][phi], 2 * recon["path"][phi])


@pytest.mark.parametrize("shift", [800.0, -800.0, 0.0])
def test_log_weights_far_out_neither_overflow_nor_vanish(shift):
    logw = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]) + shift
    wanted = [np.log((1 + np.e + np.e**2) / 3), 1.0]
    np.testing.assert_allclose(estimators.log_mean_exp(logw) - shift, wanted, rtol=1e-12, atol=2e-13)
    np.testing.assert_allclose(estimators.normalised(logw).sum(axis=0), 1, rtol=1e-15)


def test_log_weights_hundreds_of_nats_apart_count_as_zero():
    """e^2000 is no number in float64: the largest goes out first, wherever it stands."""
    logw = np.array([[-2000.0, 0.0], [0.0, -900.0], [-900.0, -2000.0]])
    np.testing.assert_allclose(estimators.log_mean_exp(logw), -np.log(3), rtol=1e-15)
    np.testing.assert_array_equal(estimators.normalised(logw), [[0, 1], [1, 0], [0, 0]])


def planted(change, name):
    return estimators.estimator(ESTIMATORS[name].objective)(lambda t: change(t, ESTIMATORS[name](t)))


def all_minus_mean(t, w):
    f = t.log_px + t.beta * (t.log_pz - t.log_qz)
    return w._replace(score=(f - f.mean(axis=0)) / f.size)


def softmax_of_the_loss(t, w):
    wrong = estimators.normalised(-estimators.log_weights(t)) / t.log_px.shape[1]
    return w._replace(decoder=wrong, latent=wrong, score=-wrong)


FAULTS = {
    "a baseline that includes the sample itself": ("score", "elbo", all_minus_mean),
    "the score term missing": ("score", "elbo", lambda t, w: w._replace(score=0 * w.score)),
    "a factor of 0.95": ("score", "elbo", lambda t, w: w._replace(score=0.95 * w.score)),
    "weights not normalised": ("dreg", "iwae", lambda t, w: w._replace(path=w.path * len(w.path))),
    "w~ for w~ squared": ("dreg", "iwae", lambda t, w: w._replace(path=np.ones_like(w.path))),
    "weights detached from the score": (
        "iwae", "iwae", lambda t, w: w._replace(score=np.full_like(w.score, -1 / w.score.size))),
    "softmax over the positive loss": ("iwae", "iwae", softmax_of_the_loss),
    "both rewritings at once": (
        "score", "elbo", lambda t, w: w._replace(path=np.ones_like(w.path), latent=t.beta * w.decoder)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_proof_rejects(fault):
    name, reference, change = FAULTS[fault]
    wrong, phi = mean_gradient(planted(change, name), 2)
    assert np.abs(wrong - mean_gradient(ESTIMATORS[reference], 2)[0]).max() > 1e-4


def test_the_leave_one_out_baseline_is_the_mean_of_the_others():
    """Any number that does not depend on z_k leaves the mean gradient right; this one is the mean of the others."""
    f = np.array([[1.0], [2.0], [6.0]])
    np.testing.assert_array_equal(estimators.mean_of_others(f), [[4.0], [3.5], [1.5]])
    np.testing.assert_array_equal(estimators.mean_of_others(f[:1]), [[0.0]])
