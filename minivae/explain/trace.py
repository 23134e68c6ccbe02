"""One forward and one backward pass of a model as data, with finite differences beside it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minivae import estimators
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent
from minivae.estimators import Wires
from minivae.explain.checker import CheckedEntry, Checker
from minivae.explain.names import gradient_name, names_of_inputs, output_name, spoken
from minivae.explain.record import LATENT_NODES, nodes, record
from minivae.explain.rules import OF_LATENT, RULES, UNKNOWN_LAYER, Rule
from minivae.gradcheck import float64_twin
from minivae.latents import GaussianLatent
from minivae.layers import Layer
from minivae.model import Model
from minivae.training.evaluation import NonFiniteError

LATENTS = (GaussianLatent, BernoulliLatent, ConcreteLatent, StraightThroughLatent)
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
    called: str                          # the name of its output: h.0, h, mu, kl, z, .., log_px
    rule: Rule
    in_code: dict[str, str]              # a symbol of the layer's code: its name in the pass
    formula: dict[str, str]              # forward and backward, in the names of the pass
    inputs: dict[str, np.ndarray]        # by name
    output: np.ndarray
    # d(loss)/d(output); None where backward never comes; at log_q its weight at fixed z
    incoming: np.ndarray | None
    weights: dict[str, np.ndarray]       # at log_q: what multiplies it along each wire, by name
    outgoing: dict[str, np.ndarray]      # d(loss)/d(input) by this node, where somebody needs it
    passed_on: dict[str, str]            # the same keys: the gradient's name, e.g. mu: dmu_kl
    local: dict[str, np.ndarray]
    forward: Source
    backward: Source | None


class Parameter(NamedTuple):
    """One parameter, its gradient, and the part that came along each wire; the parts add up."""

    value: np.ndarray
    grad: np.ndarray
    parts: dict[str, np.ndarray]
    checks: list[CheckedEntry]


class Trace(NamedTuple):
    """One recorded pass, node by node."""

    vae: Model                           # the float64 twin that was traced
    x: np.ndarray
    eps: np.ndarray                      # the noise; u for coins
    estimator: str
    wires: Wires
    loss: float
    recon: float
    kl: float                            # the one in this loss: on paper, or from the samples
    passes: dict[str, NodePass]          # by node, in the order of forward
    backward_order: list[str]            # the names of the nodes
    params: dict[str, Parameter]
    # by (node, name of an input or of the output)
    checks: dict[tuple[str, str], list[CheckedEntry]]
    is_derivative: bool                  # whether backward is the derivative of the loss

    @property
    def kl_name(self) -> str:
        """kl where the loss has the KL integrated on paper, kl_sampled elsewhere."""
        on_paper = self.vae.estimator.objective is estimators.analytic_elbo
        return "kl" if on_paper else "kl_sampled"

    def parameters_of(self, node: str) -> dict[str, Parameter]:
        """The parameters of one node, by their own short names."""
        return {name.removeprefix(node + "."): parameter
                for name, parameter in self.params.items() if name.startswith(node + ".")}


# --- the trace ------------------------------------------------------------------------------------


def trace(vae: Model, x: np.ndarray, eps: np.ndarray, estimator: Callable | None = None,
          entries: int = 3) -> Trace:
    """Record one pass of `vae`, in float64, and check `entries` of every gradient in it.

    Parameters
    ----------
    vae : VAE or DiscreteVAE
        Left untouched: a float64 copy of it makes the pass.
    x : (B, D) array
    eps : (B, Z) or (K, B, Z) array
        The noise that forward takes.
    estimator : function of minivae.estimators
        By default the model's own.
    entries : int
        How many entries of each array are held to differences, the one with the largest gradient
        first; 0 for none.

    Raises
    ------
    ValueError
        For a latent that is none of ours, and an estimator that does not go with the model.
    NonFiniteError
        When the pass is not finite; it names the first node that is not.
    """
    if type(vae.latent) not in LATENTS:
        known = ", ".join(latent.__name__ for latent in LATENTS)
        raise ValueError(f"this model's latent is a {type(vae.latent).__name__}; a pass is drawn "
                         f"for these: {known}")
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
        params=params, checks=checker.nodes(), is_derivative=checker.is_derivative)


def refuse_non_finite(vae: Model, visits: dict, grads: dict) -> None:
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


def parts_by_wire(vae: Model, x: np.ndarray, eps: np.ndarray, wires: Wires
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


def pass_at(vae: Model, node: str, layer: Layer, forward: str, backward: str | None, visits: dict
            ) -> NodePass:
    """What the pass did at one node, whose methods are called `forward` and `backward`."""
    kind = node if node in LATENT_NODES else type(layer).__name__
    rule = rule_of(vae, kind)
    taken, (output,) = visits[node, "forward"]
    arrived, given = visits.get((node, "backward"), ((), ()))
    called, values = output_name(vae, node, rule.output), names_of_inputs(vae, node, rule.inputs)
    # x is data, and a coin has no slope: where a layer gives their gradient, nobody takes it
    without = ("x",) if vae.latent.has_path else ("x", "z")
    outgoing = {values[symbol]: grad for symbol, grad in zip(rule.gives or rule.inputs, given)
                if grad is not None and values[symbol] not in without}
    passed_on = {value: gradient_name(vae, node, value) for value in outgoing}
    in_code = values | {rule.output: called, f"d{rule.output}": f"d{called}"}
    in_code |= {f"d{symbol}": passed_on[value] for symbol, value in values.items()
                if value in outgoing}
    backward_rules = [part for part in rule.backward.split(";  ")
                      if outgoing or not part.startswith("dx = ")]
    return NodePass(
        name=node, kind=kind, called=called, rule=rule, in_code=in_code,
        formula={"forward": spoken(rule.forward, in_code),
                 "backward": spoken(";  ".join(backward_rules), in_code)},
        inputs=dict(zip(values.values(), taken)), output=output,
        incoming=arrived[-1] if arrived else None,
        weights=weights_of_log_q(type(layer), backward, arrived) if node == "log_q" else {},
        outgoing=outgoing, passed_on=passed_on,
        local={spoken(formula, in_code): f(*taken, output) for formula, f in rule.local.items()},
        forward=source(type(layer), forward),
        backward=source(type(layer), backward) if backward else None)


def rule_of(vae: Model, kind: str) -> Rule:
    """What a kind of node computes in this model."""
    return (RULES | OF_LATENT.get(vae.latent.name, {})).get(kind, UNKNOWN_LAYER)


def weights_of_log_q(owner: type, backward: str, arrived: tuple) -> dict[str, np.ndarray]:
    """The weights of log q by name: along_z, through z, and along_phi, at fixed z; coins lack one.

    The names are those that log_q_backward has for them.
    """
    _, *symbols = inspect.signature(getattr(owner, backward)).parameters               # not self
    return dict(zip(symbols, arrived))


def source(owner: type | ModuleType, name: str) -> Source:
    """The installed lines of a class's method or a module's function, without its docstring."""
    function = inspect.unwrap(getattr(owner, name))
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
