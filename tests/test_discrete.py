"""Discrete latents: every estimator proved by enumeration, and the bias of the relaxations measured exactly.

Every outcome of K samples of the coins is one example of a batch, and its weights on the wires carry
its probability, so that ONE backward pass gives the mean gradient, exactly to rounding.
"""

from itertools import product

import numpy as np
import pytest

import minivae
from minivae import DiscreteVAE, check_model, estimators, fit
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent
from minivae.estimators import ESTIMATORS
from minivae.layers import sigmoid
from minivae.gradcheck import exact_means, romberg
from minivae.gradcheck.cases import perturbed
from minivae.gradcheck.exact_means import all_coins, all_faces, all_pairs
from minivae.likelihoods import GaussianLikelihood
from minivae.saving.archive import ArchiveError
from minivae.training.loop import evaluate
from minivae.training.metrics import log_px, measure
from minivae.vae import VAE

F8 = np.float64
Z = 3
X = np.array([[1.0, 0.0, 1.0, 1.0]])


def model(**settings):
    """Four pixels, three coins, no weight at zero."""
    vae = DiscreteVAE.mlp(4, [3], Z, rng=5, dtype=F8, activation="tanh", **settings)
    return perturbed(vae, np.random.default_rng(11), by=0.5)


# --- all outcomes, and what they are worth ------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 2])
def test_all_coins_are_all_outcomes_each_with_its_probability(K, rng):
    theta = rng.random(Z)
    u, weights = all_coins(theta, K)
    z = BernoulliLatent().sample(np.log(theta / (1 - theta))[None], u[:, :, None].reshape(-1, 1, Z)).reshape(u.shape)
    assert {tuple(row) for row in z.swapaxes(0, 1).reshape(-1, K * Z)} == set(product([0.0, 1.0], repeat=K * Z))
    np.testing.assert_allclose(weights, np.where(z == 1, theta, 1 - theta).prod(axis=(0, 2)), rtol=1e-14)
    assert weights.sum() == pytest.approx(1, abs=1e-14)


def test_all_pairs_have_the_law_of_u_and_1_minus_u(rng):
    """Each coin of the pair alone has the mean theta, and both fall on 1 with probability max(0, 2 theta - 1)."""
    theta = np.array([0.2, 0.5, 0.9])
    u, weights = all_pairs(theta)
    np.testing.assert_array_equal(u[1], 1 - u[0])
    z = u > 1 - theta
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    for one in z:
        np.testing.assert_allclose(weights @ one, theta, rtol=1e-13)
    np.testing.assert_allclose(weights @ (z[0] & z[1]), np.maximum(0, 2 * theta - 1), rtol=0, atol=1e-14)


def mean_gradient(estimator, vae, outcomes=None, K=1):
    """E over the noise of the gradient of the loss, all parameters in one vector; and phi's mask."""
    theta = sigmoid(vae.encode(X)[0])
    u, weights = outcomes(theta) if outcomes else all_coins(theta, K)
    return exact_means.mean_gradient(vae, estimator, X, u, weights), exact_means.phi_mask(vae)


# --- the objectives, enumerated, with nothing of the package in them but the weights ---------------------


def by_hand(vae):
    """q(z) and log p(x|z) of all eight z, from the weights."""
    p = {name: param for name, param, _ in vae.named_params()}
    z = all_faces(Z)
    a = np.tanh(X @ p["enc.0.W"] + p["enc.0.b"]) @ p["to_a.W"] + p["to_a.b"]
    logits = np.tanh(z @ p["dec.0.W"] + p["dec.0.b"]) @ p["to_logits.W"] + p["to_logits.b"]
    q = (1 / (1 + np.exp(-np.where(z == 1, a, -a)))).prod(axis=1)
    return q, (X * logits - np.log1p(np.exp(logits))).sum(axis=1)


def enumerated_elbo(vae):
    q, log_p = by_hand(vae)
    return (q * (log_p - vae.beta * np.log(q * 2**Z))).sum()


def enumerated_bound(vae, K):
    """E L_K, the sum over all 8^K rows of samples."""
    q, log_p = by_hand(vae)
    w = np.exp(log_p) / 2**Z / q
    row = np.array(list(product(range(2**Z), repeat=K)))
    return (q[row].prod(axis=1) * np.log(w[row].mean(axis=1))).sum()


