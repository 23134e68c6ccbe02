"""The model in the page: it computes what Python computes, learns in its worker, and fits into the file."""

import base64
import json
import re
import time

import numpy as np
import pytest

from browser import Browser, missing
from conftest import JIT, skip
from minivae import VAE, DiscreteVAE, estimators
from minivae.data import Data, load_data
from minivae.explain import live, page
from minivae.explain.draws import gradients_of_draws
from minivae.explain.page import contents, render
from minivae.explain.subject import subject_of
from minivae.explain.trace import trace
from minivae.layers import Tanh
from minivae.likelihoods import GaussianLikelihood
from minivae.optim import Adam
from minivae.training.loop import fit

D, Z = 7, 3
# float64 on both sides: sums in another order, over at most a few hundred terms
EXACT = 1e-9
LIKELIHOODS = {"bernoulli": lambda: "bernoulli", "fixed": lambda: GaussianLikelihood(-1.5),
               "shared": lambda: GaussianLikelihood("shared", np.float64),
               "per_pixel": lambda: GaussianLikelihood("per_pixel")}
FOR_GAUSSIAN = [e for e in estimators.ESTIMATORS.values() if not e.antithetic]
FOR_COINS = [(estimators.score, 1), (estimators.score_analytic_kl, 3), (estimators.disarm, 2), (estimators.rws, 3),
             (estimators.vimco, 3)]


@pytest.fixture(scope="module")
def browser():
    if why := missing():
        skip(why)
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def chromium(browser):
    """The window, its console empty."""
    browser.complaints()
    return browser


@pytest.fixture
def bench(chromium, tmp_path):
    """A page with nothing but the engine."""
    texts = [(page.HERE / name).read_text() for name in page.ENGINE.split()]
    (tmp_path / "bench.html").write_text(f'<!DOCTYPE html><script id="engine">{"".join(texts)}</script>')
    chromium.open(tmp_path / "bench.html")
    yield chromium
    assert chromium.complaints() == []


def model(cls=VAE, hidden=(5, 4), activation="tanh", likelihood="bernoulli", **changed):
    """A float64 model in which nothing is 0 or small by chance."""
    vae = cls.mlp(D, hidden, Z, activation=activation, likelihood=LIKELIHOODS[likelihood](), rng=0, dtype=np.float64,
                  **changed)
    rng = np.random.default_rng(1)
    for _, param, _ in vae.named_params():
        param += 0.3 * rng.standard_normal(param.shape)
    return vae


def inputs(vae, K, B=1):
    rng = np.random.default_rng(2)
    x = (rng.random((B, D)) < 0.5).astype(float)
    return x, vae.latent.noise((K, B, Z), rng, np.float64, antithetic=vae.estimator.antithetic)


def spec_in_float64(vae):
    params = {name: param.ravel().tolist() for name, param, _ in vae.named_params()}
    return live.spec(vae) | {"params": params}


def in_the_page(browser, vae, x, eps, estimator):
    """The same pass in the page: values, grads, parts and params by name."""
    script = """const [spec, x, eps, estimator] = arguments, vae = makeVAE(spec);
        const pass = vae.forward(x, eps, { estimator }), back = vae.backward(pass);
        const lists = arrays => mapped(arrays, array => [...array]);
        return { values: lists(pass.values), wires: lists(pass.wires), grads: lists(back.grads),
                 parts: lists(back.parts), params: lists(back.params), recon: pass.recon, kl: pass.kl };"""
    return browser.run(script, spec_in_float64(vae), x.ravel().tolist(), eps.ravel().tolist(), estimator.__name__)


def assert_close(found, wanted, where, to=EXACT):
    found, wanted = np.ravel(found), np.ravel(wanted)
    assert found.shape == wanted.shape, where
    assert np.abs(found - wanted).max() <= to * (np.abs(wanted).max() or 1), where


