"""The museum's faults under other libraries' gradient checkers: who finds what?

    python -m benchmarks.checkers

Each fault is planted.  Then each checker is asked, by its own default rule, whether the gradient of
the loss of five small VAEs is right.  It has found the fault if it objects to any of the five; an
exception counts as an objection.  All see the same float64 functions, and each is also asked about
the correct code, which it must accept.
"""

import argparse
import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minivae import VAE, DiscreteVAE, check_model, estimators
from minivae.convolutions import Conv, ConvTranspose, Reshape
from minivae.discrete import ConcreteLatent
from minivae.gradcheck.museum import FAULTS, catch, planted
from minivae.layers import Dense, Sequential, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood

K, B, D, Z = 3, 5, 7, 2


def conv_vae(x_dim: int, z_dim: int, beta: float, rng, dtype) -> VAE:
    """A VAE with two convolutions and a transposed one between dense layers.

    Patches overlap, strides are 1 and 3, kernels 2 and 4, paddings 0 and 1, and sizes do not
    divide.
    """
    enc = Sequential(Dense(x_dim, 42, rng, dtype), Reshape(7, 6, 1),
                     Conv(1, 2, 2, 1, 0, rng, dtype), Tanh(),
                     Conv(2, 3, 4, 3, 1, rng, dtype), Tanh(), Reshape(12))
    heads = [Dense(12, z_dim, rng, dtype) for _ in range(2)]
    dec = Sequential(Dense(z_dim, 8, rng, dtype), Reshape(2, 2, 2),
                     ConvTranspose(2, 1, 4, 3, 1, (6, 5), rng, dtype), Tanh(), Reshape(30))
    return VAE(enc, *heads, dec, Dense(30, x_dim, rng, dtype),
               likelihood=BernoulliLikelihood(dtype), beta=beta, rng=rng)


# the six VAEs: what makes one, the samples, and what it takes besides the sizes
MODELS = {
    "tanh, Bernoulli, K=3":
        (VAE.mlp, K, dict(activation="tanh", hidden=[6, 4])),
    "relu, square layers, K=1":
        (VAE.mlp, 1, dict(activation="relu", hidden=[5, 5])),
    "softplus, Gaussian, K=3":
        (VAE.mlp, K, dict(activation="softplus", hidden=[6, 4],
                          likelihood=GaussianLikelihood("shared", np.float64))),
    "sigmoid, sampled KL, K=3":
        (VAE.mlp, K, dict(activation="sigmoid", hidden=[6, 4], estimator=estimators.elbo_mc)),
    "tanh, Concrete latents, K=3":
        (DiscreteVAE.mlp, K, dict(activation="tanh", hidden=[6, 4], latent=ConcreteLatent(0.7))),
    "tanh, convolutions, K=1":
        (conv_vae, 1, {}),
}


class FlatLoss:
    """The loss of one VAE as a function of one flat vector, with its hand-written gradient.

    Parameters
    ----------
    make : VAE.mlp, DiscreteVAE.mlp or conv_vae
    samples : int
        K, the samples of z for each image.
    settings : dict
        What `make` takes besides the sizes.
    """

    def __init__(self, make: Callable, samples: int, settings: dict):
        rng = np.random.default_rng(0)
        # copied: a likelihood has parameters, and they are moved below
        settings = copy.deepcopy(settings)
        self.vae = make(x_dim=D, z_dim=Z, beta=1.7, rng=rng, dtype=np.float64, **settings)
        for _, p, _ in self.vae.named_params():
            p += 0.3 * rng.standard_normal(p.shape)
        self.x, self.eps = rng.random((B, D)), self.vae.noise(samples, B, rng)
        self.start = np.concatenate([p.ravel() for _, p, _ in self.vae.named_params()])
        ends = np.cumsum([p.size for _, p, _ in self.vae.named_params()])
        self.arrays = [slice(end - p.size, end)            # where each parameter lies in the vector
                       for end, (_, p, _) in zip(ends, self.vae.named_params())]

    def set_parameters(self, flat: np.ndarray) -> None:
        """Take the parameters from one vector, in the order of `named_params`."""
        first = 0
        for _, p, _ in self.vae.named_params():
            p[...] = np.asarray(flat)[first : first + p.size].reshape(p.shape)
            first += p.size

    def loss(self, flat: np.ndarray) -> float:
        """The loss at these parameters, in nats."""
        self.set_parameters(flat)
        return self.vae.forward(self.x, self.eps).loss

    def grad(self, flat: np.ndarray) -> np.ndarray:
        """The gradient at these parameters, as backward gives it."""
        self.loss(flat)
        self.vae.backward()
        return self.vae.gradient()


# --- the checkers: whether each calls the gradient right ------------------------------------------


