"""`minivae walk`: one pass in the terminal, forward down and backward up, in 80 columns."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator

import numpy as np

from minivae.choices import choose
from minivae.estimators import ESTIMATORS, multi_sample_bound
from minivae.explain import story
from minivae.explain.names import first_of_theta, nodes_of, parts_of
from minivae.explain.record import PHI
from minivae.explain.rules import LOSSES, SENT_BACK, for_samples
from minivae.explain.subject import Subject, find_subject, samples_of
from minivae.explain.trace import CheckedEntry, NodePass, Parameter, Trace, trace
from minivae.explain.wires_in_words import held_to, signal, what_is_held, wires_in_words

COLUMNS = 80
NAME, FORMULA_AT = 14, 43                                  # the first column, and that of formulas
# bold blue and bold red-brown, each with a contrast above 4.5 on black and on white
FORWARD, BACKWARD, PLAIN, RESET = "\x1b[1;38;5;63m", "\x1b[1;38;5;131m", "", "\x1b[0m"
# what enters the backward pass on each wire
ENTERS = {"decoder": "reconstruction", "latent": "log p(z)/q(z|x)", "score": "log q", "kl": "KL"}
# what is said of the gradients that leave a node of the latent
LEAVES = {"sample": "through z", "kl": "the KL joins", "log_q": "log q joins",
          "log_prior": "log p(z) pulls z to 0"}

Lines = Iterator[tuple[str, str]]                          # of (colour of the first column, text)


def walk(folder: str | None, image: int, estimator: str | None) -> None:
    """Print the pass of one test image through a run's model.

    Raises ValueError, in one line, for a run, an image or an estimator that cannot be had.
    """
    subject = find_subject(folder, image)
    own = subject.vae.estimator
    chosen = choose(estimator, ESTIMATORS, "estimator") if estimator else own
    eps = subject.noise(samples_of(subject.vae, chosen), chosen.antithetic)
    t = trace(subject.vae, subject.x, eps, chosen, entries=1)
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for colour, line in _whole(t, subject):
        name = f"{colour}{line[:NAME]}{RESET}" if coloured and colour else line[:NAME]
        print(f"{name}{line[NAME:]}")


def as_text(t: Trace, subject: Subject) -> str:
    """What `walk` prints of a pass, in one text without colours."""
    return "\n".join(line for _, line in _whole(t, subject))


def _whole(t: Trace, subject: Subject) -> Lines:
    """All the blocks of the walk, with a blank line between them."""
    blocks = (_head(t, subject), _wires(t), _forward(t), _backward(t), _sums(t), _checks(t))
    for i, block in enumerate(blocks):
        if i:
            yield PLAIN, ""
        yield from block


def _head(t: Trace, subject: Subject) -> Lines:
    """Which pass it is, and its loss as the sum of its terms."""
    noise = list(t.passes["sample"].inputs)[-1]
    draws = "1 draw" if len(t.eps) == 1 else f"{len(t.eps)} draws"
    terms = f"recon {t.recon:.6f} + {t.vae.beta:g} * {t.kl_name} {t.kl:.6f}"
    if t.vae.estimator.objective is multi_sample_bound:
        terms = (f"-L_{len(t.eps)}; on average over the draws recon is {t.recon:.6f}, "
                 f"kl_sampled {t.kl:.6f}")
    yield from _said("run", subject.run)
    yield from _said("image", f"{subject.image_in_words()}; --image N takes another")
    yield from _said("gradient", f"{t.estimator}, {draws} of {noise}, beta {t.vae.beta:g}; "
                     "or --estimator NAME")
    yield from _said("loss", f"{t.loss:.6f} nats = {terms}")
    yield from _said("", for_samples(LOSSES[t.vae.estimator.objective.__name__], len(t.eps)))
    if t.kl_name != "kl":
        kl = t.passes["kl"].output.item()
        yield from _said("", f"(kl, on paper, is {kl:.6f}, and not in this loss)")


def _said(name: str, words: str) -> Lines:
    """Words behind a name, wrapped."""
    first, *more = textwrap.wrap(words, COLUMNS - 10) or [""]
    yield PLAIN, f"{name:10s}{first}"
    yield from ((PLAIN, " " * 10 + line) for line in more)


def _paragraph(words: str) -> Lines:
    yield from ((PLAIN, line) for line in textwrap.wrap(words.replace("`", ""), COLUMNS))


# --- the wires ------------------------------------------------------------------------------------


def _wires(t: Trace) -> Lines:
    """Which wires the estimator uses, which it cuts, and what is held constant."""
    title = "where they lead, and what the estimator sends back, as d(loss)"
    yield BACKWARD, f"{'WIRES':{NAME}s}{title}"
    for wire, where, weight in wires_in_words(t):
        one_line = f"{wire:{NAME}s}{where:42s} {weight}"
        if len(one_line) <= COLUMNS:
            yield BACKWARD, one_line
        else:
            yield BACKWARD, f"{wire:{NAME}s}{where}"
            yield PLAIN, f"{'':{NAME}s}{weight}"
    sent_back = for_samples(SENT_BACK[t.estimator], len(t.eps)).split(";  ")
    for i, line in enumerate(_packed(sent_back, COLUMNS - NAME)):
        yield PLAIN, f"{'' if i else 'formulas':{NAME}s}{line}"
    for k, line in enumerate(signal(t)):
        yield PLAIN, f"{f'draw {k + 1}':{NAME}s}{line}"
    yield PLAIN, ""
    for words in what_is_held(t):
        yield from _paragraph(words)


# --- forward --------------------------------------------------------------------------------------


def _forward(t: Trace) -> Lines:
    yield from _row(FORWARD, "FORWARD", "gives", "shape", "number", "formula, from the top down")
    yield from _row(FORWARD, "x", "x", _shape(t.x), _number(t.x), "the image")
    for node in t.passes.values():
        yield from _row(FORWARD, node.name, node.called, _shape(node.output), _number(node.output),
                        node.formula["forward"])
        yield from _by_draw(node.output, node.name)
    if t.kl_name != "kl":
        yield from _row(FORWARD, "", t.kl_name, "", f"{t.kl:.4g}",
                        for_samples("mean_k (log_qz - log_pz)", len(t.eps)))
    yield from _row(FORWARD, "loss", "loss", "", f"{t.loss:.5g}", "nats, to be made smaller")


# --- backward -------------------------------------------------------------------------------------


def _backward(t: Trace) -> Lines:
    yield from _row(BACKWARD, "BACKWARD", "takes", "shape", "number",
                    "local rule, last node first")
    for name in t.backward_order:
        node = t.passes[name]
        if _is_unused(node):
            yield from _row(BACKWARD, name, _arrives(node), "", "0", f"not used by {t.estimator}")
        else:
            yield from _node_backward(t, node)
        if name == first_of_theta(t.vae) and not node.outgoing:
            yield from _row(BACKWARD, "sample", "no dz", "", "", story.STEP)
    yield from _row(BACKWARD, "x", "no dx", "", "", "the walk ends: the image is data")


def _by_draw(array: np.ndarray, node: str) -> Lines:
    """The log-probabilities of several draws, or their weights, one by one."""
    by_draw = node in ("likelihood", "log_q", "log_prior") and array.ndim == 1 and array.size > 1
    if by_draw and array.any():
        numbers = ", ".join(f"{a + 0.0:.4g}" for a in array)
        for line in textwrap.wrap(numbers, COLUMNS - FORMULA_AT):
            yield PLAIN, " " * FORMULA_AT + line


def _is_unused(node: NodePass) -> bool:
    """Whether the estimator gives a node of the latent no weight, and all of it is 0."""
    return (node.name in ("log_q", "log_prior", "kl")
            and not any(a.any() for a in (node.incoming, *node.weights.values())))


def _arrives(node: NodePass) -> str:
    return ", ".join(node.weights) or f"d{node.called}"


def _node_backward(t: Trace, node: NodePass) -> Lines:
    """What arrives at a node, what it passes on where paths meet, and the parameters it fills."""
    made_of, rule = _made_of(t, node), node.formula["backward"]
    first, words = node.name, f"{made_of};  {rule}" if made_of else rule
    for name, weight in (node.weights or {f"d{node.called}": node.incoming}).items():
        yield from _row(BACKWARD, first, name, _shape(weight), _number(weight), words)
        yield from _by_draw(weight, node.name)
        first = words = ""
    if not node.weights:
        yield from _checked(f"d{node.called}", node.incoming,
                            t.checks.get((node.name, node.called)))
    if node.name in LEAVES or node.name == first_of_theta(t.vae):
        for value, grad in node.outgoing.items():
            name = node.passed_on[value]
            yield from _row(BACKWARD, "  gives", name, _shape(grad), _number(grad),
                            LEAVES.get(node.name, "from log p(x|z)") if grad.any() else "nothing")
            yield from _checked(name, grad, t.checks.get((node.name, value)))
    if node.name == "sample":
        noise = list(node.inputs)[-1]
        yield from _row(BACKWARD, "  gives", f"no d({noise})", "", "", "a dead end: noise is data")
    for key, parameter in t.parameters_of(node.name).items():
        yield from _row(BACKWARD, "  fills", f"d{key}", _shape(parameter.grad),
                        _number(parameter.grad), _parts(parameter))
        yield from _checked(f"d{key}", parameter.grad, parameter.checks)


def _made_of(t: Trace, node: NodePass) -> str:
    """The sum in which what arrives at a node was gathered; "" where one gradient came alone."""
    whole, passes = f"d{node.called}", t.passes
    first = {part: node for part in parts_of(t.vae) for node in nodes_of(t.vae, part)[:1]}
    # in the order of the model's own sums
    came_from = [first.get(t.vae.likelihood.out_name), first.get("dec"), "log_prior", "sample",
                 "log_q", "kl", *(first[head] for head in t.vae.heads)]
    parts = [passes[name].passed_on[node.called] for name in came_from
             if name in passes and node.called in passes[name].outgoing
             and passes[name].outgoing[node.called].any()]
    total = " + ".join(parts)
    if node.name == "sample" and not t.wires.path.any():
        return f"{whole} = 0, the path is CUT: {total} goes no further"
    if node.name == "sample" and not (t.wires.path == 1).all():
        total = f"path * ({total})" if len(parts) > 1 else f"path * {total}"
    return f"{whole} = {total}" if total not in ("", whole) else ""


def _parts(parameter: Parameter) -> str:
    """Where a gradient came from, with the norm of each part."""
    parts = [(ENTERS[wire], part) for wire, part in parameter.parts.items() if part.any()]
    if len(parts) == 1:
        return f"all from {parts[0][0]}"
    return ", ".join(f"{words} {_number(part)}" for words, part in parts)


def _checked(symbol: str, grad: np.ndarray, checks: list[CheckedEntry] | None) -> Lines:
    """The check of the largest entry; of a gradient that is 0 there is nothing to see."""
    for check in checks if checks and grad.any() else ():
        place = f"{symbol}[{','.join(map(str, check.index))}]"
        if check.verdict == "KINK":
            yield PLAIN, f"  checked {place}: a ReLU stands at 0, where there is no derivative"
        else:
            verdict = "" if check.verdict == "PASS" else f" {check.verdict}"
            yield PLAIN, (f"  checked {place}: analytic {check.analytic:.7g} "
                          f"numeric {check.numeric:.7g} +-{check.bar:.0e}{verdict}")


# --- the sums -------------------------------------------------------------------------------------


def _sums(t: Trace) -> Lines:
    """What each wire gives to theta and to phi."""
    phi = [p for name, p in t.params.items() if name.startswith(PHI)]
    theta = [p for name, p in t.params.items() if not name.startswith(PHI)]
    for wire in phi[0].parts:
        yield PLAIN, (f"{ENTERS[wire]:16s} gives decoder (theta) {_norm_of(theta, wire)}, "
                      f"encoder (phi) {_norm_of(phi, wire)}")
    if any(node.kind in ("Conv", "ConvTranspose") for node in t.passes.values()):
        yield from _paragraph(
            "P(x) has a row for each patch that is cut from the images x. P^T adds every number of "
            "a patch to the pixel that it was cut from.")
    yield from _paragraph(
        "A single number stands with its sign, an array as its norm in bars: |3| is the root of "
        "the sum of its squares. Gradients that meet are added, entry by entry; their norms do not "
        "add up. Checked is the largest entry, in nats per unit of it.")


def _norm_of(group: list[Parameter], wire: str) -> str:
    """The norm of one wire's part of several gradients, taken as one vector."""
    size = np.sqrt(sum((p.parts[wire] ** 2).sum() for p in group))
    return f"|{size:.4g}|" if size else "exactly 0"


