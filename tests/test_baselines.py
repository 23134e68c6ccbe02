"""Baselines with a memory: past steps only, exact state, and the gradient of NVIL's network."""

import numpy as np
import pytest

import minivae
from minivae import DiscreteVAE, VAE, baselines, check_model, estimators, fit
from minivae.baselines import NVIL, RunningMean
from minivae.gradcheck.cases import perturbed
from minivae.gradcheck.exact_means import all_coins, phi_mask
from minivae.optim import Adam
from minivae.saving.archive import ArchiveError
from minivae.saving.model_file import build, describe
from minivae.training.evaluation import NonFiniteError, evaluate

from numeric import assert_gradients

F8 = np.float64
K, B, D = 3, 5, 7
MEMORY = ["running-mean", "nvil"]


def make(name, **settings):
    return baselines.make(name, D, rng=0, dtype=F8, **settings)


def test_the_running_mean_is_the_exponential_average_of_the_steps_before(rng):
    baseline, x = RunningMean(0.9), np.zeros((B, D))
    fs = rng.standard_normal((4, K, B)) - 20
    for t, f in enumerate(fs):
        weights = 0.9 ** np.arange(t)[::-1]
        wanted = weights @ fs[:t].mean(axis=(1, 2)) / weights.sum() if t else 0.0
        np.testing.assert_allclose(baseline.value(x), wanted, rtol=1e-14)
        # numbers of some 20: a few units in the last place
        np.testing.assert_allclose(baseline(f, x), f - wanted, rtol=0, atol=1e-13)
        baseline.update()


def test_nvil_subtracts_c_of_x_and_c_and_divides_by_the_spread_only_where_it_is_above_one(rng):
    baseline, x, f = make("nvil"), rng.random((B, D)), rng.standard_normal((K, B))
    W, b, V, d = (baseline.net.params[name] for name in ("0.W", "0.b", "2.W", "2.b"))
    C = (np.tanh(x @ W + b) @ V + d)[:, 0]
    for c, v, divisor in ((0.0, 0.0, 1.0), (-3.0, 0.25, 1.0), (-3.0, 16.0, 4.0)):
        baseline.c, baseline.v = c, v
        np.testing.assert_allclose(baseline.value(x), C + c, rtol=1e-13)
        np.testing.assert_allclose(baseline(f, x), (f - C - c) / divisor, rtol=1e-12)


def test_nvils_averages_are_those_of_f_less_c_of_x(rng):
    baseline, x = make("nvil", decay=0.8, lr=1e-12), rng.random((B, D))    # C stays put to some 1e-11
    C, c, v = baseline.value(x), 0.0, 0.0
    for f in rng.standard_normal((3, K, B)) - 20:
        baseline(f, x)
        baseline.update()
        c, v = 0.8 * c + 0.2 * (f - C).mean(), 0.8 * v + 0.2 * (f - C).var()
        assert [baseline.c, baseline.v] == pytest.approx([c, v], rel=1e-9)


def test_every_gradient_of_nvils_network(rng):
    baseline, x, f = make("nvil", hidden=4), rng.random((B, D)), rng.standard_normal((K, B))
    baseline.c = 0.4
    perturbed(baseline.net, rng)
    residual = f - baseline.value(x)
    baseline.net.backward(baseline.backward(residual))
    pairs = [(name, p, baseline.net.grads[name].copy()) for name, p in baseline.net.params.items()]
    assert_gradients(lambda: ((f - baseline.value(x)) ** 2).mean() / 2, pairs)


def test_nvil_learns_what_the_image_says_of_f(rng):
    """f = 10 x_0 - 30 and a little noise: after training, C(x) + c has taken off all but the noise."""
    baseline = make("nvil", lr=1e-2)
    for _ in range(600):
        x = rng.random((20, D))
        baseline(10 * x[:, 0] - 30 + 0.1 * rng.standard_normal((2, 20)), x)
        baseline.update()
    x = rng.random((500, D))
    left = 10 * x[:, 0] - 30 - baseline.value(x)
    assert left.std() < 0.3 < (10 * x[:, 0]).std()         # of 2.9 at first; 0.1 is noise that nobody can learn


