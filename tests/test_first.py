"""Page 0: the same numbers as the package, a check that sees faults, and a page that stays short and runs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae import VAE, first

PAGE = Path(first.__file__)
SOURCE = PAGE.read_text()
B, D, H, Z = 5, 7, 4, 3
LAYERS = {"enc": "enc.0", "mu": "to_mu", "logvar": "to_logvar", "dec": "dec.0", "logits": "to_logits"}
OURS = {f"{kind}_{short}": f"{layer}.{kind}" for short, layer in LAYERS.items() for kind in "Wb"}
PHI = {"W_enc", "b_enc", "W_mu", "b_mu", "W_logvar", "b_logvar"}
THETA = {"W_dec", "b_dec", "W_logits", "b_logits"}


def point(seed):
    """Parameters with biases as large as the weights, grey pixels and noise; all of them far from 0."""
    rng = np.random.default_rng(seed)
    p = {name: a + 0.5 * rng.standard_normal(a.shape) for name, a in first.init(D, H, Z, rng).items()}
    return p, rng.random((B, D)), rng.standard_normal((B, Z))


def printed_gaps(text):
    """What `check` printed: each parameter's name and its gap."""
    return {name: float(gap) for name, gap in re.findall(r"^ +([Wb]_\w+) +(\S+)$", text, re.MULTILINE)}


def page_with(old, new):
    """The names of the page, run as a module with one piece of its source changed."""
    assert SOURCE.count(old) == 1, (SOURCE.count(old), old)
    names = {"__name__": "changed"}
    exec(compile(SOURCE.replace(old, new), PAGE, "exec"), names)
    return names


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_loss_and_every_gradient_are_those_of_the_package(seed, binary):
    p, x, eps = point(seed)
    x = x.round() if binary else x
    vae = VAE.mlp(D, [H], Z, activation="tanh", dtype=np.float64)
    arrays = {name: (param, grad) for name, param, grad in vae.named_params()}
    assert set(OURS) == set(p) and set(OURS.values()) == set(arrays)
    for name, ours in OURS.items():
        arrays[ours][0][...] = p[name]
    result = vae.forward(x, eps)
    vae.backward()
    loss, cache = first.forward(p, x, eps)
    dp = first.backward(p, cache)
    assert loss == pytest.approx(result.loss, rel=1e-12, abs=0)            # the same sums, in another order
    assert set(dp) == set(p)
    for name, ours in OURS.items():
        want = arrays[ours][1]
        assert dp[name].shape == want.shape == p[name].shape and dp[name].dtype == np.float64, name
        np.testing.assert_allclose(dp[name], want, rtol=0, atol=1e-12 * np.abs(want).max(), err_msg=name)


@pytest.mark.gradients
@pytest.mark.parametrize("seed", range(3))
def test_the_check_passes_for_every_parameter(seed, capsys):
    p, x, eps = point(seed)
    before = {name: a.copy() for name, a in p.items()}
    first.check(p, x, eps)
    gaps = printed_gaps(capsys.readouterr().out)
    assert set(gaps) == set(p)
    assert max(gaps.values()) < 1e-7, gaps                 # good to about 1e-9 here, as in numeric.assert_gradients
    for name in p:
        np.testing.assert_array_equal(p[name], before[name], name)     # the check moves nothing for good


FAULTS = {
    "the loss is a sum in backward": ("1 / len(x))", "1.0)", PHI | THETA),
    "a bias takes the mean over the batch": ("dlogits.sum(axis=0)", "dlogits.mean(axis=0)", {"b_logits"}),
    "tanh's slope is wrong in the decoder": ("1 - g**2", "1 - g", PHI | {"W_dec", "b_dec"}),
    "logvar is taken for the log of std": ("dz * eps * std / 2", "dz * eps * std", PHI - {"W_mu", "b_mu"}),
    "the KL does not join at mu": ("dmu = dmu + dkl[:, None] * mu", "dmu = dmu", PHI - {"W_logvar", "b_logvar"}),
    "the KL joins without its half": ("(np.exp(logvar) - 1) / 2", "(np.exp(logvar) - 1)", PHI - {"W_mu", "b_mu"}),
    "one of the two heads is forgotten": (' + dmu @ p["W_mu"].T', "", {"W_enc", "b_enc"}),
}


