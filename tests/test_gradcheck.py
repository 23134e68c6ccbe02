"""The checker itself: it finds what is wrong, names it, and accuses nobody else."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from minivae import VAE, check_function, check_layer, check_model, estimators
from minivae.app.cli import main
from minivae.gradcheck import (FAIL, INCONCLUSIVE, KINK, PASS, GradientError, Node, Report, Row, check_precision,
                               romberg)
from minivae.gradcheck.differences import Line, survey
from minivae.gradcheck.report import in_bars
from minivae.gradcheck.suite import CHECKS
from minivae.gradcheck.yours import user_check
from minivae.layers import Dense, Layer, ReLU, Sequential, Tanh

from conftest import JIT

pytestmark = pytest.mark.gradients

F8 = np.float64
SEEDS = 20 if JIT else 1


def row(report, name):
    return next(r for r in report.rows if r.name == name)


# --- no false alarm -----------------------------------------------------------------------------


@cache
def first_report(name):
    """What a check finds with seed 0, for all tests that read it."""
    return CHECKS[name](0)


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "VAE.784-400-20"])
def test_correct_code_raises_no_alarm(name):
    first_report(name).raise_if_wrong()
    for seed in range(1, SEEDS):
        CHECKS[name](seed).raise_if_wrong()


def test_a_big_relu_model_raises_no_alarm(rng):
    vae = VAE.mlp(784, [400], 20, rng=rng) if JIT else VAE.mlp(64, [20], 5, rng=rng)
    report = check_model(vae, rng.random((8, vae.x_dim)) < 0.2, rng.standard_normal((8, vae.z_dim)), rng=rng)
    report.raise_if_wrong()
    assert all(r.verdict == PASS for r in report.rows), str(report)


# --- the reference --------------------------------------------------------------------------------


@pytest.mark.parametrize("f, slope", [(np.exp, 1.0), (lambda h: np.sin(3 * h), 3.0),
                                      (lambda h: 1 / (1 + np.exp(-h)), 0.25), (lambda h: 5 * h, 5.0)])
def test_romberg_is_good_to_a_few_roundings_and_its_bar_is_honest(f, slope):
    value, bar = romberg(f, 2.0**-4, 1e-16)
    assert abs(value - slope) <= bar < 1e-11


def test_the_bar_counts_rounding():
    """A function with noise of 1e-9 in it: the bar grows, and still holds."""
    rng = np.random.default_rng(0)
    value, bar = romberg(lambda h: np.exp(h) + 1e-9 * rng.uniform(-1, 1), 2.0**-4, 1e-9)
    assert abs(value - 1) <= bar and bar > 1e-8


class Noisy(Layer):
    """Computed with an error of 1e-3, on a length of 1: nothing can be said of its fourth digit."""

    def forward(self, x):
        self.x, self.rng = x, getattr(self, "rng", np.random.default_rng(0))
        return np.sin(x) + 1e-3 * self.rng.standard_normal(x.shape)

    def backward(self, dy):
        return 1.0001 * np.cos(self.x) * dy


def test_a_noisy_reference_never_blames_the_gradient(rng):
    assert row(check_layer(Noisy(), rng.standard_normal((3, 2))), "x").verdict == INCONCLUSIVE


def test_noise_hides_nothing_where_a_longer_step_is_right(rng):
    """x + noise of 1e-3: over a long step its slope is seen to more than four digits."""

    class Straight(Noisy):
        def forward(self, x):
            return super().forward(x) - np.sin(x) + x

        def backward(self, dy):
            return self.factor * dy

    layer, x = Straight(), rng.standard_normal((3, 2))
    for layer.factor, verdict in ((1.0, PASS), (1.0001, FAIL)):
        assert row(check_layer(layer, x), "x").verdict == verdict


# what a fixed step, or a rounding error taken for granted, gets wrong: the function, its derivative, x
HARD = {
    "a large argument": (lambda x: np.sin(1e6 * x), lambda x: 1e6 * np.cos(1e6 * x), 0.3),
    "periods that fit the steps": (lambda x: np.sin(2 * np.pi * 2**14 * x),
                                   lambda x: 2 * np.pi * 2**14 * np.cos(2 * np.pi * 2**14 * x), 0.3),
    "a steep one": (lambda x: np.exp(50 * x), lambda x: 50 * np.exp(50 * x), 2.0),
    "a pole nearby": (lambda x: 1 / (x - 1e-3), lambda x: -1 / (x - 1e-3) ** 2, 0.0),
    "a domain that ends nearby": (np.log, lambda x: 1 / x, 1e-8),
    "a far and flat one": (np.log, lambda x: 1 / x, 1e8),
    "a root near 0": (np.sqrt, lambda x: 0.5 / np.sqrt(x), 1e-6),
    "a narrow bump": (lambda x: x + np.exp(-((1e5 * (x - 0.3)) ** 2)),
                      lambda x: 1 - 2e10 * (x - 0.3) * np.exp(-((1e5 * (x - 0.3)) ** 2)), 0.3 + 7e-6),
    "a narrow bump on a steep slope": (lambda x: 1e3 * x + 1e-2 * np.exp(-((1e6 * (x - 0.3)) ** 2)),
                                       lambda x: 1e3 - 2e10 * (x - 0.3) * np.exp(-((1e6 * (x - 0.3)) ** 2)),
                                       0.3 + 7e-7),
    "cancellation": (lambda x: (1e4 + np.sin(x)) - 1e4, np.cos, 0.4),
    "tiny values": (lambda x: 1e-12 * np.sin(x), lambda x: 1e-12 * np.cos(x), 0.4),
    "flat near 0": (lambda x: np.exp(-1 / x**2), lambda x: 2 / x**3 * np.exp(-1 / x**2), 0.1),
    "a high power near 0": (lambda x: x**9, lambda x: 9 * x**8, 0.01),
}


@pytest.mark.parametrize("name", HARD)
def test_the_bar_holds_on_hard_functions(name):
    f, slope, x = HARD[name]
    right = check_function(lambda x: float(f(x)), slope, x)
    (_, numeric, bar), = right.gradients.values()
    assert row(right, "x").verdict == PASS, str(right)
    # the slope itself is rounded in its argument: 1e6 * 0.3 by half an ulp, and times 1e6
    assert abs(numeric - slope(x)) <= bar <= 1e-6 * abs(slope(x))
    assert row(check_function(lambda x: float(f(x)), lambda x: slope(x) * (1 + 1e-4), x), "x").verdict == FAIL


def test_rounding_that_nobody_told_of_is_measured():
    """(1e8 + f) - 1e8 is a staircase of 1.5e-8: over short steps it stands still."""
    x = np.array([0.4])
    noise, step = survey(lambda: float((1e8 + np.sin(x[0])) - 1e8), x, np.ones(1), 1.0)
    assert 3e-9 < noise < 1e-7 and 0.1 < step < 10


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
def test_the_first_step_fits_the_functions_scale(scale):
    """A bar of 1e-6 of the slope is a tenth of what is INCONCLUSIVE."""
    x = np.array([0.4 * scale])
    noise, step = survey(lambda: float(np.sin(x[0] / scale)), x, np.ones(1), 1.0)
    value, bar = Line(lambda: float(np.sin(x[0] / scale)), x, np.ones(1), dict, noise).derivative(step)
    assert abs(scale * value - np.cos(0.4)) <= scale * bar < 1e-6


def test_a_fast_function_has_no_kink_and_a_steep_one_with_a_kink_has():
    x = np.array([0.0])
    fast = Line(lambda: float(np.sin(1e6 * x[0]) + np.cos(1e6 * x[0])), x, np.ones(1), dict, 1e-16)
    corner = Line(lambda: float(1e6 * abs(x[0]) + np.sin(1e6 * x[0])), x, np.ones(1), dict, 1e-16)
    assert not fast.has_kink() and corner.has_kink()


def test_another_step_refutes_an_accident():
    """At the first step all of f's periods fit: it seems to be 0 there, to all digits."""
    x = np.array([0.3])
    line = Line(lambda: float(np.sin(2 * np.pi * 2**14 * (x[0] - 0.3))), x, np.ones(1), dict, 1e-15)
    value, bar = line.derivative(2.0**-10)
    assert abs(value) < 1e-3                               # nothing short of a survey can know
    assert abs(line.derivative(2.0**-16)[0] / (2 * np.pi * 2**14) - 1) < 1e-9


