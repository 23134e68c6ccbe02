"""Exercises that are no derivative: weights on wires, and steps of Adam.

No finite difference of one noise can judge them.  They are held to the package's own numbers; and
the weights on wires to the mean of their gradient over all noise, which must be the derivative of
the mean of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minivae.gradcheck.of_function import check_function
from minivae.gradcheck.report import Report
from minivae.learn.rung import Rung, dict_of, in_words, point_of, run, targets_of
from minivae.learn.verdict import compared, look_over
from minivae.learn.wires import log_mean_exp

# --- weights on wires -----------------------------------------------------------------------------


@dataclass
class Wires(Rung):
    """A function that gives the weights of an estimator: `backward` calls it.

    objective : what the weights climb in the mean, a key of OBJECTIVES
    """

    objective: str = "sampled"

    def check(self, names: dict, sizes: dict, rng: np.random.Generator) -> Report:
        """The weights beside ours, then the mean of their gradient over all noise."""
        point = point_of(self.arrays, self.page, sizes, rng)
        want, mine = (run(self.backward, f, point) for f in (vars(self.page), names))
        for name in want:
            look_over(name, mine[name], want[name])
        held = compared(self.name, mine, want, in_words(sizes))
        if not held.ok:
            return held

        def wires(terms: dict) -> list:
            return list(run(self.backward, names, terms).values())

        mean = check_mean(wires, self.objective)
        return Report(self.name, held.rows + mean.rows, gradients=held.gradients | mean.gradients)

    def answers(self, functions: dict, sizes: dict, rng: np.random.Generator) -> dict:
        """The weights."""
        return run(self.backward, functions, point_of(self.arrays, self.page, sizes, rng))

    def called(self) -> dict[str, str]:
        """The rows bear the names of the wires."""
        means = {name: f"the mean of the gradient by {name}, over all noise,"
                 for name in ("mu", "logvar")}
        return {name: name for name in targets_of(self.backward)} | means

    def shown(self) -> str:
        """The weights."""
        return dict_of(targets_of(self.backward))


OBJECTIVES = {
    "analytic": lambda t: t["log_px"].mean(axis=0) - t["beta"] * t["on_paper"],
    "sampled": lambda t: (t["log_px"] + t["beta"] * (t["log_pz"] - t["log_qz"])).mean(axis=0),
    "bound": lambda t: log_mean_exp(t["log_px"] + t["log_pz"] - t["log_qz"], axis=0),
}
BETA = 1.7


def check_mean(wires, objective: str) -> Report:
    """Hold the mean of an estimator's gradient to the derivative of the mean objective.

    d/d(mu, logvar) E[objective] = E[sum of wire times gradient], both means by Gauss-Hermite over
    two samples of one latent, q = N(mu, e^logvar); log p(x|z) is a parabola.

    Parameters
    ----------
    wires : function of {log_px, log_pz, log_qz (K, B), beta, K, B} -> the five wires
    objective : a key of OBJECTIVES
    """
    points, p = np.polynomial.hermite_e.hermegauss(24)
    eps = np.stack(np.meshgrid(points, points)).reshape(2, -1)                 # (2, N)
    p = np.outer(p, p).ravel() / p.sum() ** 2                                  # (N,)
    N, beta = len(p), 1.0 if objective == "bound" else BETA

    def terms(mu, logvar):
        z = mu + np.exp(logvar / 2) * eps
        return dict(
            z=z, K=2, B=N, beta=beta, log_px=0.3 * z - 0.2 * (z - 0.7) ** 2, log_pz=-0.5 * z**2,
            log_qz=-0.5 * ((z - mu) ** 2 * np.exp(-logvar) + logvar),
            on_paper=0.5 * (mu**2 + np.expm1(logvar) - logvar))

    def mean_objective(mu, logvar):
        return (p * OBJECTIVES[objective](terms(mu, logvar))).sum()

    def mean_gradient(mu, logvar):
        t = terms(mu, logvar)
        decoder, latent, path, score, kl = wires(t)
        z, std, r = t["z"], np.exp(logvar / 2), (t["z"] - mu) * np.exp(-logvar)
        dz = path * (decoder * (0.3 - 0.4 * (z - 0.7)) + latent * (r - z))
        share = N * p                                      # a weight of 1/N becomes one of p
        dmu = share * (dz + score * r).sum(axis=0) + share * kl * mu
        dlogvar = dz * eps * std / 2 + score * ((z - mu) * r - 1) / 2
        dlogvar = share * dlogvar.sum(axis=0) + share * kl * np.expm1(logvar) / 2
        return dmu.sum(), dlogvar.sum()

    return check_function(mean_objective, mean_gradient, 0.3, -0.4)


# --- Adam -----------------------------------------------------------------------------------------


@dataclass
class Steps(Rung):
    """Steps that change dicts of arrays in place; `backward` makes one, with t and dp."""

    def check(self, names: dict, sizes: dict, rng: np.random.Generator) -> Report:
        """Two steps beside ours: the arrays of every dict, in order."""
        seed = rng.integers(2**32)
        mine, want = (self.answers(functions, sizes, np.random.default_rng(seed))
                      for functions in (names, vars(self.page)))
        for name, right in want.items():
            look_over(name, mine.get(name, ...), right)
        return compared(self.name, mine, want, {})

    def answers(self, functions: dict, sizes: dict, rng: np.random.Generator) -> dict:
        """After two steps: {'m["W"]': its array, ..}, the moments before the parameters."""
        point = point_of(self.arrays, self.page, sizes, rng)
        for t in (1, 2):
            dp = {name: rng.standard_normal(a.shape) for name, a in point["dp"].items()}
            eval(self.backward, dict(functions), point | {"dp": dp, "t": t})
        return {f'{name}["{key}"]': a for name in ("m", "v", "p")
                for key, a in point[name].items()}

    def called(self) -> dict[str, str]:
        """The rows bear the names of the arrays."""
        return {}

    def shown(self) -> str:
        """The parameters."""
        return "p"
