"""Finite differences at both ends of every node of one recorded pass, and of every parameter.

The recording's trick checks gradients that belong to no parameter, too.  A nudge, an array of
zeros, is added to what a node takes in or gives out; the derivative of the loss with respect to the
nudge is the gradient at that place, and minivae.gradcheck finds it by differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minivae.estimators import Wires
from minivae.explain.record import LATENT_NODES, PHI, intercepted
from minivae.gradcheck import Problem, Surrogate, kinks_of, random_direction, rounding_noise
from minivae.model import Model


class CheckedEntry(NamedTuple):
    """One entry of one gradient: by hand, by differences, and the error bar of the latter."""

    index: tuple
    analytic: float
    numeric: float
    bar: float
    verdict: str


class Checker:
    """Holds every gradient of one pass to finite differences.

    Some estimators hold something constant; their backward is then no derivative of the loss, and
    neither is that of a straight-through latent.  Such a pass is held to other functions, in which
    the same is held constant:

        phi's side      gradcheck.Surrogate
        theta's side    sum dlog_px log p(x|z), with z as it was
        log q, log p    their own value, times the weights that arrive there
        a step          dz times the line that stands in for it, of a straight-through latent

    Parameters
    ----------
    vae : VAE or DiscreteVAE
        In float64, with the estimator of the pass.
    x, eps : (B, D) and (K, B, Z) arrays
        What the pass was made of.
    wires : Wires
        The weights that the estimator chose in the pass.
    passes : dict from node to NodePass
        The recorded pass.
    entries : int
        How many entries of each gradient are checked; 0 for none.
    """

    def __init__(self, vae: Model, x: np.ndarray, eps: np.ndarray, wires: Wires, passes: dict,
                 entries: int):
        self.vae, self.x, self.passes, self.entries = vae, x, passes, entries
        *q, _ = passes["sample"].inputs.values()
        self.straightened = vae.latent.straightened(*q, eps)
        self.is_derivative = vae.estimator.is_derivative and self.straightened is None
        if self.is_derivative:
            self.loss = lambda: vae.forward(x, eps).loss
        else:
            self.loss = Surrogate(vae, x, eps)
        self.dlog_px, self.path = -wires.decoder.ravel(), wires.path.ravel()
        self.z = passes["sample"].output
        self.rng = np.random.default_rng(0)
        self.magnitude = abs(self.loss()) + x.size

    def nodes(self) -> dict[tuple[str, str], list[CheckedEntry]]:
        """Check every gradient that went into a node or came out of it."""
        found = {}
        for name, node in self.passes.items():
            own_function = not self.is_derivative and name in ("log_q", "log_prior")
            for position, value in enumerate(node.inputs):
                if value not in node.outgoing:
                    continue
                grad = node.outgoing[value]
                if own_function:
                    found[name, value] = self.weighted(name, value, grad)
                elif name == "sample" and self.straightened:
                    found[name, value] = self.straight_through(grad)
                else:
                    found[name, value] = self.nudged(name, position, grad)
            # two weights arrive at log_q, which are no gradient of its output
            if node.incoming is not None and name != "log_q" and not own_function:
                found[name, node.called] = self.nudged(name, None, node.incoming)
        return found

    def nudged(self, node: str, position: int | None, grad: np.ndarray) -> list[CheckedEntry]:
        """Check `grad` by a nudge on a node's input of this position, or on its output for None."""
        nudge = np.zeros_like(grad)
        if node == "sample" and self.straightened:
            return self.differences(lambda: self.theta_loss(self.path, nudge), nudge, grad)

        def visit(name, direction, method, *inputs, **options):
            if name != node or direction != "forward":
                return method(*inputs, **options)
            if position is None:
                return method(*inputs, **options) + nudge
            inputs = [a + nudge if i == position else a for i, a in enumerate(inputs)]
            return method(*inputs, **options)

        on_phi = node.startswith(PHI) or node in LATENT_NODES
        loss = self.loss if self.is_derivative or on_phi else self.theta_loss
        with intercepted(self.vae, visit):
            return self.differences(loss, nudge, grad)

    def theta_loss(self, gain: float | np.ndarray = 1.0, dz: float | np.ndarray = 0.0) -> float:
        """sum gain * dlog_px * log p(x|z + dz), with z as it was: what depends on theta."""
        vae = self.vae
        out = vae.to_out.forward(vae.dec.forward(self.z + dz))
        return float((gain * self.dlog_px * vae.likelihood.forward(out, self.x)).sum())

    def weighted(self, name: str, value: str, grad: np.ndarray) -> list[CheckedEntry]:
        """Check what log_q or log_prior passes on: the derivative of its weight times its value."""
        node, latent, nudge = self.passes[name], self.vae.latent, np.zeros_like(grad)
        weight = node.weights.get("along_z" if value == "z" else "along_phi", node.incoming)
        # a weight on each dimension, where the estimator has one
        method = getattr(latent, f"{name}_each" if weight.shape == self.z.shape else name)

        def own_value() -> float:
            moved = [a + nudge if of == value else a for of, a in node.inputs.items()]
            return float((weight * method(*moved)).sum())

        return self.differences(own_value, nudge, grad)

    def straight_through(self, grad: np.ndarray) -> list[CheckedEntry]:
        """Check what the sampling node passes on, where a line stands in for a step."""
        node, nudge = self.passes["sample"], np.zeros_like(grad)
        a = node.inputs["a"]
        return self.differences(
            lambda: float((node.incoming * self.straightened(a + nudge)).sum()), nudge, grad)

    def differences(self, f: Callable[[], float], array: np.ndarray, grad: np.ndarray
                    ) -> list[CheckedEntry]:
        """Check entries of `grad`, the claimed gradient of f in a live array.

        The entry with the largest gradient comes first, then others down the ranks to the median.
        """
        if not self.entries:
            return []
        order = np.argsort(-np.abs(grad), axis=None, kind="stable")
        ranks = dict.fromkeys(grad.size * i // (2 * self.entries) for i in range(self.entries))
        problem = Problem(f, {"it": array}, lambda: {"it": grad}, lambda: kinks_of(self.vae),
                          self.magnitude, self.rng, {})
        problem.measure()
        direction = random_direction(self.rng, array.shape)
        problem.noise["it"] = rounding_noise(f, array, direction, self.magnitude)
        indices = [tuple(map(int, np.unravel_index(flat, grad.shape)))
                   for flat in order[list(ranks)]]
        found = problem.compare_entries("it", indices)
        return [CheckedEntry(i, c.analytic, float(c.numeric), float(c.bar), c.verdict)
                for i, c in found.items()]
