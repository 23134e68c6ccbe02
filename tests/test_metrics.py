"""log p(x) by importance sampling, against the integral and closed forms; KL per dimension, active units."""

import numpy as np
import pytest

from minivae import VAE, estimators
from minivae import linear_gaussian as lg
from minivae.linear_gaussian import Decoder, Encoder
from minivae.training import metrics
from minivae.training.metrics import RunningLogMean, active_units, log_px, measure, mu_variance

from conftest import JIT


def exact_log_px(vae, x):
    """The integral over one latent by the trapezoidal rule, which is exact to rounding here."""
    z = np.linspace(-12, 12, 2001)[:, None]
    p = vae.decode(z)
    log_px_z = np.log(p) @ x.T + np.log1p(-p) @ (1 - x).T                  # (2001, N)
    joint = log_px_z - 0.5 * (z**2 + np.log(2 * np.pi))
    return np.log(np.exp(joint).sum(axis=0) * (z[1, 0] - z[0, 0]))


def test_log_px_is_the_integral_within_its_own_error(rng):
    vae = VAE.mlp(6, [5], 1, activation="tanh", rng=rng, dtype=np.float64)
    for _, p, _ in vae.named_params():
        p += 0.3 * rng.standard_normal(p.shape)
    x = (rng.random((13, 6)) < 0.5).astype(float)                          # no multiple of the images of one pass
    samples = 20_000 if JIT else 450
    estimate, error = log_px(vae, x, samples, rng=1)
    assert (error > 0).all() and (error < 20 / np.sqrt(samples)).all()
    # 13 images: 4 sigma fails once in 1000 seeds, and the seed is fixed
    assert (np.abs(estimate - exact_log_px(vae, x)) < 4 * error).all()


def test_the_sums_are_streamed_exactly(rng, monkeypatch):
    vae = VAE.mlp(6, [5], 2, rng=rng, dtype=np.float64)
    x = (rng.random((3, 6)) < 0.5).astype(float)
    ((_, _, seed),) = metrics._groups(x, 70, np.random.default_rng(5))         # three images are one group
    whole = np.random.default_rng(seed).standard_normal((70, 3, 2))
    logw = vae.forward(x, whole).logw
    estimate, error = log_px(vae, x, 70, rng=5)
    monkeypatch.setattr(metrics, "DRAWS_PER_PASS", 16)
    streamed, streamed_error = log_px(vae, x, 70, rng=5)
    w = np.exp(logw)
    np.testing.assert_allclose(estimate, np.log(w.mean(axis=0)), rtol=1e-13)
    np.testing.assert_allclose(streamed, estimate, rtol=1e-13)
    np.testing.assert_allclose(error, w.std(axis=0, ddof=1) / w.mean(axis=0) / np.sqrt(70), rtol=1e-10)
    np.testing.assert_allclose(streamed_error, error, rtol=1e-10)


def test_weights_too_large_or_small_for_a_float_have_a_running_mean(rng):
    """log w around 1000, then 2000, then -1000: e^logw would be infinite, or 0."""
    logw = rng.standard_normal((30, 2)) + np.repeat([1000, 2000, -1000], 10)[:, None]
    running = RunningLogMean(2)
    for part in np.split(logw, 3):
        running.add(part)
    top = np.exp(logw[10:20] - 2000)                       # the others are nothing beside these
    np.testing.assert_allclose(running.value, 2000 + np.log(top.sum(axis=0) / 30), rtol=1e-13)
    whole = np.concatenate([top, np.zeros((20, 2))])
    np.testing.assert_allclose(running.error, whole.std(axis=0, ddof=1) / whole.mean(axis=0) / np.sqrt(30), rtol=1e-10)


def test_a_pending_backward_is_left_alone_and_one_sample_is_refused(rng):
    vae = VAE.mlp(6, [5], 2, rng=0)
    x = np.ones((2, 6), np.float32)
    vae.forward(x)
    log_px(vae, x, 10, rng=0)
    vae.backward()
    with pytest.raises(ValueError, match="samples must be at least 2"):
        log_px(vae, x, 1)


def linear_gaussian_vae(dec, enc, m):
    """The package's VAE with the parameters of the closed forms; theta's variance s2 is held."""
    from minivae.likelihoods import GaussianLikelihood, LOGVAR_FLOOR

    likelihood = GaussianLikelihood("shared", np.float64)
    vae = VAE.mlp(len(dec.W), [], dec.W.shape[1], likelihood=likelihood, rng=0, dtype=np.float64)
    raw = np.log(np.expm1(np.log(dec.s2) - LOGVAR_FLOOR)) + LOGVAR_FLOOR       # the inverse of the bounded log-variance
    values = {"to_mu.W": enc.V.T, "to_mu.b": -enc.V @ m, "to_logvar.W": 0.0, "to_logvar.b": np.log(np.diag(enc.Sigma)),
              "to_mean.W": dec.W.T, "to_mean.b": m, "likelihood.raw_logvar": raw}
    for name, param, _ in vae.named_params():
        param[...] = values[name]
    return vae


