"""fit and evaluate."""

import numpy as np
import pytest

from minivae import VAE, fit, load_data
from minivae.locks import Locked
from minivae.training.evaluation import NonFiniteError, evaluate

from conftest import JIT

D = 9


@pytest.fixture
def X(rng):
    """Two kinds of picture, with noise: something to learn."""
    kinds = rng.random((2, D)) < 0.5
    return (kinds[rng.integers(0, 2, 200)] ^ (rng.random((200, D)) < 0.05)).astype(np.float32)


# without the JIT, NumPy warns of what machine code passes over in silence
blows_up = pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")


def small(**settings):
    return VAE.mlp(D, [16], 2, rng=0, **settings)


def test_fit_learns_and_reports_each_epoch(X):
    rows = []
    history = fit(small(), X, X_test=X[:50], epochs=8, batch_size=20, lr=0.01, rng=0, callback=rows.append)
    assert history == rows and [row["epoch"] for row in rows] == list(range(1, 9))
    assert set(rows[0]) == {"epoch", "loss", "recon", "kl", "test_elbo", "beta", "lr", "seconds"}
    assert rows[0]["loss"] > rows[-1]["loss"] and rows[0]["test_elbo"] < rows[-1]["test_elbo"]
    for row in rows:
        assert row["loss"] == pytest.approx(row["recon"] + row["kl"], rel=1e-5)        # float32 sums
    assert rows[-1]["loss"] < D * np.log(2)


def test_a_last_batch_of_another_size_counts_by_its_images(X):
    def recon_in_batches_of(size):
        vae = small(dtype=np.float64)
        vae.to_logvar.params["W"][...], vae.to_logvar.params["b"][...] = 0, -60    # std 1e-13: z = mu, whatever eps is
        return fit(vae, X[:30], epochs=1, batch_size=size, lr=1e-12, binarize="none", rng=0)[0]["recon"]

    # five steps of 1e-12 lie between them
    assert recon_in_batches_of(7) == pytest.approx(recon_in_batches_of(64), rel=1e-9)


def test_uint8_and_the_same_floats_train_alike(rng):
    bytes_ = rng.integers(0, 256, (40, D)).astype(np.uint8)
    a = fit(small(dtype=np.float64), bytes_, epochs=2, rng=0, binarize="none")
    b = fit(small(dtype=np.float64), bytes_ / 255, epochs=2, rng=0, binarize="none")
    assert a[-1]["loss"] == pytest.approx(b[-1]["loss"], rel=1e-9)


def test_several_samples_and_a_gaussian_likelihood(X):
    history = fit(small(likelihood="gaussian"), X, epochs=3, samples=3, rng=0)
    assert history[-1]["loss"] < history[0]["loss"] and np.isnan(history[0]["test_elbo"])


def test_evaluation_is_repeatable_and_ignores_beta(X):
    a, b = evaluate(small(), X), evaluate(small(beta=4.0), X)
    assert a == b == evaluate(small(), X)
    assert a["elbo"] == pytest.approx(-(a["recon"] + a["kl"]), rel=1e-6)


def test_evaluating_between_forward_and_backward_changes_nothing(X):
    vae, busy = small(), small()
    eps = np.ones((5, 2))
    vae.forward(X[:5], eps), busy.forward(X[:5], eps)
    evaluate(busy, X)
    vae.backward(), busy.backward()
    for (_, _, g), (_, _, h) in zip(vae.named_params(), busy.named_params()):
        np.testing.assert_array_equal(g, h)


@blows_up
def test_a_poisoned_parameter_is_named(X):
    vae = small()
    vae.dec.layers[0].params["W"][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="epoch 1, batch 1: first in dec.0, whose parameter W is no longer finite"):
        fit(vae, X, epochs=1, rng=0)


@blows_up
def test_an_overflow_is_named_by_the_layer_where_it_came_up(X):
    vae = small()
    vae.to_logvar.params["b"][...] = 1e4                  # std = e^5000
    with pytest.raises(NonFiniteError, match="first in the output of latent"):
        fit(vae, X, epochs=1, rng=0)


