"""The trace is the pass, its differences see what is wrong, and `minivae walk` prints it."""

import io
import json
import os
import re
import shutil
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import minivae
from minivae import VAE, DiscreteVAE, estimators
from minivae.app.cli import main
from minivae.explain import subject, walk
from minivae.explain.subject import FEW, samples_of
from minivae.explain.record import nodes
from minivae.explain.trace import trace
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent
from minivae.data import Data
from minivae.latents import GaussianLatent
from minivae.layers import Dense, Sequential, Tanh
from minivae.likelihoods import GaussianLikelihood
from minivae.building import ACTIVATIONS
from minivae.training.evaluation import NonFiniteError

from conftest import JIT, folder_of_images, small_run

GAUSSIAN = {name: estimator for name, estimator in estimators.ESTIMATORS.items() if not estimator.antithetic}
ALL = pytest.mark.parametrize("estimator", GAUSSIAN.values(), ids=list(GAUSSIAN))
OF_COINS = [("bernoulli", name) for name in ("score", "score_analytic_kl", "rws", "vimco", "disarm")]
OF_COINS += [("concrete", "elbo"), ("straight-through", "elbo")]
LATENTS = {"bernoulli": BernoulliLatent, "concrete": ConcreteLatent, "straight-through": StraightThroughLatent}
COINS = pytest.mark.parametrize("latent, name", OF_COINS, ids=[f"{latent}, {name}" for latent, name in OF_COINS])


def model(activation="tanh", hidden=(5,), beta=1.0, seed=0, kind=VAE, **settings):
    vae = kind.mlp(6, hidden, 3, activation=activation, beta=beta, rng=seed, dtype=np.float64, **settings)
    rng = np.random.default_rng(seed + 1)
    for _, param, _ in vae.named_params():
        param += 0.3 * rng.standard_normal(param.shape)
    return vae


def traced(vae, estimator=estimators.elbo, entries=3, seed=2):
    rng = np.random.default_rng(seed)
    x = (rng.random((1, 6)) < 0.5).astype(float)
    K = samples_of(vae, estimator)
    eps = vae.latent.noise((K, 1, 3), rng, np.float64, estimator.antithetic)
    return trace(vae, x, eps, estimator, entries)


# --- the pass ---------------------------------------------------------------------------------------


@ALL
def test_the_recorded_gradients_are_those_of_a_plain_pass_to_the_bit(estimator):
    vae = model()
    t = traced(vae, estimator)
    vae.estimator = estimator
    result = vae.forward(t.x, t.eps)
    vae.backward()
    assert t.loss == result.loss and t.recon == result.recon[0] and t.kl == result.kl[0]
    for name, param, grad in vae.named_params():
        assert np.array_equal(t.params[name].grad, grad) and np.array_equal(t.params[name].value, param), name


def test_tracing_leaves_nothing_behind_in_the_layers():
    vae = model()
    before = {name: param.copy() for name, param, _ in vae.named_params()}
    t = traced(vae)
    for twin in (vae, t.vae):
        for name, layer, forward, backward in nodes(twin):
            assert not {forward, backward} & set(vars(layer)), name
    assert all(np.array_equal(param, before[name]) for name, param, _ in vae.named_params())
    assert vae._wires is None and not any(layer._cache for _, layer in vae.named_layers())


