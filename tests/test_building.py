"""VAE.mlp and VAE.conv: what they build, and what they refuse before anything is made."""

import math
from fractions import Fraction

import numpy as np
import pytest

import minivae
from minivae import VAE, DiscreteVAE, check_layer, check_model, estimators, fit
from minivae.baselines import NVIL
from minivae.building import Planes
from minivae.convolutions import Conv, ConvTranspose, Reshape
from minivae.estimators import ESTIMATORS
from minivae.layers import Dense, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.saving import archive
from minivae.saving.archive import ArchiveError
from minivae.training.metrics import log_px

F8 = np.float64

SHAPES = {
    "digits": ((8, 8), (2, 3), {}),
    "odd, not square": ((7, 5), (3,), {}),
    "colour": ((6, 5, 3), (2, 3), {"kernel": 3, "padding": 1}),
    "one channel, named": ((6, 4, 1), (2,), {}),
    "no overlap": ((6, 4), (2,), {"kernel": 2, "stride": 2, "padding": 0}),
    "stride 1": ((6, 5), (2, 2), {"kernel": 3, "stride": 1, "padding": 0}),
    "stride 3": ((7, 7), (2,), {"kernel": 3, "stride": 3, "padding": 2}),
    "pixels that no patch sees": ((8, 7), (2,), {"kernel": 2, "stride": 3, "padding": 0}),
    "down to one pixel": ((4, 4), (2, 2), {"kernel": 2, "stride": 2, "padding": 0}),
    "one row": ((1, 6), (2,), {"kernel": 3, "stride": 1, "padding": 1})}


def conv(shape, channels, cls=VAE, **changed):
    return cls.conv(shape, channels, 2, **{"activation": "tanh", "rng": 0, "dtype": F8} | changed)


def images(n, shape, seed=0):
    return (np.random.default_rng(seed).random((n, math.prod(shape))) < 0.5).astype(float)


# --- what conv builds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("cls, estimator", [(VAE, "elbo"), (DiscreteVAE, "score")])
def test_the_gradients_of_a_conv_model(case, cls, estimator, rng):
    shape, channels, step = SHAPES[case]
    vae = conv(shape, channels, cls, estimator=estimator, **step)
    report = check_model(vae, images(3, shape), vae.noise(2, 3, rng))
    assert report.ok, report


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softplus"])
@pytest.mark.parametrize("likelihood", ["gaussian", GaussianLikelihood("per_pixel"), GaussianLikelihood(-1.0)],
                         ids=["shared", "per pixel", "fixed"])
def test_the_gradients_of_a_conv_model_with_other_nodes(activation, likelihood, rng):
    if likelihood == "gaussian":
        likelihood = GaussianLikelihood(dtype=F8)
    vae = conv((5, 4, 3), (2,), activation=activation, likelihood=likelihood, estimator="iwae")
    report = check_model(vae, rng.standard_normal((3, 60)), rng.standard_normal((2, 3, 2)))
    assert report.ok, report


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "disarm"])
def test_every_estimator_works_with_a_conv_model(name, rng):
    """vimco and the score functions take several samples; disarm is for coins."""
    vae = conv((6, 5, 3), (2,), estimator=name)
    check_model(vae, images(3, (6, 5, 3)), rng.standard_normal((3, 3, 2))).raise_if_wrong()


def test_disarm_works_with_a_conv_model_of_coins(rng):
    vae = conv((6, 5), (2,), DiscreteVAE, estimator="disarm")
    check_model(vae, images(3, (6, 5)), vae.noise(2, 3, rng)).raise_if_wrong()


def test_the_layers_of_a_conv_model():
    vae = VAE.conv((28, 28), rng=0)
    kinds = [type(layer).__name__ for _, layer in vae.named_layers()]
    assert kinds == ["Reshape", "Conv", "ReLU", "Conv", "ReLU", "Reshape", "Dense", "Dense", "GaussianLatent",
                     "Dense", "ReLU", "Reshape", "ConvTranspose", "ReLU", "ConvTranspose", "Reshape",
                     "BernoulliLikelihood"]
    shapes = {name: param.shape for name, param, _ in vae.named_params()}
    assert shapes["enc.1.W"] == (16, 32) and shapes["enc.3.W"] == (512, 64) and shapes["to_mu.W"] == (3136, 20)
    assert shapes["dec.0.W"] == (20, 3136) and shapes["dec.3.W"] == (512, 64) and shapes["to_logits.0.W"] == (16, 32)
    assert (vae.x_dim, vae.z_dim, vae.dtype) == (784, 20, np.float32)
    assert vae.config == {"image_shape": [28, 28], "channels": [32, 64], "z_dim": 20, "kernel": 4, "stride": 2,
                          "padding": 1, "activation": "relu"}


