# %% [markdown]
# # Five issues, five verdicts
#
# Five public issues complain of five gradient checkers.  Each is restated here as small as it can
# be: a function, its right gradient and a wrong one.  Their checker is asked about both, and so is
# minivae.  A good checker passes the right one and refuses the wrong one.
#
# The checkers of SciPy, PyTorch and JAX are run themselves.  Those of tesseract-core and OpenMDAO
# are restated: their rule takes two lines.

# %%
import re
import textwrap
from itertools import takewhile
from pathlib import Path

import numpy as np
import pictures
from adapters import check_jax, check_torch
from scipy.optimize import check_grad, rosen, rosen_der
from scipy.sparse.linalg import cg

from minivae import check_function
from minivae.gradcheck.report import in_bars

# after the script's name: a folder for the picture
(out,) = pictures.arguments(Path("runs/demo-09"))
rng = np.random.default_rng(0)
asked = []                                                 # (issue, gradient, our report)


def ask(issue, gradient, theirs, report):
    """Print one row of the table, and below it what minivae suspects."""
    first = issue if not asked or asked[-1][0] != issue else ""
    print(f"{first:20s} {gradient:21s} {theirs:22s} {report.worst.verdict}")
    for line in textwrap.wrap(report.worst.note, 58):
        print(20 * " ", line)
    asked.append((issue, gradient, report))


print(f"{'issue':20s} {'gradient':21s} {'their checker':22s} minivae")

# %% [markdown]
# ## 1. An error without a scale
#
# scipy/scipy#7766, "check_grad should use relative error".  check_grad gives the absolute error of
# a forward difference, whatever the size of the gradient.  The function is SciPy's own example,
# Rosenbrock's, in small units (1e6 of them) and in large ones (1e-9).

# %%
x = np.array([-1.2, 1.0, 0.7])
scipy_errors = []
for gradient, unit, factor in (("right", 1e6, 1.0), ("wrong: half of it", 1e-9, 0.5)):
    def f(x, unit=unit):
        return unit * rosen(x)

    def grad(x, unit=unit, factor=factor):
        return factor * unit * rosen_der(x)

    scipy_errors.append(check_grad(f, grad, x))
    ask("scipy #7766", gradient, f"error {scipy_errors[-1]:.1e}", check_function(f, grad, x))

# %% [markdown]
# ## 2. A step that cannot be chosen
#
# pasteurlabs/tesseract-core#740, "no eps-free way to tell a wrong gradient from a noisy finite
# difference".  A solver stops at a relative residual of 1e-9, and a second, adjoint solve gives the
# gradient.  Here it is heat in a rod of conductivities k = exp(x), by conjugate gradients.
# The rule of that checker: a central difference at an eps of your choice, within 10 %.

# %%
n = 40
D = np.diff(np.eye(n + 2), axis=0)[:, 1:-1]                # n + 1 slopes; both ends are held at 0
weight, heat = rng.standard_normal(n), np.ones(n)
x = 0.5 * rng.standard_normal(n + 1)


def solve(x, right_side, residual):
    """u with D' k D u = right_side."""
    return cg(D.T @ (np.exp(x)[:, None] * D), right_side, rtol=residual)[0]


def rod(residual, factor=1.0):
    """J(x) = w'u with A u = heat, and `factor` times dJ/dx = -l' dA/dx u, where A l = w."""
    def J(x):
        return float(weight @ solve(x, heat, residual))

    def dJ(x):
        u, adjoint = solve(x, heat, residual), solve(x, weight, residual)
        return -factor * np.exp(x) * (D @ adjoint) * (D @ u)

    return J, dJ


def passes_at(eps, f, grad, x):
    """The rule of tesseract-core, restated."""
    slopes = [(f(x + eps * e) - f(x - eps * e)) / (2 * eps) for e in np.eye(len(x))]
    return np.allclose(slopes, grad(x), rtol=0.1, atol=1e-8)


