"""What a gradient check cannot see: that forward itself is right, and that the contract is kept."""

import numpy as np
import pytest

from minivae.latents import GaussianLatent
from minivae.cores import FEW_ROWS, times_transpose
from minivae.layers import Dense, ReLU, Sequential, Sigmoid, Softplus, Tanh
from minivae.likelihoods import LOGVAR_FLOOR, BernoulliLikelihood, GaussianLikelihood
from minivae.optim import Adam
from minivae.vae import VAE

from conftest import JIT

N = 400_000 if JIT else 20_000
F8 = np.float64


def test_the_sample_has_mean_mu_and_std_exp_half_logvar(rng):
    """The variance in the place of the std passes every gradient check; it cannot pass this."""
    mu, logvar = np.array([[0.7, -2.0]]), np.array([[-1.0, 1.5]])
    z = GaussianLatent().sample(mu, logvar, rng.standard_normal((N, 1, 2)))
    std = np.exp(logvar[0] / 2)
    five_sigma = 5 * std / np.sqrt(N)          # of a mean; a std's own error is smaller by sqrt(2)
    assert (np.abs(z.mean(axis=0) - mu[0]) < five_sigma).all()
    assert (np.abs(z.std(axis=0) - std) < five_sigma).all()


def test_samples_are_rows_k_times_B_plus_n(rng):
    mu, logvar, eps = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), rng.standard_normal((3, 5, 2))
    z = GaussianLatent().sample(mu, logvar, eps)
    for k in range(3):
        for n in range(5):
            np.testing.assert_allclose(z[k * 5 + n], mu[n] + np.exp(logvar[n] / 2) * eps[k, n], rtol=1e-14)


def test_the_kl_equals_its_monte_carlo_value(rng):
    latent = GaussianLatent()
    mu, logvar = np.array([[0.7, -0.4]]), np.array([[-1.0, 0.8]])
    z = latent.sample(mu, logvar, rng.standard_normal((N, 1, 2))).copy()
    log_ratio = latent.log_q(z, mu, logvar) - latent.log_prior(z)
    assert abs(log_ratio.mean() - latent.kl(mu, logvar)[0]) < 5 * log_ratio.std() / np.sqrt(N)


def test_the_kl_is_zero_at_the_prior_and_positive_elsewhere(rng):
    latent = GaussianLatent()
    np.testing.assert_array_equal(latent.kl(np.zeros((2, 3)), np.zeros((2, 3))), [0, 0])
    assert (latent.kl(rng.standard_normal((50, 3)), rng.standard_normal((50, 3))) > 0).all()


def test_log_q_and_log_prior_integrate_to_one():
    grid = np.linspace(-12, 12, 4001)[:, None]
    latent = GaussianLatent()
    for log_density in (latent.log_prior(grid), latent.log_q(grid, np.array([[0.5]]), np.array([[-0.7]]))):
        # the trapezoidal rule is exact to rounding for a function that is flat zero at both ends
        assert np.exp(log_density).sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("likelihood", [GaussianLikelihood(-0.6, F8), GaussianLikelihood("shared", F8)],
                         ids=["fixed", "shared"])
def test_the_gaussian_likelihood_integrates_to_one(likelihood):
    grid = np.linspace(-15, 15, 4001)[:, None]
    density = np.exp(likelihood.forward(np.full((len(grid), 1), 0.3), grid))
    assert density.sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1, abs=1e-12)


def test_the_bernoulli_likelihood_sums_to_one_over_all_images(rng):
    logits = np.tile(rng.standard_normal((1, 4)), (16, 1))
    every_image = (np.arange(16)[:, None] >> np.arange(4)) & 1
    assert np.exp(BernoulliLikelihood().forward(logits, every_image.astype(float))).sum() == pytest.approx(1, abs=1e-14)


def test_a_uniform_predictor_costs_D_log_2(rng):
    log_px = BernoulliLikelihood().forward(np.zeros((1, 784)), rng.random((1, 784)))
    assert -log_px[0] == pytest.approx(784 * np.log(2), rel=1e-14)         # 543.43 nats