def test_what_a_conv_model_computes():
    """The same numbers from its layers, one after another, written out by hand."""
    vae, x, eps = conv((6, 4, 3), (2,)), images(5, (6, 4, 3)), np.random.default_rng(1).standard_normal((5, 2))
    step = vae.enc.layers[1].step
    rng = np.random.default_rng(0)
    first, to_mu, to_logvar = Conv(3, 2, *step, rng, F8), Dense(12, 2, rng, F8), Dense(12, 2, rng, F8)
    up, last = Dense(2, 12, rng, F8), ConvTranspose(2, 3, *step, (6, 4), rng, F8)
    h = np.tanh(first.forward(x.reshape(5, 6, 4, 3))).reshape(5, 12)
    mu, logvar = to_mu.forward(h), to_logvar.forward(h)
    g = np.tanh(up.forward(mu + np.exp(logvar / 2) * eps)).reshape(5, 3, 2, 2)
    logits = last.forward(g).reshape(5, 72)
    recon = (np.logaddexp(0, logits) - x * logits).sum(axis=1)
    np.testing.assert_allclose(vae.forward(x, eps).recon, recon, rtol=1e-12)


def test_planes_lie_side_by_side(rng):
    """Of an image with n planes of C channels: all pixels of plane 0, then all of plane 1."""
    x = rng.standard_normal((2, 3, 4, 6))                  # two planes of three channels
    y = Planes(2).forward(x)
    np.testing.assert_array_equal(y, np.concatenate([x[..., :3].reshape(2, -1), x[..., 3:].reshape(2, -1)], axis=1))
    assert check_layer(Planes(2), x).ok and check_layer(Planes(3), x).ok


def test_the_mean_of_a_per_pixel_gaussian_is_where_it_should_be():
    """Bias 0 of the last layer moves every mean, bias 1 every raw log-variance."""
    vae = conv((6, 4), (2,), likelihood=GaussianLikelihood("per_pixel"))
    last = vae.to_out.layers[0]
    before = vae.decode(np.zeros((1, 2)))
    last.params["b"][0] += 3
    np.testing.assert_allclose(vae.decode(np.zeros((1, 2))), before + 3, rtol=1e-12)
    last.params["b"][1] += 3
    np.testing.assert_allclose(vae.decode(np.zeros((1, 2))), before + 3, rtol=1e-12)


@pytest.mark.parametrize("kind", [VAE, DiscreteVAE])
def test_a_conv_model_trains_and_its_file_brings_it_back(kind, tmp_path):
    """Stopped in the middle and resumed, it ends as the one that never stopped."""
    def train(**settings):
        estimator = "elbo" if kind is VAE else "score"
        vae = conv((6, 5, 3), (2, 3), kind, estimator=estimator, kernel=3, dtype=np.float32)
        return vae, fit(vae, images(30, (6, 5, 3)), epochs=3, batch_size=7, samples=2, rng=0, **settings)

    path, batches = tmp_path / "model.npz", iter(range(100))
    whole, history = train()
    train(checkpoint=path, stop=lambda: next(batches) == 6)
    again, _ = train(checkpoint=path, resume=path)
    np.testing.assert_array_equal(again.sample(3, rng=0), whole.sample(3, rng=0))
    loaded = minivae.load(path)
    assert type(loaded) is kind and loaded.config == whole.config
    np.testing.assert_array_equal(loaded.sample(3, rng=0), whole.sample(3, rng=0))
    assert history[-1]["loss"] < history[0]["loss"]


def test_a_conv_model_learns_where_a_square_stands(rng):
    """A square that may stand anywhere costs less than its pixels one by one."""
    x = np.zeros((64, 8, 8))
    for n, (i, j) in enumerate(np.ndindex(8, 8)):
        x[n, i : i + 3, j : j + 3] = 1
    vae = VAE.conv((8, 8), (8, 8), 4, rng=0)
    history = fit(vae, x.reshape(64, 64), epochs=150, batch_size=16, lr=5e-3, rng=0)
    p = x.mean(axis=0).clip(1e-6, 1 - 1e-6)
    independent = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum()              # the best without a latent
    assert history[-1]["loss"] < 0.8 * independent < history[0]["loss"]