def least_eps(f, grad, x):
    """All eps from this one to 1e-2 pass."""
    steps = 10.0 ** -np.arange(2, 11)
    return list(takewhile(lambda eps: passes_at(eps, f, grad, x), steps))[-1]


least = {}
for gradient, residual, factor in (("right", 1e-9, 1.0), ("wrong by 3 %", 1e-9, 1.03),
                                   ("right, residual 1e-4", 1e-4, 1.0)):
    J, dJ = rod(residual, factor)
    least[gradient] = least_eps(J, dJ, x)
    theirs = f"passes, eps>={least[gradient]:.0e}"
    ask("tesseract-core #740", gradient, theirs, check_function(J, dJ, x))

# %% [markdown]
# ## 3. A relative error where the derivative is 0
#
# OpenMDAO/OpenMDAO#3164: "derivatives are very close to 0.  This can cause relative error checks to
# fail".  A stone thrown at 45 degrees flies furthest, R = v^2 sin(2a) / g, so dR/da is 0 there.
# The computed cos(2a) is 6e-17.  The wrong gradient takes 0.7854 for pi / 4.


# %%
def throw(v, a):
    return v**2 * np.sin(2 * a) / 9.81


def throw_grad(v, a):
    return 2 * v * np.sin(2 * a) / 9.81, 2 * v**2 * np.cos(2 * a) / 9.81


def relative_error(calc, v, a, step=1e-6):
    """The rule of OpenMDAO as in that issue, restated; above 1e-6 it is refused."""
    check = (throw(v, a + step) - throw(v, a - step)) / (2 * step)
    return abs(calc - check) / abs(check or calc)


v, a = 20.0, np.pi / 4
for gradient, angle in (("right", lambda a: a), ("wrong: pi/4 rounded", lambda a: round(a, 4))):
    def grad(v, a, angle=angle):
        return throw_grad(v, angle(a))

    theirs = f"relative error {relative_error(grad(v, a)[1], v, a):.1f}"
    report = check_function(throw, grad, v, a)
    ask("OpenMDAO #3164", gradient, theirs, report)
throw_bar = report.rows[1].bar

# %% [markdown]
# ## 4. A message that does not tell
#
# pytorch/pytorch#2710, "more informative gradcheck return codes".  It returned False then, and
# prints both Jacobians today.  A softplus of 300 numbers has one wrong gradient.

# %%
try:
    import torch
    from torch.autograd.gradcheck import GradcheckError, gradcheck
except ImportError:
    torch = None
    print(f"{'pytorch #2710':20s} not installed: pip install torch")