def assert_the_same_pass(found, t):
    """Every value, gradient, part, weight and parameter gradient, and no name too many."""
    values = {node.called: node.output for node in t.passes.values()} | {"x": t.x, "loss": t.loss}
    grads = {node.called: node.incoming for node in t.passes.values() if node.incoming is not None} | {"loss": 1}
    parts = {name: node.outgoing[value] for node in t.passes.values() for value, name in node.passed_on.items()
             if name != f"d{value}"}
    for what, wanted in (("values", values), ("grads", grads), ("parts", parts), ("wires", t.wires._asdict()),
                         ("params", {name: p.grad for name, p in t.params.items()})):
        assert set(wanted) <= set(found[what]), what
        for name, array in wanted.items():
            assert_close(found[what][name], array, (t.estimator, what, name))
    assert set(found["values"]) == set(values) and set(found["params"]) == set(t.params)
    assert_close(found["recon"], t.recon, "recon")
    assert_close(found["kl"], t.kl, "kl")


# --- the model against minivae ------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "sigmoid"])
def test_every_number_of_a_pass_is_that_of_python(bench, activation, likelihood):
    vae = model(activation=activation, likelihood=likelihood)
    for K in (1, 3):
        x, eps = inputs(vae, K)
        for estimator in FOR_GAUSSIAN:
            if estimator is estimators.vimco and K == 1:
                continue
            t = trace(vae, x, eps, estimator, entries=0)
            assert_the_same_pass(in_the_page(bench, vae, x, eps, estimator), t)


@pytest.mark.parametrize("changed", [{"hidden": ()}, {"hidden": (4,), "beta": 0.3}, {"hidden": (), "beta": 2.0}])
def test_without_hidden_layers_and_with_another_beta_too(bench, changed):
    vae = model(**changed)
    x, eps = inputs(vae, 3)
    for estimator in FOR_GAUSSIAN:
        if vae.beta == 1 or estimator.objective is not estimators.multi_sample_bound:
            t = trace(vae, x, eps, estimator, entries=0)
            assert_the_same_pass(in_the_page(bench, vae, x, eps, estimator), t)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_batch_of_images_gives_the_gradients_of_the_batch(bench, likelihood):
    vae = model(likelihood=likelihood)
    for estimator in (estimators.elbo, estimators.score, estimators.dreg, estimators.vimco):
        x, eps = inputs(vae, K=3, B=4)
        vae.estimator = estimator
        result = vae.forward(x, eps)
        vae.backward()
        found = in_the_page(bench, vae, x, eps, estimator)
        assert_close(found["values"]["loss"], result.loss, "loss")
        for name, _, grad in vae.named_params():
            assert_close(found["params"][name], grad, (estimator.__name__, name))


@pytest.mark.parametrize("estimator, K", FOR_COINS, ids=[e.__name__ for e, _ in FOR_COINS])
def test_coins_too(bench, estimator, K):
    vae = model(DiscreteVAE, estimator=estimator)
    x, u = inputs(vae, K)
    found = in_the_page(bench, vae, x, u, estimator)
    assert_the_same_pass(found, trace(vae, x, u, estimator, entries=0))
    assert set(found["values"]["z"]) == {0, 1} and "z" not in found["grads"]


@pytest.mark.parametrize("estimator", [e for e in FOR_GAUSSIAN if e.is_derivative], ids=lambda e: e.__name__)
def test_its_backward_is_the_derivative_of_its_own_loss(bench, estimator):
    """Central differences in the page.  With steps of 1e-5 they are good to about 1e-9 of a loss near 10."""
    vae = model(likelihood="shared")
    x, eps = inputs(vae, 3)
    script = """const [spec, x, eps, estimator] = arguments, vae = makeVAE(spec), step = 1e-5;
        const pass = () => vae.forward(x, eps, { estimator }), { params } = vae.backward(pass());
        const slope = p => p.map((v, i) => {
          p[i] = v + step;
          const up = pass().loss;
          p[i] = v - step;
          const down = pass().loss;
          p[i] = v;
          return (up - down) / (2 * step);
        });
        const numeric = mapped(vae.params, p => [...slope(p)]), analytic = mapped(params, grad => [...grad]);
        return { numeric, analytic };"""
    found = bench.run(script, spec_in_float64(vae), x.ravel().tolist(), eps.ravel().tolist(), estimator.__name__)
    for name, _, _ in vae.named_params():
        assert_close(found["analytic"][name], found["numeric"][name], name, to=1e-7)


