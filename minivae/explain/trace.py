"""One forward and one backward pass of a VAE, recorded as data, with finite differences beside it.

The layers carry no tracing code.  While `intercepted` is open, every call of a node's methods goes
through a function of ours; afterwards nothing of it is left.  The pass itself is `VAE.forward` and
`VAE.backward`, unchanged.

The same trick checks gradients that belong to no parameter.  A nudge, an array of zeros, is added
to what a node takes in or gives out; the derivative of the loss with respect to the nudge is the
gradient at that place, and minivae.gradcheck finds it by differences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minivae import estimators
from minivae.estimators import Wires
from minivae.explain.rules import RULES, UNKNOWN_LAYER, Rule
from minivae.gradcheck import (Problem, Surrogate, float64_twin, kinks_of, random_direction,
                               rounding_noise)
from minivae.gradcheck.strangers import copies
from minivae.latents import GaussianLatent
from minivae.layers import Layer
from minivae.model import Result
from minivae.training.evaluation import NonFiniteError
from minivae.vae import VAE

LATENT_NODES = ("kl", "sample", "log_q", "log_prior")
PHI = ("enc", "to_mu", "to_logvar")                        # the encoder's nodes; the rest is theta
WEIGHTS = ("decoder", "latent", "score", "kl")             # four of the wires; path is a gain


class Source(NamedTuple):
    """The lines of one function as they are installed, (number, text), without its docstring."""

    file: str
    line: int
    lines: list[tuple[int, str]]


class NodePass(NamedTuple):
    """What the pass did at one node.  All arrays are float64 copies."""

    name: str                            # enc.0, .., kl, sample, .., likelihood
    kind: str                            # the key in RULES
    called: str                          # its output's name in VAE.forward: h, mu, logvar, z, g, ..
    rule: Rule
    inputs: dict[str, np.ndarray]        # by the symbols of rule.inputs
    output: np.ndarray
    incoming: np.ndarray                 # d(loss)/d(output); for log_q its weight along z
    outgoing: dict[str, np.ndarray]      # d(loss)/d(input) by symbol, where somebody needs it
    local: dict[str, np.ndarray]
    forward: Source
    backward: Source


class CheckedEntry(NamedTuple):
    """One entry of one gradient: by hand, by differences, and the error bar of the latter."""

    index: tuple
    analytic: float
    numeric: float
    bar: float
    verdict: str


class Parameter(NamedTuple):
    """One parameter, its gradient, and the part that came along each wire; the parts add up."""

    value: np.ndarray
    grad: np.ndarray
    parts: dict[str, np.ndarray]
    checks: list[CheckedEntry]


class Trace(NamedTuple):
    """One recorded pass, node by node."""

    vae: VAE                             # the float64 twin that was traced
    x: np.ndarray
    eps: np.ndarray
    estimator: str
    wires: Wires
    loss: float
    recon: float
    kl: float
    passes: dict[str, NodePass]          # by node, in the order of forward
    backward_order: list[str]            # the names of the nodes
    params: dict[str, Parameter]
    # by (node, symbol of an input or of the output)
    checks: dict[tuple[str, str], list[CheckedEntry]]

    def parameters_of(self, node: str) -> dict[str, Parameter]:
        """The parameters of one node, by their own short names."""
        return {name.removeprefix(node + "."): parameter
                for name, parameter in self.params.items() if name.rpartition(".")[0] == node}


# --- the trace ------------------------------------------------------------------------------------


def trace(vae: VAE, x: np.ndarray, eps: np.ndarray, estimator: Callable | None = None,
          entries: int = 3) -> Trace:
    """Record one pass of `vae`, in float64, and check `entries` of every gradient in it.

    Parameters
    ----------
    vae : VAE with a GaussianLatent
        Left untouched: a float64 copy of it makes the pass.
    x : (B, D) array
    eps : (B, Z) or (K, B, Z) array
    estimator : function of minivae.estimators
        By default the model's own.
    entries : int
        How many entries of each array are held to differences, the one with the largest gradient
        first; 0 for none.

    Raises
    ------
    ValueError
        For a latent that is not Gaussian.
    NonFiniteError
        When the pass is not finite; it names the first node that is not.
    """
    if type(vae.latent) is not GaussianLatent:
        raise ValueError("only the Gaussian VAE is drawn: this model's latent is a "
                         f"{type(vae.latent).__name__}")
    vae = float64_twin(vae)
    vae.estimator = estimator or vae.estimator
    x, eps = vae.checked_inputs(x, eps)
    result, wires, visits = record(vae, x, eps)
    grads = {name: grad.copy() for name, _, grad in vae.named_params()}
    refuse_non_finite(vae, visits, grads)
    node_methods = {node: methods for node, *methods in nodes(vae)}
    passes = {node: pass_at(vae, node, *node_methods[node], visits)
              for node, direction in visits if direction == "forward"}
    parts = parts_by_wire(vae, x, eps, wires)
    checker = Checker(vae, x, eps, wires, passes, entries)
    params = {}
    for name, value, _ in vae.named_params():
        own_parts = {wire: part[name] for wire, part in parts.items()}
        checks = checker.differences(checker.loss, value, grads[name])
        params[name] = Parameter(value.copy(), grads[name], own_parts, checks)
    return Trace(
        vae=vae, x=x, eps=eps, estimator=vae.estimator.__name__, wires=wires,
        loss=result.loss, recon=float(result.recon.mean()), kl=float(result.kl.mean()),
        passes=passes,
        backward_order=[node for node, direction in visits if direction == "backward"],
        params=params, checks=checker.nodes())


def record(vae: VAE, x: np.ndarray, eps: np.ndarray) -> tuple[Result, Wires, dict]:
    """Run forward and backward; what forward found, its weights, and every visit to a node.

    Visits are {(node, "forward" or "backward"): (inputs, outputs)}, in the order of the calls.
    """
    visits = {}

    def visit(node, direction, method, *inputs, **options):
        taken = copies(inputs)
        result = method(*inputs, **options)
        visits[node, direction] = taken, copies(result)
        return result

    with intercepted(vae, visit), np.errstate(all="ignore"):
        result = vae.forward(x, eps)
        wires = vae._wires
        vae.backward()
    return result, wires, visits


@contextmanager
def intercepted(vae: VAE, visit: Callable) -> Iterator[None]:
    """While open, each call of a node's method is visit(node, direction, method, *arguments).

    The direction is "forward" or "backward".  The stand-ins are attributes of the layers
    themselves, which hide the methods of their classes.
    """
    try:
        for node, layer, forward, backward in nodes(vae):
            setattr(layer, forward, partial(visit, node, "forward", getattr(layer, forward)))
            setattr(layer, backward, partial(visit, node, "backward", getattr(layer, backward)))
        yield
    finally:
        for _, layer, forward, backward in nodes(vae):
            vars(layer).pop(forward, None)
            vars(layer).pop(backward, None)


def nodes(vae: VAE) -> Iterator[tuple[str, Layer, str, str]]:
    """Yield (name, layer, its forward method, its backward method); the latent is four nodes."""
    for name, layer in vae.named_layers():
        if name == "latent":
            yield from ((node, layer, node, f"{node}_backward") for node in LATENT_NODES)
        else:
            yield name, layer, "forward", "backward"


def refuse_non_finite(vae: VAE, visits: dict, grads: dict) -> None:
    """Raise NonFiniteError that names the first array of the pass with a NaN or an infinity."""
    for name, param, _ in vae.named_params():
        if not np.isfinite(param).all():
            raise NonFiniteError(f"the parameter {name} is not finite, "
                                 "so neither is anything after it")
    for (node, direction), (_, outputs) in visits.items():
        if not all(np.isfinite(a).all() for a in outputs if a is not None):
            raise NonFiniteError(f"the {direction} pass is not finite, first at {node}")
    for name, grad in grads.items():
        if not np.isfinite(grad).all():
            raise NonFiniteError(f"the gradient of {name} is not finite")


def parts_by_wire(vae: VAE, x: np.ndarray, eps: np.ndarray, wires: Wires
                  ) -> dict[str, dict[str, np.ndarray]]:
    """{wire: {parameter: the part of its gradient along this wire alone}}, for each wire in use.

    backward is linear in the weights, so the parts add up to the gradient.
    """
    parts, own = {}, vae.estimator
    for wire in WEIGHTS:
        if not getattr(wires, wire).any():
            continue
        others = {name: 0 * getattr(wires, name) for name in WEIGHTS if name != wire}
        alone = wires._replace(**others)
        # an estimator that always gives these weights
        vae.estimator = estimators.estimator(own.objective)(lambda t, alone=alone: alone)
        vae.forward(x, eps)
        vae.backward()
        parts[wire] = {name: grad.copy() for name, _, grad in vae.named_params()}
    vae.estimator = own
    return parts


def pass_at(vae: VAE, node: str, layer: Layer, forward: str, backward: str, visits: dict
            ) -> NodePass:
    """What the pass did at one node, whose methods are called `forward` and `backward`."""
    kind = node if node in LATENT_NODES else type(layer).__name__
    rule = RULES.get(kind, UNKNOWN_LAYER)
    taken, (output,) = visits[node, "forward"]
    (incoming, *_), passed_on = visits[node, "backward"]
    inputs = dict(zip(rule.inputs, taken))
    return NodePass(
        name=node, kind=kind, called=output_name(vae, node, rule), rule=rule,
        inputs=inputs, output=output, incoming=incoming,
        outgoing={symbol: g for symbol, g in zip(rule.inputs, passed_on) if g is not None},
        local={formula: f(*inputs.values(), output) for formula, f in rule.local.items()},
        forward=source(type(layer), forward), backward=source(type(layer), backward))


def output_name(vae: VAE, node: str, rule: Rule) -> str:
    """The name of a node's output in VAE.forward."""
    if node == f"enc.{len(vae.enc.layers) - 1}":
        return "h"
    if node == f"dec.{len(vae.dec.layers) - 1}":
        return "g"
    return node.removeprefix("to_") if node.startswith("to_") else rule.output


