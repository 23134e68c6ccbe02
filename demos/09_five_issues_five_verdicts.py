# %% [markdown]
# # Five issues, five verdicts
#
# Five public issues complain of five gradient checkers.  Each is restated here as small as it can
# be: a function, its right gradient and a wrong one.  Their checker is asked about both, and so is
# minivae.  A good checker accepts the right one and refuses the wrong one.
#
# SciPy's, PyTorch's and JAX's checkers are run themselves.  Those of tesseract-core and OpenMDAO
# are restated in two lines each: their rule, on these functions.

# %%
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
asked = []                                                 # (issue, gradient, theirs, our report)


def ask(issue, gradient, theirs, report):
    """Print one row of the table, and keep it for the picture."""
    first = issue if not asked or asked[-1][0] != issue else ""
    asked.append((issue, gradient, theirs, report))
    ours = f"{report.worst.verdict}, {in_bars(report.worst):.0e} bars"
    print(f"{first:21s} {gradient:17s} {theirs:23s} {ours}")


print(f"{'issue':21s} {'gradient':17s} {'their checker':23s} minivae")

# %% [markdown]
# ## 1. An error without a scale
#
# scipy/scipy#7766, "check_grad should use relative error".  check_grad returns the absolute error
# of a forward difference.  The function is SciPy's own, Rosenbrock's, in two units: in millionths
# and in billions, say an energy in microjoules or gigajoules.


# %%
def in_units(c, mistake=1.0):
    """f = c rosen(x), and mistake times its gradient."""
    return lambda x: c * rosen(x), lambda x: c * mistake * rosen_der(x)


start = np.array([-1.2, 1.0, 0.7])
scipy_errors = []
for gradient, (f, grad) in {"right": in_units(1e6), "wrong: half of it": in_units(1e-9, 0.5)}.items():
    scipy_errors.append(check_grad(f, grad, start))
    ask("scipy #7766", gradient, f"an error of {scipy_errors[-1]:.1e}", check_function(f, grad, start))

# %% [markdown]
# ## 2. A step that cannot be chosen
#
# pasteurlabs/tesseract-core#740, "no eps-free way to tell a wrong gradient from a noisy finite
# difference".  A solver stops at a relative residual of 1e-9; its gradient comes from a second,
# adjoint solve.  Here: heat in a rod with conductivities k = exp(x), solved by conjugate gradients.
# The rule of that checker is a central difference, an eps of the user's choice, and 10 %.

# %%
n = 40
D = np.diff(np.eye(n + 2), axis=0)[:, 1:-1]                # slopes between n points, ends held at 0
weight, heat = rng.standard_normal(n), np.ones(n)


def solve(x, right_side):
    """u with D' k D u = right_side."""
    return cg(D.T @ (np.exp(x)[:, None] * D), right_side, rtol=1e-9)[0]


def J(x):
    return float(weight @ solve(x, heat))


def dJ(x):
    """J = w'u and A u = q give dJ/dx = -l' dA/dx u, with A l = w."""
    return -np.exp(x) * (D @ solve(x, weight)) * (D @ solve(x, heat))


def passes_at(eps, f, grad, x):
    """tesseract-core's rule, restated: every central difference within 10 %."""
    slopes = [(f(x + eps * e) - f(x - eps * e)) / (2 * eps) for e in np.eye(len(x))]
    return np.allclose(slopes, grad(x), rtol=0.1, atol=1e-8)


x = 0.5 * rng.standard_normal(n + 1)
steps = 10.0 ** -np.arange(2, 11)
for gradient, grad in {"right": dJ, "wrong by 3 %": lambda x: 1.03 * dJ(x)}.items():
    good = [eps for eps in steps if passes_at(eps, J, grad, x)]
    theirs = f"passes for eps >= {min(good):.0e}"
    ask("tesseract-core #740", gradient, theirs, check_function(J, grad, x))