# --- kinks ----------------------------------------------------------------------------------------


def test_a_relu_at_its_kink_is_a_kink_and_the_unit_is_named(rng):
    x = rng.standard_normal((3, 4))
    x[1, 2] = 0.0
    found = row(check_layer(ReLU(), x), "x")
    assert found.verdict == KINK and found.index == (1, 2)
    assert "unit (1, 2) of ReLU stands at its kink: its input is 0.0e+00" in found.note


def test_a_kink_inside_a_network_is_named_by_its_layer(rng):
    layer = Sequential(Dense(3, 2, rng, F8), ReLU(), Dense(2, 2, rng, F8))
    layer.params["0.W"][:, 0] = 0.0
    layer.params["0.b"][0] = 0.0
    found = row(check_layer(layer, rng.standard_normal((4, 3))), "0.b")
    assert found.verdict == KINK and "of 1 stands at its kink" in found.note


class Leaky(Layer):
    """A kink that the layer tells nobody of."""

    def forward(self, x):
        self._cache["forward"] = (x,)
        return np.where(x > 0, x, 0.1 * x)

    def backward(self, dy):
        (x,) = self._take()
        return np.where(x > 0, dy, 0.1 * dy)


def test_an_undeclared_kink_is_seen_by_the_second_difference(rng):
    x = rng.standard_normal((3, 4))
    check_layer(Leaky(), x).raise_if_wrong()
    x[0, 3] = 0.0
    found = row(check_layer(Leaky(), x), "x")
    assert found.verdict == KINK and found.index == (0, 3) and "slope jumps" in found.note


