"""Models of layers that somebody else wrote: built, checked, trained, saved, resumed."""

from pathlib import Path

import numpy as np
import pytest

import minivae
from minivae import VAE, DiscreteVAE, check_layer, check_model, estimators, fit
from minivae.layers import Dense, ReLU, Sequential, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.saving.archive import ArchiveError
from minivae.saving.checkpoint import CheckpointError
from minivae.training.evaluation import NonFiniteError, evaluate

F8 = np.float64
H, W, Z, B = 4, 3, 2, 6
D = H * W


# --- what a user might write: none of it inherits anything of ours ------------------------------------


class Dropout:
    """y = x * mask.  The mask is handed in, or drawn afresh in each forward.  It says nothing of params."""

    def __init__(self, rng=None, rate=0.3, mask=None):
        self.rng, self.rate, self.mask = rng, rate, mask

    def forward(self, x):
        self.drawn = self.mask
        if self.mask is None:
            self.drawn = ((self.rng.random(x.shape) > self.rate) / (1 - self.rate)).astype(x.dtype)
        return x * self.drawn

    def backward(self, dy):
        return dy * self.drawn


class LayerNorm:
    """y = gain * (x - mean) / std, over the numbers of a row; it writes into arrays that it keeps."""

    def __init__(self, n, dtype=F8):
        self.gain = np.ones(n, dtype)
        self.params, self.grads = {"gain": self.gain}, {"gain": np.zeros(n, dtype)}

    def forward(self, x):
        std = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        self.kept = (x - x.mean(axis=1, keepdims=True)) / std, std
        return self.gain * self.kept[0]

    def backward(self, dy):
        n, std = self.kept
        self.grads["gain"][...] = (dy * n).sum(axis=0)
        dn = dy * self.gain
        return (dn - dn.mean(axis=1, keepdims=True) - n * (dn * n).mean(axis=1, keepdims=True)) / std


class StridedConv:
    """A 2 x 2 kernel with stride 1 x 2 on rows of H * W grey pixels, written as loops.  W is (4, n_out)."""

    def __init__(self, n_out, rng, dtype=F8):
        self.params = {"W": rng.standard_normal((4, n_out)).astype(dtype) / 2}
        self.grads = {"W": np.zeros((4, n_out), dtype)}
        self.places = [(i, j) for i in range(H - 1) for j in range(0, W - 1, 2)]
        self.n_all = len(self.places) * n_out

    def patch(self, images, i, j):
        return images[:, i : i + 2, j : j + 2]

    def forward(self, x):
        self.images = x.reshape(-1, H, W)
        patches = [self.patch(self.images, i, j).reshape(-1, 4) for i, j in self.places]
        return np.concatenate([p @ self.params["W"] for p in patches], axis=1)

    def backward(self, dy):
        dx, dW = np.zeros_like(self.images), np.zeros_like(self.params["W"])
        for (i, j), part in zip(self.places, np.split(dy, len(self.places), axis=1)):
            dW += self.patch(self.images, i, j).reshape(-1, 4).T @ part
            self.patch(dx, i, j)[...] += (part @ self.params["W"].T).reshape(-1, 2, 2)
        self.grads["W"][...] = dW
        return dx.reshape(len(dx), -1)


class Residual:
    """y = x + f(x), with layers of its own inside, which nobody else knows."""

    def __init__(self, n, rng, dtype=F8):
        self.inner = Sequential(Dense(n, n, rng, dtype), Tanh())
        self.params, self.grads = self.inner.params, self.inner.grads

    def forward(self, x):
        return x + self.inner.forward(x)

    def backward(self, dy):
        return dy + self.inner.backward(dy)




def parts(rng, dtype=F8, dropout=None):
    """Encoder, two heads, decoder and output; none of the ends but one head is a Dense."""
    dense = lambda n, m: Dense(n, m, rng, dtype)
    conv = StridedConv(2, rng, dtype)
    enc = Sequential(conv, Tanh(), LayerNorm(conv.n_all, dtype), dropout or Dropout(rng),
                     Residual(conv.n_all, rng, dtype))
    to_mu = Sequential(dense(conv.n_all, Z), Scaled(Z, dtype))
    return (enc, to_mu, dense(conv.n_all, Z), Sequential(Scaled(Z, dtype), dense(Z, 6), ReLU()),
            Sequential(dense(6, D), Scaled(D, dtype)))


