"""One forward and one backward pass of a VAE, recorded as data, each gradient beside its finite difference.

The layers carry no tracing code.  `around` stands in front of every node's methods for as long as it is
open, and then is gone; the pass itself is `VAE.forward` and `VAE.backward`, nothing else.  The same
trick checks what is no parameter: a nudge added to what a node takes in or gives out, and the loss
differentiated with respect to the nudge by minivae.gradcheck.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivae.estimators import Wires
from minivae.gradcheck import Line, Problem, entry, float64_twin, frozen_surrogate, rounding_noise, unit_gaussian
from minivae.latents import GaussianLatent
from minivae.layers import Layer
from minivae.training.loop import NonFiniteError
from minivae.vae import VAE, Result

LATENT_NODES = ("kl", "sample", "log_q", "log_prior")
PHI = ("enc", "to_mu", "to_logvar")                        # the nodes of the encoder's side; the other parameters are theta
WEIGHTS = ("decoder", "latent", "score", "kl")             # the wires along which a gradient enters; path is a gain


class Rule(NamedTuple):
    """What a kind of node computes, in the words of its source: symbols, both formulas, and its local derivatives."""

    inputs: tuple[str, ...]
    output: str
    forward: str
    backward: str
    local: dict[str, Callable] = {}


RULES = {
    "Dense": Rule(("x",), "y", "y = x W + b", "dx = dy W.T;  dW = x.T dy;  db = sum dy"),
    "ReLU": Rule(("x",), "y", "y = max(x, 0)", "dx = dy * (x > 0)", {"x > 0": lambda x, y: (x > 0).astype(float)}),
    "Tanh": Rule(("x",), "y", "y = tanh(x)", "dx = dy * (1 - y^2)", {"1 - y^2": lambda x, y: 1 - y**2}),
    "Sigmoid": Rule(("x",), "y", "y = 1 / (1 + e^-x)", "dx = dy * y * (1 - y)", {"y * (1 - y)": lambda x, y: y * (1 - y)}),
    "Softplus": Rule(("x",), "y", "y = log(1 + e^x)", "dx = dy * sigmoid(x)", {"sigmoid(x)": lambda x, y: 1 / (1 + np.exp(-x))}),
    "kl": Rule(("mu", "logvar"), "kl", "kl = 1/2 sum_j (mu_j^2 + e^logvar_j - 1 - logvar_j)",
               "dmu = dkl * mu;  dlogvar = dkl * (e^logvar - 1) / 2",
               {"mu": lambda mu, logvar, kl: mu, "(e^logvar - 1) / 2": lambda mu, logvar, kl: np.expm1(logvar) / 2}),
    "sample": Rule(("mu", "logvar", "eps"), "z", "z = mu + std * eps,  std = e^(logvar/2)", "dmu = dz;  dlogvar = dz * eps * std / 2",
                   {"eps * std / 2": lambda mu, logvar, eps, z: (eps * np.exp(logvar / 2) / 2).reshape(z.shape)}),
    "log_q": Rule(("z", "mu", "logvar"), "log_qz", "log_qz = log N(z; mu, e^logvar)",
                  "with t = (z - mu) / e^logvar:  dz = -t;  dmu = t;  dlogvar = ((z - mu) t - 1) / 2"),
    "log_prior": Rule(("z",), "log_pz", "log_pz = -1/2 sum_j (z_j^2 + log 2 pi)", "dz = -dlog_pz * z"),
    "BernoulliLikelihood": Rule(("logits", "x"), "log_px", "log_px = sum_i (x_i l_i - log(1 + e^l_i))",
                                "dlogits = dlog_px * (x - sigmoid(logits))",
                                {"x - sigmoid(logits)": lambda logits, x, log_px: x - 1 / (1 + np.exp(-logits))}),
    "GaussianLikelihood": Rule(("out", "x"), "log_px", "log_px = sum_i log N(x_i; mean_i, e^logvar_i)",
                               "dmean = dlog_px * (x - mean) / e^logvar"),
}
ANY = Rule(("x",), "y", "y = f(x)", "dx = backward(dy)")   # a layer of somebody else's


class Source(NamedTuple):
    """The lines of one method as they are installed, (number, text), without its docstring."""

    file: str
    line: int
    lines: list[tuple[int, str]]


class Stop(NamedTuple):
    """One node as the pass went through it.  All arrays are float64 copies."""

    name: str                            # enc.0, .., kl, sample, .., likelihood
    kind: str                            # the key in RULES
    called: str                          # what VAE.forward calls its output: h, mu, logvar, z, g, ..
    rule: Rule
    inputs: dict[str, np.ndarray]        # by the symbols of rule.inputs
    output: np.ndarray
    incoming: np.ndarray                 # d(loss)/d(output); for log_q its weight along z
    outgoing: dict[str, np.ndarray]      # d(loss)/d(input), by input symbol; absent where nobody needs it
    local: dict[str, np.ndarray]
    forward: Source
    backward: Source


class Check(NamedTuple):
    """One entry of one gradient: by hand, by differences, and the error bar of the latter."""

    index: tuple
    analytic: float
    numeric: float
    bar: float
    verdict: str


class Parameter(NamedTuple):
    """One parameter: its gradient, and the part of it that came along each wire; the parts add up."""

    value: np.ndarray
    grad: np.ndarray
    parts: dict[str, np.ndarray]
    checks: list[Check]


class Trace(NamedTuple):
    """One recorded pass: stops in the order of forward, their names in the order of backward."""

    vae: VAE                             # the float64 twin that was traced
    x: np.ndarray
    eps: np.ndarray
    estimator: str
    wires: Wires
    loss: float
    recon: float
    kl: float
    stops: dict[str, Stop]
    backward_order: list[str]
    params: dict[str, Parameter]
    checks: dict[tuple[str, str], list[Check]]      # (node, symbol of an input or of the output)

    def parameters_of(self, node: str) -> dict[str, Parameter]:
        """The parameters of one node, by their own short names."""
        return {name.removeprefix(node + "."): p for name, p in self.params.items() if name.rpartition(".")[0] == node}


# --- standing in front of the nodes ----------------------------------------------------------------


def nodes(vae: VAE) -> Iterator[tuple[str, Layer, str, str]]:
    """Yield (name, layer, its forward method, its backward method); the latent is four nodes."""
    for name, layer in vae.named_layers():
        if name == "latent":
            yield from ((node, layer, node, f"{node}_backward") for node in LATENT_NODES)
        else:
            yield name, layer, "forward", "backward"


@contextmanager
def around(vae: VAE, call: Callable) -> Iterator[None]:
    """While open, each node's methods go through call(node, "forward" or "backward", method, *arguments)."""
    try:
        for node, layer, forward, backward in nodes(vae):
            setattr(layer, forward, partial(call, node, "forward", getattr(layer, forward)))
            setattr(layer, backward, partial(call, node, "backward", getattr(layer, backward)))
        yield
    finally:
        for _, layer, forward, backward in nodes(vae):
            vars(layer).pop(forward, None), vars(layer).pop(backward, None)