def derivative(f, vae):
    """d f/d(every parameter), by Romberg's differences, whose own error bars here are below 2e-11."""
    out = []
    for _, p, _ in vae.named_params():
        for i in np.ndindex(p.shape):
            keep = p[i]

            def at(h, p=p, i=i, keep=keep):
                p[i] = keep + h
                return f()

            value, bar = romberg(at, 2.0**-4, 1e-15)
            assert bar < 5e-11
            p[i] = keep
            out.append(value)
    return np.array(out)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)   # the reference's own error bar is below 5e-11


@pytest.mark.parametrize("beta", [1.0, 1.7])
def test_every_estimator_of_the_elbo_has_the_derivative_of_the_enumerated_elbo_as_its_mean(beta):
    vae = model(beta=beta)
    right = -derivative(lambda: enumerated_elbo(vae), vae)
    for name in ("score", "score_analytic_kl"):
        for K in (1, 2, 3):
            close(mean_gradient(ESTIMATORS[name], vae, K=K)[0], right)
    close(mean_gradient(estimators.disarm, vae, all_pairs)[0], right)
    assert np.abs(right).max() > 0.01


@pytest.mark.parametrize("K", [2, 3])
def test_vimco_has_the_derivative_of_the_enumerated_bound_as_its_mean(K):
    vae = model()
    close(mean_gradient(estimators.vimco, vae, K=K)[0], -derivative(lambda: enumerated_bound(vae, K), vae))


@pytest.mark.parametrize("K", [1, 2, 3])
def test_rws_has_its_own_mean_and_the_decoder_of_the_bound(K):
    """theta climbs L_K.  phi's mean is E sum w~ s = E[L_K-hat sum s] - grad L_K.

    That is another direction than L_K's, and 0 at K = 1.
    """
    vae = model()
    right = -derivative(lambda: enumerated_bound(vae, K), vae)
    (rws, phi) = mean_gradient(estimators.rws, vae, K=K)

    @estimators.estimator(estimators.multi_sample_bound)
    def bound_times_score(t):                              # sum_k log-mean-w times s_k, without its second half
        logw = estimators.log_weights(t)
        return estimators.rws(t)._replace(score=np.tile(estimators.log_mean_exp(logw), (K, 1)) / logw.shape[1])

    close(rws[~phi], right[~phi])
    close(rws[phi], (mean_gradient(bound_times_score, vae, K=K)[0] - right)[phi])
    if K == 1:
        close(rws[phi], 0.0)
    else:
        assert np.abs((rws - right)[phi]).max() > 1e-3


def test_disarm_is_the_leave_one_out_estimator_weighed_by_sigmoid_of_abs_a():
    """1/2 (f(z) - f(z~)) (-1)^z~_j 1[z_j != z~_j] sigmoid(|a_j|), as printed, noise by noise.

    At beta = 0 it is the gradient of to_a.b.
    """
    vae, rng = model(estimator=estimators.disarm, beta=0.0), np.random.default_rng(3)
    a = vae.encode(X)[0]
    for _ in range(20):
        u = vae.noise(2, 1, rng)
        vae.forward(X, u)
        z = (u > sigmoid(-a)).astype(float)[:, 0]
        p = {name: param for name, param, _ in vae.named_params()}
        logits = np.tanh(z @ p["dec.0.W"] + p["dec.0.b"]) @ p["to_logits.W"] + p["to_logits.b"]
        f = (X * logits - np.log1p(np.exp(logits))).sum(axis=1)
        printed = 0.5 * (f[0] - f[1]) * (-1) ** z[1] * (z[0] != z[1]) * sigmoid(np.abs(a))
        vae.backward()
        # sums of ten terms of order 1
        np.testing.assert_allclose(vae.to_a.grads["b"], -printed, rtol=0, atol=1e-13)


# --- the proof rejects what is wrong ------------------------------------------------------------------


@estimators.estimator(estimators.analytic_elbo)
def without_the_weight(t):
    return estimators.score_analytic_kl(t)


@estimators.estimator(estimators.analytic_elbo)
def own_sample_in_the_mean(t):
    f, (K, B) = t.log_px, t.log_px.shape
    return estimators.score_analytic_kl(t)._replace(score=(f - f.mean(axis=0)) / (K * B))


