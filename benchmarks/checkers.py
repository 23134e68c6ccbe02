"""The museum's faults under other libraries' gradient checkers: who finds what?

    python -m benchmarks.checkers

Each fault is planted, and each checker is asked, by its own default rule, whether the gradient of the
loss of five small VAEs is right.  It has found the fault if it objects on any of them (an exception
counts).  All see the same float64 functions; each must also accept the correct code.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minivae import VAE, DiscreteVAE, check_model, estimators
from minivae.discrete import ConcreteLatent
from minivae.likelihoods import GaussianLikelihood
from minivae.gradcheck.museum import FAULTS, catch, planted

K, B, D, Z = 3, 5, 7, 2
MODELS = {
    "tanh, Bernoulli, K=3": (VAE, K, dict(activation="tanh")),
    "relu, square layers, K=1": (VAE, 1, dict(activation="relu", hidden=[5, 5])),
    "softplus, Gaussian, K=3": (VAE, K, dict(activation="softplus", likelihood=GaussianLikelihood("shared", np.float64))),
    "sigmoid, sampled KL, K=3": (VAE, K, dict(activation="sigmoid", estimator=estimators.elbo_mc)),
    "tanh, Concrete latents, K=3": (DiscreteVAE, K, dict(activation="tanh", latent=ConcreteLatent(0.7))),
}


class Problem:
    """One VAE as a function of one flat vector, with its hand-written gradient."""

    def __init__(self, kind: type, samples: int, settings: dict):
        rng = np.random.default_rng(0)
        self.vae = kind.mlp(x_dim=D, z_dim=Z, beta=1.7, rng=rng, dtype=np.float64, **{"hidden": [6, 4], **settings})
        for _, p, _ in self.vae.named_params():
            p += 0.3 * rng.standard_normal(p.shape)
        self.x, self.eps = rng.random((B, D)), self.vae.noise(samples, B, rng)
        self.start = np.concatenate([p.ravel() for _, p, _ in self.vae.named_params()])

    def put(self, flat: np.ndarray) -> None:
        at = 0
        for _, p, _ in self.vae.named_params():
            p[...] = np.asarray(flat)[at : at + p.size].reshape(p.shape)
            at += p.size

    def loss(self, flat: np.ndarray) -> float:
        self.put(flat)
        return self.vae.forward(self.x, self.eps).loss

    def grad(self, flat: np.ndarray) -> np.ndarray:
        self.loss(flat)
        self.vae.backward()
        return np.concatenate([g.ravel() for _, _, g in self.vae.named_params()])


def ours(problem: Problem) -> bool:
    problem.put(problem.start)
    return check_model(problem.vae, problem.x, problem.eps).ok


def scipy_check(problem: Problem) -> bool:
    from scipy.optimize import check_grad

    return check_grad(problem.loss, problem.grad, problem.start) < 1e-6


def torch_check(problem: Problem, fast: bool) -> bool:
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

    return torch.autograd.gradcheck(Loss.apply, torch.tensor(problem.start, requires_grad=True), fast_mode=fast)


def jax_check(problem: Problem) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    scalar, vector = jax.ShapeDtypeStruct((), np.float64), jax.ShapeDtypeStruct(problem.start.shape, np.float64)

    @jax.custom_vjp
    def loss(flat):
        return jax.pure_callback(lambda v: np.float64(problem.loss(v)), scalar, flat)

    loss.defvjp(lambda flat: (loss(flat), flat), lambda flat, up: (up * jax.pure_callback(problem.grad, vector, flat),))
    check_grads(loss, (jax.numpy.asarray(problem.start),), order=1, modes=["rev"])
    return True


CHECKERS: dict[str, tuple[str, Callable[[Problem], bool]]] = {
    "minivae check_model": ("Romberg, error bar", ours),
    "torch.autograd.gradcheck, full": ("central 1e-6, atol 1e-5 + rtol 1e-3", lambda p: torch_check(p, False)),
    "torch.autograd.gradcheck, fast": ("one direction, same tolerances", lambda p: torch_check(p, True)),
    "jax.test_util.check_grads": ("one direction, reverse mode", jax_check),
    "scipy.optimize.check_grad": ("forward difference, 2-norm < 1e-6", scipy_check),
}


def accepts(checker: Callable[[Problem], bool]) -> bool:
    """Whether the checker calls all five models right."""
    for kind, samples, settings in MODELS.values():
        try:
            if not checker(Problem(kind, samples, settings)):
                return False
        except Exception:                                  # each library objects in its own way
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=len(FAULTS), help="only so many faults, for a quick look")
    parser.add_argument("--out", default=Path(__file__).parent / "results" / "checkers.json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")                        # planted faults overflow as they please
    there = {}
    for name, (rule, checker) in CHECKERS.items():
        try:
            if name.split(".")[0] in ("torch", "jax", "scipy"):
                __import__(name.split(".")[0])
            there[name] = (rule, checker)
        except ImportError:
            print(f"{name}: not installed, left out (pip install '.[bench]')")
    clean = {name: accepts(checker) for name, (_, checker) in there.items()}
    faults = FAULTS[: arguments.most]
    found = {name: [] for name in there}
    by_suite, visible = [], []
    for fault in faults:
        caught = catch(fault)
        by_suite += [fault.name] * bool(caught.check)
        visible += [fault.name] * (not caught.check.startswith(("forward.", "float32.", "VAE.by hand", "VAE.objective")))
        with planted(fault):
            for name, (_, checker) in there.items():
                if not accepts(checker):
                    found[name].append(fault.name)
        print(f"{fault.name:34s}" + "  ".join("found " if fault.name in names else "missed" for names in found.values()), flush=True)
    n, v = len(faults), len(visible)
    print(f"\n| checker | rule | accepts correct code | of the {v} faults that finite differences can see | of all {n} |\n|---|---|---|---|---|")
    seen = len(set(by_suite) & set(visible))
    print(f"| **minivae gradcheck**, the whole suite | Romberg with an error bar; forward checks | yes | {seen} | {len(by_suite)} |")
    for name, (rule, _) in there.items():
        said = "yes" if clean[name] else "**no**, so finding means nothing"
        print(f"| {name} | {rule} | {said} | {len(set(found[name]) & set(visible))} | {len(found[name])} |")
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps({"faults": n, "visible": visible, "suite": by_suite, "accepts": clean, "found": found}, indent=1) + "\n")
    print(f"\nwrote {arguments.out}")


if __name__ == "__main__":
    main()
