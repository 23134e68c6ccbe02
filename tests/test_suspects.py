"""The suspects: each names its fault, and none names what is wrong in another way."""

import numpy as np
import pytest

from minivae import VAE, check_layer, check_model, check_vjp
from minivae.gradcheck import FAIL, problem
from minivae.gradcheck.suite import CHECKS
from minivae.gradcheck.suspects import SUSPECTS, suspect
from minivae.gradcheck.wrong import WrongGradient

pytestmark = [pytest.mark.gradients, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

F8 = np.float64


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def note(forward, backward, *inputs, name="x"):
    """The suspect of a plain pair of functions; the rest of the report may fail, too."""
    report = check_vjp(forward, backward, *inputs)
    (row,) = [row for row in report.rows if row.name == name]
    assert row.verdict == FAIL, str(report)
    return row.note


def drifting(x):
    """x -> 3 x, whose backward forgets to start at zero."""
    kept = np.zeros_like(x)

    def backward(x, dy):
        kept[...] += 3 * dy
        return kept

    return lambda x: 3 * x, backward


def noisy():
    rng = np.random.default_rng(0)
    return lambda x: 3 * x, lambda x, dy: 3 * dy * rng.standard_normal(x.shape)


def f32(a):
    return a.astype(np.float32).astype(F8)


@pytest.mark.parametrize("forward, backward, words", [
    # numbers
    (np.sin, lambda x, dy: 2 * dy * np.cos(x), "twice too large"),
    (np.sin, lambda x, dy: -dy * np.cos(x), "right but for the sign"),
    (np.sin, lambda x, dy: dy * np.cos(x) + 0.01, "a constant +0.01 was added"),
    (np.sin, lambda x, dy: f32(dy * np.cos(x)), "rounded to float32"),
    (np.sin, lambda x, dy: (dy * np.cos(x)).astype(np.float16).astype(F8), "rounded to float16"),
    (np.sin, lambda x, dy: np.exp(f32(x)) * 0 + dy * np.cos(f32(x)), "is something rounded to float32 on the way?"),
    (np.sin, lambda x, dy: (dy * np.cos(x))[[1, 2, 3, 4, 0]], "with its rows shifted by one, upwards"),
    (np.sin, lambda x, dy: (dy * np.cos(x))[[1, 0, 4, 2, 3]], "with its rows in another order"),
    (np.sin, lambda x, dy: (dy * np.cos(x))[:, [1, 2, 0, 3]], "with its columns in another order"),
    (np.sin, lambda x, dy: dy * np.cos(x) * np.array([0.7, 1.5, 2, 3]),
     "each column has a factor of its own, from 0.7 to 3"),
    (np.sin, lambda x, dy: dy * np.cos(x) * np.array([[0.7], [1.5], [2], [3], [4]]),
     "each row has a factor of its own"),
    (np.sin, lambda x, dy: dy * np.cos(x[:1]), "only row 0 is right"),
    # other passes
    (*drifting(np.zeros((5, 4))), "each backward adds to what was there"),
    (*noisy(), "a second backward gives other numbers"),
    (np.tanh, lambda x, dy: dy * (1 - np.tanh(np.tanh(x)) ** 2), "the derivative at y, not at x"),
    (lambda x: np.log1p(np.exp(x)), lambda x, dy: dy * sigmoid(-x), "the derivative at -x, not at x"),
    (lambda x: np.exp(2 * x), lambda x, dy: 2 * dy * np.exp(x), "the derivative at x/2, not at x"),
    (lambda x: np.clip(x, -0.5, 0.5), lambda x, dy: dy, "does forward clip, and backward not?"),
    # arrays at hand
    (np.sin, lambda x, dy: np.cos(x), "short of a factor dy"),
    (np.sin, lambda x, dy: dy * np.cos(x) * np.exp(x / 2), "exp(x/2) times what they should be"),
    (lambda x: np.cos(x) * np.exp(x), lambda x, dy: dy * (np.cos(x) - np.sin(x)), "short of a factor exp(x)"),
    (lambda x: np.sin(np.log1p(np.exp(x + 3))), lambda x, dy: dy * np.cos(np.log1p(np.exp(x + 3))),
     "short of a factor sigmoid(x + 3)"),
    (np.sin, lambda x, dy: dy * np.cos(x) + 0.25 * dy, "off by 0.25 times dy"),
    (np.sin, lambda x, dy: dy * np.cos(x) - 0.1 * x, "off by -0.1 times x"),
    (lambda x: x**3 - np.sin(x), lambda x, dy: dy * (3 * x**2 - np.cos(x) + x - sigmoid(x)),
     "off by (x - sigmoid(x)) times dy: does one stand where the other"),
    (np.tanh, lambda x, dy: dy * (1 - np.tanh(x)), "gives (1 - y) times dy, and should give (1 - y^2) times dy"),
    (lambda x: np.maximum(x, 0), lambda x, dy: np.maximum(dy, 0),
     "gives dy where dy > 0, and should give dy where x > 0"),
    (lambda x: 0.3 * np.cos(x), lambda x, dy: (lambda g: g * (1 - g**2))(-0.3 * dy * np.sin(x)),
     "g the right gradient: a chain rule"),
])
def test_each_suspect_knows_its_fault(forward, backward, words):
    x = np.random.default_rng(3).standard_normal((5, 4))
    found = note(forward, backward, x)
    assert words in found and len(found) < 160, found


def test_a_matrix_the_wrong_way_round_is_named(rng):
    x, W = rng.standard_normal((5, 4)), rng.standard_normal((4, 4))
    found = note(lambda x, W: x @ W, lambda x, W, dy: (dy @ W, x.T @ dy), x, W)
    assert "backward gives dy @ W, and should give dy @ W.T" in found


def test_weight_decay_in_a_gradient_is_named(rng):
    x, W = rng.standard_normal((5, 4)), rng.standard_normal((4, 3))
    found = note(lambda x, W: x @ W, lambda x, W, dy: (dy @ W.T, x.T @ dy + 0.01 * W), x, W, name="W")
    assert "off by 0.01 times W" in found


def test_a_part_of_the_loss_is_named(rng, monkeypatch):
    right = VAE.backward

    def half(self):
        right(self)
        self.to_logvar.grads["W"] *= 0.5

    monkeypatch.setattr(VAE, "backward", half)
    vae = VAE.mlp(7, [4], 2, rng=0, dtype=F8, activation="tanh")
    report = check_model(vae, rng.random((5, 7)), rng.standard_normal((5, 2)))
    (row,) = [row for row in report.rows if row.verdict == FAIL and row.name.startswith("to_")]
    assert row.name == "to_logvar.W" and "half of what they should be" in row.note


def blurred(x):
    """Each pixel with its right and its lower neighbour, 0 outside: images (B, H, W, C)."""
    y = 2.0 * x
    y[:, :-1] += 3 * x[:, 1:]
    y[:, :, :-1] -= x[:, :, 1:]
    return y


def sharpened(dy):
    """The right gradient of `blurred`."""
    dx = 2.0 * dy
    dx[:, 1:] += 3 * dy[:, :-1]
    dx[:, :, 1:] -= dy[:, :, :-1]
    return dx


def moved_up_left(dy):
    dx = np.zeros_like(dy)
    dx[:, :-1, :-1] = sharpened(dy)[:, 1:, 1:]
    return dx


def overwritten(dy):
    dx = 2.0 * dy
    dx[:, 1:] += 3 * dy[:, :-1]
    dx[:, :, 1:] = -dy[:, :, :-1]
    return dx


def other_neighbour(dy):
    dx = 2.0 * dy
    dx[:, :-1] += 3 * dy[:, 1:]
    dx[:, :, 1:] -= dy[:, :, :-1]
    return dx


@pytest.mark.parametrize("backward, words", [
    (moved_up_left, "the right numbers, moved by 1 down or up and 1 across"),
    (lambda dy: np.roll(sharpened(dy), 2, axis=2), "the right numbers, moved by 0 down or up and 2 across"),
    (lambda dy: sharpened(dy[:1].repeat(3, axis=0)), "only row 0 is right: does every row use what belongs to row 0"),
    (overwritten, "(0, 0, 1, 0) reaches 2 outputs, and backward leaves out 1 of them: overwritten where"),
    (other_neighbour, "brings dy to (0, 0, 0, 0) from outputs that (0, 0, 0, 0) does not reach in forward: an index"),
])
def test_a_fault_in_the_gradient_of_images_is_named(backward, words, rng):
    x = rng.standard_normal((3, 4, 5, 1))
    assert check_vjp(blurred, lambda x, dy: sharpened(dy), x).ok
    assert words in note(blurred, lambda x, dy: backward(dy), x)


def test_a_large_output_is_not_looked_at_one_by_one(rng):
    """It would take as many passes as there are outputs."""
    x, calls = rng.standard_normal((3, 9, 20, 1)), []

    def backward(x, dy):
        calls.append(1)
        return overwritten(dy)

    assert "no simple pattern" in note(blurred, backward, x) and x.size > problem.OUTPUTS > len(calls)


# --- nobody is accused for nothing ----------------------------------------------------------------


def wrong_gradients(check, monkeypatch, layer_is_wrong):
    """The WrongGradients of a check in which every array is wrong; what they ask is asked once."""
    found, asked = [], {}

    def keep(gradient):
        ask = gradient.slopes

        def slopes(indices, f=None, point=None):
            key = (gradient.name, tuple(indices), id(f), None if point is None else point.tobytes())
            if key not in asked:
                asked[key] = ask(indices, f, point)
            return asked[key]

        gradient.slopes = slopes
        found.append(gradient)
        return suspect(gradient)

    with monkeypatch.context() as patch:
        patch.setattr(problem, "suspect", keep)
        right = problem.Problem.measure

        def measure(self):
            right(self)
            self.grads = {name: layer_is_wrong(g) for name, g in self.grads.items()}

        patch.setattr(problem.Problem, "measure", measure)
        CHECKS[check](0)
    assert found
    return found


def with_gradient(gradient, grad):
    """The same place, with another gradient there."""
    wrong = [i for i in gradient.compared if abs(grad[i] - gradient.numeric[i]) > 10 * gradient.bar]
    return WrongGradient(gradient.name, grad, gradient.numeric, wrong, gradient.bar, others=gradient.others,
                         sizes=gradient.sizes, known=gradient.known, again=lambda: grad, slopes=gradient.slopes,
                         parts=gradient.parts, sampled=gradient.sampled)


PLACES = ["Dense", "Dense.square", "Tanh", "Softplus", "BernoulliLikelihood", "GaussianLikelihood.per_pixel",
          "GaussianLatent.sample", "GaussianLatent.kl", "GaussianLatent.log_q", "BernoulliLatent.log_q", "VAE.elbo"]


@pytest.mark.parametrize("check", PLACES)
def test_a_thousand_unrelated_gradients_fit_no_suspect(check, monkeypatch):
    """Numbers of the right size, and the right numbers with some of their size added, at random."""
    rng = np.random.default_rng(1)
    places = wrong_gradients(check, monkeypatch, lambda g: rng.standard_normal(g.shape))
    places = [gradient for gradient in places if gradient.grad.size >= 2]
    for n in range(1000 // len(PLACES) + 1):
        place = places[rng.integers(len(places))]
        noise = rng.standard_normal(place.grad.shape) * place.size
        right = np.zeros_like(noise)
        for i, value in place.numeric.items():
            right[i] = value
        grad = (noise, right + 1e-3 * noise, right + 0.1 * right * noise)[n % 3]
        assert "no simple pattern" in suspect(with_gradient(place, grad)), place.name


def test_two_numbers_fit_no_formula():
    """One constant fits one number, and two small arrays fit many formulas."""
    rng = np.random.default_rng(0)
    for n in (1, 2):
        numeric = {(i,): v for i, v in enumerate(rng.standard_normal(n))}
        known = {"dy": rng.standard_normal(n), "y": rng.standard_normal(n), "x": rng.standard_normal(n)}
        grad = rng.standard_normal(n)
        found = suspect(WrongGradient("x", grad, numeric, list(numeric), 1e-13, known=known))
        assert "no simple pattern" in found


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (1, 5), (5, 1), (2, 3, 4)])
def test_no_shape_is_too_odd(shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    numeric = {i: float(dy[i] * np.cos(x[i])) for i in np.ndindex(shape)}
    for grad in (0 * x, dy * np.cos(x) * 2, np.full(shape, np.nan), rng.standard_normal(shape), dy):
        gradient = WrongGradient("x", np.asarray(grad), numeric, list(numeric), 1e-13, known={"dy": dy, "x": x, "y": x})
        for ask in SUSPECTS:
            assert ask(gradient) is None or isinstance(ask(gradient), str)


def test_a_stranger_who_minds_another_point_is_not_asked_twice(rng):
    """The derivative elsewhere is a question, and no function must answer it."""

    def forward(x):
        if (x < 0).any():
            raise TypeError("x must be positive")
        return np.sqrt(x)

    x = 1 + rng.random((4, 3))
    assert "short of a factor" in note(forward, lambda x, dy: dy / (2 * np.sqrt(x)) / np.exp(x), x)


def test_a_layer_at_a_kink_is_named_beside_it(rng):
    from minivae.layers import ReLU

    class Doubled(ReLU):
        def backward(self, dy):
            return 2 * super().backward(dy)

    x = rng.standard_normal((3, 4))
    x[0, 0] = 0.0
    (row,) = [row for row in check_layer(Doubled(), x).rows if row.name == "x"]
    assert "twice too large" in row.note