@estimators.estimator(estimators.analytic_elbo)
def without_the_kl(t):
    w = estimators.score_analytic_kl(t)
    return w._replace(kl=0 * w.kl)


@pytest.mark.parametrize("estimator, outcomes", [(without_the_weight, all_pairs), (own_sample_in_the_mean, None),
                                                 (without_the_kl, None)])
def test_the_proof_rejects(estimator, outcomes):
    vae = model(beta=1.7)
    right = -derivative(lambda: enumerated_elbo(vae), vae)
    assert np.abs(mean_gradient(estimator, vae, outcomes, K=2)[0] - right).max() > 1e-3


def test_a_mean_that_includes_the_sample_itself_scales_the_score_by_m_minus_1_over_m():
    for K in (2, 3):
        vae = model(beta=0.0)
        whole, phi = mean_gradient(estimators.score_analytic_kl, vae, K=K)
        scaled, _ = mean_gradient(own_sample_in_the_mean, vae, K=K)
        # sums of up to 512 terms below 1
        np.testing.assert_allclose(scaled[phi], (K - 1) / K * whole[phi], rtol=0, atol=1e-14)


# --- relaxations: one coin, f(z) = (z - t)^2 ------------------------------------------------------------


def one_coin(t, a, latent):
    """A model of one pixel and one coin; log p(x|z) at x = t is -(z - t)^2 - log(pi)/2: minus f, and a constant."""
    half = GaussianLikelihood(np.log(0.5), F8)
    vae = DiscreteVAE.mlp(1, [], 1, likelihood=half, latent=latent, rng=0, dtype=F8, beta=0.0)
    for (_, p, _), value in zip(vae.named_params(), (0.0, a, 1.0, 0.0)):   # to_a.W, to_a.b, to_mean.W, to_mean.b
        p[...] = value
    return vae, np.array([[t]])


def slopes(vae, x, u):
    """d f/da of each single noise, with f = -log p(x|z): to_a.b's gradient, one pass each."""
    out = []
    for v in u:
        vae.forward(x, np.array([[v]]))
        vae.backward()
        out.append(vae.to_a.grads["b"].item())
    return np.array(out)


def concrete_moments(t, a, temperature):
    """Mean and variance of Concrete's d f/da, by Gauss-Legendre on pieces of y = (a + logit(u)) / temperature.

    The weights carry the density of y.
    """
    nodes, weights = np.polynomial.legendre.leggauss(10)
    edges = np.linspace(-36, 36, 37)
    y = ((edges[1:] + edges[:-1]) / 2 + (edges[1] - edges[0]) / 2 * nodes[:, None]).ravel()
    w = np.repeat(weights * (edges[1] - edges[0]) / 2, len(edges) - 1)
    u = sigmoid(temperature * y - a)
    w = w * temperature * u * (1 - u)                      # du = temperature sigmoid'(temperature y - a) dy
    g = slopes(*one_coin(t, a, ConcreteLatent(temperature)), u)
    return (w * g).sum(), (w * g**2).sum() - (w * g).sum() ** 2


def test_concretes_bias_goes_as_the_temperature_and_its_variance_as_one_over_it():
    """theta = sigmoid(a), truth theta (1 - theta) (1 - 2t).  As the temperature T falls, with s = z on (0, 1):

    bias / T -> -sigmoid''(a) = -theta (1 - theta) (1 - 2 theta);
    T Var -> theta (1 - theta) 4 int (s - t)^2 s (1 - s) ds.
    """
    t, a = 0.45, 0.8
    theta = 1 / (1 + np.exp(-a))
    truth = theta * (1 - theta) * (1 - 2 * t)
    rate, height = -theta * (1 - theta) * (1 - 2 * theta), theta * (1 - theta) * 4 * (1 / 20 - t / 6 + t**2 / 6)
    for T in (0.08, 0.04, 0.02):
        mean, variance = concrete_moments(t, a, T)
        # the next term of the expansion is of order T
        assert (mean - truth) / T == pytest.approx(rate, rel=3 * T)
        assert variance * T == pytest.approx(height, rel=3 * T)
        assert abs(mean - truth) > 1e-4