@pytest.mark.parametrize("changed", [
    {"image_shape": [10**6, 10**6]}, {"channels": [10**5, 10**5]}, {"kernel": 10**6}, {"z_dim": 10**9},
    {"image_shape": [2, 2]}, {"image_shape": "8x8"}, {"stride": 0}, {"kernel": None}])
def test_a_damaged_description_of_a_conv_model_is_refused(changed, tmp_path):
    path, vae = tmp_path / "model.npz", conv((8, 8), (2, 3))
    minivae.save(vae, path)
    arrays, meta = archive.read(path)
    archive.write(path, arrays, {"config": meta["config"] | changed})
    with pytest.raises(ArchiveError, match="describes no model that this version knows") as caught:
        minivae.load(path)
    assert "\n" not in str(caught.value)


# --- what they refuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, changed, error, said", [
    (((3, 8), (2, 2)), {}, ValueError, "a kernel of 4 x 4 does not fit into images of 1 x 4"),
    (((2, 2), (2,)), {"kernel": 5, "padding": 1}, ValueError, "a kernel of 5 x 5 does not fit into images of 2 x 2"),
    (((8, 8), (2, 2, 2, 2)), {"padding": 0}, ValueError, "does not fit into images of 3 x 3"),
    (((8, 8), ()), {}, ValueError, "channels must name at least one Conv"),
    (((8,), (2,)), {}, ValueError, r"image_shape must be \(H, W\) or \(H, W, C\), got \(8,\)"),
    (((1, 2, 3, 4), (2,)), {}, ValueError, "image_shape must be"),
    ((64, (2,)), {}, ValueError, r"image_shape must be \(H, W\) or \(H, W, C\), got \(64,\)"),
    ((None, (2,)), {}, TypeError, "image_shape must be a sequence of whole numbers"),
    (((8, 8.5), (2,)), {}, TypeError, r"image_shape\[1\] must be a whole number, got 8.5"),
    (((8, 0), (2,)), {}, ValueError, r"image_shape\[1\] must be at least 1, got 0"),
    (((8, 8), (2, "3")), {}, TypeError, r"channels\[1\] must be a whole number, got '3'"),
    (((8, 8), "32,64"), {}, TypeError, "channels must be a sequence of whole numbers"),
    (((8, 8), (0,)), {}, ValueError, r"channels\[0\] must be at least 1, got 0"),
    (((8, 8), (2,)), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    (((8, 8), (2,)), {"kernel": (4, 4)}, TypeError, r"kernel must be a whole number, got \(4, 4\)"),
    (((8, 8), (2,)), {"padding": -1}, ValueError, "padding must be at least 0, got -1"),
    (((8, 8), (2,)), {"padding": 0.5}, TypeError, "padding must be a whole number, got 0.5")])
def test_conv_refuses_in_one_line(arguments, changed, error, said):
    with pytest.raises(error, match=said) as caught:
        VAE.conv(*arguments, z_dim=2, **changed)
    assert "\n" not in str(caught.value)