def test_a_learned_logvar_is_bounded_below_smoothly():
    """At raw = -50 the variance is that of the floor and the gradient is small but not cut to zero."""
    likelihood = GaussianLikelihood("shared", F8)
    likelihood.params["raw_logvar"][...] = -50.0
    mean, x = np.zeros((1, 1)), np.zeros((1, 1))
    assert likelihood.forward(mean, x)[0] == pytest.approx(-0.5 * (LOGVAR_FLOOR + np.log(2 * np.pi)), rel=1e-12)
    likelihood.backward(np.ones(1))
    assert likelihood.grads["raw_logvar"][0, 0] == pytest.approx(-0.5 * np.exp(-40), rel=1e-9)


def test_the_gaussian_likelihood_can_be_given_its_logvar_per_pixel():
    likelihood = GaussianLikelihood("per_pixel", F8)
    assert likelihood.width(3) == 6
    out = np.array([[1.0, 2.0, 3.0, 30.0, 40.0, 50.0]])                     # so far above the floor that raw is logvar
    mean, logvar = np.array([1, 2, 3.0]), np.array([30, 40, 50.0])
    want = -0.5 * ((mean**2 * np.exp(-logvar)).sum() + logvar.sum() + 3 * np.log(2 * np.pi))
    assert likelihood.forward(out, np.zeros((1, 3)))[0] == pytest.approx(want, rel=1e-14)
    np.testing.assert_array_equal(likelihood.mean(out), [[1, 2, 3]])


@pytest.mark.parametrize("bad", ["per-pixel", np.nan, np.inf])
def test_a_wrong_logvar_is_refused(bad):
    with pytest.raises(ValueError, match="logvar must be"):
        GaussianLikelihood(bad)


LAYERS = {"Dense": lambda rng: Dense(4, 4, rng, F8), "ReLU": lambda rng: ReLU(), "Tanh": lambda rng: Tanh(),
          "Sigmoid": lambda rng: Sigmoid(), "Softplus": lambda rng: Softplus(),
          "Sequential": lambda rng: Sequential(Dense(4, 4, rng, F8), Tanh())}


