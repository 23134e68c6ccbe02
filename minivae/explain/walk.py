"""`minivae walk`: one pass in the terminal, forward down and backward up, in 80 columns."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator

import numpy as np

from minivae.choices import choose
from minivae.estimators import ESTIMATORS
from minivae.explain.subject import find_subject, samples_of
from minivae.explain.checker import CheckedEntry
from minivae.explain.record import PHI
from minivae.explain.trace import NodePass, Parameter, Trace, trace

COLUMNS = 80
FORMULA_AT = 39                                            # the column where formulas begin
FORWARD, BACKWARD, PLAIN, RESET = "\x1b[34m", "\x1b[33m", "", "\x1b[0m"      # blue and yellow
# what enters the backward pass on each wire
ENTERS = {"decoder": "reconstruction", "latent": "log p(z)/q(z|x)", "score": "log q", "kl": "KL"}
# what is said of the gradients that leave a node of the latent
LEAVES = {"sample": "through z", "kl": "the KL joins", "log_q": "log q joins"}

Lines = Iterator[tuple[str, str]]                          # of (colour, text)


def walk(folder: str | None, image: int, estimator: str | None) -> None:
    """Print the pass of one test image through a run's model.

    Raises ValueError, in one line, for a run, an image or an estimator that cannot be had.
    """
    subject = find_subject(folder, image)
    own = subject.vae.estimator
    chosen = choose(estimator, ESTIMATORS, "estimator") if estimator else own
    t = trace(subject.vae, subject.x, subject.noise(samples_of(chosen)), chosen, entries=1)
    draws = "1 draw" if len(t.eps) == 1 else f"{len(t.eps)} draws"
    print(f"run       {subject.run}")
    print(f"image     {subject.image_in_words()}; --image N takes another")
    print(f"gradient  {t.estimator}, {draws} of eps, beta {t.vae.beta:g}; or --estimator NAME")
    print(f"loss      {t.loss:.6f} nats; recon {t.recon:.6f}, kl {t.kl:.6f}\n")
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    blank = (PLAIN, "")
    for colour, line in [*_forward(t), blank, *_backward(t), blank, *_sums(t)]:
        print(f"{colour}{line}{RESET}" if coloured and colour else line)


def as_text(t: Trace) -> str:
    """The whole walk as plain text."""
    lines = [*_forward(t), (PLAIN, ""), *_backward(t), (PLAIN, ""), *_sums(t)]
    return "\n".join(line for _, line in lines)


# --- forward --------------------------------------------------------------------------------------


def _forward(t: Trace) -> Lines:
    yield from _row(FORWARD, "FORWARD", "gives", "shape", "norm", "formula, from the top down")
    yield from _row(FORWARD, "x", "x", _shape(t.x), _norm(t.x), "the image")
    for node in t.passes.values():
        yield from _row(FORWARD, node.name, node.called, _shape(node.output), _norm(node.output),
                        node.rule.forward)
    yield from _row(FORWARD, "loss", "", "", f"{t.loss:.5g}", "nats, to be made smaller")


# --- backward -------------------------------------------------------------------------------------


def _backward(t: Trace) -> Lines:
    yield from _row(BACKWARD, "BACKWARD", "takes", "shape", "norm",
                    "local rule, last node first")
    for name in t.backward_order:
        node = t.passes[name]
        if _has_weight_0(node):
            yield from _row(BACKWARD, name, f"d{node.called}", _shape(node.incoming), "0",
                            "weight 0: unused")
        else:
            yield from _node_backward(t, node)
    yield from _row(BACKWARD, "x", "", "", "", "the walk ends: nobody needs dx")


def _has_weight_0(node: NodePass) -> bool:
    """Whether the estimator does not use this node: log q or the prior, with weight 0."""
    if node.name not in ("log_q", "log_prior"):
        return False
    return not node.incoming.any() and not any(g.any() for g in node.outgoing.values())


def _node_backward(t: Trace, node: NodePass) -> Lines:
    """What arrives at a node, what it passes on where paths meet, and the parameters it fills."""
    arrives = f"d{node.called}"
    yield from _row(BACKWARD, node.name, arrives, _shape(node.incoming), _norm(node.incoming),
                    node.rule.backward)
    yield from _checked(arrives, t.checks.get((node.name, node.rule.output)))
    if node.name in LEAVES:
        for symbol, grad in node.outgoing.items():
            yield from _row(BACKWARD, "  gives", f"d{symbol}", _shape(grad), _norm(grad),
                            LEAVES[node.name])
            yield from _checked(f"d{symbol}", t.checks.get((node.name, symbol)))
    if node.name == "sample":
        yield from _row(BACKWARD, "  gives", "no d(eps)", "", "", "a dead end: noise is data")
    for key, parameter in t.parameters_of(node.name).items():
        yield from _row(BACKWARD, "  fills", f"d{key}", _shape(parameter.grad),
                        _norm(parameter.grad), _parts(parameter))
        yield from _checked(f"d{key}", parameter.checks)


def _parts(parameter: Parameter) -> str:
    """The norms of the parts of a gradient, and where each part came from."""
    parts = [f"{ENTERS[wire]} {_norm(part)}" for wire, part in parameter.parts.items()]
    return f"= {' + '.join(parts)}"


def _checked(symbol: str, checks: list[CheckedEntry] | None) -> Lines:
    for check in checks or ():
        place = f"{symbol}[{','.join(map(str, check.index))}]"
        if check.verdict == "KINK":
            yield PLAIN, f"  checked {place}: a ReLU stands at 0, where there is no derivative"
        else:
            verdict = "" if check.verdict == "PASS" else f" {check.verdict}"
            yield PLAIN, (f"  checked {place}: analytic {check.analytic:.7g} "
                          f"numeric {check.numeric:.7g} +-{check.bar:.0e}{verdict}")


# --- the sums -------------------------------------------------------------------------------------


def _sums(t: Trace) -> Lines:
    """What each wire gives to theta and to phi, and how many gradients agree with differences."""
    phi = [p for name, p in t.params.items() if name.startswith(PHI)]
    theta = [p for name, p in t.params.items() if not name.startswith(PHI)]
    for wire in phi[0].parts:
        yield PLAIN, (f"{ENTERS[wire]:16s} gives the decoder (theta) {_norm_of(theta, wire):.5g}, "
                      f"the encoder (phi) {_norm_of(phi, wire):.5g}")
    per_array = [*t.checks.values(), *(p.checks for p in t.params.values())]
    checks = [check for checks in per_array for check in checks]
    agree = sum(check.verdict in ("PASS", "KINK") for check in checks)
    yield PLAIN, (f"{agree} of {len(checks)} gradients agree with finite differences "
                  "within their error bars:")
    yield PLAIN, "those of both ends of every node, and of every parameter"
    yield PLAIN, "norm: root of the sum of squares; the parts of a gradient add up, their norms"
    yield PLAIN, "need not.  checked: the largest entry, nats per unit of it."


def _norm_of(group: list[Parameter], wire: str) -> float:
    """The norm of one wire's part of several gradients, taken as one vector."""
    return np.sqrt(sum((p.parts[wire] ** 2).sum() for p in group))


# --- rows -----------------------------------------------------------------------------------------


def _row(colour: str, name: str, symbol: str, shape: str, norm: str, formula: str) -> Lines:
    """One row of the table; a formula that is too long goes on below."""
    first, *more = textwrap.wrap(formula, COLUMNS - FORMULA_AT) or [""]
    what = f"{symbol:8s} {shape:>7s}".rstrip()             # without a shape, a symbol may be longer
    yield colour, f"{name:11s} {what:16s} {norm:>8s}  {first}".rstrip()
    yield from ((colour, " " * FORMULA_AT + line) for line in more)


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


def _norm(array: np.ndarray) -> str:
    return f"{np.linalg.norm(array):.4g}"