def test_at_a_fair_coin_concretes_bias_goes_as_the_square_of_the_temperature_and_is_zero_at_the_middle():
    """theta = 1/2: bias / T^2 -> -(1 - 2t) pi^2 / 48, as sigmoid'''(0) = -1/8 and E y^2 = pi^2 / 3.

    theta = t = 1/2: 0.
    """
    t = 0.3
    for T in (0.1, 0.05, 0.025):
        bias = concrete_moments(t, 0.0, T)[0] - 0.25 * (1 - 2 * t)
        assert bias / T**2 == pytest.approx(-(1 - 2 * t) * np.pi**2 / 48, rel=8 * T**2)    # only even orders are left
    for T in (0.1, 0.5):
        # odd in y: the pieces cancel to rounding
        assert concrete_moments(0.5, 0.0, T)[0] == pytest.approx(0.0, abs=1e-13)


def test_straight_through_is_biased_by_sigmoid_prime_times_2_theta_minus_1():
    """E f'(z) sigmoid'(a) = sigmoid'(a) (2 theta - 2t) where the truth is sigmoid'(a) (1 - 2t)."""
    t, a = 0.45, 0.8
    theta = sigmoid(a)
    g = slopes(*one_coin(t, a, StraightThroughLatent()), [(1 - theta) / 2, 1 - theta / 2])
    mean = g @ [1 - theta, theta]
    assert mean - theta * (1 - theta) * (1 - 2 * t) == pytest.approx(theta * (1 - theta) * (2 * theta - 1), rel=1e-12)


def test_straight_through_gives_f_and_f_squared_different_gradients():
    """z and z^2 are one function on {0, 1}.  The score function gives both one gradient.

    Straight-through gives sigmoid' and 2 theta sigmoid'.
    """
    latent, a = StraightThroughLatent(), np.array([[0.8]])
    theta = sigmoid(a).item()
    means = []
    for slope in (lambda z: np.ones_like(z), lambda z: 2 * z):
        mean = 0.0
        for u, q in (((1 - theta) / 2, 1 - theta), (1 - theta / 2, theta)):
            z = latent.sample(a, np.array([[[u]]]))
            mean += q * latent.sample_backward(slope(z)).item()
        means.append(mean)
    truth = theta * (1 - theta)
    assert means == pytest.approx([truth, 2 * theta * truth], rel=1e-14) and abs(means[0] - means[1]) > 0.05


# --- the nodes, and what is refused -----------------------------------------------------------------------


def test_nothing_overflows_and_nothing_is_clipped_far_out():
    """In both precisions, at logits where exp(a) is infinite."""
    for dtype in (np.float32, np.float64):
        a = np.array([[1e4, -1e4, 0.0]], dtype)
        u = np.array([[[0.5, 0.5, 1.0]], [[1e-3, 0.999, 0.0]]], dtype)
        for latent in (BernoulliLatent(), ConcreteLatent(0.5), StraightThroughLatent()):
            z = latent.sample(a, u)
            np.testing.assert_array_equal(z, [[1, 0, 1], [1, 0, 0]])
            assert z.dtype == dtype and latent.kl(a).item() == pytest.approx(2 * np.log(2), rel=1e-6)
            np.testing.assert_allclose(latent.kl_backward(np.ones(1, dtype)), 0, atol=1e-30)
            log_qz = latent.log_q(np.array([[0, 1, 0]], dtype), a)
            np.testing.assert_array_equal(log_qz, np.array([-2e4 - np.log(2)], dtype))
            assert np.isfinite(latent.log_q_backward(np.ones(1, dtype))).all()
            if latent.has_path:
                assert not latent.sample_backward(np.ones((2, 3), dtype))[0, :2].any()


def test_concrete_falls_on_the_side_of_the_coin_and_tends_to_it():
    rng = np.random.default_rng(0)
    a, u = rng.standard_normal((5, 2)), rng.random((4, 5, 2))
    coin = BernoulliLatent().sample(a, u)
    np.testing.assert_array_equal(ConcreteLatent(0.7).sample(a, u) > 0.5, coin == 1)
    # nearest logit of these 40: above 1e-3
    np.testing.assert_allclose(ConcreteLatent(1e-6).sample(a, u), coin, atol=1e-12)