CONVS = {"odd sizes": dict(image_shape=(5, 7), channels=(2, 3), kernel=3, stride=2, padding=1),
         "no padding, patches overlap": dict(image_shape=(6, 5), channels=(3,), kernel=4, stride=1, padding=0),
         "pixels between the patches": dict(image_shape=(7, 6), channels=(2,), kernel=2, stride=3, padding=0),
         "colour": dict(image_shape=(4, 5, 3), channels=(2, 4), kernel=3, stride=2, padding=2)}


def conv(cls=VAE, likelihood="bernoulli", image_shape=(5, 7), **changed):
    """A float64 model of convolutions in which nothing is 0 by chance, and pixels for it."""
    vae = cls.conv(image_shape, z_dim=Z, activation="tanh", likelihood=LIKELIHOODS[likelihood](), rng=0,
                   dtype=np.float64, **changed)
    rng = np.random.default_rng(1)
    for _, param, _ in vae.named_params():
        param += 0.3 * rng.standard_normal(param.shape)
    return vae, lambda B: (rng.random((B, vae.x_dim)) < 0.5).astype(float)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("shape", CONVS)
def test_every_number_of_a_pass_through_convolutions_is_that_of_python(bench, shape, likelihood):
    vae, pixels = conv(likelihood=likelihood, **CONVS[shape])
    for estimator, K in ((estimators.elbo, 1), (estimators.score, 1), (estimators.dreg, 3)):
        x, eps = pixels(1), vae.latent.noise((K, 1, Z), np.random.default_rng(2), np.float64)
        t = trace(vae, x, eps, estimator, entries=0)
        assert_the_same_pass(in_the_page(bench, vae, x, eps, estimator), t)


def test_a_batch_through_convolutions_and_coins_behind_them(bench):
    vae, pixels = conv(DiscreteVAE, estimator=estimators.vimco, **CONVS["odd sizes"])
    x, u = pixels(4), vae.latent.noise((3, 4, Z), np.random.default_rng(2), np.float64)
    result = vae.forward(x, u)
    vae.backward()
    found = in_the_page(bench, vae, x, u, estimators.vimco)
    assert_close(found["values"]["loss"], result.loss, "loss")
    for name, _, grad in vae.named_params():
        assert_close(found["params"][name], grad, name)


def test_the_pages_two_maps_of_patches_are_adjoint(bench):
    """<P(x), c> = <x, P^T(c)>, to the roundings of one sum."""
    script = """const random = makeRandom(3), layer = { image: [5, 7, 2], step: arguments[0], grid: arguments[1] };
        const x = random.normals(2 * 5 * 7 * 2), cut = patches(x, layer), c = random.normals(cut.length);
        const dot = (a, b) => a.reduce((total, v, i) => total + v * b[i], 0);
        return [dot(cut, c), dot(x, addPatches(c, layer)), cut.length];"""
    for step, grid in (([3, 2, 1], [3, 4]), ([4, 1, 0], [2, 4]), ([2, 3, 0], [2, 2])):
        one, other, size = bench.run(script, step, grid)
        assert one == pytest.approx(other, rel=1e-12) and size == 2 * grid[0] * grid[1] * step[0] ** 2 * 2 and one != 0


def test_new_weights_of_convolutions_are_drawn_as_python_draws_them(bench):
    """U(-a, a): of n numbers the largest is above 0.9 a but for a chance of 0.9^n; each W has 24 or more."""
    vae, _ = conv(**CONVS["colour"])
    found = bench.run("return mapped(freshParams(arguments[0], makeRandom(4)), p => [...p]);", spec_in_float64(vae))
    assert set(found) == {name for name, _, _ in vae.named_params()}
    for name, layer in vae.named_layers():
        if "W" in getattr(layer, "params", {}):
            # k*k times the channels of both sides; 1 where no kernel is
            k = layer.step[0] if hasattr(layer, "step") else 1
            rows, columns = layer.params["W"].shape
            largest, bound = np.abs(found[f"{name}.W"]).max(), np.sqrt(6 / (rows + k * k * columns))
            assert 0.9 * bound < largest <= bound and not any(found[f"{name}.b"]), name