def test_a_step_too_long_for_relu_is_shortened_not_blamed(rng):
    """Inputs 1e-4 from the kink: a first step of 2^-4 would cross it."""
    x = 1e-4 * np.sign(rng.standard_normal((3, 4)))
    found = row(check_layer(ReLU(), x), "x")
    assert found.verdict == PASS and found.bar < 1e-8


@pytest.mark.parametrize("shape", [(3, 4), (40, 30)], ids=["by entry", "by direction"])
def test_a_kink_hides_no_fault_behind_it(shape, rng):
    """One unit at its kink: the rest of the array is checked all the same, a little way off."""

    class Doubled(ReLU):
        def backward(self, dy):
            return 2 * super().backward(dy)

    x = rng.standard_normal(shape)
    x[0, 0] = 0.0
    right, wrong = row(check_layer(ReLU(), x), "x"), row(check_layer(Doubled(), x), "x")
    assert right.verdict == KINK and "0.01 away: PASS" in right.note
    assert wrong.verdict == FAIL


def test_a_black_image_and_zero_biases_hide_no_fault(rng, monkeypatch):
    x = np.zeros((8, 30))
    x[1:] = rng.random((7, 30))
    vae = VAE.mlp(30, [320], 3, rng=rng, dtype=F8)
    assert check_model(vae, x, rng.standard_normal((8, 3))).ok
    right = VAE.backward
    monkeypatch.setattr(VAE, "backward", lambda self: (right(self), self.enc.layers[0].grads["b"].__imul__(5))[0])
    assert row(check_model(vae, x, rng.standard_normal((8, 3))), "enc.0.b").verdict == FAIL


# --- odd but correct layers -----------------------------------------------------------------------


class Cube(Layer):
    def forward(self, x):
        self._cache["forward"] = (x,)
        return x**3

    def backward(self, dy):
        (x,) = self._take()
        return 3 * x**2 * dy


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e3])
def test_inputs_of_any_size_are_no_reason_for_an_alarm(scale, rng):
    """f is 1e9 times larger a step of 1/16 away, and rounds accordingly."""
    report = check_layer(Cube(), scale * rng.standard_normal((4, 3)))
    assert row(report, "x").verdict != FAIL, str(report)


def test_zero_compared_with_zero_everywhere_is_no_pass(rng):
    layer = Node(lambda x: np.sign(x), lambda dy: 0 * dy)
    found = row(check_layer(layer, 1 + rng.random((4, 3))), "x")
    assert found.verdict == INCONCLUSIVE and "nothing depends on this array here, so nothing was compared" in found.note


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_where_zero_meets_zero_nothing_is_divided_by_zero(rng):
    report = check_layer(Node(lambda x: 0 * x, lambda dy: 0 * dy), rng.standard_normal((4, 3)))
    assert not report.ok and report.worst.verdict == INCONCLUSIVE


