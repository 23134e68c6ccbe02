"""The cards of the page, one for each node of the walk: its words, its arrays and its code."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from minivae import estimators
from minivae.convolutions import Conv, ConvTranspose
from minivae.explain import story
from minivae.explain.figures import Arrays, checks_of, figure, norm
from minivae.explain.names import first_of_theta, heads_of, nodes_of
from minivae.explain.record import LATENT_NODES, PHI
from minivae.explain.rules import LOSSES, SENT_BACK, for_samples
from minivae.explain.trace import NodePass, Parameter, Trace, source
from minivae.layers import Layer
from minivae.model import Model

# what a card holds besides its name and its words; the ends of the walk have little of it
EMPTY = {"inputs": [], "output": None, "incoming": None, "local": [], "outgoing": [], "fills": [],
         "code": None}


def cards(t: Trace, passes: list[NodePass], arrays: Arrays) -> list[dict]:
    """A card for the image, for each node, and for the loss."""
    return [image_card(t, arrays), *(node_card(t, node, arrays) for node in passes), loss_card(t)]


def image_card(t: Trace, arrays: Arrays) -> dict:
    """Where forward begins and backward ends."""
    title, forward, backward = story.NODES["x"]
    return EMPTY | {
        "name": "x", "kind": "x", "title": title, "called": "x",
        "words": {"forward": forward, "backward": backward},
        "formula": {"forward": "", "backward": ""},
        "output": figure(arrays, "x", story.MEANINGS["x"], "x", t.x)}


def loss_card(t: Trace) -> dict:
    """Where forward ends and backward begins.

    Its code is the estimator's: forward the objective, backward the weights on the wires.
    """
    estimator = t.vae.estimator
    title, forward, backward = story.NODES["loss"]
    if not t.vae.latent.has_path:
        is_bound = estimator.objective is estimators.multi_sample_bound
        forward, backward = story.BOUND_OF_COINS if is_bound else story.LOSS_OF_COINS
    forward_rule, backward_rule = (
        for_samples(rule, len(t.eps))
        for rule in (LOSSES[estimator.objective.__name__], SENT_BACK[t.estimator]))
    return EMPTY | {
        "name": "loss", "kind": "loss", "title": title, "called": "loss",
        "words": {"forward": f"{forward} Here {loss_in_numbers(t)} nats.", "backward": backward},
        "formula": {"forward": forward_rule, "backward": backward_rule},
        "code": {"forward": function_source(estimator.objective),
                 "backward": function_source(estimator),
                 "call": {}}}


def loss_in_numbers(t: Trace) -> str:
    """The loss as the sum of its terms, where it is one; of a bound, its value."""
    if t.vae.estimator.objective is estimators.multi_sample_bound:
        return f"loss = {t.loss:.6f}"
    return f"loss = {t.recon:.6f} + {t.vae.beta:g} * {t.kl:.6f} = {t.loss:.6f}"


def node_card(t: Trace, node: NodePass, arrays: Arrays) -> dict:
    """What the pass did at one node, forward and backward, in the names of the pass.

    inCode gives these names for the symbols of the code that is shown.  Where backward never comes,
    incoming is None.
    """
    name, called = node.name, node.called
    arrives = "along_phi" if node.weights else f"d{called}"
    title, forward, backward = words(t, node)
    incoming = None
    if node.incoming is not None:
        incoming = figure(arrays, arrives, f"d(loss)/d({called})", f"{name}/{arrives}",
                          node.incoming, t.checks.get((name, called)))
    cut = patches_of(dict(t.vae.named_layers()).get(name), node)
    return {
        "name": name, "kind": node.kind, "title": title, "called": called,
        "words": {"forward": forward, "backward": backward},
        "formula": node.formula, "inCode": node.in_code,
        "inputs": [
            figure(arrays, value, meaning_of(value), f"{name}/{value}", a)
            for value, a in node.inputs.items()],
        "output": figure(arrays, called, meaning_of(called), f"{name}/{called}", node.output),
        "incoming": incoming,
        "local": [
            figure(arrays, formula, "the local derivative", f"{name}/local {i}", a)
            for i, (formula, a) in enumerate(node.local.items())],
        "outgoing": [
            figure(arrays, node.passed_on[value], f"d(loss)/d({value}), by this node",
                   f"{name}/{node.passed_on[value]}", a, t.checks.get((name, value)))
            for value, a in node.outgoing.items()],
        "fills": [
            filled(name, key, parameter, arrays, t.x.shape[1], cut)
            for key, parameter in t.parameters_of(name).items()],
        "patches": cut,
        "sums": sums(t, arrays) if name == "kl" else [],
        "code": {"forward": node.forward._asdict(),
                 "backward": node.backward._asdict() if node.backward else None,
                 "call": calls(t.vae, name)}}


def patches_of(layer: Layer, node: NodePass) -> dict | None:
    """How a convolution cuts images into patches; None for any other layer.

    image : (H, W, C);  step : (kernel, stride, padding);  grid : (H', W'), how many patches.
    """
    if type(layer) not in (Conv, ConvTranspose):
        return None
    (x,) = node.inputs.values()
    image, grid = (x, node.output) if type(layer) is Conv else (node.output, x)
    return {"image": image.shape[1:], "step": layer.step, "grid": grid.shape[1:3]}


def words(t: Trace, node: NodePass) -> tuple[str, str, str]:
    """The title of a card, and what it says of the node forward and backward."""
    latent = t.vae.latent.name
    of_latent = story.COINS | {"sample": story.SAMPLES[latent]} if latent in story.SAMPLES else {}
    kind = "likelihood" if node.name == "likelihood" else node.kind
    title, forward, backward = (story.NODES | of_latent).get(kind, ("a layer of your own", "", ""))
    head, more_forward, more_backward = story.HEADS.get(node.name, ("", "", ""))
    last_layer = t.vae.likelihood.out_name
    stacks = {"Encoder": nodes_of(t.vae, "enc"),
              "Decoder": nodes_of(t.vae, "dec") + nodes_of(t.vae, last_layer)}
    for side, stack in stacks.items():
        if node.name in stack and "." in node.name:
            title = f"{side}, node {stack.index(node.name) + 1}: {title}"
    if node.name == last_layer:
        head = "The decoder's last layer: from g to the pixels"
    title = head or title
    if node.kind == "Dense" and node.outgoing:
        backward = f"{backward} {story.GATHERS}"
    if node.name == first_of_theta(t.vae):
        more_backward = story.LAST_OF_THETA if node.outgoing else story.LAST_OF_THETA_OF_COINS
    elif node.name.startswith(PHI) and node.incoming is not None and not node.outgoing:
        more_backward = story.FIRST_OF_PHI
    if node.kind == "ReLU":
        n_open = int((node.output > 0).sum())
        more_forward = f"Here {n_open} of {node.output.size} units are open."
    return title, f"{forward} {more_forward}".strip(), f"{backward} {more_backward}".strip()


def meaning_of(value: str) -> str:
    """What the name of a value stands for."""
    letter, _, number = value.partition(".")
    if number:
        side = "enc" if letter == "h" else "dec"
        return f"what {side}.{number} gives, in the {'encoder' if side == 'enc' else 'decoder'}"
    return story.MEANINGS.get(value, value)


def filled(name: str, key: str, parameter: Parameter, arrays: Arrays, D: int, cut: dict | None
           ) -> dict:
    """A parameter's gradient: its norm, the norms of its parts, its checks, and one line to draw.

    The line is the row or column with the largest norm.  A row is drawn where it runs over the
    D pixels, because it is an image then; a column elsewhere.  A column of a convolution's W is a
    filter, as large as a patch: (k, k, C).
    """
    grad = parameter.grad
    if grad.ndim == 2 and cut:
        k, i = cut["step"][0], int(np.argmax(np.linalg.norm(grad, axis=0)))
        line = grad[:, i].reshape(k, k, -1)
        meaning = f"column {i}, one filter, as large as a patch: the one with the largest norm"
    elif grad.ndim == 2 and min(grad.shape) > 1:
        by_row = grad.shape[1] == D and grad.shape[0] != D
        i = int(np.argmax(np.linalg.norm(grad, axis=1 if by_row else 0)))
        line = grad[i] if by_row else grad[:, i]
        where = (f"row {i}, from input {i} to every output" if by_row
                 else f"column {i}, from every input to output {i}")
        meaning = f"{where}: the one with the largest norm"
    else:
        line = grad.ravel()
        meaning = (f"all {grad.size} of them" if grad.size > 1
                   else f"d(loss)/d({key}), one number for all pixels")
    return {"symbol": f"d{key}", "of": key, "shape": grad.shape, "meaning": meaning,
            "norm": norm(grad),
            "parts": {wire: norm(part) for wire, part in parameter.parts.items()},
            "array": arrays.store(f"{name}/d{key} part", line),
            "checks": checks_of(parameter.checks)}


def sums(t: Trace, arrays: Arrays) -> list[dict]:
    """What meets at each head's output: the gradients that came to it, and their sum."""
    came = {"sample": "through z", "log_q": "from log q", "kl": "from the KL"}
    found = []
    for head in heads_of(t.vae):
        value = t.passes[head].called
        # a part that is 0 in every entry belongs to a cut wire
        parts = [figure(arrays, node.passed_on[value], came[node.name],
                        f"{node.name}/{node.passed_on[value]}", node.outgoing[value],
                        t.checks.get((node.name, value)))
                 for node in (t.passes[name] for name in came)
                 if value in node.outgoing and (node.name != "log_q" or node.incoming.any())]
        total = figure(arrays, f"d{value}", "their sum", f"{head}/d{value}",
                       t.passes[head].incoming, t.checks.get((head, value)))
        found.append({"symbol": f"d{value}", "parts": [*parts, total]})
    return found


def calls(vae: Model, name: str) -> dict[str, list[dict]]:
    """The lines of the model's forward and of its backward that call a node."""
    if name in LATENT_NODES:
        forward, backward = f"self.latent.{name}(", f"self.latent.{name}_backward("
    else:
        layer = name.partition(".")[0]                     # enc.0, enc.1, .. are called as self.enc
        if layer not in ("enc", *vae.heads, "dec", "likelihood"):
            layer = "to_out"                               # to_logits, to_mean, ..
        forward, backward = f"self.{layer}.forward(", f"self.{layer}.backward("
    return {"forward": lines_with(type(vae), forward, "forward"),
            "backward": lines_with(type(vae), backward, "backward")}


def lines_with(owner: type, call: str, method: str) -> list[dict]:
    """The lines of one of a model's methods in which the text of a call stands."""
    shown = source(owner, method)
    return [{"file": shown.file, "line": number, "text": text.strip()}
            for number, text in shown.lines if call in text]


def function_source(function: Callable) -> dict:
    """The installed lines of a plain function."""
    return source(inspect.getmodule(function), function.__name__)._asdict()