BOTH = [
    ({"activation": "gelu"}, ValueError, "unknown activation 'gelu'"), ({"activation": None}, ValueError, "activation"),
    ({"activation": Tanh}, ValueError, "unknown activation"),
    ({"likelihood": None}, TypeError, "likelihood must be one of bernoulli, gaussian or an object .* got None"),
    ({"likelihood": 3}, TypeError, "likelihood must be"), ({"likelihood": "poisson"}, ValueError, "unknown likelihood"),
    ({"likelihood": BernoulliLikelihood}, TypeError, "likelihood must be"),
    ({"estimator": "iwea"}, ValueError, "unknown estimator 'iwea'; choose from elbo"),
    ({"estimator": None}, TypeError, "estimator must be a name or a function of minivae.estimators, got None"),
    ({"estimator": np.sin}, TypeError, "estimator must be"),
    ({"baseline": "mean"}, ValueError, "unknown baseline 'mean'"),
    ({"baseline": 3}, ValueError, "a baseline is one of"),
    ({"baseline": {}}, ValueError, "a baseline is one of"), ({"baseline": {"nam": "nvil"}}, ValueError, "a baseline"),
    ({"latent": "bernoulli"}, ValueError, "got bernoulli"), ({"latent": 3}, ValueError, "got int"),
    ({"beta": -1.0}, ValueError, "beta must be a number >= 0"), ({"beta": np.inf}, ValueError, "beta must be"),
    ({"beta": "1"}, TypeError, "beta must be a number, got '1'"), ({"beta": None}, TypeError, "beta must be a number"),
    ({"beta": True}, TypeError, "beta must be a number, got True"),
    ({"beta": 10**400}, ValueError, "beta must be a number >= 0, got 10{50}"),
    ({"beta": -10**400}, ValueError, "beta must be a number >= 0"), ({"beta": Fraction(1, 2)}, None, ""),
    ({"dtype": None}, TypeError, "dtype must be float32 or float64, got None"),
    ({"dtype": np.float16}, ValueError, "dtype must be float32 or float64"),
    ({"dtype": int}, ValueError, "dtype must"),
    ({"dtype": "float"}, None, ""), ({"dtype": "floaty"}, TypeError, "dtype must be float32 or float64, got 'floaty'"),
    ({"rng": "seed"}, TypeError, "rng must be None, a whole number .* got 'seed'"),
    ({"rng": -1}, ValueError, "rng must be .* of at least 0 .* got -1"), ({"rng": 1.5}, TypeError, "rng must be None"),
    ({"z_dim": 2.0}, TypeError, "z_dim must be a whole number, got 2.0"),
    ({"z_dim": 0}, ValueError, "z_dim must be at"),
    ({"z_dim": np.inf}, TypeError, "z_dim must be a whole number, got inf"),
    ({"z_dim": None}, TypeError, "z_dim must")]