class Scaled(LayerNorm):
    """y = gain * x: what a head ends with, and a decoder begins and ends with."""

    def forward(self, x):
        self.kept = x.copy()
        return self.gain * x

    def backward(self, dy):
        self.grads["gain"][...] = (dy * self.kept).sum(axis=0)
        return self.gain * dy


def own_vae(seed=0, dtype=F8, dropout=None, **changed):
    """The same rng draws weights, masks, and whatever the caller lets it draw."""
    rng = np.random.default_rng(seed)
    settings = {"likelihood": BernoulliLikelihood(), "x_dim": D, "z_dim": Z, "rng": rng} | changed
    return VAE(*parts(rng, dtype, dropout), **settings)


def images(n=B, seed=1):
    return (np.random.default_rng(seed).random((n, D)) < 0.5).astype(float)


MASK = np.array([[1.5, 0.0, 1.5] * 2])                     # of the 6 numbers that StridedConv gives for an image


# --- checked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, n", [
    (Dropout(mask=np.array([[1.5, 0.0, 1.5, 1.5]])), 4), (LayerNorm(4), 4),
    (StridedConv(3, np.random.default_rng(0)), D), (Residual(4, np.random.default_rng(0)), 4)],
    ids=lambda value: type(value).__name__)
def test_each_layer_of_ones_own_is_checked(layer, n, rng):
    report = check_layer(layer, rng.standard_normal((3, n)))
    assert report.ok, report


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("estimator", [estimators.elbo, estimators.score, estimators.iwae])
def test_a_model_of_them_is_checked(estimator, K, rng):
    vae = own_vae(estimator=estimator, dropout=Dropout(mask=MASK))
    report = check_model(vae, images(), rng.standard_normal((K, B, Z)))
    assert report.ok, report


def test_a_float32_model_of_them_is_checked_as_its_twin(rng):
    vae = own_vae(dtype=np.float32, dropout=Dropout(mask=MASK))
    assert vae.dtype == np.float32
    report = check_model(vae, images(), rng.standard_normal((B, Z)))
    assert report.ok, report
    assert vae.dtype == np.float32


def test_a_fault_in_a_layer_of_ones_own_is_found_in_the_model(rng):
    class Wrong(LayerNorm):
        def backward(self, dy):
            return 1.1 * super().backward(dy)

    vae = own_vae(dropout=Dropout(mask=MASK))
    vae.enc.layers[2] = Wrong(6)
    report = check_model(vae, images(), rng.standard_normal((B, Z)))
    assert {row.name for row in report.rows if row.verdict == "FAIL"} >= {"enc.0.W"}


def test_a_dropout_that_draws_in_forward_is_named_by_the_check(rng):
    dense = lambda n, m: Dense(n, m, rng, F8)
    vae = VAE(Sequential(Dropout(rng)), dense(3, 1), dense(3, 1), Sequential(), dense(1, 3), x_dim=3,
              likelihood=BernoulliLikelihood(), rng=0)
    report = check_model(vae, images()[:, :3], rng.standard_normal((B, 1)))
    assert "repeats itself" in {row.name for row in report.rows if row.verdict == "FAIL"}


def test_a_discrete_model_of_them_is_checked(rng):
    enc, to_a, _, dec, to_out = parts(rng, dropout=Dropout(mask=MASK))
    vae = DiscreteVAE(enc, to_a, dec, to_out, likelihood=BernoulliLikelihood(), x_dim=D, z_dim=Z, rng=0,
                      estimator=estimators.score)
    report = check_model(vae, images(), rng.random((2, B, Z)))
    assert report.ok, report


def test_nothing_is_asked_of_the_first_layer_but_its_grads(rng):
    """Below the first parameters nobody needs a gradient, so those layers are not even asked."""
    asked = []

    class Asked(Dropout):
        def backward(self, dy):
            asked.append(self)
            return super().backward(dy)

    below, above = Asked(mask=1.0), Asked(mask=1.0)
    dense = Dense(3, 4, rng, F8)
    stack = Sequential(below, dense, above)
    x, dy = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    stack.forward(x)
    assert stack.backward(dy, input_grad=False) is None and asked == [above]
    np.testing.assert_allclose(dense.grads["W"], x.T @ dy, rtol=1e-12)
    stack.forward(x)
    np.testing.assert_allclose(stack.backward(dy), dy @ dense.params["W"].T, rtol=1e-12)
    assert asked == [above, above, below]


# --- everyday methods ---------------------------------------------------------------------------------