def _checks(t: Trace) -> Lines:
    """How many gradients agree with finite differences, and of what function these are."""
    gradients = [(p.grad, p.checks) for p in t.params.values()]
    for (node, value), checks in t.checks.items():
        node_pass = t.passes[node]
        gradients.append((node_pass.outgoing.get(value, node_pass.incoming), checks))
    checks = [check for grad, found in gradients if grad.any() for check in found]
    agree = sum(check.verdict in ("PASS", "KINK") for check in checks)
    yield from _paragraph(
        f"{agree} of {len(checks)} gradients agree with finite differences within their error "
        "bars: those of both ends of every node, and of every parameter, where they are not 0.")
    opening, functions, closing = held_to(t)
    yield from _paragraph(opening)
    for function in functions:
        for line in textwrap.wrap(function, COLUMNS, initial_indent="  ",
                                  subsequent_indent=" " * 17):
            yield PLAIN, line
    yield from _paragraph(closing)


# --- rows -----------------------------------------------------------------------------------------


def _row(colour: str, name: str, symbol: str, shape: str, number: str, formula: str) -> Lines:
    """One row of the table; a formula that is too long goes on below."""
    first, *more = _packed(formula.split(";  "), COLUMNS - FORMULA_AT)
    what = f"{symbol} {shape.rjust(16 - len(symbol))}"
    start = f"{name:{NAME}s}{what} {number.rjust(26 - len(what))}  "
    if len(start) > FORMULA_AT:                            # a long name and a long shape
        first, more = "", [first, *more]
    yield colour, f"{start}{first}".rstrip()
    yield from ((PLAIN, " " * FORMULA_AT + line) for line in more)


def _packed(rules: list[str], width: int) -> list[str]:
    """Lines of rules: as many on each as fit, and a rule that is longer wrapped."""
    lines = [""]
    for i, rule in enumerate(rules):
        rule += ";" if i < len(rules) - 1 else ""
        together = f"{lines[-1]}  {rule}".strip()
        if len(together) <= width:
            lines[-1] = together
        else:
            lines += textwrap.wrap(rule, width, subsequent_indent="  ")
    return lines if lines[0] or len(lines) == 1 else lines[1:]


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


def _number(array: np.ndarray) -> str:
    """A single number with its sign, an array's norm in bars; 0 for an array of zeros."""
    if not array.any():
        return "0"
    return f"{array.item():.4g}" if array.size == 1 else f"|{np.linalg.norm(array):.4g}|"