def test_what_came_along_one_wire_alone_is_what_python_says(bench):
    vae = model()
    x, eps = inputs(vae, 3)
    t = trace(vae, x, eps, estimators.elbo_mc, entries=0)
    script = """const [spec, x, eps] = arguments, vae = makeVAE(spec);
        const pass = vae.forward(x, eps, { estimator: "elbo_mc" }), wires = ["decoder", "latent", "score"];
        const along = wire => mapped(vae.backward(pass, onlyWire(pass.wires, wire)).params, grad => [...grad]);
        return Object.fromEntries(wires.map(wire => [wire, along(wire)]));"""
    found = bench.run(script, spec_in_float64(vae), x.ravel().tolist(), eps.ravel().tolist())
    for name, p in t.params.items():
        assert set(p.parts) == set(found)
        for wire, part in p.parts.items():
            assert_close(found[wire][name], part, (wire, name))


def test_adam_moves_the_parameters_as_pythons_does(bench):
    vae = model()
    x, eps = inputs(vae, 1)
    spec = spec_in_float64(vae)
    script = """const [spec, x, eps] = arguments, vae = makeVAE(spec);
        for (let i = 0; i < 5; i++) vae.adamStep(vae.backward(vae.forward(x, eps)).params, 0.01);
        return mapped(vae.params, p => [...p]);"""
    found = bench.run(script, spec, x.ravel().tolist(), eps.ravel().tolist())
    adam = Adam(vae.named_params(), 0.01)
    for _ in range(5):
        vae.forward(x, eps)
        vae.backward()
        adam.step()
    for name, param, _ in vae.named_params():
        assert_close(found[name], param, name)


@pytest.mark.parametrize("estimator, K, beta, words", [
    ("iwae", 3, 2.0, "wants beta = 1, got 2"), ("vimco", 1, 1.0, "wants K >= 2, got K = 1"),
    ("disarm", 2, 1.0, "wants binary latents")])
def test_an_estimator_that_does_not_fit_is_refused_in_words(bench, estimator, K, beta, words):
    vae = model()
    x, eps = inputs(vae, K)
    script = """const [spec, x, eps, estimator, beta] = arguments;
        try { makeVAE(spec).forward(x, eps, { estimator, beta }); } catch (error) { return error.message; }"""
    assert words in bench.run(script, spec_in_float64(vae), x.ravel().tolist(), eps.ravel().tolist(), estimator, beta)


def test_gradients_over_draws_are_those_of_python(bench):
    n = 20
    for vae, estimator, K in ((model(), estimators.elbo, 1), (model(), estimators.score_analytic_kl, 1),
                              (model(), estimators.dreg, 3), (model(DiscreteVAE), estimators.score_analytic_kl, 3)):
        x, _ = inputs(vae, 1)
        eps = vae.latent.noise((K, n, Z), np.random.default_rng(5), np.float64)
        script = """const [spec, x, eps, estimator, K, n] = arguments;
            const random = { normals: () => eps, uniforms: () => eps };
            const found = gradientsOverDraws(makeVAE(spec), x, { estimator, K, n, random });
            return mapped(found, of => mapped(of, array => [...array]));"""
        given = x.ravel().tolist(), eps.ravel().tolist(), estimator.__name__, K, n
        found = bench.run(script, spec_in_float64(vae), *given)
        wanted = gradients_of_draws(vae, x, estimator, eps)
        assert set(found) == {head.removeprefix("to_") for head in vae.heads}
        for name in found:
            assert_close(found[name]["mean"], wanted[name].mean(axis=0), name)
            assert_close(found[name]["spread"], wanted[name].std(axis=0, ddof=1), name)


def test_the_pages_noise_is_normal_and_repeats_with_its_seed(bench):
    script = "const n = seed => [...makeRandom(seed).normals(20000)]; return [n(1), n(1), n(2)];"
    one, again, other = map(np.array, bench.run(script))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    # four standard errors of the mean, of the variance, and of the fourth moment of 20,000 normals
    for moment, wanted, variance in ((one, 0, 1), (one**2, 1, 2), (one**4, 3, 96)):
        assert abs(moment.mean() - wanted) < 4 * np.sqrt(variance / len(one))
    assert abs((one[1:] * one[:-1]).mean()) < 4 / np.sqrt(len(one))