def test_everyday_methods_leave_a_pending_backward_and_every_generator_alone(rng):
    """What a layer keeps, in whatever attribute, and its layers inside: looking changes none of it."""
    eps = rng.standard_normal((B, Z))
    quiet, busy = own_vae(), own_vae()
    for vae in (quiet, busy):
        vae.forward(images(), eps)
        if vae is busy:
            state = busy.rng.bit_generator.state
            busy.encode(images(3, seed=5))
            busy.reconstruct(images(2))
            busy.sample(4, rng=0)
            evaluate(busy, images(9))
            assert busy.rng.bit_generator.state == state
        vae.backward()
    np.testing.assert_array_equal(quiet.gradient(), busy.gradient())


def test_the_arrays_of_a_layer_are_the_same_ones_after_looking():
    vae = own_vae()
    before = [(id(p), id(g)) for _, p, g in vae.named_params()]
    with vae.undisturbed():
        assert [(id(p), id(g)) for _, p, g in vae.named_params()] == before
    assert [(id(p), id(g)) for _, p, g in vae.named_params()] == before
    assert vae.enc.layers[2].gain is vae.enc.layers[2].params["gain"]


def test_sizes_are_read_off_a_dense_or_handed_in(rng):
    dense = lambda n, m: Dense(n, m, rng, F8)
    by_dense = VAE(Sequential(dense(D, 3)), Sequential(Dropout(mask=1.0), dense(3, Z)), dense(3, Z), Sequential(),
                   dense(Z, D), likelihood=BernoulliLikelihood(), rng=0)
    assert (by_dense.x_dim, by_dense.z_dim, by_dense.dtype) == (D, Z, F8)
    assert own_vae().x_dim == D and own_vae().dtype == F8
    assert own_vae().sample(3).shape == (3, D) and own_vae().encode(images())[0].shape == (B, Z)


def test_a_model_without_any_parameter_runs_in_the_dtype_that_it_was_built_with(rng):
    """mu = x and logvar = x - 1: the identity, and a layer that shifts."""
    class Shift(Dropout):
        def forward(self, x):
            return x - 1

        def backward(self, dy):
            return dy

    same = Dropout(mask=1.0)
    vae = VAE(Sequential(), same, Shift(), Sequential(), Dropout(mask=1.0), likelihood=GaussianLikelihood(0.0),
              x_dim=3, z_dim=3, dtype=F8, rng=0)
    mu, logvar = vae.encode(rng.random((2, 3)))
    assert mu.dtype == F8 and np.array_equal(logvar, mu - 1)
    vae.forward(rng.random((2, 3)))
    vae.backward()


DENSE = lambda n, m, dtype=F8: Dense(n, m, np.random.default_rng(0), dtype)
GOOD = {"enc": Sequential(DENSE(D, 3)), "to_mu": DENSE(3, Z), "to_logvar": DENSE(3, Z), "dec": Sequential(DENSE(Z, 3)),
        "to_out": DENSE(3, D), "likelihood": BernoulliLikelihood()}


class NoGrads:
    params, grads = {"W": np.zeros((2, 3))}, {}
    forward = backward = staticmethod(lambda x: x)


class NoBackward:
    forward = staticmethod(lambda x: x)


@pytest.mark.parametrize("changed, error, said", [
    ({"enc": Sequential(Dropout(mask=1.0), DENSE(D, 3))}, ValueError,
     "x_dim can be read off a Dense only, and enc.0 is a Dropout: hand it in, x_dim=.."),
    ({"to_mu": Sequential(DENSE(3, Z), Tanh()), "to_logvar": Sequential(DENSE(3, Z), Tanh()),
      "dec": Sequential(Tanh(), DENSE(Z, 3))}, ValueError, "z_dim can be read off a Dense only, and to_mu.1 is a Tanh"),
    ({"x_dim": D + 1}, ValueError, f"x_dim is {D + 1} by x_dim= and {D} by enc.0"),
    ({"z_dim": 7}, ValueError, "z_dim is 7 by z_dim= and 2 by to_mu"),
    ({"to_logvar": DENSE(3, 5)}, ValueError, "z_dim is 2 by to_mu and 5 by to_logvar"),
    ({"dec": Sequential(DENSE(4, 3))}, ValueError, "z_dim is 2 by to_mu and 4 by dec.0"),
    ({"to_out": DENSE(3, D - 1)}, ValueError, f"width is {D} by .* and {D - 1} by to_out"),
    ({"x_dim": 2.5, "enc": Sequential(Tanh())}, TypeError, "x_dim must be a whole number, got 2.5"),
    ({"enc": DENSE(D, 3)}, TypeError, r"enc must be a Sequential, got a Dense: Sequential\(layer, ..\)"),
    ({"enc": Sequential(DENSE(D, 3), NoBackward())}, TypeError, "enc.1 is no layer: NoBackward has no backward"),
    ({"enc": Sequential(DENSE(D, 3), "tanh")}, TypeError,
     "enc.1 is no layer: str has no forward"),
    ({"enc": Sequential(DENSE(D, 3), NoGrads())}, ValueError, r"enc.1, a NoGrads: grads\['W'\] must be an array"),
    ({"to_mu": DENSE(3, Z, np.float32)}, ValueError, "enc.0.W is float64, to_mu.W is float32"),
    ({"dtype": np.float32}, ValueError, "dtype=float32 was handed in, but the layers have float64"),
    ({"estimator": "elbo!"}, ValueError, "unknown estimator 'elbo!'"),
    ({"estimator": 3}, TypeError, "estimator must be"),
    ({"latent": "bernoulli"}, ValueError, "got bernoulli"),
    ({"beta": "1"}, TypeError, "beta must be a number, got '1'"),
    ({"beta": np.nan}, ValueError, "beta must be a number >= 0")])