def test_gradients_of_none_keep_their_place(rng):
    layer = Node(lambda a, b: np.sin(b), lambda dy: (None, dy * np.cos(b)))
    a, b = rng.standard_normal((2, 4, 3))
    report = check_layer(layer, a, b, mixes_rows=True)
    assert row(report, "x1").verdict == PASS and "x0" not in [r.name for r in report.rows]
    with pytest.raises(ValueError, match="nothing to check"):
        check_layer(Node(lambda a: 2 * a, lambda dy: None), a)


def test_a_gradient_that_comes_out_in_float32_is_seen(rng):
    x = rng.standard_normal((4, 3))
    report = check_layer(Node(np.sin, lambda dy: (dy * np.cos(x)).astype(np.float32)), x, mixes_rows=True)
    assert row(report, "x").verdict == FAIL and "x is float32" in row(report, "keeps float64").note


def test_a_layer_defined_only_for_positive_inputs(rng):
    x = 0.05 + 0.1 * rng.random((4, 3))
    assert row(check_layer(Node(np.log, lambda dy: dy / x), x, mixes_rows=True), "x").verdict == PASS


def test_a_layer_that_promised_nothing_may_answer_twice(rng):
    class Plain:
        params, grads = {}, {}

        def forward(self, x):
            self.x = x
            return x**2

        def backward(self, dy):
            return 2 * self.x * dy

    check_layer(Plain(), rng.standard_normal((4, 3))).raise_if_wrong()


class Popped:
    """A cache that is gone after use: a second backward raises KeyError."""

    params, grads = {}, {}

    def __init__(self, factor):
        self.factor, self.cache = factor, {}

    def forward(self, x):
        self.cache["x"] = x
        return x**2

    def backward(self, dy):
        return self.factor * self.cache.pop("x") * dy


class Forgotten(Popped):
    """TypeError at a second backward."""

    def backward(self, dy):
        x, self.cache["x"] = self.cache["x"], None
        return self.factor * x * dy


class Asserted(Popped):
    """AssertionError at a second backward."""

    def backward(self, dy):
        x, self.cache["x"] = self.cache["x"], None
        assert x is not None
        return self.factor * x * dy


@pytest.mark.parametrize("kind", [Popped, Forgotten, Asserted])
def test_a_layer_refuses_a_second_backward_with_any_exception(kind, rng):
    x = rng.standard_normal((4, 3))
    report = check_layer(kind(2), x)
    assert report.ok and row(report, "needs a forward each time").verdict == PASS
    report = check_layer(kind(4), x)                       # and what was found before is not thrown away
    assert "twice too large" in row(report, "x").note


class Scale(Layer):
    """Keeps references of its own to its parameter, and gets its gradient wrong."""

    def __init__(self, dtype):
        super().__init__()
        self.a, self.da = np.full(4, 1.5, dtype), np.zeros(4, dtype)
        self.params, self.grads = {"a": self.a}, {"a": self.da}

    def forward(self, x):
        self._cache["forward"] = (x,)
        return x * self.a

    def backward(self, dy):
        (x,) = self._take()
        self.da[...] = 5 * (dy * x).sum(axis=0)
        return dy * self.a


@pytest.mark.parametrize("dtype", [np.float32, F8])
def test_a_layer_of_the_users_in_a_vae_is_checked_through_its_own_references(dtype, rng):
    from minivae.likelihoods import BernoulliLikelihood

    dense = lambda n, m: Dense(n, m, rng, dtype)
    enc, dec = Sequential(dense(7, 4), Scale(dtype)), Sequential(dense(2, 4), Tanh())
    vae = VAE(enc, dense(4, 2), dense(4, 2), dec, dense(4, 7), likelihood=BernoulliLikelihood(), rng=0)
    report = check_model(vae, rng.random((5, 7)), rng.standard_normal((5, 2)))
    assert "5 times too large" in row(report, "enc.1.a").note and row(report, "enc.0.W").verdict == PASS


# --- faults and their names -----------------------------------------------------------------------


class Wrong(Dense):
    """Dense, and then `spoil` has its way with the gradients."""

    def __init__(self, n_in, n_out, rng, spoil):
        super().__init__(n_in, n_out, rng, F8)
        self.spoil = spoil

    def backward(self, dy, input_grad=True):
        dx = super().backward(dy)
        return self.spoil(self, dx, dy)


def spoiled(change):
    def spoil(layer, dx, dy):
        change(layer.grads["W"])
        return dx

    return spoil