# --- a page, its badge and its images -----------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The page of a small model of the digits, barely trained, whose run has a hostile name."""
    data = load_data("digits")
    vae = VAE.mlp(64, [48], 6, rng=0)
    fit(vae, data.x_train[:200], epochs=2, batch_size=50, lr=3e-3, rng=0)
    name = "</script><script>alert(1)</script><!--<script>"
    subject = subject_of(vae, data._replace(note=f"from {name}"), 3, name, "dynamic", 3e-3)
    file = tmp_path_factory.mktemp("live") / "digits.html"
    file.write_text(render(contents(subject)))
    return subject, file


def embedded(file):
    return json.loads(re.search(r'id="data">(.*?)</script>', file.read_text(), re.S)[1])


AGREE = "return agreement(makeVAE(specOf(D)), recordedOf(D));"


def test_the_page_agrees_with_python_and_compares_every_array(chromium, digits):
    subject, file = digits
    chromium.open(file)
    found = chromium.run(AGREE)
    # the recorded gradients of the parameters are float32, which rounds at 6e-8; the page allows 1e-5
    assert found["ok"] and found["worst"] < 1e-7
    recorded = embedded(file)["live"]["recorded"]
    n_params = sum(p.size for _, p, _ in subject.vae.named_params())
    assert found["arrays"] == sum(len(recorded[what]) for what in ("values", "grads", "parts", "params"))
    assert found["numbers"] > n_params + 700 and recorded["sums"] == {}


def coins(**changed):
    return DiscreteVAE.mlp(20, [6], 4, rng=0, **changed)


@pytest.mark.parametrize("make", [
    lambda: VAE.mlp(20, [], 3, likelihood=GaussianLikelihood("per_pixel"), rng=0),
    lambda: VAE.mlp(20, [6, 5], 3, likelihood="gaussian", activation="softplus", beta=0.5, rng=0),
    lambda: VAE.mlp(20, [6], 3, dtype=np.float64, estimator=estimators.iwae, rng=0),
    lambda: coins(estimator=estimators.disarm), lambda: coins(estimator=estimators.score)],
    ids=["linear, per pixel", "two layers, beta 0.5", "float64", "coins, disarm", "coins, score"])
def test_pages_of_other_models_agree_too(chromium, tmp_path, make):
    """A float64 model's weights are rounded to float32 in the page, which is what 1e-5 leaves room for."""
    vae, x = make(), np.random.default_rng(0).random((30, 20), dtype=np.float32)
    rng = np.random.default_rng(1)
    for _, param, _ in vae.named_params():                 # as if it had been trained: no bias is 0
        param += 0.3 * rng.standard_normal(param.shape).astype(param.dtype)
    subject = subject_of(vae, Data("own", x, x, (5, 4), None, "no file"), 0, "a run",
                         "dynamic" if vae.likelihood.binary else "none", 1e-3)
    (tmp_path / "other.html").write_text(render(contents(subject)))
    chromium.open(tmp_path / "other.html")
    found = chromium.run(AGREE)
    assert found["ok"] and found["worst"] < (1e-7 if vae.dtype == np.float32 else 1e-5), found


@pytest.mark.parametrize("name", ["enc.0.W", "to_logvar.b", "to_logits.W"])
def test_one_corrupted_weight_ends_the_agreement(chromium, digits, name):
    chromium.open(digits[1])
    script = """const spec = specOf(D), p = spec.params[arguments[0]], recorded = recordedOf(D);
        const i = arguments[0] === "enc.0.W" ? 48 * recorded.x.indexOf(1) : 7 % p.length;
        p[i] += 0.01;
        return agreement(makeVAE(spec), recorded);"""
    found = chromium.run(script, name)
    assert not found["ok"] and found["worst"] > 1e-4