@pytest.mark.gradients
@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_finds_a_planted_fault_in_all_that_comes_after_it_and_nowhere_else(fault, capsys):
    old, new, spoiled = FAULTS[fault]
    page_with(old, new)["check"](*point(0))
    gaps = printed_gaps(capsys.readouterr().out)
    assert set(gaps) == PHI | THETA
    assert {name for name, gap in gaps.items() if gap > 0.1} == spoiled, gaps      # the least of them is 0.12
    assert all(gap < 1e-7 for name, gap in gaps.items() if name not in spoiled), gaps


def test_logits_far_out_overflow_nothing():
    p, x, eps = point(0)
    p["b_logits"] = np.linspace(-2000, 2000, D)            # e^710 is already infinite
    x = x.round()
    loss, cache = first.forward(p, x, eps)                 # an overflow would warn, and a warning fails the test
    assert np.isfinite(loss) and all(np.isfinite(a).all() for a in first.backward(p, cache).values())


def test_the_samples_spread_is_the_std_and_not_the_variance():
    """A check of gradients cannot see this: both passes would be wrong together."""
    p, x, eps = point(0)
    _, (_, _, mu, logvar, std, _, z, _, _) = first.forward(p, x, eps)
    np.testing.assert_allclose(((z - mu) / eps) ** 2, np.exp(logvar), rtol=1e-12)
    np.testing.assert_allclose(std**2, np.exp(logvar), rtol=1e-14)


def test_adam_takes_the_steps_worked_by_hand():
    """Gradients 2 and -3, then -1 and -3; lr = 0.1; adam_eps = 1e-8 moves nothing in the first seven digits.

    Step 1: m_hat = dp and v_hat = dp^2, so each number moves by lr against the sign of its gradient.
    Step 2: m = 0.9 * 0.2 - 0.1 = 0.08, m_hat = 0.08 / 0.19 = 8/19; v = 0.999 * 0.004 + 0.001 = 0.004996,
    v_hat = 0.004996 / 0.001999 = 4996/1999; the other's gradient has not changed, so it moves by lr again.
    """
    p, m, v = {"W": np.array([1.0, 1.0])}, {}, {}
    live = p["W"]
    first.adam(p, {"W": np.array([2.0, -3.0])}, m, v, 1, lr=0.1)
    np.testing.assert_allclose(live, [0.9, 1.1], rtol=1e-8)
    first.adam(p, {"W": np.array([-1.0, -3.0])}, m, v, 2, lr=0.1)
    np.testing.assert_allclose(live, [0.9 - 0.1 * (8 / 19) / (4996 / 1999) ** 0.5, 1.2], rtol=1e-8)
    np.testing.assert_allclose([m["W"][0], v["W"][0]], [0.08, 0.004996], rtol=1e-14)


def test_the_page_is_short_and_imports_nothing_of_ours():
    lines = SOURCE.splitlines()
    assert len(lines) <= 110 and max(map(len, lines)) <= 100
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            imported.add(node.module)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    assert imported == {"numpy", "sklearn.datasets"}


def test_the_command_prints_the_gaps_and_then_a_loss_that_falls_far_below_chance():
    command = [sys.executable, "-W", "error", "-m", "minivae.first"]
    done = subprocess.run(command, cwd=PAGE.parents[1], env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    gaps_part, loss_part = done.stdout.split("Loss")
    gaps = printed_gaps(gaps_part)
    assert set(gaps) == set(OURS) and max(gaps.values()) < 1e-7, gaps
    chance = float(re.search(r"uniform guess: ([\d.]+)", loss_part)[1])
    assert chance == round(64 * np.log(2), 2)
    losses = [float(loss) for loss in re.findall(r"epoch +\d+ +([\d.]+)$", loss_part, re.MULTILINE)]
    assert len(losses) == 11 and losses[-1] < losses[1] < chance < losses[0]
    assert losses[-1] < 0.6 * chance                       # 24.3 of 44.36 here; only the order of sums can change it