def test_a_model_that_cannot_be_is_refused_when_it_is_built(changed, error, said):
    with pytest.raises(error, match=said) as caught:
        VAE(**GOOD | changed)
    assert "\n" not in str(caught.value)


def test_a_nan_in_a_layer_of_ones_own_is_named():
    vae = own_vae()
    vae.enc.layers[2].gain[0] = np.nan
    with pytest.raises(NonFiniteError, match="first in enc.2, whose parameter gain is no longer finite"):
        evaluate(vae, images())


# --- trained, saved, resumed --------------------------------------------------------------------------




def train(seed=0, make=own_vae, **settings):
    """fit draws from the generator that the model's Dropout draws from."""
    vae = make(seed)
    history = fit(vae, images(30), X_test=images(7, seed=2), epochs=4, batch_size=7, lr=0.01, rng=vae.rng, **settings)
    return vae, history


def test_a_model_of_them_learns():
    """D log 2 nats are what an image costs a model that knows nothing; eight images can be learned by heart."""
    vae = own_vae(dropout=Dropout(mask=MASK))
    history = fit(vae, images(8), epochs=600, lr=0.05, rng=0)
    assert history[-1]["loss"] < 0.75 * D * np.log(2) < D * np.log(2) < history[0]["loss"]


@pytest.mark.parametrize("after", [1, 3, 9, 17])
def test_a_model_of_them_is_resumed_bit_for_bit(after, tmp_path):
    whole, history = train()
    batches = iter(range(1, 100))
    train(checkpoint=tmp_path / "model.npz", stop=lambda: next(batches) == after)
    again, resumed = train(resume=tmp_path / "model.npz", checkpoint=tmp_path / "model.npz")
    for name, a in whole.state().items():
        np.testing.assert_array_equal(again.state()[name], a, name)
    assert [row["test_elbo"] for row in resumed] == [row["test_elbo"] for row in history]
    loaded = minivae.load(tmp_path / "model.npz", builder=own_vae)
    np.testing.assert_array_equal(loaded.sample(3, rng=0), again.sample(3, rng=0))


def test_a_model_of_them_is_saved_and_loaded(tmp_path, rng):
    vae, path = own_vae(seed=3, dropout=Dropout(mask=MASK)), tmp_path / "model.npz"
    minivae.save(vae, path)
    again = minivae.load(path, rng=5, builder=lambda: own_vae(seed=4, dropout=Dropout(mask=MASK)))
    eps = rng.standard_normal((B, Z))
    assert again.forward(images(), eps).loss == vae.forward(images(), eps).loss
    np.testing.assert_array_equal(again.rng.random(3), np.random.default_rng(5).random(3))


def test_a_model_of_mlp_may_have_a_builder_too(tmp_path):
    path, make = tmp_path / "model.npz", lambda: VAE.mlp(D, [3], Z, rng=1)
    minivae.save(VAE.mlp(D, [3], Z, rng=0), path)
    np.testing.assert_array_equal(minivae.load(path, builder=make).gradient(), 0 * make().gradient())
    with pytest.raises(ArchiveError, match=r"hidden is \[3\] in the file, \[4\] in the model|enc.0.W is"):
        minivae.load(path, builder=lambda: VAE.mlp(D, [4], Z, rng=1))