def test_one_wrong_gradient_ends_it_also_where_only_sums_are_recorded(chromium, digits, monkeypatch, tmp_path):
    monkeypatch.setattr(live, "WHOLE", 0)
    (tmp_path / "sums.html").write_text(render(contents(digits[0])))
    chromium.open(tmp_path / "sums.html")
    assert chromium.run(AGREE)["ok"] and embedded(tmp_path / "sums.html")["live"]["recorded"]["params"] == {}
    script = """const vae = makeVAE(specOf(D)), { backward } = vae;
        vae.backward = pass => {
          const back = backward(pass), grad = back.params["dec.0.W"];
          grad[5] += 0.01 * Math.max(...grad.map(Math.abs));
          return back;
        };
        return agreement(vae, recordedOf(D));"""
    found = chromium.run(script)
    assert not found["ok"] and found["where"] == "sums of d(dec.0.W)"


def test_a_nan_in_the_page_is_no_agreement(chromium, digits):
    chromium.open(digits[1])
    script = """const spec = specOf(D);
        spec.params["dec.0.b"][0] = NaN;
        return agreement(makeVAE(spec), recordedOf(D));"""
    found = chromium.run(script)
    assert found["ok"] is False


def test_the_images_in_the_page_are_those_of_the_data(chromium, digits):
    subject, file = digits
    chromium.open(file)
    script = "return [...imagesOf(D, arguments[0])]"
    train, test = (np.reshape(chromium.run(script, which), (-1, 64)) for which in ("train", "test"))
    assert np.array_equal(train, subject.data.x_train) and len(train) == 1500
    assert np.array_equal(test[3], subject.x[0]) and set(np.unique(test)) == {0, 1}
    assert np.abs(test.mean() - subject.data.x_test.mean()) < 0.01          # 19,008 coins: three standard errors
    assert chromium.run("return D.live.images.labels") == [str(label) for label in subject.data.y_test]


def test_more_than_256_grey_levels_are_rounded_to_the_nearest_of_256(rng):
    x = rng.random((50, 20)) * 3 - 1
    found = live.packed(x)
    levels, places = np.array(found["levels"]), np.frombuffer(base64.b64decode(found["base64"]), np.uint8)
    assert len(levels) == 256
    half = (x.max() - x.min()) / 255 / 2
    assert np.abs(levels[places].reshape(x.shape) - x).max() <= half * (1 + 1e-12)


def test_no_name_of_a_user_ends_the_data_or_opens_a_comment(chromium, digits):
    subject, file = digits
    text = file.read_text()
    assert "<script>alert" not in text and "<!--" not in text.split('id="data">')[1]
    chromium.open(file)
    assert chromium.run("return D.about.run") == subject.run
    assert chromium.run("return document.querySelectorAll('script').length") == text.count("<script")
    assert chromium.complaints() == []


def test_one_pass_takes_about_a_millisecond(chromium, digits):
    """The best of ten means of a hundred, so that a busy machine does not fail it."""
    chromium.open(digits[1])
    script = """const vae = makeVAE(specOf(D)), { x, eps } = recordedOf(D), times = [];
        for (let round = 0; round < 10; round++) {
          const begin = performance.now();
          for (let i = 0; i < 100; i++) vae.backward(vae.forward(x, eps));
          times.push((performance.now() - begin) / 100);
        }
        return Math.min(...times);"""
    best = chromium.run(script)
    print(f"one pass of 64-48-6-48-64: {best:.3f} ms")
    assert best < 3


# --- sizes, and models that the page cannot run --------------------------------------------------------


def test_the_digits_recipe_fits_into_a_megabyte_and_a_half(digits):
    assert digits[1].stat().st_size < 1.5e6


def test_mnists_recipe_fits_into_6_megabytes_and_agrees(chromium, rng, monkeypatch, tmp_path):
    if not JIT:                                            # 300 draws of 784 pixels through kernels in plain Python
        return
    vae = VAE.mlp(784, [400, 200], 30, rng=0)
    x = (rng.random((300, 784)) < 0.2).astype(np.uint8) * 255
    every = dict(estimators.ESTIMATORS)
    monkeypatch.setattr(estimators, "ESTIMATORS", {"elbo": estimators.elbo})         # another costs 3 kB and a second
    subject = subject_of(vae, Data("mnist", x, x, (28, 28), None, "noise"), 0, "a run", "dynamic", 1e-3)
    text = render(contents(subject))
    assert len(text) + 4000 * len(every) < 6e6
    (tmp_path / "mnist.html").write_text(text)
    chromium.open(tmp_path / "mnist.html")
    found = chromium.run(AGREE)
    assert found["ok"] and found["worst"] < 1e-9           # sums are recorded in float64
    assert chromium.run("return [D.live.images.train, D.live.images.test.count]") == [None, 127]


