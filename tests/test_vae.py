"""The model: its result, its parameters, its precision, its everyday methods."""

import numpy as np
import pytest

import minivae
from minivae import VAE, estimators
from minivae.saving.archive import ArchiveError
from minivae.layers import Dense, Sequential, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.optim import Adam

B, D, H, Z = 5, 7, 4, 2
F8 = np.float64


def model(**settings):
    return VAE.mlp(D, [6, H], Z, **{"rng": 0, "dtype": F8, "activation": "tanh", **settings})


def test_forward_reports_nats_per_example(rng):
    vae = model(beta=1.7)
    x, eps = rng.random((B, D)), rng.standard_normal((3, B, Z))
    r = vae.forward(x, eps)
    assert isinstance(r.loss, float) and r.recon.shape == r.kl.shape == r.elbo.shape == (B,) and r.logw.shape == (3, B)
    assert r.loss == pytest.approx((r.recon + 1.7 * r.kl).mean(), rel=1e-14)
    np.testing.assert_allclose(r.elbo, -(r.recon + r.kl), rtol=1e-14)


def test_at_beta_one_the_loss_is_minus_the_elbo(rng):
    r = model().forward(rng.random((B, D)), rng.standard_normal((B, Z)))
    assert r.loss == pytest.approx(-r.elbo.mean(), rel=1e-14)


def test_elbo_mc_is_the_mean_of_the_log_weights(rng):
    r = model(estimator=estimators.elbo_mc).forward(rng.random((B, D)), rng.standard_normal((3, B, Z)))
    np.testing.assert_allclose(r.elbo, r.logw.mean(axis=0), rtol=1e-12)
    assert r.loss == pytest.approx(-r.elbo.mean(), rel=1e-14)


def test_both_estimators_of_the_kl_agree_on_average(rng):
    x, K = rng.random((2, D)), 4000
    eps = rng.standard_normal((K, 2, Z))
    analytic, sampled = model().forward(x, eps), model(estimator=estimators.elbo_mc).forward(x, eps)
    np.testing.assert_allclose(sampled.recon, analytic.recon, rtol=1e-13)
    spread = (sampled.logw + sampled.recon).std(axis=0) / np.sqrt(K)       # more than the sampled KL's own error
    assert (np.abs(sampled.kl - analytic.kl) < 5 * spread).all()


def test_eps_of_one_sample_may_leave_its_k_out(rng):
    vae, x, eps = model(), rng.random((B, D)), rng.standard_normal((B, Z))
    assert vae.forward(x, eps).loss == vae.forward(x, eps[None]).loss


def test_eps_left_out_is_one_sample_from_the_models_rng(rng):
    x = rng.random((B, D))
    a, b = model(rng=3), model(rng=3)
    assert a.forward(x).loss == b.forward(x).loss != a.forward(x).loss
    assert a.forward(x).logw.shape == (1, B)


def test_what_is_no_state_of_the_model_is_refused_and_leaves_it_as_it_was():
    vae = model()
    before = vae.state()
    other = {name: a + 1 for name, a in before.items()}
    with pytest.raises(ValueError, match=rf"^to_mu.b has shape \(1,\), wanted \({Z},\)$"):
        vae.restore(other | {"to_mu.b": np.zeros(1)})      # NumPy would spread it over all entries
    with pytest.raises(KeyError, match="dec.2.W"):
        vae.restore({name: a for name, a in other.items() if name != "dec.2.W"})
    for name, a in vae.state().items():
        np.testing.assert_array_equal(a, before[name])
    vae.restore(other)
    np.testing.assert_array_equal(vae.state()["to_mu.b"], before["to_mu.b"] + 1)


def test_a_change_for_a_while_ends_with_its_block_however_that_ends():
    vae = model(beta=1.7)
    own = vae.estimator, vae.beta, vae.latent, vae.baseline
    for change in (vae.at_beta(0.5), vae.with_objective(estimators.iwae, 1.0), vae.undisturbed()):
        with pytest.raises(KeyboardInterrupt), change:
            raise KeyboardInterrupt
    assert (vae.estimator, vae.beta, vae.latent, vae.baseline) == own