def our_check(problem: FlatLoss) -> bool:
    problem.set_parameters(problem.start)
    return check_model(problem.vae, problem.x, problem.eps).ok


def scipy_check(problem: FlatLoss) -> bool:
    from scipy.optimize import check_grad

    return check_grad(problem.loss, problem.grad, problem.start) < 1e-6


def torch_check(problem: FlatLoss, fast: bool) -> bool:
    import torch

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, flat):
            values = flat.detach().numpy()
            ctx.save_for_backward(torch.tensor(problem.grad(values)))
            return torch.tensor(problem.loss(values), dtype=torch.float64)

        @staticmethod
        def backward(ctx, upstream):
            return upstream * ctx.saved_tensors[0]

    start = torch.tensor(problem.start, requires_grad=True)
    return torch.autograd.gradcheck(Loss.apply, start, fast_mode=fast)


def jax_check(problem: FlatLoss) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    scalar = jax.ShapeDtypeStruct((), np.float64)
    vector = jax.ShapeDtypeStruct(problem.start.shape, np.float64)

    @jax.custom_vjp
    def loss(flat):
        return jax.pure_callback(lambda v: np.float64(problem.loss(v)), scalar, flat)

    def forward(flat):
        return loss(flat), flat

    def backward(flat, upstream):
        return (upstream * jax.pure_callback(problem.grad, vector, flat),)

    loss.defvjp(forward, backward)
    check_grads(loss, (jax.numpy.asarray(problem.start),), order=1, modes=["rev"])
    return True


# --- the graders of courses -----------------------------------------------------------------------
# Each restates the rule that decides whether an exercise is right; a parameter's array is an
# argument.  The loss is a scalar: an upstream gradient of ones is 1, and a random one multiplies
# both sides of a relative error.


def central(problem: FlatLoss, step: float, entries) -> np.ndarray:
    """Central differences of the loss by some entries of the vector."""
    found = []
    for i in entries:
        move = np.zeros_like(problem.start)
        move[i] = step
        up, down = problem.loss(problem.start + move), problem.loss(problem.start - move)
        found.append((up - down) / (2 * step))
    return np.array(found)


def minitorch_check(problem: FlatLoss) -> bool:
    """One random entry of each argument.

    Source: github.com/minitorch/minitorch, minitorch/tensor_functions.py, grad_check and
    grad_central_difference: epsilon 1e-6, assert_allclose(.., 1e-2, 1e-2), the same seed each time.
    """
    rng = np.random.default_rng(10)
    one_each = [int(rng.integers(a.start, a.stop)) for a in problem.arrays]
    numeric = central(problem, 1e-6, one_each)
    return np.allclose(problem.grad(problem.start)[one_each], numeric, rtol=1e-2, atol=1e-2)


def needle_check(problem: FlatLoss) -> bool:
    """CMU's dlsys course: the 2-norms of the error, summed over the arguments.

    Source: github.com/dlsyscourse/hw1, tests/hw1/test_autograd_hw.py, gradient_check: eps 1e-4,
    error < 1e-6.
    """
    numeric = central(problem, 1e-4, range(problem.start.size))
    error = problem.grad(problem.start) - numeric
    return sum(np.linalg.norm(error[a]) for a in problem.arrays) < 1e-6


def largest_relative_error(problem: FlatLoss, least: float) -> float:
    """max |a - n| / max(least, |a| + |n|), and 0 where both are 0; n by central differences."""
    numeric = central(problem, 1e-5, range(problem.start.size))
    analytic = problem.grad(problem.start)
    size = np.maximum(least, np.abs(analytic) + np.abs(numeric))
    difference = np.abs(analytic - numeric)
    return float(np.divide(difference, size, out=np.zeros_like(size), where=size != 0).max())


def edunn_check(problem: FlatLoss) -> bool:
    """Source: github.com/facundoq/edunn, edunn/utils/check_gradient.py, relative_error_count, and
    numerical_gradient.py: h 1e-5, tolerance 1e-7.
    """
    return largest_relative_error(problem, 0.0) <= 1e-7


def cs231n_check(problem: FlatLoss, threshold: float) -> bool:
    """The assignments print max |a - n| / max(1e-8, |a| + |n|) and give no verdict; the course's
    notes say "1e-7 and less you should be happy", and above 1e-2 "probably wrong".

    Source: cs231n/gradient_check.py of the assignments, h 1e-5, and rel_error in their notebooks;
    github.com/cs231n/cs231n.github.io, neural-networks-3.md, "Gradient checks".
    """
    return largest_relative_error(problem, 1e-8) <= threshold