def without_dropout(seed=0):
    vae = own_vae(seed)
    enc = Sequential(*(layer for layer in vae.enc.layers if not isinstance(layer, Dropout)))
    return VAE(enc, vae.to_mu, vae.to_logvar, vae.dec, vae.to_out, likelihood=vae.likelihood, x_dim=D, z_dim=Z,
               rng=vae.rng)


def wider(seed=0):
    vae = own_vae(seed)
    rng = np.random.default_rng(0)
    dec = Sequential(vae.dec.layers[0], Dense(Z, 8, rng, F8), ReLU())
    return VAE(vae.enc, vae.to_mu, vae.to_logvar, dec, Sequential(Dense(8, D, rng, F8), Scaled(D)),
               likelihood=vae.likelihood, x_dim=D, z_dim=Z, rng=vae.rng)


OTHERS = {
    "a layer less": (without_dropout, "enc.3 is Dropout in the file, Residual in the model"),
    "a layer more": (lambda seed=0: own_vae(seed, dropout=Residual(6, np.random.default_rng(0))),
                     "enc.3 is Dropout in the file, Residual in the model"),
    "wider": (wider, r"dec.1.W is float64 of shape \(2, 6\) in the file, float64 of shape \(2, 8\) in the model"),
    "float32": (lambda seed=0: own_vae(seed, np.float32), "enc.0.W is float64 .* in the file, float32"),
    "another beta": (lambda seed=0: own_vae(seed, beta=2.0), "beta is 1.0 in the file, 2.0 in the model"),
    "another estimator": (lambda seed=0: own_vae(seed, estimator="stl"),
                          "estimator is elbo in the file, stl in the model"),
    "of mlp": (lambda seed=0: VAE.mlp(D, [3], Z, rng=seed), "enc.0 is StridedConv in the file, Dense in the model")}


@pytest.mark.parametrize("case", OTHERS)
def test_what_does_not_fit_is_named_in_one_line(case, tmp_path):
    make, said = OTHERS[case]
    path = tmp_path / "model.npz"
    batches = iter(range(1, 100))
    train(checkpoint=path, stop=lambda: next(batches) == 2)
    before = path.read_bytes()
    for error, call in ((ArchiveError, lambda: minivae.load(path, builder=make)),
                        (CheckpointError, lambda: train(make=make, resume=path, checkpoint=path))):
        with pytest.raises(error, match=said) as caught:
            call()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 250
    assert path.read_bytes() == before


def test_a_model_of_ones_own_layers_does_not_resume_a_training_of_mlp(tmp_path):
    train(make=lambda seed: VAE.mlp(D, [3], Z, rng=seed), checkpoint=tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match="enc.0 is missing in the file, StridedConv in the model"):
        train(resume=tmp_path / "model.npz")


def test_load_asks_for_a_builder_and_says_what_it_must_return(tmp_path):
    path = tmp_path / "model.npz"
    minivae.save(own_vae(), path)
    with pytest.raises(ArchiveError, match=r"put together by hand: load\(path, builder=..\)"):
        minivae.load(path)
    with pytest.raises(TypeError, match="builder's model must be a VAE or DiscreteVAE, got None"):
        minivae.load(path, builder=lambda: None)
    with pytest.raises(ZeroDivisionError):                 # the caller's own errors are the caller's
        minivae.load(path, builder=lambda: 1 / 0)


def test_restore_names_an_array_of_another_shape():
    vae = own_vae()
    state = vae.state() | {"enc.2.gain": np.ones(1)}
    with pytest.raises(ValueError, match=r"enc.2.gain has shape \(1,\), wanted \(6,\)"):
        vae.restore(state)
    np.testing.assert_array_equal(vae.enc.layers[2].gain, 1)


def test_the_manual_s_layer_of_one_s_own_trains_is_saved_and_checked(tmp_path, monkeypatch):
    """The code of docs/run.md, as it stands there."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "run.md").read_text()
    code = next(block.split("```")[0] for block in page.split("```python\n")[1:] if "class Scale" in block)
    names = {}
    exec(code, names)
    for (name, param, _), (_, other, _) in zip(names["vae"].named_params(), names["again"].named_params(), strict=True):
        np.testing.assert_array_equal(param, other, name)
    assert names["history"][-1]["loss"] < 44.4                          # chance is 64 log 2
    layer = names["Scale"]()
    layer.params, layer.grads = ({"s": a["s"].astype(float)} for a in (layer.params, layer.grads))
    check_layer(layer, np.random.default_rng(1).standard_normal((3, 4))).raise_if_wrong()