@pytest.mark.parametrize("latent, name, message", [
    (BernoulliLatent(), "elbo", "no gradient passes through it"), (BernoulliLatent(), "stl", "its path is open"),
    (BernoulliLatent(), "dreg", "its path is open"), (ConcreteLatent(), "score", "takes the estimator elbo"),
    (ConcreteLatent(), "elbo_mc", "takes the estimator elbo"),
    (StraightThroughLatent(), "iwae", "takes the estimator elbo"),
    (StraightThroughLatent(), "rws", "takes the estimator elbo")], ids=lambda v: getattr(v, "name", None))
def test_an_estimator_that_the_latent_cannot_serve_is_refused_in_one_line(latent, name, message):
    vae = model(latent=latent, estimator=ESTIMATORS[name])
    vae.forward(X, np.full((2, 1, Z), 0.3))
    with pytest.raises(ValueError, match=message) as refused:
        vae.backward()
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=message):
        fit(vae, np.repeat(X, 3, axis=0), epochs=1, samples=2)             # before anything is trained


def test_disarm_refuses_what_is_no_antithetic_pair():
    vae, rng = model(estimator=estimators.disarm), np.random.default_rng(0)
    u = vae.noise(2, 1, rng)
    np.testing.assert_array_equal(u[1], 1 - u[0])
    vae.forward(X, u)
    for wrong, message in ((rng.random((2, 1, Z)), "antithetic noise u and 1 - u"),
                           (np.stack([u[0], u[0]]), "antithetic"), (u[:1], "got K = 1"),
                           (rng.random((3, 1, Z)), "got K = 3")):
        with pytest.raises(ValueError, match=message):
            vae.forward(X, wrong)
    with pytest.raises(ValueError, match="disarm wants binary latents"):
        VAE.mlp(4, [3], Z, estimator=estimators.disarm, rng=0).forward(X, rng.standard_normal((2, 1, Z)))
    with pytest.raises(ValueError, match="takes no baseline"):
        model(estimator=estimators.disarm, baseline="running-mean")


def test_wrong_noise_and_wrong_names_are_refused():
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\], found -1"):
        model().forward(X, np.full((1, Z), -1.0))
    with pytest.raises(ValueError, match="temperature must be a number > 0, got 0"):
        ConcreteLatent(0)
    for make_one, got in ((lambda: VAE.mlp(4, [3], 2, latent=BernoulliLatent()), "BernoulliLatent"),
                          (lambda: model(latent="concrete"), "concrete")):
        with pytest.raises(ValueError, match=f"the latent of a .* got {got}"):
            make_one()
    with pytest.raises(RuntimeError, match="without a forward"):
        model().backward()


@pytest.mark.parametrize("latent, name, K", [
    (BernoulliLatent(), "score", 3), (BernoulliLatent(), "score_analytic_kl", 1), (BernoulliLatent(), "rws", 3),
    (BernoulliLatent(), "vimco", 3), (BernoulliLatent(), "disarm", 2), (ConcreteLatent(0.7), "elbo", 3),
    (StraightThroughLatent(), "elbo", 3)])
def test_every_backward_is_what_its_weights_say(latent, name, K, rng):
    beta = 1.0 if ESTIMATORS[name].objective is estimators.multi_sample_bound else 1.7
    vae = DiscreteVAE.mlp(7, [6], 2, rng=rng, dtype=F8, activation="tanh", beta=beta,
                          estimator=ESTIMATORS[name], latent=latent)
    check_model(vae, rng.random((5, 7)), vae.noise(K, 5, rng)).raise_if_wrong()


@pytest.mark.parametrize("latent, name, K", [
    (BernoulliLatent(), "disarm", 2), (BernoulliLatent(), "score", 3), (ConcreteLatent(0.5), "elbo", 2),
    (StraightThroughLatent(), "elbo", 2)])
def test_a_new_relu_model_whose_coins_all_fell_on_zero_stands_at_a_kink_and_raises_no_alarm(latent, name, K):
    """Its biases are 0: where z = 0 every unit of the decoder gets exactly 0."""
    x = (np.random.default_rng(0).random((5, 7)) < 0.5).astype(float)
    for seed in range(3):
        vae = DiscreteVAE.mlp(7, [6], 2, rng=seed, dtype=F8, latent=latent, estimator=ESTIMATORS[name])
        report = check_model(vae, x, vae.noise(K, 5, np.random.default_rng(seed)))
        report.raise_if_wrong()
        if not latent.name == "concrete":
            assert any(row.verdict == "KINK" and row.note.endswith("0.01 away: PASS") for row in report.rows)


