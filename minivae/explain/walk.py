"""`minivae walk`: one pass in the terminal, forward down and backward up."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator

import numpy as np

from minivae.estimators import ESTIMATORS
from minivae.explain.subject import find_subject, samples_of
from minivae.explain.trace import PHI, Check, Trace, trace
from minivae.model import choose

COLUMNS, FORMULA = 80, 39                                  # the width of the walk, and where its formulas begin
FORWARD, BACKWARD, NEITHER, OFF = "\x1b[34m", "\x1b[33m", "", "\x1b[0m"
ALONG = {"decoder": "reconstruction", "latent": "log p(z)/q(z|x)", "score": "log q", "kl": "KL"}      # what enters on each wire
JOINS = {"sample": "through z", "kl": "the KL joins", "log_q": "log q joins"}


def walk(folder: str | None, image: int, estimator: str | None) -> None:
    """Print the pass of one test image through a run's model."""
    subject = find_subject(folder, image)
    chosen = choose(estimator, ESTIMATORS, "estimator") if estimator else subject.vae.estimator
    t = trace(subject.vae, subject.x, subject.noise(samples_of(chosen)), chosen, entries=1)
    print(f"run       {subject.run}")
    print(f"image     test image {image}{'' if subject.label is None else f', labelled {subject.label}'}; --image N takes another")
    print(f"gradient  {t.estimator}, {len(t.eps)} draw{'s' * (len(t.eps) > 1)} of eps, beta {t.vae.beta:g}; or --estimator NAME")
    print(f"loss      {t.loss:.6f} nats; recon {t.recon:.6f}, kl {t.kl:.6f}\n")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for tint, line in [*_forward(t), (NEITHER, ""), *_backward(t), (NEITHER, ""), *_sums(t)]:
        print(f"{tint}{line}{OFF}" if colour and tint else line)


def _forward(t: Trace) -> Iterator[tuple[str, str]]:
    yield from _row(FORWARD, "FORWARD", "gives", "shape", "norm", "formula, from the top down")
    yield from _row(FORWARD, "x", "x", _shape(t.x), _norm(t.x), "the image")
    for stop in t.stops.values():
        yield from _row(FORWARD, stop.name, stop.called, _shape(stop.output), _norm(stop.output), stop.rule.forward)
    yield from _row(FORWARD, "loss", "", "", f"{t.loss:.5g}", "nats, to be made smaller")


def _backward(t: Trace) -> Iterator[tuple[str, str]]:
    yield from _row(BACKWARD, "BACKWARD", "takes", "shape", "norm", "local rule, from the bottom up")
    for name in t.backward_order:
        stop = t.stops[name]
        if not stop.incoming.any() and not any(g.any() for g in stop.outgoing.values()) and name in ("log_q", "log_prior"):
            yield from _row(BACKWARD, name, "d" + stop.called, _shape(stop.incoming), "0", "weight 0: not listened to")
            continue
        yield from _row(BACKWARD, name, "d" + stop.called, _shape(stop.incoming), _norm(stop.incoming), stop.rule.backward)
        yield from _checked("d" + stop.called, t.checks.get((name, stop.rule.output)))
        for symbol, gradient in stop.outgoing.items() if name in JOINS else ():
            yield from _row(BACKWARD, "  gives", f"d{symbol}", _shape(gradient), _norm(gradient), JOINS[name])
            yield from _checked(f"d{symbol}", t.checks.get((name, symbol)))
        if name == "sample":
            yield from _row(BACKWARD, "  gives", "no deps", "", "", "a dead end: noise is data")
        for key, parameter in t.parameters_of(name).items():
            parts = " + ".join(f"{ALONG[wire]} {_norm(part)}" for wire, part in parameter.parts.items())
            yield from _row(BACKWARD, "  fills", f"d{key}", _shape(parameter.grad), _norm(parameter.grad), f"= {parts}")
            yield from _checked(f"d{key}", parameter.checks)
    yield from _row(BACKWARD, "x", "", "", "", "the walk ends: nobody needs dx")


def _sums(t: Trace) -> Iterator[tuple[str, str]]:
    """Who hears what, and how many numbers were held to differences."""
    phi = [p for name, p in t.params.items() if name.startswith(PHI)]
    theta = [p for name, p in t.params.items() if not name.startswith(PHI)]
    for wire in phi[0].parts:
        to_theta, to_phi = (np.sqrt(sum((p.parts[wire] ** 2).sum() for p in group)) for group in (theta, phi))
        yield NEITHER, f"{ALONG[wire]:16s} gives the decoder (theta) {to_theta:.5g}, the encoder (phi) {to_phi:.5g}"
    checks = [c for found in (*t.checks.values(), *(p.checks for p in t.params.values())) for c in found]
    held = sum(check.verdict in ("PASS", "KINK") for check in checks)
    yield NEITHER, f"{held} of {len(checks)} gradients agree with finite differences within their error bars:"
    yield NEITHER, "those of both ends of every node, and of every parameter"
    yield NEITHER, "norm: root of the sum of squares; the parts of a gradient add up, their norms"
    yield NEITHER, "need not.  checked: the largest entry, nats per unit of it."


def _row(tint: str, name: str, symbol: str, shape: str, norm: str, formula: str) -> Iterator[tuple[str, str]]:
    """One node; what its formula does not fit goes below it."""
    first, *more = textwrap.wrap(formula, COLUMNS - FORMULA) or [""]
    yield tint, f"{name:11s} {symbol:8s} {shape:>7s} {norm:>8s}  {first}".rstrip()
    yield from ((tint, " " * FORMULA + line) for line in more)


def _checked(symbol: str, checks: list[Check] | None) -> Iterator[tuple[str, str]]:
    for check in checks or ():
        at = ",".join(map(str, check.index))
        if check.verdict == "KINK":
            yield NEITHER, f"  checked {symbol}[{at}]: a ReLU stands at 0, where there is no derivative"
        else:
            verdict = "" if check.verdict == "PASS" else f" {check.verdict}"
            yield NEITHER, f"  checked {symbol}[{at}]: analytic {check.analytic:.7g} numeric {check.numeric:.7g} +-{check.bar:.0e}{verdict}"


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


def _norm(array: np.ndarray) -> str:
    return f"{np.linalg.norm(array):.4g}"