def test_an_error_inside_the_pass_leaves_nothing_behind_either(monkeypatch):
    vae = model()
    monkeypatch.setattr(GaussianLatent, "kl_backward", lambda self, dkl: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        traced(vae)
    assert not any("forward" in vars(layer) for _, layer in vae.named_layers())


def test_the_nodes_come_in_the_order_of_the_pass():
    t = traced(model(hidden=(5, 4)))
    assert list(t.passes) == ["enc.0", "enc.1", "enc.2", "enc.3", "to_mu", "to_logvar", "kl", "sample",
                             "dec.0", "dec.1", "dec.2", "dec.3", "to_logits", "likelihood", "log_q", "log_prior"]
    assert t.backward_order == ["likelihood", "to_logits", "dec.3", "dec.2", "dec.1", "dec.0", "log_prior", "log_q",
                                "sample", "kl", "to_logvar", "to_mu", "enc.3", "enc.2", "enc.1", "enc.0"]


def test_the_gradient_splits_at_the_sampling_node_and_the_kl_joins():
    t = traced(model(beta=1.7))
    sample, kl, eps = t.passes["sample"], t.passes["kl"], t.eps[0]
    mu, logvar, dz = sample.inputs["mu"], sample.inputs["logvar"], sample.incoming
    # a float64 pass and the same formula again: a few roundings apart, no more
    close = dict(rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(sample.output, mu + np.exp(logvar / 2) * eps, **close)
    np.testing.assert_allclose(sample.outgoing["mu"], dz, **close)
    np.testing.assert_allclose(sample.outgoing["logvar"], dz * eps * np.exp(logvar / 2) / 2, **close)
    np.testing.assert_allclose(kl.outgoing["mu"], 1.7 * mu, **close)
    np.testing.assert_allclose(kl.outgoing["logvar"], 1.7 * (np.exp(logvar) - 1) / 2, **close)
    for head, symbol in (("to_mu", "mu"), ("to_logvar", "logvar")):
        np.testing.assert_allclose(t.passes[head].incoming, sample.outgoing[symbol] + kl.outgoing[symbol], **close)
    assert "eps" not in sample.outgoing                    # the dead end


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_local_derivative_times_what_arrives_is_what_is_passed_on(activation):
    t = traced(model(activation), entries=0)
    for name in ("enc.1", "dec.1"):
        node_pass = t.passes[name]
        (local,) = node_pass.local.values()
        # roundings of one product
        np.testing.assert_allclose(*node_pass.outgoing.values(), node_pass.incoming * local, rtol=1e-12, atol=1e-15)
    likelihood = t.passes["likelihood"]
    np.testing.assert_allclose(likelihood.outgoing["logits"], -likelihood.local["x - sigmoid(logits)"], rtol=1e-12)


@ALL
def test_the_parts_along_the_wires_add_up_and_the_kl_gives_theta_exactly_nothing(estimator):
    t = traced(model(), estimator, entries=0)
    for name, p in t.params.items():
        atol = 1e-12 * max(1, np.abs(p.grad).max())        # sums in another order
        np.testing.assert_allclose(sum(p.parts.values()), p.grad, rtol=0, atol=atol)
        if name.startswith(("dec", "to_logits")):
            assert not any(part.any() for wire, part in p.parts.items() if wire != "decoder"), name


def coins(latent="bernoulli", activation="tanh", **settings):
    return model(activation, kind=DiscreteVAE, latent=LATENTS[latent](), **settings)


@COINS
def test_the_recorded_gradients_of_coins_are_those_of_a_plain_pass_to_the_bit(latent, name):
    vae, estimator = coins(latent), estimators.ESTIMATORS[name]
    t = traced(vae, estimator)
    vae.estimator = estimator
    result = vae.forward(t.x, t.eps)
    vae.backward()
    assert t.loss == result.loss and t.recon == result.recon[0] and t.kl == result.kl[0]
    for key, _, grad in vae.named_params():
        assert np.array_equal(t.params[key].grad, grad), key
        atol = 1e-12 * max(1, np.abs(grad).max())          # sums in another order
        np.testing.assert_allclose(sum(t.params[key].parts.values()), grad, rtol=0, atol=atol)


def test_a_coin_has_no_path_and_log_q_takes_its_place():
    t = traced(coins(beta=1.7), estimators.score_analytic_kl)
    assert list(t.passes) == ["enc.0", "enc.1", "to_a", "kl", "sample", "dec.0", "dec.1", "to_logits",
                             "likelihood", "log_q", "log_prior"]
    assert t.backward_order == ["likelihood", "to_logits", "dec.1", "dec.0", "log_q", "kl", "to_a", "enc.1", "enc.0"]
    for node in ("sample", "log_prior"):
        assert t.passes[node].incoming is None and not t.passes[node].outgoing
    assert not t.passes["dec.0"].outgoing                  # nobody asks for dz
    a, z = t.passes["to_a"].output, t.passes["sample"].output
    f = t.passes["likelihood"].output
    # the roundings of one sum
    close = dict(rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(t.passes["log_q"].weights["along_phi"], -(f - f[::-1]) / 2, **close)
    da_qz = (-(f - f[::-1]) / 2)[:, None] * (z - 1 / (1 + np.exp(-a)))
    np.testing.assert_allclose(t.passes["log_q"].outgoing["a"], da_qz.sum(axis=0, keepdims=True), **close)
    q = 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(t.passes["kl"].outgoing["a"], 1.7 * a * q * (1 - q), **close)
    np.testing.assert_allclose(t.passes["to_a"].incoming,
                               t.passes["log_q"].outgoing["a"] + t.passes["kl"].outgoing["a"], **close)


# --- the names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)], ids=str)
@pytest.mark.parametrize("kind", ["gaussian", *LATENTS])
def test_one_thing_has_one_name_and_parts_add_up_to_the_whole(kind, hidden):
    if kind == "gaussian":
        t = traced(model(hidden=hidden), estimators.elbo_mc, entries=0)
    else:
        estimator = estimators.score if kind == "bernoulli" else estimators.elbo
        t = traced(coins(kind, hidden=hidden), estimator, entries=0)
    values = [node.called for node in t.passes.values()]
    assert len(set(values)) == len(values)
    if hidden:
        assert t.passes[f"enc.{2 * len(hidden) - 1}"].called == "h" and t.passes["enc.0"].called == "h.0"
        assert t.passes[f"dec.{2 * len(hidden) - 1}"].called == "g" and t.passes["dec.0"].called == "g.0"
    gradients = [name for node in t.passes.values() for name in node.passed_on.values()]
    assert len(set(gradients)) == len(gradients)
    for node in t.passes.values():
        came = {other.passed_on[node.called]: other.outgoing[node.called]
                for other in t.passes.values() if node.called in other.outgoing}
        if came:                                           # sums in another order
            np.testing.assert_allclose(sum(came.values()), node.incoming, rtol=1e-12, atol=1e-13)
            assert len(came) > 1 or set(came) <= {f"d{node.called}", f"d{node.called}_px", f"d{node.called}_z"}
        for given in node.inputs:                          # what comes in is what some node gave, and is called so
            assert given in ("x", "eps", "u") or np.array_equal(
                node.inputs[given], next(n.output for n in t.passes.values() if n.called == given))


@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
def test_data_get_no_gradient(hidden):
    for t in (traced(model(hidden=hidden), entries=0),
              traced(coins(hidden=hidden), estimators.disarm, entries=0)):
        for node in t.passes.values():
            assert not {"x", "eps", "u"} & set(node.outgoing)
            assert not re.search(r"\bd(x|eps|u)\b", node.formula["backward"])


# --- convolutions ---------------------------------------------------------------------------------


def conv(kind=VAE, activation="tanh", image_shape=(5, 6), channels=(2, 3), **settings):
    vae = kind.conv(image_shape, channels, 3, kernel=3, activation=activation, rng=0, dtype=np.float64, **settings)
    rng = np.random.default_rng(1)
    for _, param, _ in vae.named_params():
        param += 0.3 * rng.standard_normal(param.shape)
    return vae


def traced_conv(vae, estimator=estimators.elbo, entries=2):
    rng = np.random.default_rng(2)
    x = (rng.random((1, vae.x_dim)) < 0.5).astype(float)
    eps = vae.latent.noise((samples_of(vae, estimator), 1, 3), rng, np.float64, estimator.antithetic)
    return trace(vae, x, eps, estimator, entries)


def test_the_nodes_of_a_conv_model_have_their_names_formulas_and_shapes():
    t = traced_conv(conv(), entries=0)
    assert list(t.passes) == [
        "enc.0", "enc.1", "enc.2", "enc.3", "enc.4", "enc.5", "to_mu", "to_logvar", "kl", "sample",
        "dec.0", "dec.1", "dec.2", "dec.3", "dec.4", "to_logits.0", "to_logits.1", "likelihood", "log_q", "log_prior"]
    wanted = {"enc.1": ("h.1", (1, 3, 3, 2), "h.1 = P(h.0) @ W + b", "dW = P(h.0).T @ dh.1;  db = sum dh.1"),
              "enc.3": ("h.3", (1, 2, 2, 3), "h.3 = P(h.2) @ W + b",
                        "dh.2 = P^T(dh.3 @ W.T);  dW = P(h.2).T @ dh.3;  db = sum dh.3"),
              "enc.5": ("h", (1, 12), "h = reshape(h.4)", "dh.4 = reshape(dh)"),
              "to_logits.0": ("logits.0", (1, 5, 6, 1), "logits.0 = P^T(g @ W.T) + b",
                              "dg = P(dlogits.0) @ W;  dW = P(dlogits.0).T @ g;  db = sum dlogits.0"),
              "to_logits.1": ("logits", (1, 30), "logits = reshape(logits.0)", "dlogits.0 = reshape(dlogits)")}
    for name, (called, shape, forward, backward) in wanted.items():
        node = t.passes[name]
        assert (node.called, node.output.shape) == (called, shape), name
        assert node.formula == {"forward": forward, "backward": backward}, name
    # the image as an image is data, too: the walk ends at the first layer that has parameters
    assert t.passes["enc.0"].incoming is None and t.backward_order[-1] == "enc.1" and not t.passes["enc.1"].outgoing


@pytest.mark.parametrize("settings", [
    dict(), dict(activation="relu"), dict(image_shape=(4, 5, 3), likelihood=GaussianLikelihood("per_pixel")),
    dict(kind=DiscreteVAE, latent=BernoulliLatent())], ids=["tanh", "relu", "colour, per pixel", "coins"])
def test_every_gradient_of_a_conv_model_agrees_with_its_differences(settings):
    vae = conv(**settings)
    of_coins, of_gaussians = (estimators.score, estimators.disarm), (estimators.elbo, estimators.iwae)
    for estimator in of_gaussians if vae.latent.has_path else of_coins:
        t = traced_conv(vae, estimator)
        checks = {**t.checks, **{(name, ""): p.checks for name, p in t.params.items()}}
        for place, found in checks.items():
            assert found and all(check.verdict == "PASS" for check in found), (place, found)
        out = f"{vae.likelihood.out_name}.0"
        assert {("enc.1", "h.1"), ("enc.3", "h.2"), (out, "g"), (f"{out}.W", ""), ("dec.3", "g.2")} <= set(checks)


@pytest.mark.parametrize("layer, at, spoilt", [
    ("Conv", ("enc.3", "h.2"), "enc.1.W"), ("ConvTranspose", ("to_logits.0", "g"), "dec.0.W")])
def test_a_wrong_convolution_fails_where_it_is_wrong(monkeypatch, layer, at, spoilt):
    from minivae import convolutions

    kind = getattr(convolutions, layer)
    right = kind.backward

    def twice_dx(self, dy, input_grad=True):
        dx = right(self, dy, input_grad)
        return None if dx is None else 2 * dx

    monkeypatch.setattr(kind, "backward", twice_dx)
    t = traced_conv(conv())
    assert {check.verdict for check in t.checks[at]} == {"FAIL"}
    assert "FAIL" in {check.verdict for check in t.params[spoilt].checks}
    assert {check.verdict for check in t.params["to_logits.0.W"].checks} == {"PASS"}


@pytest.mark.parametrize("shape", [(5, 6), (12, 10, 3)], ids=["grey", "colour"])
def test_the_walk_of_a_conv_model_fits_80_columns_and_says_what_p_is(shape):
    likelihood = GaussianLikelihood("per_pixel") if len(shape) == 3 else "bernoulli"
    vae = conv(image_shape=shape, likelihood=likelihood)
    x = np.random.default_rng(0).random((3, vae.x_dim)).round()
    s = subject.subject_of(vae, Data("own", x, x, shape, None, "no file"), 0, "a run", "none", 1e-3)
    for estimator in (estimators.elbo, estimators.iwae):
        t = trace(vae, s.x, s.noise(samples_of(vae, estimator)), estimator, entries=1)
        out = walk.as_text(t, s)
        assert max(map(len, out.splitlines())) <= 80
        for node in t.passes.values():
            # the name, what it gives and its shape, apart from each other
            words = [node.name, node.called, "x".join(map(str, node.output.shape)), walk._number(node.output)]
            assert any(line.split()[:4] == words for line in block(out, "FORWARD")), node.name
        assert "P(x) has a row for each patch" in out and "h.1 = P(h.0) @ W + b" in out
        assert "the walk ends: the image is data" in out and "FAIL" not in out
    assert "P(x) has a row" not in walk.as_text(traced(model(), entries=0), s)


def test_several_layers_in_the_place_of_a_head_are_walked_too():
    vae = model()
    rng = np.random.default_rng(5)
    two = Sequential(Dense(5, 4, rng, np.float64), Tanh(), Dense(4, 3, rng, np.float64))
    vae = VAE(vae.enc, two, vae.to_logvar, vae.dec, vae.to_out, likelihood=vae.likelihood)
    t = traced(vae)
    assert [node.called for name, node in t.passes.items() if name.startswith("to_mu")] == ["mu.0", "mu.1", "mu"]
    assert t.passes["to_mu.0"].passed_on == {"h": "dh_mu"} and t.passes["to_mu.2"].passed_on == {"mu.1": "dmu.1"}
    assert all(check.verdict == "PASS" for found in t.checks.values() for check in found)
    x = np.zeros((2, 6))
    s = subject.subject_of(vae, Data("own", x, x, (2, 3), None, "no file"), 0, "a run", "none", 1e-3)
    out = " ".join(walk.as_text(t, s).split())
    assert "dmu = dmu_z + dmu_kl" in out and "dh = dh_mu + dh_logvar" in out


# --- its differences --------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_gradient_of_the_pass_agrees_with_its_differences(estimator, activation):
    t = traced(model(activation), estimator)
    checks = {**t.checks, **{(name, ""): p.checks for name, p in t.params.items()}}
    for place, found in checks.items():
        assert found and all(check.verdict == "PASS" for check in found), (place, found)
    assert len(checks) > 30
    assert {("sample", "z"), ("sample", "logvar"), ("kl", "mu"), ("to_mu", "mu"), ("enc.0", "h.0")} <= set(checks)


@COINS
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_gradient_of_coins_agrees_with_its_differences(latent, name, activation):
    t = traced(coins(latent, activation), estimators.ESTIMATORS[name])
    checks = {**t.checks, **{(key, ""): p.checks for key, p in t.params.items()}}
    for place, found in checks.items():
        assert found and all(check.verdict == "PASS" for check in found), (place, found)
    assert {("kl", "a"), ("to_a", "a"), ("enc.0", "h.0"), ("dec.0", "g.0")} <= set(checks)
    assert (("sample", "a") in checks) is (latent != "bernoulli")
    assert t.is_derivative is (latent == "concrete")


@pytest.mark.parametrize("latent, name, method, seen_at", [
    ("bernoulli", "score", "log_q_backward", ("log_q", "a")),
    ("bernoulli", "disarm", "log_q_backward", ("log_q", "a")),
    ("bernoulli", "vimco", "log_q_backward", ("log_q", "a")),
    ("bernoulli", "score_analytic_kl", "kl_backward", ("kl", "a")),
    ("concrete", "elbo", "sample_backward", ("sample", "a")),
    ("straight-through", "elbo", "sample_backward", ("sample", "a")),
])
def test_a_wrong_node_of_coins_fails_where_it_is_wrong(monkeypatch, latent, name, method, seen_at):
    right = getattr(LATENTS[latent], method)
    monkeypatch.setattr(LATENTS[latent], method, lambda self, d: 2 * right(self, d))
    t = traced(coins(latent), estimators.ESTIMATORS[name])
    # a coin that fell alike in both draws gets 0 but for rounding, and twice 0 is right
    assert {check.verdict for check in t.checks[seen_at] if abs(check.analytic) > 1e-12} == {"FAIL"}
    assert any(check.verdict == "FAIL" for check in t.params["enc.0.W"].checks)
    assert all(check.verdict == "PASS" for check in t.params["dec.0.W"].checks)


def test_a_wrong_score_of_a_gaussian_fails_at_log_q(monkeypatch):
    right = GaussianLatent.log_q_backward

    def twice_dlogvar(self, *weights):
        dz, dmu, dlogvar = right(self, *weights)
        return dz, dmu, 2 * dlogvar

    monkeypatch.setattr(GaussianLatent, "log_q_backward", twice_dlogvar)
    t = traced(model(), estimators.score)
    assert {check.verdict for check in t.checks["log_q", "logvar"]} == {"FAIL"}
    assert {check.verdict for check in t.checks["log_q", "mu"]} == {"PASS"}


def test_a_gaussian_likelihood_no_hidden_layer_and_another_beta_agree_too():
    for likelihood in ("gaussian", "bernoulli"):
        t = traced(model(hidden=(), beta=0.3, likelihood=likelihood))
        checks = [*t.checks.values(), *(p.checks for p in t.params.values())]
        assert all(check.verdict == "PASS" for found in checks for check in found)


@pytest.mark.parametrize("method, wrong, seen_at, not_at", [
    ("sample_backward", lambda dmu, dlogvar: (dmu, 2 * dlogvar), ("sample", "logvar"), ("sample", "z")),
    ("sample_backward", lambda dmu, dlogvar: (-dmu, dlogvar), ("sample", "mu"), ("kl", "mu")),
    ("kl_backward", lambda dmu, dlogvar: (0 * dmu, dlogvar), ("kl", "mu"), ("sample", "mu")),
], ids=["the half in std", "the sign of dmu", "mu forgotten in the KL"])
def test_a_wrong_node_fails_where_it_is_wrong(monkeypatch, method, wrong, seen_at, not_at):
    right = getattr(GaussianLatent, method)
    monkeypatch.setattr(GaussianLatent, method, lambda self, d: wrong(*right(self, d)))
    t = traced(model())
    assert {check.verdict for check in t.checks[seen_at]} == {"FAIL"}
    assert {check.verdict for check in t.checks[not_at]} == {"PASS"}
    assert any(check.verdict == "FAIL" for check in t.params["enc.0.W"].checks)      # and everything above it is spoilt


def test_the_code_shown_is_what_is_installed():
    package = Path(minivae.__file__).parents[1]
    coins = model(kind=DiscreteVAE)
    passes = [*traced(model(), entries=0).passes.values(),
              *traced(coins, estimators.disarm, entries=0).passes.values()]
    for node_pass in passes:
        for shown in (node_pass.forward, node_pass.backward):
            if shown is None:                              # a coin's step, and its prior
                continue
            lines = (package / shown.file).read_text().splitlines()
            assert len(shown.lines) > 1 and shown.lines[0][1].startswith("def ")
            assert all(text.strip() == lines[number - 1].strip() and '"""' not in text for number, text in shown.lines)


def test_what_cannot_be_traced_is_refused_in_one_line():
    class Other(GaussianLatent):
        pass

    vae = model()
    vae.latent = Other()
    with pytest.raises(ValueError, match="this model's latent is a Other; a pass is drawn for these: GaussianLatent"):
        traced(vae)
    vae = model()
    vae.dec.layers[0].params["W"][1, 2] = np.nan
    with pytest.raises(NonFiniteError, match="the parameter dec.0.W is not finite"):
        traced(vae)
    vae = model()
    vae.to_logvar.params["b"][...] = 2000.0
    with pytest.raises(NonFiniteError, match="the forward pass is not finite, first at kl"):
        traced(vae)


# --- the command --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two runs of a small model on 5x4 pixels."""
    with folder_of_images(tmp_path_factory, "explain") as here:
        small_run("runs/mine")
        small_run("runs/mine-2", beta=2.0)
        small_run("coins", latent_kind="bernoulli", estimator="disarm", samples=2)
        small_run("concrete", latent_kind="concrete")
        small_run("straight-through", latent_kind="straight-through")
    return here


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    shutil.copytree(trained, folder)
    for config in folder.glob("runs/*/config.json"):       # the runs note where their data are: here, from now on
        config.write_text(config.read_text().replace(str(trained), str(folder)))
    monkeypatch.chdir(folder)
    return folder


RUNS = [("runs/mine", name) for name in GAUSSIAN]
RUNS += [({"bernoulli": "coins"}.get(latent, latent), name) for latent, name in OF_COINS]
EVERY_WALK = pytest.mark.parametrize("run, name", RUNS, ids=[f"{run}, {name}" for run, name in RUNS])
CUT = {"elbo": set(), "elbo_mc": set(), "stl": {"score"}, "score": {"latent", "path"}, "score_analytic_kl": {"path"},
       "iwae": set(), "iwae_stl": {"score"}, "dreg": {"score"}, "rws": {"latent", "path"}, "vimco": {"latent", "path"},
       "disarm": {"path"}}
NOT_IN_THE_LOSS = {name: {"kl"} for name in CUT} | {"elbo": {"latent", "score"}, "score_analytic_kl": {"latent"},
                                                    "disarm": {"latent"}}


@pytest.fixture(scope="module")
def walked(trained):
    """walked(run, name): what the walk prints of image 1, and the trace that it should be of; each made once."""
    @cache
    def walk_once(run, name):
        before, printed = os.getcwd(), io.StringIO()
        os.chdir(trained)
        try:
            with redirect_stdout(printed):
                assert main(["walk", run, "--image", "1", "--estimator", name]) == 0
            s, estimator = subject.find_subject(run, 1), estimators.ESTIMATORS[name]
        finally:
            os.chdir(before)
        K = samples_of(s.vae, estimator)
        return printed.getvalue(), trace(s.vae, s.x, s.noise(K, estimator.antithetic), estimator, entries=1)

    return walk_once


def block(out, title):
    """The lines from a title to the next empty line."""
    return next(part for part in out.split("\n\n") if part.startswith(title)).splitlines()


@EVERY_WALK
def test_the_walk_fits_80_columns_and_is_plain_when_piped(walked, run, name):
    out, t = walked(run, name)
    assert max(map(len, out.splitlines())) <= 80 and "\x1b" not in out
    K = FEW if t.vae.estimator.objective is estimators.multi_sample_bound else 2 if run == "coins" else 1
    for words in ("FORWARD", "BACKWARD", "the walk ends: the image is data", "Held constant: ",
                  f"gradient  {name}, {K} draw"):
        assert words in out, words
    assert ("a dead end: noise is data" in out) is (run != "coins")
    agree, of = map(int, out.split(" gradients agree")[0].split("\n")[-1].split(" of "))
    assert agree == of >= out.count("\n  checked ") > 15 and "FAIL" not in out


@EVERY_WALK
def test_each_checked_line_has_the_numbers_of_the_trace(walked, run, name):
    out, t = walked(run, name)
    known = {(f"d{node.called}", check) for key, node in t.passes.items()
             for check in t.checks.get((key, node.called), ())}
    known |= {(node.passed_on[value], check) for key, node in t.passes.items() for value in node.passed_on
              for check in t.checks[key, value]}
    known |= {(f"d{key.rpartition('.')[2]}", check) for key, p in t.params.items() for check in p.checks}
    lines = {f"  checked {symbol}[{','.join(map(str, check.index))}]: analytic {check.analytic:.7g} "
             f"numeric {check.numeric:.7g} +-{check.bar:.0e}" for symbol, check in known}
    printed = [line for line in out.splitlines() if line.startswith("  checked ")]
    assert set(printed) <= lines
    # nothing is compared with nothing
    assert not [line for line in printed if "analytic 0 " in line or "-0 " in line]


@EVERY_WALK
def test_the_walk_says_which_wires_are_cut(walked, run, name):
    out, t = walked(run, name)
    lines = re.sub(rf"\n {{{walk.NAME}}}", " ", "\n".join(block(out, "WIRES"))).splitlines()[1:6]
    wires = dict(line.split(maxsplit=1) for line in lines)
    assert set(wires) == {"decoder", "latent", "path", "score", "kl"}
    assert CUT[name] | NOT_IN_THE_LOSS[name] == {wire for wire, a in t.wires._asdict().items() if not a.any()}
    none = {"latent", "path"} if run == "coins" else set()
    for words, wanted in (("CUT", CUT[name] - none), ("not in this loss", NOT_IN_THE_LOSS[name] - none),
                          ("none: z is a step", none)):
        assert {wire for wire, told in wires.items() if told.endswith(words)} == wanted, words
    if run == "coins":
        assert wires["path"].endswith("none: z is a step") and "Why no gradient passes a coin: " in out
        assert "no dz" in out and "f - b" in out or name in ("rws", "vimco")
    if t.wires.path.any() or run == "coins":
        assert "the path is CUT" not in out
    else:
        assert "dz = 0, the path is CUT: dz_px goes no" in " ".join(out.split())


@EVERY_WALK
def test_both_weights_of_log_q_are_shown(walked, run, name):
    out, t = walked(run, name)
    node = t.passes["log_q"]
    if not any(weight.any() for weight in node.weights.values()):
        assert re.search(rf"\nlog_q +{', '.join(node.weights)} +0  not used by {name}\n", out)
        return
    assert set(node.weights) == ({"along_phi"} if run == "coins" else {"along_z", "along_phi"})
    for symbol, weight in node.weights.items():
        shown = walk._number(weight)
        shape = "x".join(map(str, weight.shape))
        assert re.search(rf"(log_q|\n) +{symbol} +{shape} +{re.escape(shown)}(  |\n)", out), symbol
        if weight.ndim == 1 and weight.size > 1 and weight.any():
            assert "\n" + walk.FORMULA_AT * " " + ", ".join(f"{w + 0.0:.4g}" for w in weight) + "\n" in out


@EVERY_WALK
def test_a_number_has_one_name_and_keeps_its_sign(walked, run, name):
    out, t = walked(run, name)
    rows = block(out, "FORWARD")
    for node in t.passes.values():
        (row,) = [line for line in rows if line.startswith(f"{node.name:{walk.NAME}s}{node.called} ")]
        assert f" {walk._number(node.output)}  " in row
    if len(t.eps) == 1:
        assert f" {t.passes['likelihood'].output.item():.4g}  " in "\n".join(rows) and t.passes["likelihood"].output < 0
    sampled = t.passes["log_q"].output.mean() - t.passes["log_prior"].output.mean()
    on_paper = t.passes["kl"].output.item()
    if t.kl_name == "kl":
        assert t.kl == on_paper and f" * kl {on_paper:.6f}" in out and "kl_sampled" not in out
    else:
        assert t.kl == pytest.approx(sampled, rel=1e-12)   # a mean of sums, the sum of means
        assert f"kl_sampled {t.kl:.6f}" in " ".join(out.split()) and f"(kl, on paper, is {on_paper:.6f}, " in out
        assert any(re.match(rf" +kl_sampled +{re.escape(f'{t.kl:.4g}')}  ", line) for line in rows)


@EVERY_WALK
def test_the_walk_says_of_what_the_differences_are(walked, run, name):
    out, t = walked(run, name)
    told = " ".join(block(out, f"{out.split(' gradients agree')[0].split(chr(10))[-1]} gradients"))
    told = " ".join(told.split())
    biased = name in ("iwae_stl", "rws") or run == "straight-through"
    assert ("differences of the loss above, with x and" in told) is t.is_derivative
    assert ("They are not differences of the loss above" in told) is not t.is_derivative
    assert ("differences of a surrogate S" in told) is not t.is_derivative
    assert ("is biased" in told) is biased
    assert ("Averaged over all draws it is right" in told) is (not t.is_derivative and not biased)
    # the part for phi names exactly the wires that are open
    for wire, words in (("score", "along_phi * log_qz"), ("kl", "dkl * kl"), ("latent", "along_z * log_qz")):
        used = getattr(t.wires, wire).any() and not t.is_derivative
        assert (words in told) == used, wire


def test_the_score_walk_shows_f_less_b(walked):
    out, t = walked("coins", "score_analytic_kl")
    f = t.passes["likelihood"].output
    for k in (0, 1):
        said = f"f = {f[k]:.6g}, b = {f[1 - k]:.6g}, f - b = {f[k] - f[1 - k]:.6g}\n"
        assert f"{f'draw {k + 1}':{walk.NAME}s}{said}" in out
    out, t = walked("runs/mine", "score")
    f = (t.passes["likelihood"].output + t.passes["log_prior"].output - t.passes["log_q"].output).item()
    assert f"{'draw 1':{walk.NAME}s}f = {f:.6g}, b = 0 (there is no other draw), f - b = {f:.6g}\n" in out
    assert f"along_phi = {-f:.4g}\n" in out


def test_the_walk_of_a_run_with_nvil_says_that_its_baseline_divides(here, capsys):
    small_run("nvil", latent_kind="bernoulli", estimator="score", baseline="nvil")
    assert main(["walk", "nvil"]) == 0
    out = capsys.readouterr().out
    assert ", less the baseline " in out and "divided by the scale of the baseline nvil" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_the_newest_run_may_be_one_of_coins(here, capsys):
    shutil.move("coins", "runs/coins")
    os.utime("runs/coins/model.npz", ns=(2**62, 2**62))
    assert main(["walk"]) == 0
    assert capsys.readouterr().out.startswith("run       runs/coins, the newest one\n")


def test_an_estimator_that_wants_a_path_is_refused_for_coins_in_one_line(here, capsys):
    assert main(["walk", "coins", "--estimator", "elbo"]) == 2
    err = capsys.readouterr().err
    assert "is a step, so no gradient passes through it" in err and "take score" in err and err.count("\n") == 1


def test_the_walk_prints_the_numbers_of_the_trace(here, capsys):
    assert main(["walk", "runs/mine"]) == 0
    out = capsys.readouterr().out
    s = subject.find_subject("runs/mine", 0)
    t = trace(s.vae, s.x, s.noise(1), estimators.elbo, entries=1)
    assert f"loss      {t.loss:.6f} nats = recon {t.recon:.6f} + 1 * kl {t.kl:.6f}\n" in out
    (check,) = t.checks["sample", "logvar"]
    row, column = check.index
    assert f"checked dlogvar_z[{row},{column}]: analytic {check.analytic:.7g} numeric {check.numeric:.7g}" in out
    assert "KL               gives decoder (theta) exactly 0, encoder (phi) |" in out


def test_without_a_name_the_newest_run_is_walked_with_its_own_estimator_and_said(here, capsys):
    os.utime(here / "runs" / "mine-2" / "model.npz", ns=(2**62, 2**62))
    assert main(["walk"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("run       runs/mine-2, the newest one\n") and "beta 2" in out


def test_without_any_run_a_small_model_is_trained_on_the_spot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if not JIT:                                            # it takes half a minute in plain Python: only the words
        monkeypatch.setattr(subject, "fit", lambda *data, **settings: None)
    assert main(["walk"]) == 0
    out = capsys.readouterr().out
    assert "no run under runs/ yet: a small model, trained on the digits just now" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not list(tmp_path.iterdir())


def test_a_terminal_gets_colour_in_the_first_column_unless_no_color_is_set(here, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    printed = {}
    for value in ("", "1"):
        monkeypatch.setenv("NO_COLOR", value)
        main(["walk", "runs/mine"])
        printed[value] = capsys.readouterr().out
    assert "\x1b" not in printed["1"]
    assert re.sub(r"\x1b\[[0-9;]*m", "", printed[""]) == printed["1"]
    coloured = [line for line in printed[""].splitlines() if "\x1b" in line]
    assert len(coloured) > 30
    for line in coloured:                                  # one bold name, and nothing behind it
        assert re.fullmatch(r"\x1b\[1;38;5;\d+m.{1,14}\x1b\[0m[^\x1b]*", line), line


def luminance(colour):
    """Of a colour of the 6 x 6 x 6 cube of xterm, as WCAG 2.1 defines it."""
    levels = [0, 95, 135, 175, 215, 255]
    red, green, blue = (levels[(colour - 16) // step % 6] / 255 for step in (36, 6, 1))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


@pytest.mark.parametrize("code", [walk.FORWARD, walk.BACKWARD])
def test_the_colours_are_legible_on_black_and_on_white(code):
    found = luminance(int(re.search(r"38;5;(\d+)m", code)[1]))
    assert (found + 0.05) / 0.05 >= 4.5 and 1.05 / (found + 0.05) >= 4.5       # WCAG 2.1, 1.4.3, level AA


def spoil(path, change):
    path.write_bytes(change(path.read_bytes()))


def half(content):
    return content[: len(content) // 2]


def with_lr_in_words(config):
    return json.dumps({**json.loads(config), "lr": "fast"}).encode()


@pytest.mark.parametrize("command", ["walk", "explain"])
@pytest.mark.parametrize("damage, options, message", [
    (lambda run: shutil.rmtree(run), [], "there is no run folder runs/mine"),
    (lambda run: (run / "config.json").unlink(), [], "config.json does not exist"),
    (lambda run: spoil(run / "config.json", half), [], "config.json is damaged"),
    (lambda run: spoil(run / "model.npz", half), [], "model.npz is damaged"),
    (lambda run: np.save("mine.npy", np.ones((9, 3))), [], "must have 20 pixels per row for this model"),
    (lambda run: spoil(run / "config.json", with_lr_in_words), [],
     "config.json is damaged: lr is not what training writes"),
    (lambda run: None, ["--image", "3"], "--image 3: there are 3 test images, numbered from 0"),
], ids=["no folder", "no config", "half a config", "half a model", "other data", "no step size", "no such image"])
def test_a_damaged_run_gets_one_line_and_exit_code_2(here, command, damage, options, message, capsys):
    damage(Path("runs/mine"))
    assert main([command, "runs/mine", *options]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.startswith("minivae: ")
    assert printed.err.count("\n") == 1 and printed.out == ""
    assert not Path("explain.html").exists()


def test_a_wrong_estimator_gets_one_line(here, capsys):
    for name, message in (("reinforce", "unknown estimator 'reinforce'; choose from elbo"),
                          ("iwae", "wants beta = 1, got 2"), ("disarm", "disarm wants binary latents")):
        assert main(["walk", "runs/mine-2", "--estimator", name]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