# --- evaluation, saving -----------------------------------------------------------------------------------


def test_log_px_is_the_sum_over_all_codes_within_its_own_error():
    vae = model()
    q, log_p = by_hand(vae)
    exact = np.log((np.exp(log_p) / 2**Z).sum())
    estimate, error = log_px(vae, X, 4000, rng=1)
    assert 0 < error[0] < 0.05 and abs(estimate[0] - exact) < 4 * error[0]             # 4 sigma, fixed seed
    report = measure(vae, X, 4000, rng=1)
    # 4 sigma: one draw of f has a std below 0.5
    assert report.elbo[0] == pytest.approx(enumerated_elbo(vae), abs=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(report.kl_per_dim, BernoulliLatent().kl_each(vae.encode(X))[0], rtol=1e-14)
    assert report.kl_per_dim.sum() == pytest.approx((q * np.log(q * 2**Z)).sum(), rel=1e-12)


def test_a_relaxed_model_is_judged_on_coins():
    """The same weights get the same numbers, whatever was relaxed in training; and the latent is put back."""
    X8 = (np.random.default_rng(0).random((30, 4)) < 0.5).astype(float)
    reports = [(evaluate(vae, X8), measure(vae, X8, 50, rng=0).log_px) for vae in
               (model(), model(latent=ConcreteLatent(0.3)), model(latent=StraightThroughLatent()))]
    for found, log_p in reports[1:]:
        assert found == reports[0][0]
        np.testing.assert_array_equal(log_p, reports[0][1])
    soft = model(latent=ConcreteLatent(0.3))
    evaluate(soft, X8)
    assert soft.latent.temperature == 0.3


@pytest.mark.parametrize("settings", [
    {"latent": BernoulliLatent(), "estimator": estimators.disarm}, {"latent": ConcreteLatent(0.3)},
    {"latent": StraightThroughLatent(), "beta": 1.7}], ids=["bernoulli", "concrete", "straight-through"])
def test_save_and_load_give_the_same_model(settings, tmp_path):
    vae = model(**settings)
    minivae.save(vae, tmp_path / "m.npz")
    again = minivae.load(tmp_path / "m.npz")
    assert type(again) is DiscreteVAE and type(again.latent) is type(vae.latent)
    assert again.latent.settings == vae.latent.settings
    assert again.estimator is vae.estimator and again.beta == vae.beta
    u = vae.noise(2, 1, np.random.default_rng(0))
    assert again.forward(X, u).loss == vae.forward(X, u).loss
    minivae.save(VAE.mlp(4, [3], 2, rng=0), tmp_path / "g.npz")
    assert type(minivae.load(tmp_path / "g.npz")) is VAE


def test_a_file_with_an_unknown_latent_is_refused_in_one_line(tmp_path):
    vae = model()
    vae.latent.name = "categorical"
    minivae.save(vae, tmp_path / "m.npz")
    with pytest.raises(ArchiveError, match="unknown latent 'categorical'"):
        minivae.load(tmp_path / "m.npz")


def test_the_everyday_methods_know_that_z_is_a_coin():
    vae = model()
    a = vae.encode(X)
    np.testing.assert_array_equal(vae.reconstruct(X), vae.decode((a > 0).astype(float)))
    mean, kl = vae.q_mean_and_kl(X)
    np.testing.assert_allclose(mean, 1 / (1 + np.exp(-a)), rtol=1e-14)
    assert kl.shape == mean.shape == (1, Z)
    codes = {tuple(image) for image in vae.decode(all_faces(Z))}
    # 200 draws of 8 codes: one is missed in 4e-11 of seeds
    assert {tuple(image) for image in vae.sample(200, rng=0)} == codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_lowers_the_loss_in_both_precisions(dtype):
    X8 = np.repeat(np.eye(8), 20, axis=0)
    for settings in ({"estimator": estimators.disarm}, {"latent": ConcreteLatent(0.5)}):
        vae = DiscreteVAE.mlp(8, [16], 4, rng=0, dtype=dtype, **settings)
        history = fit(vae, X8, epochs=40, batch_size=16, lr=1e-2, samples=2, rng=0)
        assert history[-1]["loss"] < 0.8 * history[0]["loss"] and vae.to_a.params["W"].dtype == dtype