@pytest.mark.parametrize("name", MEMORY)
def test_a_baseline_answers_from_the_past_until_it_is_updated_and_only_once(name, rng):
    baseline, x, f = make(name), rng.random((B, D)), rng.standard_normal((K, B)) - 20
    first = baseline(f, x)
    np.testing.assert_array_equal(baseline(f, x), first)   # asking teaches nothing
    before = baseline.state()
    baseline.update()
    assert any((before[key] != value).any() for key, value in baseline.state().items())
    with pytest.raises(RuntimeError, match="update called without a forward"):
        baseline.update()


@pytest.mark.parametrize("name", MEMORY)
def test_a_baseline_that_is_saved_goes_on_bit_for_bit(name, rng):
    one, two = make(name), baselines.make(name, D, rng=99, dtype=F8)
    xs, fs = rng.random((6, B, D)), rng.standard_normal((6, K, B)) - 20
    for t in range(6):
        if t == 3:
            two.restore(one.state())
        one(fs[t], xs[t])
        one.update()
        if t >= 3:
            two(fs[t], xs[t])
            two.update()
    for key, value in one.state().items():
        np.testing.assert_array_equal(two.state()[key], value)
    assert all(isinstance(value, np.ndarray) for value in one.state().values())


def test_adams_state_goes_on_bit_for_bit(rng):
    grads, params = rng.standard_normal((6, 4)), [np.zeros(4), np.zeros(4)]
    live = [np.zeros(4), np.zeros(4)]
    one, two = (Adam([("p", p, g)]) for p, g in zip(params, live))
    for t, grad in enumerate(grads):
        if t == 3:
            two.restore(one.state())
            params[1][...] = params[0]
        live[0][...] = live[1][...] = grad
        one.step()
        if t >= 3:
            two.step()
    np.testing.assert_array_equal(*params)


# --- in a model -------------------------------------------------------------------------------------------


def mean_gradient(baseline, estimator, outcomes=None):
    """E over all outcomes of two coins, K = 1, of phi's gradient; the baseline is shown each outcome on its own."""
    vae = DiscreteVAE.mlp(3, [4], 2, estimator=estimator, baseline=baseline, activation="tanh", beta=1.7, rng=2,
                          dtype=F8)
    x, total = np.array([[1.0, 0.0, 1.0]]), 0.0
    u, probabilities = all_coins(vae.q_mean_and_kl(x)[0][0])
    for n, probability in enumerate(probabilities):
        vae.forward(x, u[:, n])
        vae.backward()
        total = total + probability * vae.gradient()[phi_mask(vae)]
    return total


def taught(name):
    baseline, rng = baselines.make(name, 3, rng=0, dtype=F8), np.random.default_rng(4)
    for _ in range(5):
        baseline(rng.standard_normal((1, B)), rng.random((B, 3)))
        baseline.update()
    return baseline


@pytest.mark.parametrize("estimator", [estimators.score, estimators.score_analytic_kl], ids=lambda e: e.__name__)
def test_no_baseline_of_past_steps_moves_the_mean(estimator):
    right = mean_gradient(baselines.Baseline(), estimator)
    # sums of four terms of order 1
    np.testing.assert_allclose(mean_gradient(taught("running-mean"), estimator), right, rtol=0, atol=1e-14)
    if estimator is estimators.score:
        nvil = taught("nvil")
        nvil.v = 0.5
        np.testing.assert_allclose(mean_gradient(nvil, estimator), right, rtol=0, atol=1e-14)
        nvil.v = 9.0                                       # a scale, and no other direction
        np.testing.assert_allclose(mean_gradient(nvil, estimator), right / 3, rtol=0, atol=1e-14)


