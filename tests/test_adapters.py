"""The adapters of demos/adapters.py: functions of PyTorch and JAX under check_vjp, and the demo that uses them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import skip
from test_demos import printed_by

pytestmark = pytest.mark.oracle

DEMOS = Path(__file__).parents[1] / "demos"
DEMO = DEMOS / "09_five_issues_five_verdicts.py"
FAULTS = [0.0, 1e-6]                                       # the relative error of a gradient


def import_or_skip(name, library):
    try:
        return __import__(name)
    except ImportError:
        skip(f"{library} is not installed: pip install '.[oracle]'")


@pytest.fixture(scope="module")
def torch():
    return import_or_skip("torch", "PyTorch")


@pytest.fixture(scope="module")
def jax():
    return import_or_skip("jax", "JAX")


@pytest.fixture
def adapters(monkeypatch):
    monkeypatch.syspath_prepend(DEMOS)
    import adapters

    return adapters


@pytest.fixture
def inputs(rng):
    """Two float arrays and rows of the first, one of them twice."""
    return rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), np.array([0, 2, 2, 4])


# one function in both libraries: x, w, i  ->  x[i] * w and exp(x), and an output that carries no gradient
# the fault is in dw


def torch_function(torch, fault):
    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, i):
            ctx.save_for_backward(x, w, i)
            where = torch.zeros_like(x)
            ctx.mark_non_differentiable(where)
            return where, x[i] * w, torch.exp(x)

        @staticmethod
        def backward(ctx, dwhere, dy, dexp):
            x, w, i = ctx.saved_tensors
            dx = torch.zeros_like(x).index_add(0, i, dy * w) + dexp * torch.exp(x)
            return dx, (1 + fault) * dy * x[i], None

    return Gather


def jax_function(jax, fault):
    @jax.custom_vjp
    def gather(x, w, i):
        return i + 1, x[i] * w, jax.numpy.exp(x)

    def forward(x, w, i):
        return gather(x, w, i), (x, w, i)

    def backward(kept, upstream):
        (x, w, i), (_, dy, dexp) = kept, upstream
        dx = jax.numpy.zeros_like(x).at[i].add(dy * w) + dexp * jax.numpy.exp(x)
        return dx, (1 + fault) * dy * x[i], None

    gather.defvjp(forward, backward)
    return gather


def verdict_of(report, name):
    return next(row.verdict for row in report.rows if row.name == name)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_torch_function_of_several_inputs_and_outputs(adapters, torch, inputs, fault):
    report = adapters.check_torch(torch_function(torch, fault), *inputs)
    assert [row.name for row in report.rows if row.shape][:2] == ["x0", "x1"]        # and none for the integers
    assert verdict_of(report, "x0") == "PASS"
    assert verdict_of(report, "x1") == ("FAIL" if fault else "PASS") and report.ok == (fault == 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_jax_function_of_several_inputs_and_outputs(adapters, jax, inputs, fault):
    report = adapters.check_jax(jax_function(jax, fault), *inputs)
    assert [row.name for row in report.rows if row.shape][:2] == ["x0", "x1"]
    assert verdict_of(report, "x0") == "PASS"
    assert verdict_of(report, "x1") == ("FAIL" if fault else "PASS") and report.ok == (fault == 0)
    assert not jax.config.jax_enable_x64                   # as it was


@pytest.mark.parametrize("fault", FAULTS)
def test_a_torch_function_of_one_array(adapters, torch, rng, fault):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            return (3 + 3 * fault) * dy * ctx.saved_tensors[0] ** 2

    report = adapters.check_torch(Cube, torch.tensor(rng.standard_normal((4, 3)), requires_grad=True))
    assert report.title == "Cube" and report.ok == (fault == 0), report


@pytest.mark.parametrize("fault", FAULTS)
def test_a_jax_function_of_one_number(adapters, jax, fault):
    cube = jax.custom_vjp(lambda x: x**3)
    cube.defvjp(lambda x: (x**3, x), lambda x, dy: ((3 + 3 * fault) * dy * x**2,))
    assert adapters.check_jax(cube, 0.7).ok == (fault == 0)


def test_float32_tensors_and_arrays_are_checked_in_float64(adapters, torch, jax, rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    adapters.check_torch(torch.tanh, torch.tensor(x)).raise_if_wrong()
    adapters.check_jax(jax.numpy.tanh, jax.numpy.asarray(x)).raise_if_wrong()


def test_a_function_that_computes_in_float32_is_refused(adapters, torch, jax):
    for report in (adapters.check_torch(lambda x: torch.tanh(x.float()), np.ones(3)),
                   adapters.check_jax(lambda x: jax.numpy.tanh(x.astype("float32")), np.ones(3))):
        assert report.worst.verdict == "FAIL" and "forward gives float32" in report.worst.note


def test_a_gradient_that_backward_leaves_out_is_wrong(adapters, torch, rng):
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.saved_tensors[1], None         # w never learns

    report = adapters.check_torch(Product, rng.standard_normal(3), rng.standard_normal(3))
    assert verdict_of(report, "x0") == "PASS" and verdict_of(report, "x1") == "FAIL"


def test_a_function_without_a_gradient_is_refused(adapters, torch, jax):
    with pytest.raises(ValueError, match="no output of the function needs a gradient"):
        adapters.check_torch(lambda x: x > 0, np.ones(3))
    with pytest.raises(ValueError, match="no output of the function needs a gradient"):
        adapters.check_jax(lambda x: x > 0, np.ones(3))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_missing_library_is_named_in_one_line(adapters, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"^{name} is not installed, and check_{name} runs it: pip install {name}$"):
        getattr(adapters, f"check_{name}")(abs, np.ones(3))


# --- the demo ---


def run_demo(folder):
    """What the demo prints where modules in `folder` stand before those installed."""
    paths = [str(folder), str(DEMOS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run([sys.executable, "-W", "error", str(DEMO), "out"], cwd=folder, capture_output=True, text=True,
                          timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
    return done.stdout


def table(printed):
    """{(issue, gradient): (what their checker says, our verdict)}"""
    rows, issue = {}, ""
    for line in printed.splitlines()[1:]:
        if found := re.match(r"(.{20}) (\S.{20}) (\S.{21}) ([A-Z]+)$", line):
            first, gradient, theirs, ours = map(str.strip, found.groups())
            issue = first or issue
            rows[issue, gradient] = theirs, ours
    return rows


RESTATED = {"scipy #7766", "tesseract-core #740", "OpenMDAO #3164"}


def test_the_verdicts_of_the_demo(torch, jax):
    printed = printed_by(DEMO.name)
    rows = table(printed)
    assert {issue for issue, _ in rows} == RESTATED | {"pytorch #2710", "jax #3130"} and len(rows) == 11
    for (issue, gradient), (_, ours) in rows.items():
        if gradient == "right, residual 1e-4":
            assert ours != "FAIL"                          # its noise is not the gradient's fault
        else:
            assert ours == ("PASS" if gradient == "right" else "FAIL"), (issue, gradient)
    theirs = {row: says for row, (says, _) in rows.items()}
    error = {gradient: float(says.split()[-1]) for (issue, gradient), says in theirs.items() if "scipy" in issue}
    assert error["right"] > 1e6 * error["wrong: half of it"]
    assert theirs["OpenMDAO #3164", "right"] == theirs["OpenMDAO #3164", "wrong: pi/4 rounded"] == "relative error 1.0"
    eps = {gradient: float(says.split(">=")[-1]) for (issue, gradient), says in theirs.items() if "tesseract" in issue}
    assert eps["wrong by 3 %"] <= 1e-4 < eps["right, residual 1e-4"]             # 1e-4 is the default of that checker
    assert theirs["jax #3130", "wrong by 3 %"] == "refused, then passes"
    assert "Kepler's gradient, right on paper, gets FAIL" in printed
    assert "(11, 8)" in printed and "The fast mode of gradcheck passes the wrong gradient" in printed


def test_the_demo_runs_without_either_library(tmp_path):
    for name in ("torch", "jax"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    printed = run_demo(tmp_path)
    assert {issue for issue, _ in table(printed)} == RESTATED
    assert "pytorch #2710        not installed" in printed and "jax #3130            not installed" in printed
