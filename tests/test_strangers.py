"""Gradient checks of code that is not ours: plain functions, layers of any make, module:name."""

import math

import numpy as np
import pytest

from minivae import VAE, check_function, check_layer, check_model, check_vjp, fit
from minivae.app.cli import main
from minivae.gradcheck import FAIL, INCONCLUSIVE, KINK, PASS, Node
from minivae.gradcheck.complex_step import NAME as COMPLEX_STEP
from minivae.gradcheck.museum import FAULTS
from minivae.gradcheck.yours import user_check
from minivae.layers import Dense, Layer, Sequential
from minivae.likelihoods import BernoulliLikelihood
from minivae.optim import Adam

pytestmark = [pytest.mark.gradients, pytest.mark.filterwarnings("error")]

F8 = np.float64
DRAWN = np.random.default_rng(0)
X = np.random.default_rng(3).standard_normal((4, 3))


def row(report, name):
    return next(r for r in report.rows if r.name == name)


def names(report):
    return [r.name for r in report.rows]


# --- scalar functions -----------------------------------------------------------------------------


def log_sum_exp(a):
    return np.log(np.exp(a).sum())


def softmax(a):
    return np.exp(a) / np.exp(a).sum()


SCALARS = {
    "sum of squares": (lambda x: (x**2).sum(), lambda x: 2 * x, X),
    "a mean over the batch": (lambda x: (x**2).mean(), lambda x: 2 * x / x.size, X),
    "a norm": (np.linalg.norm, lambda x: x / np.linalg.norm(x), X),
    "a softmax loss": (log_sum_exp, softmax, X),
    "an array of one number": (lambda x: (x**2).sum(keepdims=True), lambda x: 2 * x, X),
    "a Python float": (math.sin, math.cos, 0.7),
    "a 0-d array": (lambda x: x**3, lambda x: 3 * x**2, np.array(0.7)),
    "three axes": (lambda x: np.cos(x).sum(), lambda x: -np.sin(x), X.reshape(2, 2, 3)),
    "large numbers": (lambda x: (x**2).sum(), lambda x: 2 * x, 1e6 * X),
    "small numbers": (lambda x: np.sin(x).sum(), np.cos, 1e-6 * X),
    "a list for an array": (lambda x: (x**2).sum(), lambda x: list(2 * x), [1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("f, grad, x", SCALARS.values(), ids=SCALARS)
def test_scalar_functions_of_every_kind(f, grad, x):
    check_function(f, grad, x).raise_if_wrong()


@pytest.mark.parametrize("f, grad, x", SCALARS.values(), ids=SCALARS)
def test_a_relative_fault_of_a_millionth_is_caught(f, grad, x):
    wrong = check_function(f, lambda x: np.multiply(1 + 1e-6, grad(x)), x)
    assert wrong.rows[0].verdict == FAIL, str(wrong)


def test_labels_are_held_constant():
    def loss(logits, labels):
        return (np.log(np.exp(logits).sum(axis=1)) - logits[range(4), labels]).mean()

    def grad(logits, labels):
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        p[range(4), labels] -= 1
        return p / 4

    labels = np.array([0, 2, 1, 1])
    report = check_function(loss, grad, X, labels)
    report.raise_if_wrong()
    assert "logits" in names(report) and "labels" not in names(report)
    check_function(loss, lambda *inputs: (grad(*inputs), None), X, labels).raise_if_wrong()
    forgotten = check_function(loss, lambda *inputs: 4 * grad(*inputs), X, labels)
    assert "4 times too large, which is the number of rows: a sum where a mean" in row(forgotten, "logits").note
    check_function(lambda x, power: x**power, lambda x, power: power * x ** (power - 1), 1.5, 3).raise_if_wrong()


def test_several_inputs_and_the_report_of_their_gradients():
    a, b = X, X[::-1] + 2
    report = check_function(lambda a, b: (a * b**2).sum(), lambda a, b: (b**2, a * b), a, b)
    assert row(report, "a").verdict == PASS and "half of what they should be" in row(report, "b").note
    analytic, numeric, bar = report.gradients["b"]
    np.testing.assert_array_equal(analytic, a * b)
    assert (np.abs(numeric - 2 * a * b) <= bar).all() and bar.max() < 1e-10 and bar.shape == b.shape


def test_the_report_of_a_big_array_says_what_was_not_compared():
    x = np.linspace(0.1, 2, 400)
    report = check_function(lambda x: np.sin(x).sum(), np.cos, x)
    report.raise_if_wrong()
    _, numeric, bar = report.gradients["x"]
    assert np.isnan(numeric).all() and np.isnan(bar).all() and numeric.shape == x.shape

    def wrong(x):
        return np.where(np.arange(400) == 123, 0, np.cos(x))

    _, numeric, bar = check_function(lambda x: np.sin(x).sum(), wrong, x).gradients["x"]
    assert abs(numeric[123] - np.cos(x[123])) <= bar[123]


def test_a_layers_and_a_models_report_hold_the_gradients_too(rng):
    layer = Dense(3, 2, rng, F8)
    report = check_layer(layer, X)
    assert set(report.gradients) == {"x", "W", "b"}
    for analytic, numeric, bar in report.gradients.values():
        assert (np.abs(analytic - numeric) <= bar).all()
    vae = VAE.mlp(7, [4], 2, rng=rng, dtype=F8)
    report = check_model(vae, rng.random((5, 7)), rng.standard_normal((5, 2)))
    assert set(report.gradients) == {name for name, _, _ in vae.named_params()}


def test_a_kink_is_not_compared_and_nobody_is_blamed():
    report = check_function(lambda x: np.maximum(x, 0).sum(), lambda x: 1.0 * (x > 0), np.array([1.0, 0.0, -2.0]))
    assert row(report, "x").verdict == KINK and report.ok
    _, numeric, _ = report.gradients["x"]
    assert np.isnan(numeric[1]) and numeric[0] == pytest.approx(1)


@pytest.mark.parametrize("x, words", [
    (X.astype(np.float32), "input 0 is float32; finite differences need float64"),
    (X + 1j, "input 0 is complex128; gradients are checked by real numbers"),
    ("mean", "input 0 is <U4; wanted float64, or integers, which are held constant")])
def test_inputs_that_cannot_be_checked_are_refused_in_a_sentence(x, words):
    with pytest.raises(TypeError, match=words):
        check_function(lambda x: (x**2).sum(), lambda x: 2 * x, x)
    with pytest.raises(TypeError, match=words):
        check_vjp(lambda x: x**2, lambda x, dy: 2 * x * dy, x)


def test_uses_that_make_no_sense_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"sin gives an array of shape \(4, 3\), a scalar was wanted; check_vjp"):
        check_function(np.sin, np.cos, X)
    with pytest.raises(ValueError, match="checked at no float64 input: there is nothing to check"):
        check_function(lambda n: n, lambda n: 1, 3)
    with pytest.raises(ValueError, match=r"input 0 has no entries, its shape is \(0, 3\)"):
        check_function(np.sum, np.ones_like, X[:0])
    with pytest.raises(ValueError, match="gives no gradient: there is nothing to check"):
        check_vjp(lambda a, b: a * b, lambda a, b, dy: (None, None), X, X)


def test_what_the_functions_raise_at_the_point_goes_through():
    def refuses(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check_function(refuses, np.cos, X)
    with pytest.raises(KeyError, match="mine"):
        check_vjp(np.sin, lambda x, dy: refuses(x), X)


def test_a_step_that_leaves_the_domain_does_not_end_the_check():
    """math.log raises below 0, and so may any assertion; a shorter step stays inside."""
    def log(x):
        assert x > 0
        return math.log(x)

    check_function(log, lambda x: 1 / x, 0.01).raise_if_wrong()


def test_no_number_at_the_point_is_said_so():
    """Warnings are errors in this file: none may leak."""
    report = check_vjp(np.log, lambda x, dy: dy / x, X)
    assert [r.verdict for r in report.rows] == [INCONCLUSIVE]
    assert "forward gives NaN at the point itself, in entry (0, 1) of y" in report.rows[0].note
    assert "forward gives NaN at the point itself:" in check_function(np.sqrt, lambda x: 1 / x, -1.0).rows[0].note
    assert "infinity" in check_function(lambda x: 1 / x, lambda x: -1 / x**2, np.array(0.0)).rows[0].note
    assert "forward gives NaN at the point itself" in check_layer(Node(np.log, lambda dy: dy), X).rows[0].note


def test_the_end_of_the_domain_is_said_so():
    report = check_vjp(np.sqrt, lambda x, dy: dy / (2 * np.sqrt(x)), np.zeros((2, 3)))
    assert row(report, "x").verdict == INCONCLUSIVE and "end of its domain" in row(report, "x").note


def test_nothing_compared_is_no_pass():
    for report in (check_function(lambda x: 3, lambda x: 0 * x, X),
                   check_vjp(lambda x: 0 * x, lambda x, dy: 0 * dy, X),
                   check_vjp(np.sign, lambda x, dy: 0 * dy, np.linspace(0.5, 2, 400))):
        found = row(report, "x")
        assert found.verdict == INCONCLUSIVE and "so nothing was compared" in found.note and not report.ok


# --- pairs ----------------------------------------------------------------------------------------


def test_a_pair_with_several_inputs_and_one_held_constant():
    def sample(mu, logvar, eps):
        return mu + np.exp(logvar / 2) * eps

    def right(mu, logvar, eps, dz):
        return dz, dz * eps * np.exp(logvar / 2) / 2, None

    inputs = X, X[::-1], X + 1
    report = check_vjp(sample, right, *inputs)
    report.raise_if_wrong()
    assert report.title == "sample" and names(report)[:2] == ["mu", "logvar"] and "eps" not in names(report)
    half = check_vjp(sample, lambda *all: (all[3], 2 * right(*all)[1], None), *inputs)
    assert "is a half forgotten?" in row(half, "logvar").note and row(half, "mu").verdict == PASS


@pytest.mark.parametrize("forward, backward", [
    (lambda x: x.sum(), lambda x, dy: dy * np.ones_like(x)),
    (lambda x: (x.T, x.sum()), lambda x, dy: dy[0].T + dy[1]),
    (lambda x: [x[0], x[1:] ** 2], lambda x, dy: np.vstack([dy[0], 2 * x[1:] * dy[1]])),
    (lambda x: x[:, None, :] * x[None], lambda x, dy: (dy * x[None]).sum(1) + (dy * x[:, None]).sum(0)),
    (lambda x: x * 2, lambda x, dy: [2 * dy])], ids=["0-d", "a tuple", "a list", "three axes", "[dx]"])
def test_y_of_any_shape(forward, backward):
    check_vjp(forward, backward, X).raise_if_wrong()
    wrong = check_vjp(forward, lambda x, dy: 1.000001 * np.squeeze(backward(x, dy)), X)
    assert row(wrong, "x").verdict == FAIL


def test_upstream_gradients_of_ones_would_not_see_this():
    report = check_vjp(lambda x: x**2, lambda x, dy: 2 * x * dy[::-1], X)
    assert row(report, "x").verdict == FAIL


def drawing(x, dy):
    return dy * (1 + DRAWN.random())


@pytest.mark.parametrize("backward, clause", [
    (lambda x, dy: (2 * dy).astype(np.float32), "keeps float64"),
    (drawing, "repeats itself"),
    (lambda x, dy: 2 * dy * np.abs(dy), "linear in dy"),
    (lambda x, dy: 2 * dy + 1e-3, "zero in, zero out"),
    (lambda x, dy: np.multiply(2, dy, out=dy), "leaves its inputs alone"),
    (lambda x, dy: x.__imul__(1.5) is None or 2 * dy, "leaves its inputs alone"),
    (lambda x, dy: 2 * dy.ravel("K").reshape(dy.shape) if dy.flags.c_contiguous else 3 * dy, "takes any memory layout"),
    (lambda x, dy: 2 * dy if dy.any() else 1 / 0, "zero in, zero out")])
def test_a_broken_contract_of_a_pair_is_named(backward, clause):
    report = check_vjp(lambda x: 2 * x, backward, X)
    assert row(report, clause).verdict == FAIL, str(report)


def test_a_clause_that_cannot_be_asked_says_what_was_raised():
    note = row(check_vjp(lambda x: 2 * x, lambda x, dy: 2 * dy if dy.any() else 1 / 0, X), "zero in, zero out").note
    assert note == "ZeroDivisionError was raised: division by zero"


@pytest.mark.parametrize("backward, words", [
    (lambda a, b, dy: dy * b, "it gives 1 gradient for 2 float64 inputs"),
    (lambda a, b, dy: (dy, dy, dy), "it gives 3 gradients for 2 float64 inputs"),
    (lambda a, b, dy: None, "backward returned None: is its return forgotten?"),
    (lambda a, b, dy: (dy * b, (dy * a).sum()), "its gradient has shape ()"),
    (lambda a, b, dy: (dy * b, "b"), "its gradient has shape ()"),
    (lambda a, b, dy: (dy * b, 1j * dy), "its gradient is complex128")])
def test_what_is_no_gradient_is_a_fail(backward, words):
    report = check_vjp(lambda a, b: a * b, backward, X, X + 1)
    assert report.worst.verdict == FAIL and words in report.worst.note


@pytest.mark.parametrize("forward, words", [
    (lambda x: None, "forward returned None"), (lambda x: np.float32(x), "forward gives float32 for float64"),
    (lambda x: x + 1j, "forward gives complex128"), (lambda x: {"y": x}, "forward gives object")])
def test_what_cannot_be_differentiated_is_a_fail(forward, words):
    report = check_vjp(forward, lambda x, dy: dy, X)
    assert report.worst.verdict == FAIL and words in report.worst.note


# --- the complex step -----------------------------------------------------------------------------


@pytest.mark.parametrize("f, grad, x", [
    (lambda x: (np.sin(x) * x**2).sum(), lambda x: np.cos(x) * x**2 + 2 * x * np.sin(x), X),
    (lambda x: np.exp(-(x**2)), lambda x: -2 * x * np.exp(-(x**2)), 0.4)])
def test_where_a_function_takes_complex_numbers_two_references_agree(f, grad, x):
    assert row(check_function(f, grad, x), COMPLEX_STEP).verdict == PASS


@pytest.mark.parametrize("f, grad", [
    (lambda x: np.logaddexp(0, x).sum(), lambda x: 1 / (1 + np.exp(-x))),
    (lambda x: np.abs(x).sum(), np.sign),
    (lambda x: (np.abs(x) * x).sum(), lambda x: 2 * np.abs(x)),
    (lambda x: (np.conj(x) * 3).sum(), lambda x: 3 + 0 * x),
    (lambda x: sum(float(a) ** 2 for a in x.ravel()), lambda x: 2 * x),
    (lambda x: np.array(x, F8).sum(), np.ones_like)])
def test_a_function_that_is_another_one_there_is_checked_by_differences_alone(f, grad):
    report = check_function(f, grad, X)
    report.raise_if_wrong()
    assert COMPLEX_STEP not in names(report)


def test_references_that_disagree_are_inconclusive():
    """The same function but for a part in a million of its imaginary part."""
    report = check_function(lambda x: (x**2).sum() + (1e-6j * np.imag(x)).sum(), lambda x: 2 * x, X + 0j.real)
    assert row(report, "forward").note.startswith("forward gives complex128")

    def f(x):
        return (x**2).sum() + (1e-6j * x.imag).sum() if np.iscomplexobj(x) else (x**2).sum()

    report = check_function(f, lambda x: 2 * x, X)
    assert row(report, COMPLEX_STEP).verdict == INCONCLUSIVE and not report.ok
    assert "one of the two references is wrong" in row(report, COMPLEX_STEP).note


# --- layers ---------------------------------------------------------------------------------------


class Rebinds(Dense):
    """Right, and never trained: the optimiser holds the array that was there first."""

    def backward(self, dy, input_grad=True):
        dx = super().backward(dy)
        self.grads["b"] = dy.sum(axis=0)
        return dx


class RebindsAll(Dense):
    def backward(self, dy, input_grad=True):
        dx = super().backward(dy)
        self.grads = {name: grad.copy() for name, grad in self.grads.items()}
        return dx


class MovesAway(Dense):
    """Its parameter is another array after each forward."""

    def forward(self, x):
        self.params["b"] = self.params["b"].copy()
        return super().forward(x)


def transposed(n_in, n_out, rng):
    layer = Dense(n_in, n_out, rng, F8)
    layer.params["W"] = rng.standard_normal((n_out, n_in)).T
    return layer


def in_a_vae(layer, rng):
    dense = lambda n, m: Dense(n, m, rng, F8)
    return VAE(Sequential(layer), dense(4, 2), dense(4, 2), Sequential(dense(2, 4)), dense(4, 3),
               likelihood=BernoulliLikelihood(), rng=0)


UNTRAINABLE = {
    "a gradient": (lambda rng: Rebinds(3, 4, rng, F8), "another array was put in the place of grads"),
    "all gradients": (lambda rng: RebindsAll(3, 4, rng, F8), "another array was put in the place of grads"),
    "not contiguous": (lambda rng: transposed(3, 4, rng), "is not C-contiguous, and an optimiser would take a copy")}


@pytest.mark.parametrize("make, words", UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_a_layer_that_would_never_be_trained_does_not_pass(make, words, rng):
    clause = "writes into its own grads"
    found = row(check_layer(make(rng), X), clause)
    assert found.verdict == FAIL and words in found.note
    found = row(check_model(in_a_vae(make(rng), rng), rng.random((5, 3)), rng.standard_normal((5, 2))), clause)
    assert found.verdict == FAIL and words in found.note
    assert row(check_layer(Dense(3, 4, rng, F8), X), clause).verdict == PASS


def test_a_parameter_that_moves_away_does_not_pass(rng):
    assert not check_layer(MovesAway(3, 4, rng, F8), X).ok


def test_adam_refuses_what_it_would_copy(rng):
    vae = in_a_vae(transposed(3, 4, rng), rng)
    with pytest.raises(ValueError, match=r"Adam cannot move enc.0.W in place: the parameter enc.0.W is not C-contig.*"
                                         r"make it with np.ascontiguousarray"):
        Adam(vae.named_params())
    with pytest.raises(ValueError, match="Adam cannot move enc.0.W"):
        fit(vae, rng.random((20, 3)), epochs=1)
    with pytest.raises(ValueError, match="the gradient of b is not C-contiguous"):
        Adam([("b", np.zeros((3, 2)), np.zeros((2, 3)).T)])
    Adam([("empty", np.zeros((0, 3)), np.zeros((0, 3)))])


class Bare:
    """Neither params nor grads."""

    def forward(self, x):
        self.x = x
        return x**2

    def backward(self, dy):
        return 2 * self.x * dy


class GivesAList(Bare):
    def backward(self, dy):
        return [2 * self.x * dy]


class GivesNumbers(Bare):
    def forward(self, x):
        self.x = x
        return (x**2).sum()

    def backward(self, dy):
        return (2 * self.x * dy).tolist()


class OneNumberPerRow(Bare):
    def forward(self, x):
        self.x = x
        return (x**2).sum(axis=1)

    def backward(self, dy):
        return 2 * self.x * dy[:, None]


class WithLabels(Bare):
    def forward(self, x, labels):
        self.x, self.labels = x, labels
        return x[np.arange(len(x)), labels] ** 2

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        rows = np.arange(len(dx))
        dx[rows, self.labels] = 2 * self.x[rows, self.labels] * dy
        return dx


class WithLayersCounted(Bare):
    layers = 3                                             # a number, where a Sequential has a list


class ParamsOfNone(Bare):
    params = grads = None


@pytest.mark.parametrize("layer, inputs", [
    (Bare(), [X]), (GivesAList(), [X]), (GivesNumbers(), [X]), (OneNumberPerRow(), [X]), (Bare(), [X[0]]),
    (WithLabels(), [X, np.array([0, 2, 2, 1])]), (WithLayersCounted(), [X]), (ParamsOfNone(), [X]),
    (Bare(), [np.array(0.7)]), (Bare(), [X.reshape(2, 2, 3)])],
    ids=lambda a: type(a).__name__ if not isinstance(a, list) else "")
def test_a_strangers_right_layer_passes(layer, inputs):
    check_layer(layer, *inputs).raise_if_wrong()


class NoGrads(Dense):
    def __init__(self, rng):
        super().__init__(3, 4, rng, F8)
        self.grads = None

    def backward(self, dy, input_grad=True):
        return dy @ self.params["W"].T


class ForgetsToReturn(Dense):
    def backward(self, dy, input_grad=True):
        super().backward(dy)


def test_a_strangers_layer_that_cannot_train_does_not_pass(rng):
    assert check_layer(NoGrads(rng), X).worst.note == "grads has no 'W'"
    report = check_layer(ForgetsToReturn(3, 4, rng, F8), X)
    assert row(report, "x").verdict == FAIL and "is its return forgotten?" in row(report, "x").note
    assert row(report, "W").verdict == PASS

    class Two(Bare):
        def backward(self, dy):
            return dy, dy

    assert "it gives 2 gradients for 1 float64 input" in check_layer(Two(), X).worst.note


@pytest.mark.parametrize("thing, words", [
    (np.sin, "sin is no layer, it lacks forward or backward"), (Dense, r"Dense is a class; wanted a layer made of it"),
    (3, "int is no layer")])
def test_what_is_no_layer_is_refused_in_a_sentence(thing, words):
    with pytest.raises(TypeError, match=words):
        check_layer(thing, X)


def test_parameters_that_cannot_be_checked_are_refused_in_a_sentence():
    layer = Bare()
    layer.params = {"a": 1.5}
    with pytest.raises(TypeError, match=r"params\['a'\] is a float; wanted an array, which can be moved in place"):
        check_layer(layer, X)
    layer.params = [X]
    with pytest.raises(TypeError, match="params is a list; wanted a dict from name to array"):
        check_layer(layer, X)
    with pytest.raises(ValueError, match="Bare is checked at no input"):
        check_layer(Bare())
    with pytest.raises(TypeError, match="forward gives a tuple; a layer gives one array"):
        check_layer(Node(lambda x: (x, x), lambda dy: dy), X)


# --- layers that say that they are linear ---------------------------------------------------------


class Flip(Layer):
    linear = True

    def __init__(self, back=lambda dy: 2 * dy[:, ::-1]):
        super().__init__()
        self.backward = back

    def forward(self, x):
        return 2 * x[:, ::-1] + 1


def test_a_linear_layer_is_held_to_its_transpose_without_a_step(rng):
    assert row(check_layer(Dense(3, 4, rng, F8), X), "adjoint").verdict == PASS
    right = check_layer(Flip(), X)
    assert row(right, "adjoint").verdict == row(right, "linear, as it says").verdict == PASS
    wrong = row(check_layer(Flip(lambda dy: 2 * dy), X), "adjoint")
    assert wrong.verdict == FAIL and "backward is not the transpose of forward" in wrong.note
    off_by_a_little = check_layer(Flip(lambda dy: (2 + 1e-11) * dy[:, ::-1]), X)
    assert row(off_by_a_little, "adjoint").verdict == FAIL       # beyond any step's error, above rounding


def test_a_layer_that_says_it_is_linear_and_is_not():
    layer = Bare()
    layer.linear = True
    found = row(check_layer(layer, X), "linear, as it says")
    assert found.verdict == FAIL and "does not move y twice as far" in found.note


# --- module:name ----------------------------------------------------------------------------------

MODULE = '''
import numpy as np

class Cube:
    def forward(self, x):
        self.x = x
        return x**3
    def backward(self, dy):
        return 3 * self.x**2 * dy

class BatchNorm:
    params, grads = {}, {}
    def forward(self, x):
        self.root = 1 / np.sqrt(x.var(axis=0) + 1e-5)
        self.y = (x - x.mean(axis=0)) * self.root
        return self.y
    def backward(self, dy):
        return self.root * (dy - dy.mean(axis=0) - self.y * (dy * self.y).mean(axis=0))

class OfThree(Cube):
    def forward(self, x):
        return super().forward(x + np.zeros(3))

def energy(x):
    return (x**2).sum() / 2

def force(x):
    return x

def wrong(x):
    return 2 * x

def product(a, b):
    return a * b

def product_backward(a, b, dy):
    return dy * b, dy * a

cube = Cube()
scalar = energy, force
wrong_scalar = energy, wrong
at_a_point = energy, wrong, np.ones(4)
pair = product, product_backward
number = 7
of_three = lambda: (OfThree(), np.ones((2, 3)) * [1, 2, 3])

def layer_alone():
    return Cube()

def layer_and_input():
    return Cube(), np.arange(6.0).reshape(2, 3) + 1

def makes_a_pair():
    return pair

def fails():
    return 1 / 0
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "of_a_stranger.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["Cube", "cube", "scalar", "pair", "layer_alone", "layer_and_input", "makes_a_pair",
                                  "of_three"])
def test_the_command_takes_classes_instances_functions_and_pairs(folder, name):
    user_check(f"of_a_stranger:{name}", 0).raise_if_wrong()


def test_the_command_checks_a_pair_at_its_inputs(folder, capsys):
    assert main(["gradcheck", "of_a_stranger:at_a_point"]) == 1
    assert "4 entries are twice too large" in capsys.readouterr().out
    assert main(["gradcheck", "of_a_stranger:wrong_scalar"]) == 1


@pytest.mark.parametrize("name, words", [
    ("number", "it is of type int; wanted a class, a layer, a pair"),
    ("energy", "energy comes without its gradient; wanted a class, a layer, a pair (f, grad)"),
    ("fails", "gives nothing to check (ZeroDivisionError: division by zero)"),
    ("nowhere", "module 'of_a_stranger' has no attribute 'nowhere'"),
    ("OfThree", "it was called with random inputs of shape (5, 7): for your own, name a function that takes no "
                "argument and returns (layer, x)")])
def test_the_command_says_what_it_wants(folder, capsys, name, words):
    assert main(["gradcheck", f"of_a_stranger:{name}"]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1


def test_a_file_may_stand_for_its_module(folder, capsys, monkeypatch):
    assert main(["gradcheck", "of_a_stranger.py:Cube"]) == 0
    monkeypatch.chdir("/")
    assert main(["gradcheck", f"{folder}/of_a_stranger.py:Cube"]) == 0


def test_a_right_batch_normalisation_can_be_checked_from_the_command_line(folder, capsys):
    assert main(["gradcheck", "of_a_stranger:BatchNorm"]) == 1
    assert "mixes_rows=True (--mixes-rows)" in capsys.readouterr().out
    assert main(["gradcheck", "of_a_stranger:BatchNorm", "--mixes-rows"]) == 0


def test_an_unknown_name_is_answered_with_the_nearest_not_with_all(capsys):
    for arguments, nearest in ((["Dens"], "'Dense'"), (["gaussianlatent"], "'GaussianLatent.sample'"),
                               (["--plant", "sample-half"], "'sample-half-forgotten'")):
        assert main(["gradcheck", *arguments]) == 2
        said = capsys.readouterr().err
        assert f"did you mean {nearest}" in said and len(said) < 260, said


def test_the_faults_are_listed_a_line_each(capsys):
    assert main(["gradcheck", "--plant", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FAULTS) and all(len(line) <= 80 for line in lines)
    for line, fault in zip(lines, FAULTS):
        assert line.startswith(fault.name) and line.endswith(fault.mechanism)