def test_a_running_mean_that_includes_the_present_cost_scales_the_gradient_by_its_decay():
    """The mistake: update before use.

    At step t it scales by (d - d^t) / (1 - d^t): by d once d^t is nothing, and by 0 at first.
    """

    class Hasty(RunningMean):
        def __call__(self, f, x):
            before, self.last_f = (self.mean, self.steps), f
            self.update()
            signal = f - self.value(x)
            self.mean, self.steps = before                 # every outcome meets the same past
            return signal

    right = mean_gradient(baselines.Baseline(), estimators.score)
    for steps, factor in ((10_000, 0.9), (4, (0.9 - 0.9**5) / (1 - 0.9**5)), (0, 0.0)):
        hasty = Hasty(0.9)
        hasty.mean, hasty.steps = -0.3, steps
        np.testing.assert_allclose(mean_gradient(hasty, estimators.score), factor * right, rtol=1e-11, atol=1e-14)
    assert np.abs(0.1 * right).max() > 1e-4


X = (np.random.default_rng(0).random((40, D)) < 0.5).astype(float)


def trained(baseline, epochs=2, cls=DiscreteVAE, **settings):
    vae = cls.mlp(D, [6], 2, estimator=estimators.score, baseline=baseline, rng=1, **settings)
    return vae, fit(vae, X, X_test=X[:9], epochs=epochs, batch_size=16, samples=2, lr=1e-2, rng=0)


@pytest.mark.parametrize("cls", [VAE, DiscreteVAE])
@pytest.mark.parametrize("name", MEMORY)
def test_training_updates_once_a_step_and_evaluation_never(name, cls, monkeypatch):
    calls = []
    for kind in (RunningMean, NVIL):
        monkeypatch.setattr(kind, "update", lambda self, own=kind.update: (calls.append(1), own(self)))
    vae, _ = trained(name, epochs=2, cls=cls)
    assert len(calls) == 2 * 3                             # 40 images in batches of 16
    before = vae.baseline.state()
    evaluate(vae, X)
    check_model(vae, X[:3], vae.noise(2, 3, np.random.default_rng(0)))
    assert len(calls) == 6
    for key, value in vae.baseline.state().items():
        np.testing.assert_array_equal(value, before[key])


def test_looking_between_forward_and_backward_leaves_the_baseline_what_it_was_shown():
    one, two = (trained("nvil")[0] for _ in range(2))
    u = np.random.default_rng(0).random((2, 40, 2))
    for vae in (one, two):
        vae.forward(X, u)
        if vae is two:
            with vae.undisturbed():
                vae.forward(1 - X, 1 - u)
            evaluate(vae, X)
            vae.sample(3), vae.reconstruct(X)
        vae.backward()
        vae.baseline.update()
    for key, value in one.baseline.state().items():
        np.testing.assert_array_equal(two.baseline.state()[key], value)


@pytest.mark.parametrize("cls", [VAE, DiscreteVAE])
@pytest.mark.parametrize("name", ["none", "others", *MEMORY])
def test_a_model_is_saved_with_its_baseline_and_loads_bit_for_bit(name, cls, tmp_path):
    vae, _ = trained(name, cls=cls)
    minivae.save(vae, tmp_path / "m.npz")
    again = minivae.load(tmp_path / "m.npz")
    assert type(again) is cls and type(again.baseline) is type(vae.baseline)
    for key, value in vae.state().items():
        np.testing.assert_array_equal(again.state()[key], value)
        assert again.state()[key].dtype == value.dtype
    noise = vae.noise(2, 9, np.random.default_rng(0))
    for model in (vae, again):
        model.forward(X[:9], noise)
        model.backward()
    for (_, _, g), (_, _, h) in zip(vae.named_params(), again.named_params()):
        np.testing.assert_array_equal(g, h)