@blows_up
def test_the_last_good_model_is_kept_when_training_blows_up(X):
    kept = {}
    vae = small()

    def sabotage(row):
        kept.update({name: p.copy() for name, p, _ in vae.named_params()})
        if row["epoch"] == 2:
            vae.to_mu.params["W"][...] = np.inf           # as a step far too long would leave it

    with pytest.raises(NonFiniteError, match="back at the end of epoch 2"):
        fit(vae, X, epochs=5, rng=0, callback=sabotage)
    for name, p, _ in vae.named_params():
        np.testing.assert_array_equal(p, kept[name])


@blows_up
def test_far_too_long_steps_end_in_one_clear_error(X):
    with pytest.raises(NonFiniteError, match="Try a smaller lr than 1e"):
        fit(small(), X, epochs=50, lr=1e12, rng=0)


@blows_up
def test_a_nan_of_the_very_last_step_is_seen(X):
    vae = small()
    before = [p.copy() for _, p, _ in vae.named_params()]
    message = "epoch 1, last batch: first in the parameter .* back at its initial parameters"
    with pytest.raises(NonFiniteError, match=message):
        fit(vae, X, epochs=1, batch_size=len(X), lr=1e38, rng=0)
    for (_, p, _), q in zip(vae.named_params(), before):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_test_images_may_be_stored_otherwise_than_the_training_images(rng, likelihood):
    """uint8 or float, the same images give the same test ELBO."""
    X = (rng.random((40, D)) * 255).round().astype(np.uint8)

    def test_elbo(X, X_test):
        vae = small(likelihood=likelihood, dtype=np.float64)
        return fit(vae, X, X_test=X_test, epochs=1, rng=0, binarize="none")[0]["test_elbo"]

    elbos = [test_elbo(a, b) for a in (X, X / 255) for b in (X, X / 255)]
    assert elbos == pytest.approx([elbos[0]] * 4, rel=1e-9)


def test_binary_training_images_refuse_grey_bytes_to_test_on(rng):
    with pytest.raises(ValueError, match="go from 0 to 1, the test images up to 255"):
        fit(small(), np.eye(D, dtype=np.uint8), X_test=np.full((2, D), 255, np.uint8))


def test_what_is_no_intensity_cannot_be_binarised(rng):
    with pytest.raises(ValueError, match=r"X: x must lie in \[0, 1\]"):
        fit(small(likelihood="gaussian"), rng.standard_normal((20, D)), binarize="dynamic")


def test_pixels_that_the_likelihood_does_not_take_are_refused_before_the_first_step():
    """And so under the name that the caller knows; the model would call them x."""
    with pytest.raises(ValueError, match=r"^X: x must lie in \[0, 1\]"):
        fit(small(), np.full((4, D), 2.0), binarize="none")


@pytest.mark.parametrize("settings, message", [
    ({"epochs": 0}, "epochs must be at least 1"), ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"samples": 0}, "samples must be"),
    ({"lr": -1.0}, "lr must be a number > 0"), ({"lr": np.nan}, "lr must be"),
    ({"binarize": "otsu"}, "unknown binarize 'otsu'")])