def swap(layer, dx, dy):
    layer.grads["W"], layer.grads["V"] = layer.grads["V"], layer.grads["W"]
    return dx


@pytest.mark.parametrize("change, words", [
    (lambda g: g.__imul__(2), "twice too large"),
    (lambda g: g.__imul__(0.5), "half of what they should be"),
    (lambda g: g.__imul__(-1), "right but for the sign"),
    (lambda g: g.__imul__(5), "5 times too large, which is the batch size: a sum where a mean belongs"),
    (lambda g: g.__itruediv__(3), "3 times too small, which is the number of columns"),
    (lambda g: g.__imul__(1 + 1e-6), "1.000001 times"),
    (lambda g: g.__imul__(0), "never filled"),
    (lambda g: g.__iadd__(1e-5), "a constant +1e-05 was added"),
    (lambda g: g.__setitem__(slice(None), g.T.copy()), "transposed"),
    (lambda g: g.__setitem__(slice(None), g[:, ::-1].copy()), "columns reversed"),
    (lambda g: g.__setitem__((1, 2), -g[1, 2]), "only entry (1, 2) is wrong"),
    (lambda g: g.__setitem__(2, 1.01 * g[2]), "only row 2 is wrong"),
    (lambda g: g.__setitem__((slice(None), 0), 0), "only column 0 is wrong"),
    (lambda g: g.__setitem__(slice(None), np.float32(g)), "9 entries are rounded to float32"),
    (lambda g: g.__setitem__((0, 0), np.nan), "not a finite number"),
])
def test_a_fault_is_found_and_its_pattern_named(change, words, rng):
    report = check_layer(Wrong(3, 3, rng, spoiled(change)), rng.standard_normal((5, 3)))
    found = row(report, "W")
    assert not report.ok and found.verdict == FAIL and words in found.note, str(report)
    assert row(report, "x").verdict == row(report, "b").verdict == PASS
    with pytest.raises(GradientError, match="W .* FAIL"):
        report.raise_if_wrong()


class TwoMatrices(Layer):
    """y = x W + x V, with the two gradients swapped."""

    def __init__(self, rng):
        super().__init__()
        self.params = {"W": rng.standard_normal((3, 2)), "V": rng.standard_normal((3, 2))}
        self.grads = {k: np.zeros((3, 2)) for k in self.params}

    def forward(self, x):
        self._cache["forward"] = (x,)
        return x @ self.params["W"] + 2 * x @ self.params["V"]

    def backward(self, dy):
        (x,) = self._take()
        self.grads["V"][...], self.grads["W"][...] = x.T @ dy, 2 * x.T @ dy
        return dy @ (self.params["W"] + 2 * self.params["V"]).T


def test_two_swapped_gradients_are_recognised(rng):
    report = check_layer(TwoMatrices(rng), rng.standard_normal((5, 3)))
    assert "this is what V got: the two are swapped" in row(report, "W").note


@pytest.mark.parametrize("spoil, clause", [
    (lambda layer, dx, dy: dx / len(dy), "x"),
    (lambda layer, dx, dy: dx + 1.0, "zero in, zero out"),
    (lambda layer, dx, dy: dx * np.abs(dy).sum(), "linear in dy"),
    (lambda layer, dx, dy: dx.astype(np.float32).astype(F8), "x"),
    (lambda layer, dx, dy: layer._cache.update(forward=(np.ones((5, 3)),)) or dx, "needs a forward each time"),
    (lambda layer, dx, dy: dy.__imul__(1.1) is None or dx, "leaves its inputs alone"),
    (lambda layer, dx, dy: np.roll(dx, 1, axis=0), "adds over the batch"),
    (lambda layer, dx, dy: layer.__dict__.update(n=layer.__dict__.get("n", 0) + 1) or dx * layer.n, "repeats itself"),
])
def test_a_broken_contract_is_named(spoil, clause, rng):
    report = check_layer(Wrong(3, 4, rng, spoil), rng.standard_normal((5, 3)))
    assert row(report, clause).verdict == FAIL, str(report)


def test_a_gradient_of_another_shape_is_a_fail(rng):
    layer = Dense(3, 4, rng, F8)
    layer.grads["b"] = np.zeros((1, 4))
    assert row(check_layer(layer, rng.standard_normal((5, 3))), "b").note == "its gradient has shape (1, 4)"


