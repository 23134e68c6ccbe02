"""The ladder: cut from the source, graded without mercy and in sentences; the twins of the estimators."""

import ast
import runpy
import subprocess
import sys
import time

import numpy as np
import pytest

from minivae import estimators, kernels
from minivae.gradcheck.faults import FAULTS
from minivae.learn import cut, selftest, twins, wires
from minivae.learn.known import defined_by
from minivae.learn.ladder import EXERCISES, RUNGS
from minivae.learn.restated import NO_TWIN, RESTATED, faulty

K, B = 3, 5


# --- the twins of the estimators --------------------------------------------------------------------------------------


def terms(rng, beta=1.7):
    log_px, log_pz, log_qz = rng.standard_normal((3, K, B))
    return estimators.Terms(log_px, log_pz, log_qz, rng.random(B), beta)


@pytest.mark.parametrize("name, twin, beta", [
    ("elbo", lambda t: wires.elbo_wires(K, B, t.beta), 1.7),
    ("elbo_mc", lambda t: wires.elbo_mc_wires(K, B, t.beta), 1.7),
    ("stl", lambda t: wires.stl_wires(K, B, t.beta), 1.7),
    ("score", lambda t: wires.score_wires(t.log_px, t.log_pz, t.log_qz, t.beta), 1.7),
    ("dreg", lambda t: wires.dreg_wires(t.log_px, t.log_pz, t.log_qz), 1.0),
    ("vimco", lambda t: wires.vimco_wires(t.log_px, t.log_pz, t.log_qz), 1.0)])