@pytest.mark.parametrize("name", LAYERS)
def test_backward_needs_a_forward_each_time(name, rng):
    layer = LAYERS[name](rng)
    with pytest.raises(RuntimeError, match="without a forward"):
        layer.backward(np.ones((3, 4)))
    layer.forward(np.ones((3, 4)))
    layer.backward(np.ones((3, 4)))
    with pytest.raises(RuntimeError, match="without a forward"):
        layer.backward(np.ones((3, 4)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_never_writes_into_its_input_and_takes_any_memory_layout(name, rng):
    layer = LAYERS[name](rng)
    x, dy = rng.standard_normal((6, 4)), rng.standard_normal((6, 4))
    kept_x, kept_dy = x.copy(), dy.copy()
    y, dx = layer.forward(x).copy(), layer.backward(dy).copy()
    np.testing.assert_array_equal(x, kept_x)
    np.testing.assert_array_equal(dy, kept_dy)
    np.testing.assert_array_equal(layer.forward(np.asfortranarray(x)), y)
    np.testing.assert_array_equal(layer.backward(np.repeat(dy, 2, axis=1)[:, ::2]), dx)


@pytest.mark.parametrize("name", LAYERS)
def test_backward_refuses_a_gradient_of_the_wrong_shape(name, rng):
    layer = LAYERS[name](rng)
    layer.forward(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"must have shape \(3, 4\), got \(2, 4\)"):
        layer.backward(np.ones((2, 4)))


@pytest.mark.parametrize("dtype", [np.float32, F8])
@pytest.mark.parametrize("n", [1, 20, FEW_ROWS, FEW_ROWS + 1])
def test_times_transpose_is_the_product_for_few_rows_and_for_many(n, dtype, rng):
    a, W, out = rng.standard_normal((n, 30)), rng.standard_normal((40, 30)), np.empty((n, 40), dtype)
    times_transpose(a.astype(dtype), W.astype(dtype), out)
    # 30 products a sum, none above 20 in size: each rounding is below eps / 2 of the running sum
    np.testing.assert_allclose(out, a @ W.T, rtol=0, atol=30 * 20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, F8])
def test_parameters_gradients_and_moments_begin_at_multiples_of_64_bytes(dtype, rng):
    vae = VAE.mlp(7, [5], 3, rng=rng, dtype=dtype)
    for name, *arrays in vae.named_params():
        assert not any(a.ctypes.data % 64 for a in (*arrays, *Adam([(name, *arrays)]).slots[name])), name


def test_dense_starts_between_the_glorot_bounds_with_zero_biases(rng):
    layer = Dense(300, 100, rng)
    bound = np.sqrt(6 / 400)
    assert layer.params["W"].dtype == np.float32 and 0.99 * bound < np.abs(layer.params["W"]).max() <= bound
    assert not layer.params["b"].any()


def test_dense_names_the_shape_it_wants(rng):
    with pytest.raises(ValueError, match=r"x of Dense must have shape \(any, 4\), got \(3, 5\)"):
        Dense(4, 2, rng).forward(np.ones((3, 5)))


def test_log_q_refuses_rows_that_are_no_multiple_of_the_batch():
    with pytest.raises(ValueError, match="K samples for each of the 2 rows of the batch, got 3"):
        GaussianLatent().log_q(np.zeros((3, 1)), np.zeros((2, 1)), np.zeros((2, 1)))


@pytest.mark.parametrize("bad", [np.ones((2, 3), int), np.ones((2, 3), np.float16)])
def test_numbers_that_no_kernel_is_made_for_are_refused(bad):
    for forward in (Tanh().forward, GaussianLatent().log_prior, lambda a: BernoulliLikelihood().forward(a, a)):
        with pytest.raises(ValueError, match="must be float32 or float64"):
            forward(bad)


@pytest.mark.parametrize("x", [np.zeros((3, 4)), np.zeros((0, 4))])
@pytest.mark.parametrize("likelihood", [BernoulliLikelihood(), GaussianLikelihood(0.0)], ids=["bernoulli", "gaussian"])
def test_a_likelihood_wants_whole_samples_of_its_images(likelihood, x):
    with pytest.raises(ValueError, match="K samples for each of the"):
        likelihood.forward(np.zeros((7, 4)), x)


def test_a_sequential_inside_a_sequential_is_unpacked(rng):
    inner = Sequential(Dense(4, 3, rng, F8), Tanh())
    outer = Sequential(inner, Dense(3, 2, rng, F8))
    assert [type(layer) for layer in outer.layers] == [Dense, Tanh, Dense]
    assert list(outer.params) == ["0.W", "0.b", "2.W", "2.b"]


def test_the_priors_backward_refuses_weights_of_another_length(rng):
    latent = GaussianLatent()
    latent.log_prior(rng.standard_normal((5, 2)))
    with pytest.raises(ValueError, match="dlog_pz must have shape"):
        latent.log_prior_backward(np.ones(1))              # NumPy alone would spread the one weight over all rows


@pytest.mark.parametrize("x, said", [
    ([[0.5, 0.0], [2.0, 255.0]], "found 2 at row 1, pixel 0 (min 0, max 255): divide by 255?"),
    ([[0.5, 0.0], [1.0, 256.0]], "found 256 at row 1, pixel 1 (min 0, max 256): a Gaussian"),
    ([[0.5, -0.5], [200.0, 0.0]], "found -0.5 at row 0, pixel 1 (min -0.5, max 200): a Gaussian"),
    ([[0.5, 7.0], [np.nan, 0.0]], "found 7 at row 0, pixel 1 (min nan, max nan): fill it")])
def test_pixels_that_are_no_intensities_are_told_with_their_range(x, said):
    with pytest.raises(ValueError) as caught:
        BernoulliLikelihood().check(np.array(x))
    assert said in str(caught.value)