def test_the_checker_wants_float64(rng):
    with pytest.raises(TypeError, match="W is float32; finite differences need float64"):
        check_layer(Dense(3, 4, rng), np.zeros((2, 3)))


def test_any_pair_of_functions_can_be_checked(rng):
    x = rng.standard_normal((4, 3))
    good = check_layer(Node(np.sin, lambda dy: dy * np.cos(x)), x, mixes_rows=True)
    assert row(good, "x").verdict == PASS


# --- whole models ---------------------------------------------------------------------------------


def small(rng, **settings):
    return VAE.mlp(7, [6, 4], 2, **{"rng": rng, "dtype": F8, "activation": "tanh", "beta": 1.7, **settings})


def test_a_report_says_where_to_look(rng, monkeypatch):
    from minivae.latents import GaussianLatent

    right = GaussianLatent.kl_backward
    monkeypatch.setattr(GaussianLatent, "kl_backward", lambda self, dkl: tuple(0.5 * a for a in right(self, dkl)))
    report = check_model(small(rng), rng.random((5, 7)), rng.standard_normal((3, 5, 2)))
    assert "the KL term counts 0.85 times, not 1.7" in row(report, "enc.0.W").note
    assert row(report, "dec.0.W").verdict == PASS and not report.ok
    text = str(report)
    for word in ("enc.0.W", "analytic", "numeric", "FAIL", "PASS"):
        assert word in text


def test_a_report_fits_80_columns_and_its_notes_stay_whole(rng):
    """Long names, long notes and the widest numbers; what the table wraps, a row keeps in one line."""
    report = check_layer(Wrong(3, 4, rng, lambda layer, dx, dy: np.roll(dx, 1, axis=0)), rng.standard_normal((5, 3)))
    note = row(report, "adds over the batch").note
    assert "do rows leak into each other?" in note and "\n" not in note
    name = "a_block_with_a_long_name.to_mean_raw.W"
    numbers = -1.2345678901e-10, -1.2345678901e-10, 1e-12
    wide = Report("wide", [Row(name, (1000, 784), (999, 783), *numbers, INCONCLUSIVE, "the reference is too noisy"),
                           Row(name, (1,), None, *numbers, PASS), Row(name, (1000, 784), None, *numbers, FAIL),
                           Row("W", (1000, 784, 3, 3), (999, 783, 2, 2), *numbers, INCONCLUSIVE)])
    for text in (str(report), str(wide)):
        assert max(map(len, text.splitlines())) <= 80, text
    assert note in " ".join(str(report).split())
    assert name in str(wide) and "-1.234568e-10 -1.234568e-10  1e-12  INCONCLUSIVE" in str(wide)


@pytest.mark.parametrize("found, bars", [
    (Row("W", (3,), (0,), 1.0, 3.0, 0.5, FAIL), 4.0), (Row("W", (3,), (0,), 1.0, 1.0, 0.0, PASS), 0.0),
    (Row("W", (3,), (0,), 1.0, 3.0, 0.0, FAIL), np.inf), (Row("W", (3,), (0,), np.nan, 3.0, 0.5, FAIL), np.inf),
    (Row("W", (3,), (0,), 1.0, np.nan, np.nan, KINK), 0.0)])
def test_a_difference_is_counted_in_error_bars(found, bars):
    assert in_bars(found) == bars


def test_a_model_refuses_a_second_backward_with_any_exception(rng, monkeypatch):
    take = VAE.take_wires

    def refuse(self):
        if self._wires is None:
            raise KeyError("wires")
        return take(self)

    monkeypatch.setattr(VAE, "take_wires", refuse)
    report = check_model(small(rng), rng.random((5, 7)), rng.standard_normal((5, 2)))
    assert report.ok and row(report, "needs a forward each time").verdict == PASS