def test_named_params_go_encoder_heads_decoder_each_W_before_its_b():
    vae = model()
    assert [name for name, _, _ in vae.named_params()] == [
        "enc.0.W", "enc.0.b", "enc.2.W", "enc.2.b", "to_mu.W", "to_mu.b", "to_logvar.W", "to_logvar.b",
        "dec.0.W", "dec.0.b", "dec.2.W", "dec.2.b", "to_logits.W", "to_logits.b"]
    for name, param, grad in vae.named_params():
        assert param.shape == grad.shape and param.dtype == grad.dtype == F8, name


def test_a_shared_logvar_is_one_parameter_of_theta():
    name, param, _ = list(model(likelihood="gaussian").named_params())[-1]
    assert name == "likelihood.raw_logvar" and param.size == 1


def test_named_params_are_live(rng):
    vae, x, eps = model(), rng.random((B, D)), rng.standard_normal((B, Z))
    before = vae.forward(x, eps).loss
    next(vae.named_params())[1][...] += 0.1
    assert vae.forward(x, eps).loss != before


def test_backward_needs_a_forward_each_time(rng):
    vae = model()
    with pytest.raises(RuntimeError, match="VAE.backward called without a forward"):
        vae.backward()
    vae.forward(rng.random((B, D)))
    vae.backward()
    with pytest.raises(RuntimeError, match="VAE.backward called without a forward"):
        vae.backward()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_evaluating_never_disturbs_a_pending_backward(likelihood, rng):
    x, eps, other = rng.random((B, D)), rng.standard_normal((B, Z)), rng.random((9, D))
    plain, busy = model(likelihood=likelihood), model(likelihood=likelihood)
    plain.forward(x, eps)
    busy.forward(x, eps)
    busy.encode(other), busy.reconstruct(other), busy.sample(4, rng=1), busy.decode(rng.standard_normal((3, Z)))
    plain.backward(), busy.backward()
    for (name, _, want), (_, _, got) in zip(plain.named_params(), busy.named_params()):
        np.testing.assert_array_equal(want, got, name)


def test_public_results_are_the_callers_own(rng):
    vae, x = model(), rng.random((B, D))
    eps = rng.standard_normal((B, Z))
    first = [vae.forward(x, eps)[i] for i in range(1, 5)] + [*vae.encode(x), vae.reconstruct(x), vae.sample(3, rng=0)]
    kept = [a.copy() for a in first]
    vae.forward(1 - x, 2 * eps), vae.encode(1 - x), vae.reconstruct(1 - x), vae.sample(3, rng=1)
    for a, b in zip(first, kept):
        np.testing.assert_array_equal(a, b)


def test_float32_trains_and_float64_checks_with_the_same_weights(rng):
    x, eps = rng.random((B, D)), rng.standard_normal((B, Z))
    narrow, wide = model(dtype=np.float32), model(dtype=F8)
    a, b = narrow.forward(x, eps), wide.forward(x, eps)
    narrow.backward(), wide.backward()
    assert a.recon.dtype == a.logw.dtype == np.float32
    assert a.loss == pytest.approx(b.loss, rel=1e-6)                       # some 10 roundings of float32
    for (name, _, g), (_, _, h) in zip(narrow.named_params(), wide.named_params()):
        assert g.dtype == np.float32
        np.testing.assert_allclose(g, h, rtol=0, atol=1e-5 * np.abs(h).max(), err_msg=name)   # 100 roundings of float32