def tinytorch_check(problem: FlatLoss) -> bool:
    """Each gradient is there, and not all of it is zero.

    Source: github.com/MLSysBook/TinyTorch, tests/GRADIENT_FLOW_TESTING_GUIDE.md: "grad is not None"
    and "not np.allclose(grad, 0)".
    """
    grad = problem.grad(problem.start)
    return not any(np.allclose(grad[a], 0) for a in problem.arrays)


Checker = Callable[[FlatLoss], bool]
# name -> (its rule in words, the checker)
CHECKERS: dict[str, tuple[str, Checker]] = {
    "minivae check_model":
        ("Romberg, error bar", our_check),
    "torch.autograd.gradcheck, full":
        ("central 1e-6, atol 1e-5 + rtol 1e-3", lambda problem: torch_check(problem, fast=False)),
    "torch.autograd.gradcheck, fast":
        ("one direction, same tolerances", lambda problem: torch_check(problem, fast=True)),
    "jax.test_util.check_grads":
        ("one direction, reverse mode", jax_check),
    "scipy.optimize.check_grad":
        ("forward difference, 2-norm < 1e-6", scipy_check),
    "minitorch's grader":
        ("one entry of each array, central 1e-6, 1e-2", minitorch_check),
    "needle's grader":
        ("central 1e-4, sum of 2-norms < 1e-6", needle_check),
    "edunn's grader":
        ("central 1e-5, relative error <= 1e-7", edunn_check),
    "CS231n, its notes' \"happy\"":
        ("central 1e-5, relative error <= 1e-7", lambda problem: cs231n_check(problem, 1e-7)),
    "CS231n, its notes' \"probably wrong\"":
        ("the same, <= 1e-2", lambda problem: cs231n_check(problem, 1e-2)),
    "TinyTorch's grader":
        ("a gradient is there and not all zero", tinytorch_check),
}


def installed_checkers() -> dict[str, tuple[str, Checker]]:
    """CHECKERS without those whose library is not installed; each of these is named on stdout."""
    found = {}
    for name, rule_and_checker in CHECKERS.items():
        try:
            if name.split(".")[0] in ("torch", "jax", "scipy"):
                __import__(name.split(".")[0])
            found[name] = rule_and_checker
        except ImportError:
            print(f"{name}: not installed, left out (pip install '.[bench]')")
    return found


def accepts(checker: Checker) -> bool:
    """Whether the checker calls all six models right."""
    for make, samples, settings in MODELS.values():
        try:
            if not checker(FlatLoss(make, samples, settings)):
                return False
        except Exception:                                  # each library objects in its own way
            return False
    return True


# --- the table ------------------------------------------------------------------------------------


def is_visible(check: str) -> bool:
    """Whether differences can see a fault, by the check of our suite that found it.

    Those named here difference nothing: they hold forward to its formula or to sampling, float32 to
    float64, and a pass to one that was worked by hand.
    """
    return not check.startswith(("forward.", "float32.", "VAE.by hand", "VAE.objective"))


def show(record: dict, rules: dict[str, str]) -> None:
    """Print the record as a table in Markdown."""
    n, visible = record["faults"], set(record["visible"])
    print(f"\n| checker | rule | accepts correct code "
          f"| of the {len(visible)} faults that finite differences can see | of all {n} |")
    print("|---|---|---|---|---|")
    seen = len(visible & set(record["suite"]))
    print("| **minivae gradcheck**, the whole suite | Romberg with an error bar; forward checks "
          f"| yes | {seen} | {len(record['suite'])} |")
    for name, rule in rules.items():
        accepted = "yes" if record["accepts"][name] else "**no**, so finding means nothing"
        found = record["found"][name]
        print(f"| {name} | {rule} | {accepted} | {len(visible & set(found))} | {len(found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=len(FAULTS),
                        help="only so many faults, for a quick look")
    parser.add_argument("--out", type=Path,
                        default=Path(__file__).parent / "results" / "checkers.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")                        # planted faults overflow as they please
    checkers = installed_checkers()
    faults = FAULTS[: arguments.most]
    record = {"faults": len(faults), "visible": [], "suite": [],
              "accepts": {name: accepts(checker) for name, (_, checker) in checkers.items()},
              "found": {name: [] for name in checkers}}
    for fault in faults:
        caught = catch(fault)
        if caught.check:
            record["suite"].append(fault.name)
        if is_visible(caught.check):
            record["visible"].append(fault.name)
        with planted(fault):
            for name, (_, checker) in checkers.items():
                if not accepts(checker):
                    record["found"][name].append(fault.name)
        verdicts = ["found " if fault.name in names else "missed"
                    for names in record["found"].values()]
        print(f"{fault.name:34s}" + "  ".join(verdicts), flush=True)
    show(record, {name: rule for name, (rule, _) in checkers.items()})
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nwrote {arguments.out}")


if __name__ == "__main__":
    main()