def copies(result) -> tuple:
    """A node's result as a tuple of arrays of our own."""
    return tuple(None if a is None else np.array(a) for a in (result if isinstance(result, tuple) else (result,)))


def record(vae: VAE, x: np.ndarray, eps: np.ndarray) -> tuple[Result, Wires, dict]:
    """Run forward and backward; what forward found, the weights it chose, and every visit to a node.

    Visits are {(node, "forward" or "backward"): (inputs, outputs)}, in the order of the calls.
    """
    visits = {}

    def call(node, direction, method, *inputs, **options):
        seen = copies(inputs)
        result = method(*inputs, **options)
        visits[node, direction] = seen, copies(result)
        return result

    with around(vae, call), np.errstate(all="ignore"):
        result = vae.forward(x, eps)
        wires = vae._wires
        vae.backward()
    return result, wires, visits


# --- the trace -------------------------------------------------------------------------------------


def trace(vae: VAE, x: np.ndarray, eps: np.ndarray, estimator: Callable | None = None, entries: int = 3) -> Trace:
    """Record one pass of `vae`, in float64, and check `entries` of every gradient in it.

    Parameters
    ----------
    vae : VAE with a GaussianLatent
        Left untouched: a float64 copy of it makes the pass.
    x : (B, D), eps : (B, Z) or (K, B, Z)
    estimator : function of minivae.estimators, by default the model's own
    entries : int
        How many entries of each array are differentiated, the one with the largest gradient first; 0 for none.

    Raises
    ------
    ValueError
        For a latent that is not Gaussian.
    NonFiniteError
        When the pass is not finite; it names the first node that is not.
    """
    if type(vae.latent) is not GaussianLatent:
        raise ValueError(f"only the Gaussian VAE is drawn: this model's latent is a {type(vae.latent).__name__}")
    vae = float64_twin(vae)
    vae.estimator = estimator or vae.estimator
    x, eps = vae.inputs(x, eps)
    result, wires, visits = record(vae, x, eps)
    grads = {name: grad.copy() for name, _, grad in vae.named_params()}
    refuse_non_finite(vae, visits, grads)
    stops = {node: stop_at(vae, node, layer, forward, backward, visits) for node, layer, forward, backward in nodes(vae)}
    stops = {node: stops[node] for node, direction in visits if direction == "forward"}
    parts = parts_of(vae, x, eps, wires)
    checker = Checker(vae, x, eps, wires, stops, entries)
    params = {}
    for name, p, _ in vae.named_params():
        its_parts, checks = {wire: part[name] for wire, part in parts.items()}, checker.differences(checker.loss, p, grads[name])
        params[name] = Parameter(p.copy(), grads[name], its_parts, checks)
    return Trace(vae, x, eps, getattr(vae.estimator, "__name__", "own"), wires, result.loss, float(result.recon.mean()), float(result.kl.mean()),
                 stops, [node for node, direction in visits if direction == "backward"], params, checker.nodes())