@pytest.mark.parametrize("cls", [VAE, DiscreteVAE])
def test_mlp_and_build_with_the_same_rng_give_the_same_weights(cls):
    vae = cls.mlp(D, [6], 2, estimator=estimators.score, baseline="nvil", rng=0)
    for rng in (0, np.random.default_rng(0)):
        again = build(describe(vae), rng)
        assert again.state().keys() == vae.state().keys()
        for key, value in vae.state().items():
            np.testing.assert_array_equal(again.state()[key], value)


@pytest.mark.parametrize("decay", [0.8, np.float64(0.8)], ids=["float", "np.float64"])
def test_a_baseline_keeps_the_precision_of_its_model(decay):
    f, x = np.full((2, 3), -7.0, np.float32), np.zeros((3, D), np.float32)
    for baseline in (RunningMean(decay), NVIL(D, decay=decay)):
        for _ in range(2):
            assert baseline(f, x).dtype == np.float32
            baseline.update()
        assert type(baseline.settings["decay"]) is float


def test_settings_of_a_baseline_are_saved_too(tmp_path):
    vae = DiscreteVAE.mlp(D, [6], 2, estimator=estimators.score, baseline=NVIL(D, hidden=5, decay=0.7, lr=0.1), rng=1)
    minivae.save(vae, tmp_path / "m.npz")
    assert minivae.load(tmp_path / "m.npz").baseline.settings == {"hidden": 5, "decay": 0.7, "lr": 0.1}
    with pytest.raises(ValueError, match="a baseline is one of none, others, running-mean, nvil, or an object of"):
        DiscreteVAE.mlp(D, [6], 2, estimator=estimators.score, baseline=lambda f, x: f, rng=1)


def test_a_file_with_an_unknown_baseline_or_none_is_refused(tmp_path):
    from minivae.saving import archive

    vae = VAE.mlp(D, [6], 2, rng=1)
    minivae.save(vae, tmp_path / "m.npz")
    arrays, meta = archive.read(tmp_path / "m.npz")
    meta["config"]["baseline"] = {"name": "median"}
    archive.write(tmp_path / "new.npz", arrays, meta)
    with pytest.raises(ArchiveError, match="unknown baseline 'median'"):
        minivae.load(tmp_path / "new.npz")
    del meta["config"]["baseline"]
    archive.write(tmp_path / "new.npz", arrays, meta)
    with pytest.raises(ArchiveError, match="describes no model that this version knows: 'baseline'"):
        minivae.load(tmp_path / "new.npz")


def test_training_that_turns_non_finite_takes_the_baseline_back_as_well():
    vae, _ = trained("nvil")
    good = vae.state()
    steps = iter(range(100))
    own = vae.baseline.update

    def spoil():
        own()
        if next(steps) == 1:
            vae.to_a.params["W"][...] = np.nan

    vae.baseline.update = spoil
    with pytest.raises(NonFiniteError):
        fit(vae, X, epochs=1, batch_size=16, samples=2, rng=0)
    for key, value in vae.state().items():
        np.testing.assert_array_equal(value, good[key])


@pytest.mark.parametrize("settings, message", [
    ({"baseline": "median"}, "unknown baseline 'median'; choose from none, others, running-mean, nvil"),
    ({"baseline": "nvil", "estimator": estimators.elbo},
     "the estimator elbo takes no baseline of yours; score and score_analytic_kl do"),
    ({"baseline": "nvil", "estimator": estimators.score_analytic_kl}, "take the estimator score"),
    ({"baseline": "none", "estimator": estimators.vimco}, "the estimator vimco takes no baseline")],
    ids=lambda v: str(v)[:20])
def test_a_baseline_that_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DiscreteVAE.mlp(D, [6], 2, rng=0, **settings)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    for make_one in (lambda: RunningMean(decay), lambda: NVIL(D, decay=decay)):
        with pytest.raises(ValueError, match="decay must be a number from 0 to below 1"):
            make_one()