class Twice(Tanh):
    """A layer of somebody's own."""


def test_what_the_page_cannot_run_is_said_and_nothing_is_embedded(chromium, tmp_path, monkeypatch):
    x = np.random.default_rng(0).random((12, D), dtype=np.float32)
    data = Data("own", x, x, (1, D), None, "no file")
    unknown = VAE.mlp(D, [5], Z, rng=0)
    unknown.dec.layers[1] = Twice()
    subject = subject_of(unknown, data, 0, "a run", "dynamic", 1e-3)
    found = contents(subject)["live"]
    assert found == {"live": False, "reason": "it has a layer that this page cannot compute: Twice"}
    monkeypatch.setattr(live, "PARAMETERS", 100)
    large = subject_of(VAE.mlp(D, [5], Z, rng=0), data, 0, "a run", "dynamic", 1e-3)
    found = contents(large)["live"]
    assert found == {"live": False, "reason": "it has 138 parameters, more than the 100 that go into a page"}
    monkeypatch.undo()
    likelihood = type("Laplace", (GaussianLikelihood,), {"name": "laplace"})(-1.0)
    strange = VAE.mlp(D, [5], Z, likelihood=likelihood)
    assert live.why_not(strange) == "it has a likelihood that this page cannot compute: Laplace"


# --- training in the worker ----------------------------------------------------------------------------

# the page trains, too, with names of its own
TRAIN = """window.test = { told: [] };
    test.training = startTraining({ spec: specOf(D), train: imagesOf(D, "train"), test: imagesOf(D, "test"),
      binarize: "dynamic", batch: 50, lr: 0.003, seed: 1 }, message => test.told.push(message));"""
TOLD = """return test.told.map(({ epoch, step, loss, recon, kl, running }) =>
    ({ epoch, step, loss, recon, kl, running }));"""


def told(browser, enough, seconds=60):
    """The messages of the worker, once they are enough."""
    for _ in range(int(seconds / 0.05)):
        messages = browser.run(TOLD)
        if enough(messages):
            return messages
        time.sleep(0.05)
    raise AssertionError(f"after {seconds} s the worker had said {messages}")


def test_training_in_the_worker_comes_as_far_as_python(chromium, digits):
    """Same data, batches, step and epochs; other weights and noise, hence 2 nats and not less."""
    subject, file = digits
    epochs = 5
    history = fit(VAE.mlp(64, [48], 6, rng=1), subject.data.x_train, epochs=epochs, batch_size=50, lr=3e-3, rng=1)
    chromium.open(file)
    chromium.run(TRAIN)
    chromium.run("test.training.start()")
    messages = told(chromium, lambda messages: len(messages) >= epochs)[:epochs]
    chromium.run("test.training.close()")
    print(f"training loss of epoch {epochs}: page {messages[-1]['loss']:.2f}, Python {history[-1]['loss']:.2f} nats")
    assert [m["epoch"] for m in messages] == [1, 2, 3, 4, 5] and messages[-1]["step"] == 150
    assert messages[-1]["loss"] < messages[0]["loss"] - 5
    assert abs(messages[-1]["loss"] - history[-1]["loss"]) < 2
    for m in messages:
        assert m["loss"] == pytest.approx(m["recon"] + m["kl"], rel=1e-9) and m["running"]
    assert chromium.complaints() == []


def test_coins_learn_too(chromium, tmp_path):
    """By disarm, from the pair u and 1 - u."""
    data = load_data("digits")
    subject = subject_of(DiscreteVAE.mlp(64, [48], 12, estimator=estimators.disarm, rng=0), data, 0, "a run", "dynamic",
                         3e-3)
    (tmp_path / "coins.html").write_text(render(contents(subject)))
    chromium.open(tmp_path / "coins.html")
    chromium.run(TRAIN.replace("batch: 50", 'estimator: "disarm", K: 2, batch: 50'))
    chromium.run("test.training.start()")
    messages = told(chromium, lambda messages: len(messages) >= 5)
    chromium.run("test.training.close()")
    assert messages[4]["loss"] < messages[0]["loss"] - 3
    assert chromium.run("return [...new Set(test.told[0].plane.axes)].length") == 2