def parts_of(vae: VAE, x: np.ndarray, eps: np.ndarray, wires: Wires) -> dict[str, dict[str, np.ndarray]]:
    """Each parameter's gradient along one wire alone, for every wire in use.  backward is linear in the weights, so the parts add up."""
    found, estimator = {}, vae.estimator
    for wire in WEIGHTS:
        if getattr(wires, wire).any():
            others = {other: 0 * getattr(wires, other) for other in WEIGHTS if other != wire}
            alone = lambda t, others=others: wires._replace(**others)
            estimators.estimator(estimator.objective)(alone)
            vae.estimator = alone
            vae.forward(x, eps)
            vae.backward()
            found[wire] = {name: grad.copy() for name, _, grad in vae.named_params()}
    vae.estimator = estimator
    return found


def refuse_non_finite(vae: VAE, visits: dict, grads: dict) -> None:
    """Raise NonFiniteError for the first number of the pass that is none."""
    for name, param, _ in vae.named_params():
        if not np.isfinite(param).all():
            raise NonFiniteError(f"the parameter {name} is not finite, so neither is anything after it")
    for (node, direction), (_, outputs) in visits.items():
        if not all(np.isfinite(a).all() for a in outputs if a is not None):
            raise NonFiniteError(f"the {direction} pass is not finite, first at {node}")
    for name, grad in grads.items():
        if not np.isfinite(grad).all():
            raise NonFiniteError(f"the gradient of {name} is not finite")


def called(vae: VAE, node: str, output: str) -> str:
    """The name of a node's output in VAE.forward."""
    last = {f"enc.{len(vae.enc.layers) - 1}": "h", f"dec.{len(vae.dec.layers) - 1}": "g"}
    return last.get(node, node.removeprefix("to_") if node.startswith("to_") else output)


def stop_at(vae: VAE, node: str, layer: Layer, forward: str, backward: str, visits: dict) -> Stop:
    """What the pass did at one node."""
    kind = node if node in LATENT_NODES else type(layer).__name__
    rule = RULES.get(kind, ANY)
    taken, (output,) = visits[node, "forward"]
    (incoming, *_), given = visits[node, "backward"]
    inputs = dict(zip(rule.inputs, taken))
    outgoing = {symbol: g for symbol, g in zip(rule.inputs, given) if g is not None}
    local = {words: f(*inputs.values(), output) for words, f in rule.local.items()}
    return Stop(node, kind, called(vae, node, rule.output), rule, inputs, output, incoming, outgoing, local,
                source(type(layer), forward), source(type(layer), backward))


def source(kind: type, method: str) -> Source:
    """The installed lines of a method, without its docstring."""
    function = getattr(kind, method)
    text, first = inspect.getsourcelines(function)
    path = Path(inspect.getsourcefile(function))
    numbered = [(first + i, line.rstrip()) for i, line in enumerate(text)]
    quotes = [i for i, (_, line) in enumerate(numbered) if '"""' in line][:2]
    if function.__doc__ and quotes:
        last = quotes[0] if numbered[quotes[0]][1].count('"""') == 2 else quotes[-1]
        numbered = numbered[: quotes[0]] + numbered[last + 1 :]
    indent = len(text[0]) - len(text[0].lstrip())
    return Source(f"{path.parent.name}/{path.name}", first, [(number, line[indent:]) for number, line in numbered])