# %% [markdown]
# ## 3. A relative error where the derivative is 0
#
# OpenMDAO/OpenMDAO#3164: "derivatives are very close to 0.  This can cause relative error checks to
# fail".  A stone is thrown at 45 degrees, the angle of the longest throw, R = v^2 sin(2a) / g.
# The derivative by the angle is 0 there, and cos(2a) is 6e-17.  The wrong gradient takes 0.7854 for
# a quarter of pi.


# %%
def throw(v, a):
    return v**2 * np.sin(2 * a) / 9.81


def throw_grad(v, a):
    return 2 * v * np.sin(2 * a) / 9.81, 2 * v**2 * np.cos(2 * a) / 9.81


def relative_error(grad, v, a, step=1e-6):
    """OpenMDAO's rule of that issue, restated, with form="central"; refused above 1e-6."""
    calc, check = grad(v, a)[1], (throw(v, a + step) - throw(v, a - step)) / (2 * step)
    return abs(calc - check) / abs(check or calc)


v, a = 20.0, np.pi / 4
for gradient, grad in {"right": throw_grad,
                       "wrong: pi/4 cut": lambda v, a: throw_grad(v, 0.7854)}.items():
    theirs = f"relative error {relative_error(grad, v, a):.1f}"
    ask("OpenMDAO #3164", gradient, theirs, check_function(throw, grad, v, a))

# %% [markdown]
# ## 4. A message that does not tell
#
# pytorch/pytorch#2710, "more informative gradcheck return codes": at the time it returned False.
# Today it prints both Jacobians, with most of their numbers left out.  One of 1200 entries of a
# softplus has a wrong gradient.

# %%
try:
    import torch
except ImportError:
    print(f"{'pytorch #2710':21s} not installed: pip install torch")
else:
    class Softplus(torch.autograd.Function):
        """y = log(1 + e^x), dy/dx = sigmoid(x)."""

        factor = torch.ones(40, 30, dtype=torch.float64)   # 1.5 at the entry that is wrong

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.nn.functional.softplus(x)

        @classmethod
        def backward(cls, ctx, dy):
            return dy * torch.sigmoid(ctx.saved_tensors[0]) * Softplus.factor

    grid = torch.tensor(rng.standard_normal((40, 30)), requires_grad=True)
    for gradient, factor in {"right": 1.0, "wrong: 1 entry": 1.5}.items():
        Softplus.factor[20, 17] = factor
        try:
            torch.autograd.gradcheck(Softplus.apply, grid)
            theirs = "passes"
        except torch.autograd.gradcheck.GradcheckError as error:
            theirs, torch_message = "refused, no entry named", str(error)
        ask("pytorch #2710", gradient, theirs, check_torch(Softplus, grid))

# %% [markdown]
# ## 5. A tolerance that grows
#
# jax-ml/jax#3130, "scaling behaviour of jax.test_util.check_grads": the tolerance is multiplied by
# the number of outputs.  A softplus again, its rule wrong by 3 % in every entry.  The forward mode
# that the issue speaks of refuses it at 10 numbers.  (The reverse mode compares one number, and
# refuses it at 10,000, too.)

# %%
try:
    import jax
    from jax.test_util import check_grads
except ImportError:
    print(f"{'jax #3130':21s} not installed: pip install jax")
else:
    def softplus_with(factor):
        """A softplus whose rule is `factor` times the right one."""
        softplus = jax.custom_jvp(lambda x: jax.numpy.logaddexp(x, 0.0))
        softplus.defjvps(lambda dx, y, x: factor * jax.nn.sigmoid(x) * dx)
        return softplus

    def jax_passes(f, n):
        with jax.enable_x64(True):
            try:
                check_grads(f, (np.linspace(-3, 3, n),), order=1, modes=["fwd"])
            except AssertionError:
                return False
        return True

    for gradient, factor in {"right": 1.0, "wrong by 3 %": 0.97}.items():
        f = softplus_with(factor)
        passed = [f"{n}" for n in (10, 10_000) if jax_passes(f, n)]
        theirs = f"passes at n = {', '.join(passed)}"
        ask("jax #3130", gradient, theirs, check_jax(f, np.linspace(-3, 3, 10_000), title="softplus"))