def test_the_weights_on_wires_are_the_packages(name, twin, beta, rng):
    t = terms(rng, beta)
    for got, want in zip(twin(t), estimators.ESTIMATORS[name](t), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_the_bound_and_its_gradient_are_the_packages(rng):
    logw = rng.standard_normal((K, B))
    np.testing.assert_allclose(wires.bound_forward(logw), estimators.log_mean_exp(logw), rtol=1e-14)
    np.testing.assert_allclose(wires.bound_backward(logw, np.ones(B)), estimators.normalised(logw), rtol=1e-14)


def test_the_layers_of_several_kernels_are_theirs(rng):
    """What is no kernel of its own is the product of a library and kernels that the twins are held to."""
    x, W, b, dy = (rng.standard_normal(shape) for shape in ((B, 4), (4, 6), 6, (B, 6)))
    y, db = x @ W, np.empty(6)
    kernels.add_bias(b, y)
    kernels.sum_rows(dy, db)
    np.testing.assert_array_equal(twins.dense_forward(x, W, b), y)
    np.testing.assert_allclose(twins.dense_backward(x, W, dy)[2], db, rtol=1e-14)
    mu, logvar, eps, dz = rng.standard_normal((4, B, 2))
    std, z = twins.one_sample_forward(mu, logvar, eps)
    np.testing.assert_array_equal(twins.sample_forward(mu, logvar, eps[None]), (std, z))
    np.testing.assert_allclose(twins.one_sample_backward(std, eps, dz), twins.sample_backward(std, eps[None], dz))


# --- the files --------------------------------------------------------------------------------------------------------


def test_there_are_enough_exercises_and_their_titles_fit_a_list():
    assert len(EXERCISES) >= 20
    for exercise in RUNGS:
        assert len(exercise.title) <= 50 and len(exercise.hints) == 3 and all(exercise.hints), exercise.name


@pytest.mark.parametrize("name", EXERCISES)
def test_a_skeleton_is_its_solution_but_for_the_gap(name):
    """Line by line: an open line has the same left side, and only formulas of docstrings are left out."""
    exercise = EXERCISES[name]
    skeleton, solution = exercise.skeleton().splitlines(), exercise.solution().splitlines()
    kept = [line for line in skeleton if "= ..." not in line and '."""' not in line and "# %%" not in line]
    assert set(kept) <= set(solution)
    blanks = [line for line in skeleton if "= ..." in line]
    assert blanks and not any("= ..." in line for line in solution)
    for line in blanks:
        assert any(whole.startswith(line[: line.index("= ...")].rstrip()) for whole in solution), line


@pytest.mark.parametrize("name", EXERCISES)
def test_the_file_runs_by_itself_open_and_solved(name, tmp_path, capsys):
    for text, is_open in ((EXERCISES[name].skeleton(), True), (EXERCISES[name].solution(), False)):
        path = tmp_path / "exercise.py"
        path.write_text(text)
        runpy.run_path(str(path), run_name="__main__")
        shown = capsys.readouterr().out
        assert ("is still open" in shown) == is_open and max(map(len, shown.splitlines())) <= 80
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert [ast.unparse(node) for node in nodes] == ["import numpy as np"]


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_do_not_hold_the_answer(name):
    exercise = EXERCISES[name]
    assert "_ _ _" in exercise.hints[1]
    answers = [line.strip() for line in exercise.solution().splitlines()
               if line not in exercise.skeleton().splitlines() and "=" in line and "?" not in line]
    with_operators = [line for line in answers if any(sign in line.split("=", 1)[1] for sign in "*+/@")]
    assert not any(line in hint for line in with_operators for hint in exercise.hints)


def test_an_operator_is_hidden_and_a_number_is_not():
    source = "def f():\n    dx = np.tanh(y) * 0.5 - W.T @ a[1] / b**2 + 1e-8\n"
    assert cut.hidden(source, ("dx",)) == "dx = np.tanh(y) ? 0.5 ? W?T ? a[1] ? b??2 ? 1e-8"


def test_a_line_that_subtracts_is_opened_without_its_sign():
    source = 'def f(p):\n    """One.\n\n    The formula.\n    """\n    p["a"] -= 2    # a step'
    assert cut.blanked(source, ("p[]",)) == 'def f(p):\n    """One."""\n    p["a"] = ...   # a step'


@pytest.mark.parametrize("name", EXERCISES)
def test_where_it_lives_is_in_the_package(name):
    path, line = EXERCISES[name].where_it_lives().splitlines()[0].removeprefix("# minivae/").split(", line ")
    place = (cut.PACKAGE / path).read_text().splitlines()[int(line) - 1].strip()
    assert place == EXERCISES[name].where_it_lives().splitlines()[1]


# --- the grader -------------------------------------------------------------------------------------------------------


def test_skeletons_are_refused_solutions_accepted_and_every_fault_refused_with_its_entry_and_a_reason():
    said = []
    assert selftest.run(said.append), "\n".join(said)
    assert len(said) == len(EXERCISES) + 3 and all(len(line) <= 80 for line in said)


def test_the_two_tables_cover_the_museum():
    assert set(RESTATED) | set(NO_TWIN) == {fault.name for fault in FAULTS}
    assert not set(RESTATED) & set(NO_TWIN) and all(NO_TWIN.values())


def test_a_grader_that_accepts_everything_would_not_pass_the_selftest(monkeypatch):
    """The selftest can fail: here nothing is compared any more."""
    from minivae.learn import rung
    monkeypatch.setattr(rung.Rung, "check", lambda *_: rung.Report("", []))
    said = []
    assert not selftest.run(said.append)
    assert any("NOT REFUSED" in line for line in said) and any(line.startswith("WRONG") for line in said)


def scaled(function, which, by):
    """The function, one of its outputs a little too large; a dict's entries, all of them."""
    def off(*arguments):
        result = function(*arguments)
        if isinstance(result, dict):
            return {name: a * (1 + by * (i == which)) for i, (name, a) in enumerate(result.items())}
        if not isinstance(result, tuple):
            return result * (1 + by)
        return tuple(a * (1 + by) if i == which else a for i, a in enumerate(result))

    return off


def graded_outputs():
    """(exercise, output) for every output of every backward; Adam has none, it works in place."""
    for name, exercise in EXERCISES.items():
        outputs = 10 if name == "page-0" else len(exercise.backward.split(" = ")[0].split(", "))
        for which in range(outputs if name != "adam" else 0):
            yield name, which


@pytest.mark.parametrize("name, which", list(graded_outputs()))
def test_a_relative_error_of_a_millionth_is_refused(name, which):
    exercise = EXERCISES[name]
    names = defined_by(exercise.solution())
    function = exercise.backward.split(" = ")[1].split("(")[0]
    target = exercise.backward.split(" = ")[0].split(", ")[which if name != "page-0" else 0]
    is_zero = any(line.strip().startswith(f"{target} = np.zeros") for line in exercise.solution().splitlines())
    names[function] = scaled(names[function], which, 1e-6)
    grade = exercise.grade(names)
    assert grade.passed == (target in exercise.later or is_zero), grade.sentence


@pytest.mark.parametrize("old, new", [
    ("m[name] = 0.9", "m[name] = (1 + 1e-6) * 0.9"), ("0.001 * dp[name]**2", "0.001001 * dp[name]**2"),
    ("lr * m_hat", "(1 + 1e-6) * lr * m_hat")])
def test_a_millionth_in_adam_is_refused(old, new):
    assert not EXERCISES["adam"].grade(defined_by(faulty(EXERCISES["adam"].solution(), old, new))).passed


def grade(name, *changes):
    return EXERCISES[name].grade(defined_by(faulty(EXERCISES[name].solution(), *changes)))


@pytest.mark.parametrize("name, old, new, sentence", [
    ("tanh", "return dx", "return None", "dx is None: is a return missing?"),
    ("tanh", "dx = dy * (1 - y**2)", "dx = ...",
     "dx is still open: write what belongs in the place of the `...`."),
    ("kl", "return dmu, dlogvar", "pass", "kl_backward returns nothing: it should return dmu, dlogvar."),
    ("kl", "return dmu, dlogvar", "return dmu",
     "kl_backward returns 1 value and should return 2: dmu, dlogvar."),
    ("kl", "return dmu, dlogvar", "return dmu, dlogvar, dkl",
     "kl_backward returns 3 values and should return 2: dmu, dlogvar."),
    ("bias", "dy.sum(axis=0)", "dy.sum(axis=1)", "db has shape (5,) and should have (6,)."),
    ("tanh", "return dx", "return dx.astype(np.float32)", "dx is float32 and should be float64."),
    ("tanh", "return dx", "return dx.tolist()", "dx is a list and should be an array of shape (5, 4)."),
    ("tanh", "return dx", "return dx / 0 * 0", "dx holds NaN, first at (0, 0)."),
    ("tanh", "return dx", "return np.abs(dx) / 0", "dx holds infinity, first at (0, 0)."),
    ("tanh", "dx = dy", "dy *= 2\ndx = dy",
     "tanh_backward writes into dy, which belongs to its caller: copy it first."),
    ("tanh", "def tanh_backward", "def backward",
     "The file does not define tanh_backward any more: `minivae learn reset tanh` writes it anew."),
    ("page-0", "return dp", "return list(dp)", "backward returns list and should return the dict dp."),
    ("page-0", "return dp", "del dp['b_dec']; return dp",
     'dp["b_dec"] is missing: every parameter of p has a gradient.'),
])
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_grade_is_a_sentence(name, old, new, sentence):
    found = grade(name, old, new)
    assert not found.passed and found.sentence == sentence


@pytest.mark.parametrize("name, old, new, start, cause", [
    ("sample-logvar", "eps * std / 2", "eps * std",
     "dlogvar is twice too large in all 10 entries, at (0, 1): yours 2.11, should be 1.06.", "half forgotten?"),
    ("kl", "0.5 * (mu**2", "1.0 * (mu**2", "The forward of the file was changed: kl is twice too large in all "
     "5 entries, at (4,): yours 2.99, should be 1.49.", "half forgotten?"),
    ("elbo", "-beta / B)", "-beta)",
     "kl is 5 times too large (the batch size) in all 5 entries, at (0,): yours -1.7, should be -0.34.", "a mean"),
    ("dense-dw", "dW = x.T @ dy", "dW = x.T @ dy\ndW[1, 2] *= 1 + 1e-6",
     "dW is wrong in 1 of 24 entries, at (1, 2): yours -0.4235072, should be -0.4235068.", "only entry (1, 2)"),
    ("tanh", "1 - y**2)", "1 - np.tanh(y)**2)", "dx is ", "output"),
    ("sample-mu", "dmu = dz", "dmu = 0 * dz", "dmu is zero in all 10 entries, at ", "never filled"),
    ("sample-logvar", "dlogvar = dz", "dlogvar = np.random.default_rng().random() * dz", "dlogvar is ", "noise"),
    ("page-0", "dh = dlogvar", "dh = 0 * dlogvar", 'dp["W_enc"] is wrong in all 24 entries, at ', "one head's"),
])
def test_a_grade_tells_the_row_the_entry_both_numbers_and_a_cause(name, old, new, start, cause):
    found = grade(name, old, new)
    assert not found.passed and found.sentence.startswith(start), found.sentence
    assert cause.lower() in found.sentence[len(start):].lower(), found.sentence


def test_a_grade_does_not_give_the_answer_away():
    """The suspects may know what should stand there; the reader is to find it."""
    for name, fault in ((name, changes) for name, *changes in RESTATED.values()):
        assert "should give" not in grade(name, *fault).sentence


def test_what_the_readers_function_raises_goes_through():
    with pytest.raises(ZeroDivisionError):
        grade("tanh", "dx = dy", "1 / 0\ndx = dy")
    with pytest.raises((TypeError, ValueError)):      # a line that needs what is still open
        grade("page-0", "dlogits = drecon[:, None] * (prob - x)", "dlogits = ...")
    with pytest.raises(ValueError, match="mine"):
        grade("tanh", "dx = dy", "raise ValueError('mine')\ndx = dy")


def test_a_changed_forward_does_not_help():
    """A forward and a backward that agree with each other, and not with the VAE."""
    found = grade("tanh", "y = np.tanh(x)", "y = np.tanh(x) / 2", "1 - y**2", "0.5 - 2 * y**2")
    assert not found.passed and "forward of the file was changed: y is half" in found.sentence


def test_another_right_formula_passes():
    assert grade("sigmoid", "dy * y * (1 - y)", "dy * (y - y**2)").passed
    assert grade("dense-dw", "x.T @ dy", "np.einsum('ni,nj->ij', x, dy)").passed
    assert grade("kl", "np.expm1(logvar) / 2", "(np.exp(logvar) - 1) * 0.5").passed
    assert grade("adam", "p[name] -= lr *", "p[name] = p[name] - lr *").passed


def test_the_exact_mean_finds_a_bias():
    """Weights of IWAE-STL: the score cut, and no share at the sampling node.  Its mean is off, dreg's is not."""
    from minivae.learn.weights import check_mean

    def made_by(cut_share):
        def weights(t):
            decoder, latent, path, score, kl = wires.dreg_wires(t["log_px"], t["log_pz"], t["log_qz"])
            return decoder, latent, path**0 if cut_share else path, score, kl
        return weights

    assert check_mean(made_by(False), "bound").ok and not check_mean(made_by(True), "bound").ok


def test_a_grade_takes_well_below_a_third_of_a_second():
    """In seconds of this process: a neighbour on the machine does not count."""
    for name, exercise in EXERCISES.items():
        names, start = defined_by(exercise.solution()), time.process_time()
        assert exercise.grade(names).passed
        assert time.process_time() - start < 0.3, name


def test_grading_loads_no_numba():
    code = ("import sys; from minivae.learn.selftest import EXERCISES, selftest; "
            "EXERCISES['relu'].grade({}); EXERCISES['relu'].where_it_lives(); print('numba' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