@pytest.mark.parametrize("changed, error, said", BOTH, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_both_refuse_in_one_line(kind, changed, error, said):
    make = {"mlp": lambda **given: VAE.mlp(6, [3], **given),
            "conv": lambda **given: VAE.conv((8, 8), (2,), **given)}[kind]
    if error is None:
        make(**{"z_dim": 2} | changed)
        return
    with pytest.raises(error, match=said) as caught:
        make(**{"z_dim": 2} | changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("x_dim, hidden, error, said", [
    (784.0, [3], TypeError, "x_dim must be a whole number, got 784.0"), ("784", [3], TypeError, "x_dim must be"),
    (0, [3], ValueError, "x_dim must be at least 1, got 0"), (np.nan, [3], TypeError, "x_dim must be"),
    (6, "5", TypeError, "hidden must be a sequence of whole numbers"), (6, 5.7, TypeError, "hidden must be"),
    (6, [5.7], TypeError, r"hidden\[0\] must be a whole number, got 5.7"), (6, None, TypeError, "hidden must be"),
    (6, True, TypeError, r"hidden\[0\] must be"), (6, [np.inf], TypeError, r"hidden\[0\] must be"),
    (6, b"5", TypeError, "hidden must be a sequence of whole numbers"), (6, np.array(3.0), TypeError, "hidden must be"),
    (6, [[3], [4, 5]], TypeError, r"hidden\[0\] must be"), (6, {3}, TypeError, "hidden must be"),
    (10**9, [10**9], ValueError, "does not fit into memory")])
def test_mlp_refuses_sizes_in_one_line(x_dim, hidden, error, said):
    with pytest.raises(error, match=said) as caught:
        VAE.mlp(x_dim, hidden, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("x_dim, hidden", [(np.int64(6), 3), (6, np.array([3])), (6, (np.int32(3),)), (6, ())])
def test_mlp_takes_whole_numbers_of_any_kind(x_dim, hidden):
    vae = VAE.mlp(x_dim, hidden, np.uint8(2))
    assert vae.config["hidden"] == ([3] if np.size(hidden) else []) and type(vae.x_dim) is int


@pytest.mark.parametrize("name", estimators.ESTIMATORS)
def test_an_estimator_may_be_named(name):
    kind = DiscreteVAE if name == "disarm" else VAE
    assert kind.mlp(6, [3], 2, estimator=name).estimator is estimators.ESTIMATORS[name]
    assert kind.conv((8, 8), (2,), 2, estimator=name).estimator is estimators.ESTIMATORS[name]


def test_conv_takes_rows_and_reshape_says_what_it_wants():
    with pytest.raises(ValueError, match="must have 64 pixels per row"):
        VAE.conv((8, 8), (2,), 2).encode(np.zeros((3, 63)))
    with pytest.raises(ValueError, match="Reshape must have 64 numbers"):
        Reshape(8, 8, 1).forward(np.zeros((3, 63)))


@pytest.mark.parametrize("changed, error, said", [
    ({"enc": Dense}, TypeError, "enc must be a Sequential"), ({"to_mu": None}, TypeError, "to_mu is no layer"),
    ({"to_out": 3}, TypeError, "to_out is no layer: int has no forward"),
    ({"likelihood": None}, TypeError, "likelihood must be an object of minivae.likelihoods, got None"),
    ({"likelihood": "bernoulli"}, TypeError, "likelihood must be an object"),
    ({"latent": []}, ValueError, "the latent of a VAE is a GaussianLatent"),
    ({"latent": np.zeros(2)}, ValueError, "the latent of a VAE is a GaussianLatent"),
    ({"baseline": 0}, ValueError, "a baseline is one of"), ({"baseline": np.zeros(2)}, ValueError, "a baseline is one"),
    ({"baseline": NVIL(6, rng=0)}, ValueError, "the estimator elbo takes no baseline"),
    ({"dtype": "floaty"}, TypeError, "dtype must be float32 or float64, got 'floaty'")], ids=lambda v: str(v)[:40])
def test_a_model_of_wrong_parts_is_refused_by_the_name_of_the_part(changed, error, said):
    """What is empty or 0 is no missing part: only None is."""
    vae = VAE.mlp(6, [3], 2, rng=0)
    parts = {name: getattr(vae, name) for name in ("enc", "to_mu", "to_logvar", "dec", "to_out", "likelihood")}
    VAE(**parts, latent=None, baseline=None)
    with pytest.raises(error, match=said) as caught:
        VAE(**parts | changed)
    assert "\n" not in str(caught.value)


def test_what_takes_a_model_refuses_anything_else_by_name(tmp_path):
    x = np.zeros((3, 6))
    for call, name in ((lambda m: minivae.evaluate(m, x), "vae"), (lambda m: minivae.elbo(m, x), "vae"),
                       (lambda m: minivae.measure(m, x), "vae"), (lambda m: minivae.interpolate(m, x, x), "vae"),
                       (lambda m: log_px(m, x), "vae"), (lambda m: check_model(m, x, x), "vae"),
                       (lambda m: fit(m, x), "vae"), (lambda m: minivae.save(m, tmp_path / "m.npz"), "model")):
        for wrong in (None, VAE, x):
            with pytest.raises(TypeError, match=f"^{name} must be a VAE or DiscreteVAE, got "):
                call(wrong)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_of_files_and_checks_are_named(tmp_path):
    vae = VAE.mlp(6, [3], 2, rng=0)
    minivae.save(vae, tmp_path / "m.npz")
    for error, said, call in (
            (TypeError, "path must be a path, got 3", lambda: minivae.save(vae, 3)),
            (TypeError, "path must be a path, got None", lambda: minivae.load(None)),
            (TypeError, "rng must be None", lambda: minivae.load(tmp_path / "m.npz", rng="x")),
            (TypeError, "builder must be a function", lambda: minivae.load(tmp_path / "m.npz", builder=3)),
            (TypeError, "data_dir must be the path of a folder, got 3", lambda: minivae.load_data("mnist", 3)),
            (TypeError, "key must be the name of an array, got 3", lambda: minivae.load_data("digits", key=3)),
            (ValueError, "^x_to: x must have 6 pixels", lambda: minivae.interpolate(vae, np.zeros((1, 6)), np.eye(2))),
            (TypeError, "f must be a function, got 3", lambda: minivae.check_function(3, np.ones_like, np.ones(2))),
            (TypeError, "grad must be a function", lambda: minivae.check_function(np.sum, None, np.ones(2))),
            (TypeError, "backward must be a function", lambda: minivae.check_vjp(np.exp, None, np.ones(2))),
            (TypeError, "rng must be None", lambda: check_layer(Tanh(), np.ones((2, 2)), rng="x")),
            (ValueError, r"u must have shape \(1, 2\) or \(K, 1, 2\) beside x of shape \(1, 6\), got",
             lambda: DiscreteVAE.mlp(6, [3], 2, rng=0).forward(np.zeros((1, 6)), np.zeros((3, 2))))):
        with pytest.raises(error, match=said):
            call()