@pytest.fixture
def linear(rng):
    """A decoder, a good but not perfect encoder, data, and the VAE that both are."""
    dec, m = Decoder(rng.standard_normal((5, 2)), 0.7), rng.standard_normal(5)
    best = lg.best_diagonal(dec)
    # too wide, so that the weights' variance is finite
    enc = Encoder(best.V + 0.05 * rng.standard_normal(best.V.shape), 1.5 * best.Sigma)
    x = lg.sample(dec, 12, rng)
    x += m - x.mean(axis=0)                                # the closed forms take m to be the mean of the data
    return dec, enc, x, linear_gaussian_vae(dec, enc, m)


def test_on_the_linear_gaussian_model_the_estimate_is_the_exact_log_p(linear):
    dec, enc, x, vae = linear
    samples = 20_000 if JIT else 2000
    report = measure(vae, x, samples, rng=2)
    m, S = lg.second_moment(x)
    exact = lg.log_evidence_rows(dec, x - m)
    assert (report.log_px_error > 0).all() and (report.log_px_error < 3 / np.sqrt(samples)).all()
    assert (np.abs(report.log_px - exact) < 4 * report.log_px_error).all()
    mean_error = np.sqrt((report.log_px_error**2).sum()) / len(x)
    assert report.log_px.mean() == pytest.approx(lg.log_evidence(dec, S), abs=4 * mean_error)
    gap = (report.log_px - report.elbo).mean()
    # four standard errors: log p(x|z) of one draw has a std of 1.5 to 1.7 here
    room = 4 * 1.8 / np.sqrt(samples * len(x))
    assert report.elbo.mean() == pytest.approx(lg.elbo(dec, enc, S), abs=room)
    assert gap == pytest.approx(lg.kl_to_posterior(dec, enc, S), abs=room + 4 * mean_error) and gap > 0.1


def test_at_the_exact_posterior_every_draw_knows_log_p():
    dec, m = Decoder(np.array([[2.0], [-1.0], [0.5]]), 0.3), np.array([1.0, 0.0, -2.0])
    x = m + lg.sample(dec, 6, np.random.default_rng(0))
    estimate, error = log_px(linear_gaussian_vae(dec, lg.posterior(dec), m), x, 7, rng=0)
    np.testing.assert_allclose(estimate, lg.log_evidence_rows(dec, x - m), rtol=0, atol=1e-10)
    assert (error < 1e-7).all()


def test_the_kl_of_the_dimensions_adds_up_to_the_kl(linear):
    _, _, x, vae = linear
    mu, logvar = vae.encode(x)
    each = vae.q_mean_and_kl(x)[1].mean(axis=0)
    np.testing.assert_allclose(each, 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).mean(axis=0), rtol=1e-12)
    assert each.shape == (2,) and (each > 0).all()
    assert each.sum() == pytest.approx(vae.latent.kl(mu, logvar).mean(), rel=1e-12)
    report = measure(vae, x, 5, rng=0)
    np.testing.assert_allclose(report.kl_per_dim, each, rtol=1e-12)
    assert report.kl.mean() == pytest.approx(each.sum(), rel=1e-12)
    np.testing.assert_allclose(report.elbo, -(report.recon + report.kl), rtol=1e-12)


def test_a_unit_is_active_where_its_posterior_mean_varies_by_more_than_the_threshold():
    up_down = np.array([1.0, -1.0, 1.0, -1.0])[:, None]                        # variance 1, divided by N
    mu = up_down * np.sqrt([0.25, 0.0101, 0.0099, 0.0]) + [0, 0, 0, 7]         # a constant, however large, says nothing
    np.testing.assert_allclose(mu_variance(mu), [0.25, 0.0101, 0.0099, 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(active_units(mu), [True, True, False, False])
    assert active_units(mu, 0.2).sum() == 1 and not active_units(mu[:1]).any()


def test_no_estimator_nor_beta_of_training_has_a_say(rng):
    """vimco refuses a single sample, and every multi-sample bound refuses beta != 1: evaluation never does."""
    x = (rng.random((3, 6)) < 0.5).astype(float)
    reports = [measure(VAE.mlp(6, [5], 2, rng=0, dtype=np.float64, estimator=estimator, beta=beta), x, 101, rng=0)
               for estimator, beta in ((estimators.elbo, 1), (estimators.vimco, 1), (estimators.elbo, 4))]
    for report in reports[1:]:
        np.testing.assert_array_equal(report.elbo, reports[0].elbo)
        np.testing.assert_array_equal(report.log_px, reports[0].log_px)