def test_settings_out_of_range_are_refused(X, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(small(), X, **settings)


@pytest.mark.parametrize("bad, message", [
    (np.full((4, D), 255.0), "divide by 255"), (np.zeros((4, D + 1)), "must have 9 pixels per row"),
    (np.zeros((0, D)), "is empty"),
    (np.full((4, D), np.nan), "must be finite"), (np.zeros((4, D), object), "got dtype object")])
def test_data_that_cannot_be_trained_on_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        fit(small(), bad)


@pytest.mark.mnist
def test_mnist_trains_from_bytes(mnist_dir):
    """A short run on 2,000 real images comes under 250 nats; chance is 543."""
    data = load_data("mnist", mnist_dir)
    n, batch_size = (2000, 50) if JIT else (200, 20)
    vae = VAE.mlp(784, [100], 10, rng=0)
    history = fit(vae, data.x_train[:n], X_test=data.x_test[: n // 4], epochs=3, batch_size=batch_size, lr=2e-3, rng=0)
    assert -history[-1]["test_elbo"] < (250 if JIT else 400)


@pytest.mark.parametrize("wrong, error, said", [
    ({"epochs": 1.5}, TypeError, "epochs must be a whole number, got 1.5"),
    ({"epochs": np.inf}, TypeError, "epochs must be a whole number, got inf"),
    ({"epochs": np.nan}, TypeError, "epochs must be a whole number, got nan"),
    ({"epochs": "3"}, TypeError, "epochs must be a whole number, got '3'"),
    ({"epochs": True}, TypeError, "epochs must be a whole number, got True"),
    ({"epochs": None}, TypeError, "epochs must be a whole number, got None"),
    ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number, got 2.5"),
    ({"batch_size": np.inf}, TypeError, "batch_size must be a whole number, got inf"),
    ({"samples": 1.0}, TypeError, "samples must be a whole number, got 1.0"),
    ({"patience": 1.5}, TypeError, "patience must be a whole number, got 1.5"),
    ({"lr": "1e-3"}, TypeError, "lr must be a number, got '1e-3'"), ({"lr": None}, TypeError, "lr must be a number"),
    ({"lr": 1j}, TypeError, "lr must be a number, got 1j"), ({"lr": np.inf}, ValueError, "lr must be a number > 0"),
    ({"warmup": "1"}, TypeError, "warmup must be a number, got '1'"),
    ({"warmup": np.nan}, ValueError, "warmup must be"),
    ({"decay": "1"}, TypeError, "decay must be a number, got '1'"), ({"decay": np.nan}, ValueError, "decay must be"),
    ({"binarize": 3}, ValueError, "unknown binarize 3; choose from"), ({"rng": "a"}, TypeError, "rng must be None"),
    ({"rng": -1}, ValueError, "rng must be None"), ({"adam": 3}, TypeError, "adam must be an Adam, got 3"),
    ({"callback": 3}, TypeError, "callback must be a function, got 3"), ({"stop": 3}, TypeError, "stop must be"),
    ({"checkpoint": 3}, TypeError, "checkpoint must be a path, got 3"),
    ({"resume": 3}, TypeError, "resume must be a path"),
    ({"note": {"a": 1j}}, TypeError, "note must be ready for JSON"),
    ({"note": [1]}, TypeError, r"note must be a dict ready for JSON, got \[1\]")], ids=lambda value: str(value)[:40])
def test_fit_names_the_argument_that_is_wrong(wrong, error, said, rng, tmp_path):
    """In one line, before any step: the model and the generator are as they were."""
    vae = VAE.mlp(D, [3], 2, rng=0)
    before, generator = vae.state(), np.random.default_rng(1)
    with pytest.raises(error, match=said) as caught:
        fit(vae, rng.random((9, D)), **{"epochs": 1, "rng": generator, "checkpoint": tmp_path / "m.npz"} | wrong)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(a, before[name]) for name, a in vae.state().items())
    assert generator.random() == np.random.default_rng(1).random() and not list(tmp_path.iterdir())


def test_fit_wants_a_model(rng):
    with pytest.raises(TypeError, match="vae must be a VAE or DiscreteVAE, got 3"):
        fit(3, rng.random((9, D)))


def test_of_two_trainings_into_one_checkpoint_the_second_is_refused(X, tmp_path):
    path, link = tmp_path / "c.npz", tmp_path / "link.npz"
    link.symlink_to(path)

    def meanwhile(row):
        fit(small(), X, epochs=1, checkpoint=tmp_path / f"other{row['epoch']}.npz")
        for name in (path, link):
            before = path.read_bytes()
            with pytest.raises(Locked, match=rf"{name.name} is being written by process \d+: wait until it is done"):
                fit(small(), X, epochs=1, checkpoint=name)
            assert path.read_bytes() == before

    fit(small(), X, epochs=2, rng=0, checkpoint=path, callback=meanwhile)
    fit(small(), X, epochs=3, rng=0, checkpoint=link, resume=path)         # now it is free
    assert {p.name for p in tmp_path.iterdir()} == {"c.npz", "c.prev.npz", "link.npz", "other1.npz", "other2.npz"}


def test_a_training_that_fails_leaves_its_checkpoint_free(X, tmp_path):
    def fail(row):
        raise KeyError("the caller's own")

    with pytest.raises(KeyError) as kept:                  # whoever keeps the error keeps no lock
        fit(small(), X, epochs=2, rng=0, checkpoint=tmp_path / "c.npz", callback=fail)
    fit(small(), X, epochs=2, rng=0, checkpoint=tmp_path / "c.npz", resume=tmp_path / "c.npz")
    assert kept.value.args == ("the caller's own",) and not list(tmp_path.glob("*.lock"))