def test_a_conv_model_learns_in_the_worker(chromium, tmp_path):
    data = load_data("digits")
    vae = VAE.conv((8, 8), (4, 8), 6, kernel=3, rng=0)
    subject = subject_of(vae, data, 0, "a run", "dynamic", 3e-3)
    (tmp_path / "conv.html").write_text(render(contents(subject)))
    chromium.open(tmp_path / "conv.html")
    assert chromium.run(AGREE)["ok"]
    chromium.run(TRAIN)
    chromium.run("test.training.start()")
    messages = told(chromium, lambda messages: len(messages) >= 4)
    chromium.run("test.training.close()")
    history = fit(VAE.conv((8, 8), (4, 8), 6, kernel=3, rng=1), data.x_train, epochs=4, batch_size=50, lr=3e-3, rng=1)
    # other weights and noise, hence 2 nats and not less
    assert abs(messages[3]["loss"] - history[3]["loss"]) < 2 and messages[3]["loss"] < messages[0]["loss"] - 5
    assert chromium.complaints() == []


def test_stop_step_and_reset(chromium, digits):
    chromium.open(digits[1])
    chromium.run(TRAIN)
    chromium.run("test.training.step()")
    one = told(chromium, lambda messages: messages)[0]
    assert (one["epoch"], one["step"], one["running"]) == (0, 1, False)
    chromium.run("test.training.start()")
    told(chromium, lambda messages: messages[-1]["epoch"] >= 1)
    chromium.run("test.training.stop()")
    stopped = told(chromium, lambda messages: not messages[-1]["running"])[-1]
    chromium.run("test.told.length = 0; test.training.step()")
    after = told(chromium, lambda messages: messages)
    assert len(after) == 1 and after[0]["step"] == stopped["step"] + 1        # nothing ran on after the stop
    chromium.run("test.told.length = 0; test.training.reset(); test.training.step()")
    fresh, again = told(chromium, lambda messages: len(messages) == 2)
    assert (fresh["epoch"], fresh["step"], fresh["loss"]) == (0, 0, None)
    assert again == one                                    # the same seed: the same weights, batch and noise
    chromium.run("test.training.close()")


@pytest.mark.parametrize("setting, words", [
    ("lr: 1e9", "the loss is no longer finite: reset, and take a smaller step size"),
    ('estimator: "iwae", beta: 2', "it wants beta = 1, got 2")])
def test_what_goes_wrong_in_the_worker_is_told_in_words_and_it_stops(chromium, digits, setting, words):
    chromium.open(digits[1])
    chromium.run(TRAIN.replace("lr: 0.003", setting))
    chromium.run("test.training.start()")
    told(chromium, lambda messages: messages and messages[-1]["running"] is False)
    assert words in chromium.run("return test.told.at(-1).error")
    chromium.run("test.training.reset()")
    assert told(chromium, lambda messages: messages[-1].get("step") == 0)
    chromium.run("test.training.close()")
    assert chromium.complaints() == []


def test_a_message_holds_samples_the_latent_plane_and_parameters_that_give_them(chromium, digits):
    subject, file = digits
    chromium.open(file)
    chromium.run(TRAIN)
    chromium.run("test.training.step()")
    told(chromium, lambda messages: messages)
    script = """const [{ samples, plane, params }] = test.told, vae = makeVAE({ ...specOf(D), params });
        const { mu } = vae.forward(imagesOf(D, "test"), new Float64Array(6 * D.live.images.test.count)).values;
        return { samples: [...samples], axes: plane.axes, points: [...plane.points], mu: [...mu] };"""
    found = chromium.run(script)
    chromium.run("test.training.close()")
    samples, mu = np.array(found["samples"]), np.array(found["mu"]).reshape(-1, 6)
    assert samples.shape == (16 * 64,) and 0 < samples.min() and samples.max() < 1
    assert np.array_equal(np.reshape(found["points"], (-1, 2)), mu[:, found["axes"]]) and len(set(found["axes"])) == 2