# --- finite differences at every wire ----------------------------------------------------------------


class Checker:
    """Differentiates the loss of one pass by any parameter, and by a nudge at either end of any node.

    Where an estimator holds something constant, its backward is no derivative of a loss.  Then phi's side is
    held to gradcheck.frozen_surrogate, and theta's side to -sum decoder * log p(x|z), z as it was.
    """

    def __init__(self, vae: VAE, x: np.ndarray, eps: np.ndarray, wires: Wires, stops: dict[str, Stop], entries: int):
        self.vae, self.x, self.eps, self.stops, self.entries = vae, x, eps, stops, entries
        self.plain = getattr(vae.estimator, "is_derivative", True)
        self.loss = (lambda: vae.forward(x, eps).loss) if self.plain else frozen_surrogate(vae, x, eps)
        self.weight, self.z = -wires.decoder.ravel(), stops["sample"].output
        self.rng = np.random.default_rng(0)
        self.magnitude = abs(self.loss()) + x.size

    def theta_loss(self) -> float:
        """What is left of the objective for theta: sum of weight * log p(x|z), z as it was."""
        vae = self.vae
        return float((self.weight * vae.likelihood.forward(vae.to_out.forward(vae.dec.forward(self.z)), self.x)).sum())

    def kinks(self) -> dict[str, np.ndarray]:
        """The inputs of every ReLU, as the last forward saw them."""
        return {name: layer.kink_inputs() for name, layer in self.vae.named_layers() if layer.kink_inputs() is not None}

    def nodes(self) -> dict[tuple[str, str], list[Check]]:
        """Every gradient that went into a node and came out of it."""
        found = {}
        for name, stop in self.stops.items():
            if name in ("log_q", "log_prior") and not self.plain:      # the surrogate asks for them more than once: dz holds their sum
                continue
            ends = {symbol: (i, grad) for i, symbol in enumerate(stop.rule.inputs) if (grad := stop.outgoing.get(symbol)) is not None}
            if name != "log_q":                                        # two weights come in there, no one gradient
                ends[stop.rule.output] = (None, stop.incoming)
            for symbol, (place, grad) in ends.items():
                found[name, symbol] = self.nudged(name, place, grad)
        return found

    def nudged(self, node: str, place: int | None, grad: np.ndarray) -> list[Check]:
        """The loss differentiated by a nudge on input `place` of a node, or on its output."""
        nudge = np.zeros_like(grad)

        def call(name, direction, method, *inputs, **options):
            if name != node or direction != "forward":
                return method(*inputs, **options)
            if place is None:
                return method(*inputs, **options) + nudge
            return method(*(a + nudge if i == place else a for i, a in enumerate(inputs)), **options)

        on_phi = node.startswith(PHI) or node in LATENT_NODES
        with around(self.vae, call):
            return self.differences(self.loss if self.plain or on_phi else self.theta_loss, nudge, grad)

    def differences(self, f: Callable[[], float], array: np.ndarray, grad: np.ndarray) -> list[Check]:
        """f differentiated by the chosen entries of a live array: the largest gradient, then down the ranks."""
        if not self.entries:
            return []
        order = np.argsort(-np.abs(grad), axis=None, kind="stable")
        ranks = dict.fromkeys(grad.size * i // (2 * self.entries) for i in range(self.entries))
        problem = Problem(f, {"it": array}, lambda: {"it": grad}, self.kinks, self.magnitude, self.rng, {})
        problem.rows_here([])                              # of no array: only to have it measure the gradients' size
        noise = rounding_noise(f, array, unit_gaussian(self.rng, array.shape), self.magnitude)
        found = []
        for flat in order[list(ranks)]:
            index = tuple(map(int, np.unravel_index(flat, grad.shape)))
            line = Line(f, array, entry(array.shape, index), self.kinks, noise)
            numeric, bar, verdict, _ = problem.judge("it", line, float(grad[index]), float(np.abs(grad).max()))
            found.append(Check(index, float(grad[index]), float(numeric), float(bar), verdict))
        return found