def test_any_layers_make_a_vae(rng):
    """Built by hand, without mlp, also with a width that no mirror image has."""
    vae = VAE(Sequential(Dense(D, 3, rng, F8), Tanh()), Dense(3, Z, rng, F8), Dense(3, Z, rng, F8),
              Sequential(Dense(Z, 6, rng, F8)),
              Dense(6, D, rng, F8), likelihood=BernoulliLikelihood(), rng=0)
    vae.forward(rng.random((B, D)))
    vae.backward()
    assert vae.reconstruct(rng.random((B, D))).shape == (B, D)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", GaussianLikelihood("per_pixel"),
                                        GaussianLikelihood(np.float32(-1.5))])
def test_save_and_load_give_the_same_model(likelihood, tmp_path, rng):
    vae = model(likelihood=likelihood, beta=1.7, estimator=estimators.elbo_mc, dtype=np.float32)
    minivae.save(vae, tmp_path / "model.npz")
    again = minivae.load(tmp_path / "model.npz")
    x, eps = rng.random((B, D)), rng.standard_normal((B, Z))
    assert again.forward(x, eps).loss == vae.forward(x, eps).loss
    np.testing.assert_array_equal(again.sample(3, rng=5), vae.sample(3, rng=5))
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_loading_something_else_says_so_in_one_line(tmp_path, rng):
    good = tmp_path / "model.npz"
    minivae.save(model(), good)
    broken = tmp_path / "broken.npz"
    data = good.read_bytes()
    cases = {"does not exist": None, "damaged or no minivae file": b"<html>", "damaged": data[: len(data) // 2]}
    for message, content in cases.items():
        if content is not None:
            broken.write_bytes(content)
        with pytest.raises(ArchiveError, match=message) as caught:
            minivae.load(broken)
        assert "\n" not in str(caught.value)
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 8
    broken.write_bytes(flipped)
    with pytest.raises(ArchiveError):
        minivae.load(broken)


BAD_X = {
    "pixels of 0..255": (np.full((2, D), 255.0), "divide by 255"),
    "a NaN": (np.full((2, D), np.nan), r"must lie in \[0, 1\]"),
    "a wrong width": (np.zeros((2, D + 1)), rf"must have {D} pixels per row for this model, got shape \(2, {D + 1}\)"),
    "one dimension": (np.zeros(D), r"must have shape \(N, D\), a row for each image"),
    "no rows": (np.zeros((0, D)), r"is empty: shape \(0,"),
    "objects": (np.full((2, D), None), "must hold numbers"),
    "strings": (np.full((2, D), "0"), "must hold numbers"),
}


@pytest.mark.parametrize("case", BAD_X)
@pytest.mark.filterwarnings("ignore:All-NaN")
def test_the_model_refuses(case):
    x, message = BAD_X[case]
    for method in (model().forward, model().encode, model().reconstruct):
        with pytest.raises(ValueError, match=message):
            method(x)


def test_the_gaussian_likelihood_takes_any_finite_pixel():
    vae = model(likelihood="gaussian")
    vae.forward(np.full((2, D), 255.0))
    with pytest.raises(ValueError, match="must be finite .* row 0, pixel 0"):
        vae.forward(np.full((2, D), np.nan))


@pytest.mark.parametrize("shape", [(B, Z + 1), (B + 1, Z), (0, B, Z), (2, B + 1, Z), (Z,)])
def test_eps_of_a_wrong_shape_is_refused(shape, rng):
    with pytest.raises(ValueError, match="eps must have shape"):
        model().forward(rng.random((B, D)), np.zeros(shape))


@pytest.mark.parametrize("settings, message", [
    ({"activation": "gelu"}, "unknown activation 'gelu'; choose from relu, tanh, sigmoid, softplus"),
    ({"likelihood": "poisson"}, "unknown likelihood 'poisson'; choose from bernoulli, gaussian"),
    ({"beta": -1.0}, "beta must be a number >= 0"), ({"beta": np.nan}, "beta must be a number >= 0"),
    ({"dtype": np.float16}, "dtype must be float32 or float64")])
def test_mlp_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        model(**settings)


def test_sample_refuses_less_than_one_image():
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
            model().sample(n)


def test_restore_names_what_is_missing():
    state = model().state()
    del state["to_mu.W"]
    with pytest.raises(KeyError, match="to_mu.W"):
        model().restore(state)


def test_mlp_refuses_an_empty_layer():
    with pytest.raises(ValueError, match=r"hidden\[1\] must be at least 1, got 0"):
        VAE.mlp(4, [3, 0], 2)


def test_the_first_adam_step_moves_each_parameter_by_lr(rng):
    """Both moments are freed of their zero start, so the first step is lr * sign(grad) whatever the gradient's size."""
    param, grad = np.zeros(3), np.array([1e-3, -5.0, 200.0])
    adam = Adam([("p", param, grad)], lr=0.01)
    adam.step()
    np.testing.assert_allclose(param, [-0.01, 0.01, -0.01], rtol=2e-5)     # adam_eps / |grad| = 1e-5
    grad[:] = [-1e-3, -5.0, 200.0]
    adam.step()                                  # m_hat = (-0.19 + 0.1) / 0.19... by hand: (0.09 - 0.1) / 0.19
    want = 0.01 * (0.09 * 1e-3 - 0.1 * 1e-3) / 0.19 / 1e-3
    np.testing.assert_allclose(param[0], -0.01 - want, rtol=2e-5)
    np.testing.assert_allclose(param[1:], [0.02, -0.02], rtol=2e-5)


def test_eight_images_can_be_overfitted(rng):
    """With the KL off, the model learns eight random images by heart: chance is 11.1 nats an image."""
    vae = VAE.mlp(16, [32], 8, beta=0.0, rng=0)
    x = (rng.random((8, 16)) < 0.5).astype(np.float32)
    adam = Adam(vae.named_params(), lr=1e-2)
    for _ in range(600):
        loss = vae.forward(x).loss
        vae.backward()
        adam.step()
    assert loss < 0.05


def test_a_likelihood_of_another_precision_is_refused():
    with pytest.raises(ValueError, match="raw_logvar is float32, the model float64"):
        model(likelihood=GaussianLikelihood("shared"))


def test_save_refuses_what_load_could_not_read(tmp_path):
    def mine(t):
        return estimators.elbo(t)

    estimators.estimator(estimators.analytic_elbo)(mine)
    with pytest.raises(ValueError, match="save knows elbo, elbo_mc, .*, not mine"):
        minivae.save(model(estimator=mine), tmp_path / "model.npz")
    with pytest.raises(ArchiveError, match="there is no folder"):
        minivae.save(model(), tmp_path / "none" / "model.npz")
    assert not list(tmp_path.iterdir())


def test_bytes_are_divided_by_255_and_other_whole_numbers_past_one_are_no_pixels():
    eps = np.zeros((2, Z))
    losses = [model(likelihood="gaussian").forward(x, eps).loss
              for x in (np.full((2, D), 200, np.uint8), np.full((2, D), 200), np.full((2, D), np.float64(200) / 255))]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)
    for top in (16, 1000):
        with pytest.raises(ValueError, match=f"whole numbers from {top} to {top}: "):
            model(likelihood="gaussian").forward(np.full((2, D), top))
    assert model().forward(np.ones((2, D), int)).loss > 0


@pytest.mark.parametrize("bad", [2.0, np.nan])
def test_backward_after_refused_pixels_is_refused_too(bad):
    """The refused pass has filled the layers' caches: the wires of the pass before do not go with them."""
    vae = VAE.mlp(6, [5], 2, rng=0, dtype=np.float64)
    vae.forward(np.full((3, 6), 0.5))
    with pytest.raises(ValueError, match="must lie in"):
        vae.forward(np.full((3, 6), bad))
    with pytest.raises(RuntimeError, match="without a forward before it"):
        vae.backward()


# --- wrong arguments, and what stands at the top of the package ---------------------------------------


COMPLEX, OBJECT = np.zeros((B, Z), complex), np.full((B, Z), None)
MASKED = np.ma.masked_equal(np.eye(B, Z), 1)
WRONG_NUMBERS = {
    "complex": (COMPLEX, "got dtype complex128"), "objects": (OBJECT, "got dtype object"),
    "masked": (MASKED, "2 of this masked array are masked"), "strings": (np.full((B, Z), "1"), "got dtype <U1"),
    "NaN": (np.full((B, Z), np.nan), r"must be finite, found nan at \[0, 0\]"),
    "infinity": (np.full((B, Z), np.inf), r"must be finite, found inf at \[0, 0\]"),
    "ragged": ([[1.0, 2.0], [3.0]], "cannot be made an array of numbers"), "None": (None, "got dtype object")}


@pytest.mark.parametrize("case", WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["eps", "z"])
def test_noise_and_latents_are_looked_at_as_pixels_are(case, name, rng):
    wrong, said = WRONG_NUMBERS[case]
    if name == "eps" and wrong is None:
        return                                             # eps=None: the model draws it
    vae, x = model(), rng.random((B, D))
    with pytest.raises(ValueError, match=said) as caught:
        vae.forward(x, wrong) if name == "eps" else vae.decode(wrong)
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


@pytest.mark.parametrize("n, error", [(1.5, TypeError), ("3", TypeError), (None, TypeError), (np.inf, TypeError),
                                      (-1, ValueError), (True, TypeError)])
def test_sample_takes_a_whole_number(n, error):
    with pytest.raises(error, match="n must be"):
        model().sample(n)
    with pytest.raises(TypeError, match="rng must be None"):
        model().sample(1, rng="a")


def test_repr_says_what_the_model_is(rng):
    assert repr(VAE.mlp(6, [5], 2, estimator="iwae", rng=0)) == (
        "<VAE x_dim 6, hidden [5], z_dim 2, activation relu; estimator iwae, beta 1, BernoulliLikelihood, "
        "110 parameters, float32>")
    dense = lambda n, m: Dense(n, m, rng, F8)
    by_hand = VAE(Sequential(), dense(D, Z), dense(D, Z), Sequential(), dense(Z, D), beta=0.5,
                  likelihood=BernoulliLikelihood())
    assert repr(by_hand).startswith(f"<VAE x_dim {D}, z_dim {Z}; estimator elbo, beta 0.5")


def test_the_elbo_of_each_image(rng):
    """In passes of EVALUATION_ROWS, with the noise of `evaluate`, whose number is the mean."""
    vae, x = model(dtype=np.float32), rng.random((1100, D))
    each = minivae.elbo(vae, x)
    assert each.shape == (1100,) and each.mean(dtype=float) == pytest.approx(minivae.evaluate(vae, x)["elbo"], rel=1e-6)
    assert minivae.elbo(vae, x[:500]).tolist() == each[:500].tolist()
    for scale, error in (("1", TypeError), (0, ValueError), (np.nan, ValueError)):
        with pytest.raises(error, match="scale must be a number"):
            minivae.evaluate(vae, x, scale=scale)


def test_images_on_the_way_from_one_to_another(rng):
    vae, x = model(), rng.random((4, D))
    walk = minivae.interpolate(vae, x[:2], x[2:], steps=5)
    assert walk.shape == (2, 5, D)
    np.testing.assert_allclose(walk[:, 0], vae.reconstruct(x[:2]), rtol=1e-12)
    np.testing.assert_allclose(walk[:, -1], vae.reconstruct(x[2:]), rtol=1e-12)
    mu, _ = vae.encode(x)
    np.testing.assert_allclose(walk[:, 2], vae.decode((mu[:2] + mu[2:]) / 2), rtol=1e-9)
    with pytest.raises(ValueError, match="x_from has 1 images, x_to 2"):
        minivae.interpolate(vae, x[:1], x[2:])
    for steps, error in ((1, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="steps must be"):
            minivae.interpolate(vae, x[:1], x[1:2], steps=steps)


def test_everything_that_the_package_names_is_there():
    for name in minivae.__all__:
        assert callable(getattr(minivae, name)), name