def source(owner: type | ModuleType, name: str) -> Source:
    """The installed lines of a class's method or a module's function, without its docstring."""
    function = getattr(owner, name)
    text, first = inspect.getsourcelines(function)
    path = Path(inspect.getsourcefile(function))
    numbered = [(first + i, line.rstrip()) for i, line in enumerate(text)]
    quotes = [i for i, (_, line) in enumerate(numbered) if '"""' in line][:2]
    if function.__doc__ and quotes:
        last = quotes[0] if numbered[quotes[0]][1].count('"""') == 2 else quotes[-1]
        numbered = numbered[: quotes[0]] + numbered[last + 1 :]
    indent = len(text[0]) - len(text[0].lstrip())
    lines = [(number, line[indent:]) for number, line in numbered]
    return Source(f"{path.parent.name}/{path.name}", first, lines)


# --- finite differences at every node -------------------------------------------------------------


class Checker:
    """Holds every gradient of one pass to finite differences.

    Some estimators hold something constant; their backward is then no derivative of the loss.
    Phi's side of such a pass is held to gradcheck.Surrogate instead, and theta's side to
    -sum decoder * log p(x|z), with z as it was.

    Parameters
    ----------
    vae : VAE
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

    def __init__(self, vae: VAE, x: np.ndarray, eps: np.ndarray, wires: Wires,
                 passes: dict[str, NodePass], entries: int):
        self.vae, self.x, self.passes, self.entries = vae, x, passes, entries
        self.is_derivative = vae.estimator.is_derivative
        if self.is_derivative:
            self.loss = lambda: vae.forward(x, eps).loss
        else:
            self.loss = Surrogate(vae, x, eps)
        self.weight, self.z = -wires.decoder.ravel(), passes["sample"].output
        self.rng = np.random.default_rng(0)
        self.magnitude = abs(self.loss()) + x.size

    def theta_loss(self) -> float:
        """What of the loss depends on theta: sum of weight * log p(x|z), with z as it was."""
        vae = self.vae
        log_px = vae.likelihood.forward(vae.to_out.forward(vae.dec.forward(self.z)), self.x)
        return float((self.weight * log_px).sum())

    def nodes(self) -> dict[tuple[str, str], list[CheckedEntry]]:
        """Check every gradient that went into a node or came out of it."""
        found = {}
        for name, node_pass in self.passes.items():
            # the surrogate calls these two more than once, so a nudge would count more than once
            if name in ("log_q", "log_prior") and not self.is_derivative:
                continue
            for position, symbol in enumerate(node_pass.rule.inputs):
                if symbol in node_pass.outgoing:
                    found[name, symbol] = self.nudged(name, position, node_pass.outgoing[symbol])
            # two weights arrive at log_q, which are no gradient of its output
            if name != "log_q":
                found[name, node_pass.rule.output] = self.nudged(name, None, node_pass.incoming)
        return found

    def nudged(self, node: str, position: int | None, grad: np.ndarray) -> list[CheckedEntry]:
        """Check `grad` by a nudge on a node's input of this position, or on its output for None."""
        nudge = np.zeros_like(grad)

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