else:
    factors = torch.ones(20, 15, dtype=torch.float64)

    class Softplus(torch.autograd.Function):
        """y = log(1 + e^x), dy/dx = sigmoid(x), times `factors`."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.nn.functional.softplus(x)

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * torch.sigmoid(x) * factors

    grid = torch.tensor(rng.standard_normal((20, 15)), requires_grad=True)
    for gradient, factor in (("right", 1.0), ("wrong: one entry", 1.5)):
        factors[11, 8] = factor
        try:
            gradcheck(Softplus.apply, grid)
            theirs = "passes"
        except GradcheckError as error:
            theirs, message = "refused", str(error)
        ask("pytorch #2710", gradient, theirs, check_torch(Softplus, grid))
    torch.manual_seed(0)                                   # of the fast mode's direction
    fast = gradcheck(Softplus.apply, grid, fast_mode=True, raise_exception=False)

# %% [markdown]
# ## 5. A tolerance that grows
#
# jax-ml/jax#3130, "scaling behaviour of jax.test_util.check_grads".  The forward mode multiplies
# its tolerance by the number of outputs.  A softplus again, its rule wrong by 3 % everywhere.
# (The reverse mode compares a single number.  It refuses the wrong one at any size.)

# %%
try:
    import jax
    from jax.test_util import check_grads
except ImportError:
    jax = None
    print(f"{'jax #3130':20s} not installed: pip install jax")
else:
    def softplus_rule(factor):
        """log(1 + e^x), whose rule says `factor` times sigmoid(x)."""
        softplus = jax.custom_jvp(lambda x: jax.numpy.logaddexp(x, 0.0))
        softplus.defjvps(lambda dx, y, x: factor * jax.nn.sigmoid(x) * dx)
        return softplus

    def jax_says(f, n):
        try:
            with jax.enable_x64(True):
                check_grads(f, (np.linspace(-3, 3, n),), order=1, modes=["fwd"])
        except AssertionError:
            return "refused"
        return "passes"

    for gradient, factor in (("right", 1.0), ("wrong by 3 %", 0.97)):
        f = softplus_rule(factor)
        of_10, of_10_000 = jax_says(f, 10), jax_says(f, 10_000)
        theirs = of_10 if of_10 == of_10_000 else f"{of_10}, then {of_10_000}"
        ask("jax #3130", gradient, theirs, check_jax(f, np.linspace(-3, 3, 10_000)))

# %% [markdown]
# ## And one against minivae
#
# minivae asks whether the gradient is the derivative of the function as it is computed.  A solver
# that stops early computes another function than the one on paper.  Kepler's equation, E = M + e
# sin E, is solved by iteration until E moves by less than 1e-9.  dE/dM = 1 / (1 - e cos E) is right
# on paper.


# %%
def kepler(M, e=0.5):
    E, last = M, np.inf
    while abs(E - last) > 1e-9 + 1e-15 * abs(E):           # a large E has no digit of 1e-9
        E, last = M + e * np.sin(E), E
    return E


strict = check_function(kepler, lambda M: 1 / (1 - 0.5 * np.cos(kepler(M))), 1.0).worst
off = abs(strict.analytic / strict.numeric - 1)

# %% [markdown]
# ## The answer

# %%
with pictures.panels(out / "verdicts.png", size=(8, 4.5)) as (axes,):
    pictures.draw_verdicts(axes, [(f"{issue}\n{gradient}", report.worst.verdict,
                                   in_bars(report.worst)) for issue, gradient, report in asked])

right, wrong = scipy_errors
print(f"\n1. The wrong gradient's error is {right / wrong:.0e} times smaller than the right one's:")
print("   no threshold tells them apart.")
print(f"2. The right gradient passes for eps >= {least['right']:.0e}, the wrong one for "
      f"eps >= {least['wrong by 3 %']:.0e}.")
print("   Where the solver stops at 1e-4, the right one passes for eps >= "
      f"{least['right, residual 1e-4']:.0e} only.")
print("3. The relative error is 100 % for both.  minivae compares the difference with")
print(f"   the error of its own reference, {throw_bar:.0e}.")
if torch:
    numeric, analytic = (re.findall(r"\d\.\d{4}", half) for half in message.split("analytical"))
    print(f"4. The message shows {len(numeric)} of the 90,000 numbers of each Jacobian.  They are")
    print(f"   {'equal' if numeric == analytic else 'not equal'}.  The fast mode of gradcheck "
          f"{'passes' if fast else 'refuses'} the wrong gradient.")
if jax:
    print(f"5. The rule that is wrong by 3 %, at 10 numbers: {of_10}.  At 10,000: {of_10_000}.")
kinds = ["right" if gradient.startswith("right") else "wrong" for _, gradient, _ in asked]
found = list(zip(kinds, [report.worst.verdict for _, _, report in asked]))
print(f"minivae passes {found.count(('right', 'PASS'))} of {kinds.count('right')} right gradients, "
      f"fails {found.count(('wrong', 'FAIL'))} of {kinds.count('wrong')} wrong ones,")
print(f"and cannot tell of {found.count(('right', 'INCONCLUSIVE'))}.")
print(f"Kepler's gradient, right on paper, gets {strict.verdict}: the iteration that stops at 1e-9")
print(f"has another derivative than its limit, by a part of {off:.0e}.")