@pytest.mark.parametrize("name", ["enc.0.W", "dec.0.W", "to_logits.W"])
def test_one_wrong_weight_of_a_big_model_is_found_by_its_index(name, rng, monkeypatch):
    sizes = (64, [30], 5) if not JIT else (784, [400], 20) if name == "enc.0.W" else (300, [100], 10)
    vae = VAE.mlp(*sizes, rng=rng, dtype=F8)
    right = VAE.backward
    rows, columns = dict((n, p) for n, p, _ in vae.named_params())[name].shape
    index = (rows // 3, columns // 2)

    def backward(self):
        right(self)
        grad = dict((n, g) for n, _, g in self.named_params())[name]
        grad[index] += 1e-3                                # a big gradient here is some 1e-2

    monkeypatch.setattr(VAE, "backward", backward)
    report = check_model(vae, (rng.random((8, sizes[0])) < 0.5).astype(F8), rng.standard_normal((8, sizes[2])))
    found = row(report, name)
    assert found.verdict == FAIL and found.index == index, str(report)
    assert [r.name for r in report.rows if r.verdict == FAIL] == [name]


def test_checking_leaves_the_model_as_it_was(rng):
    vae = small(rng)
    before = [p.copy() for _, p, _ in vae.named_params()]
    vae.forward(rng.random((5, 7)))
    check_model(vae, rng.random((5, 7)), rng.standard_normal((5, 2)))
    vae.backward()
    for (_, p, _), q in zip(vae.named_params(), before):
        np.testing.assert_array_equal(p, q)


def test_a_float32_model_is_checked_as_its_float64_twin(rng):
    check_model(small(rng, dtype=np.float32), rng.random((5, 7)), rng.standard_normal((5, 2))).raise_if_wrong()


@estimators.estimator(estimators.sampled_elbo)
def stl(t):
    """Roeder et al. (2017): not the derivative of any loss."""
    return estimators.elbo_mc(t)._replace(score=np.zeros_like(t.log_px))


@estimators.estimator(estimators.sampled_elbo)
def score_function(t):
    """z held fixed, the density moves."""
    K, B = t.log_px.shape
    f = t.log_px + t.beta * (t.log_pz - t.log_qz)
    zero = np.zeros_like(f)
    return estimators.Wires(np.ones_like(f) / (K * B), zero, zero, (f - f.mean()) / (K * B), np.zeros_like(t.kl))


@estimators.estimator(estimators.sampled_elbo)
def half_gain(t):
    """Weights of every kind at once, path neither open nor cut."""
    w = estimators.elbo_mc(t)
    return w._replace(path=np.linspace(0.2, 1.5, w.path.size).reshape(w.path.shape), kl=np.full_like(t.kl, -0.03))


@pytest.mark.parametrize("estimator", [stl, score_function, half_gain])
def test_an_estimator_that_is_no_derivative_is_checked_through_its_frozen_surrogate(estimator, rng):
    vae = small(rng, estimator=estimator)
    x, eps = rng.random((5, 7)), rng.standard_normal((3, 5, 2))
    check_model(vae, x, eps).raise_if_wrong()
    # taken as the derivative of its loss it must fail
    vae.estimator = estimators.estimator(estimators.sampled_elbo, is_derivative=True)(lambda t: estimator(t))
    assert not check_model(vae, x, eps).ok


# --- float32, the plot, the command -----------------------------------------------------------------


def test_a_float32_kernel_that_rounds_too_much_is_caught(rng):
    class Coarse(Dense):
        def forward(self, x):
            return super().forward(x).astype(np.float16).astype(x.dtype)

    x = rng.standard_normal((5, 7))
    assert check_precision(Dense(7, 4, rng, F8), Dense(7, 4, rng), x).ok
    assert not check_precision(Dense(7, 4, rng, F8), Coarse(7, 4, rng), x).ok


def test_the_taylor_remainder_falls_as_h_cubed_for_a_right_gradient_and_as_h_for_a_wrong_one(rng, tmp_path):
    x = rng.standard_normal((5, 3))
    layer = Sequential(Dense(3, 4, rng, F8), Tanh())
    h = 2.0 ** -np.arange(6, 10)
    wrong = Wrong(3, 4, rng, spoiled(lambda g: g.__imul__(1.1)))
    for report, slope in ((check_layer(layer, x), 3.0), (check_layer(wrong, x), 1.0)):
        remainder = report._remainder(h)
        # higher orders bend it by some h^2 = 2.4e-4
        assert np.polyfit(np.log(h), np.log(remainder), 1)[0] == pytest.approx(slope, abs=1e-3)
        report.plot(tmp_path / "taylor.png")
        assert (tmp_path / "taylor.png").stat().st_size > 5000


def test_the_command_checks_one_by_name(capsys):
    assert main(["gradcheck", "Tanh"]) == 0
    out = capsys.readouterr().out
    assert "x" in out and "PASS" in out and out.splitlines()[-1].startswith("1 check: 9 PASS, 0 FAIL")


def test_the_command_speaks_json(capsys):
    assert main(["gradcheck", "Dense", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"check", "name", "analytic", "numeric", "bar", "verdict"} <= set(rows[0]) and rows[0]["verdict"] == "PASS"


def test_the_command_checks_a_layer_of_the_users(tmp_path, monkeypatch, capsys):
    (tmp_path / "mylayers.py").write_text('''
import numpy as np
from minivae.layers import Layer

class Square(Layer):
    def forward(self, x):
        self._cache["forward"] = (x,)
        return x**2
    def backward(self, dy):
        (x,) = self._take()
        return dy * x

def ready():
    return Square(), np.ones((2, 3))
''')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)                  # and takes back what the command adds
    assert main(["gradcheck", "mylayers:Square"]) == 1
    out = capsys.readouterr().out
    assert "half of what they should be" in out and "\n1 check: " in out
    assert main(["gradcheck", "mylayers:ready"]) == 1
    assert main(["gradcheck", "mylayers:Cube"]) == 2
    assert main(["gradcheck", "nonsense"]) == 2
    assert "unknown check 'nonsense'" in capsys.readouterr().err
    assert main(["gradcheck", "xyz"]) == 2
    assert "unknown check 'xyz'; see the first column of `minivae gradcheck`" in capsys.readouterr().err
    assert main(["gradcheck", "dense"]) == 2
    nearest = "did you mean 'Dense' or 'Dense.square' or 'Dense.many_rows'? see"
    assert f"unknown check 'dense', {nearest}" in capsys.readouterr().err
    (tmp_path / "broken.py").write_text("class Bad:\n    params = grads = {}\n"
                                        "    def forward(self, x):\n        return x + None\n1 / 0\n")
    assert main(["gradcheck", "broken:Bad"]) == 2
    assert "gives nothing to check (ZeroDivisionError" in capsys.readouterr().err


def test_a_class_is_made_with_the_first_arguments_that_it_takes(tmp_path, monkeypatch):
    (tmp_path / "firstlayers.py").write_text('''
from minivae.layers import Dense, Softplus

class Sharp(Softplus):
    """Four arguments that have defaults: it is to be made as Sharp()."""
    def __init__(self, alpha=1, beta=1, gamma=1, delta=1):
        super().__init__()
        assert (alpha, beta, gamma, delta) == (1, 1, 1, 1)

class Square(Dense):
    """It wants sizes, and only then takes more."""
    def __init__(self, n_in, n_out, rng=0):
        import numpy as np
        assert rng == 0
        super().__init__(n_in, n_out, np.random.default_rng(rng), np.float64)

class Six(Softplus):
    def __init__(self, a, b, c, d, e, f):
        super().__init__()
''')
    monkeypatch.syspath_prepend(tmp_path)
    assert user_check("firstlayers:Sharp", 0).ok and user_check("firstlayers:Square", 0).ok
    with pytest.raises(ValueError, match=r"gives nothing to check \(TypeError: Six\(a, b, c, d, e, f\) takes other"):
        user_check("firstlayers:Six", 0)


ALONE = """
import sys
import numpy as np
from minivae import check_layer
from minivae.layers import Tanh

check_layer(Tanh(), np.ones((2, 3))).plot(sys.argv[1])
rooms = ["gradcheck.suite", "gradcheck.museum", "gradcheck.cases", "app", "saving", "training"]
unwanted = ["matplotlib.pyplot", *(f"minivae.{room}" for room in rooms)]
print([name for name in unwanted if name in sys.modules])
"""


def test_a_layer_is_checked_and_drawn_without_the_suite_the_product_or_a_backend(tmp_path):
    done = subprocess.run([sys.executable, "-c", ALONE, tmp_path / "taylor.png"], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert (tmp_path / "taylor.png").exists()


def test_the_list_of_checks_fits_80_columns(capsys, monkeypatch):
    from minivae.app.gradcheck import run_checks

    longest = sorted(CHECKS, key=len)[-4:] + ["GaussianLikelihood.shared", "forward.estimators"]
    monkeypatch.setattr("minivae.gradcheck.suite.CHECKS", {name: CHECKS[name] for name in longest})
    assert run_checks(None, 0, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert sum(line.startswith("PASS  ") for line in lines) == len(longest)
