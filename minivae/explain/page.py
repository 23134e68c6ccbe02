"""`minivae explain`: one recorded pass as a self-contained HTML page to step through.

The template is page.html beside this file; page.css and the .js files are put into it as they
are.  The numbers go in as JSON, arrays as base64 of float64, so that the page shows to the bit what
was recorded.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

import numpy as np

import minivae
from minivae import estimators
from minivae.convolutions import Conv, ConvTranspose
from minivae.explain import story
from minivae.explain.cards import cards
from minivae.explain.draws import draws_of, every_estimator, latents_shown, one_step
from minivae.explain.figures import Arrays, norm
from minivae.explain.graph import pictures
from minivae.explain.live import live
from minivae.explain.names import heads_of
from minivae.explain.record import PHI
from minivae.explain.subject import Subject, find_subject, samples_of
from minivae.explain.trace import Trace, trace
from minivae.explain.walk import as_text
from minivae.latents import GaussianLatent
from minivae.layers import Dense, Sequential, params_of
from minivae.pixels import ONCE
from minivae.saving.archive import write_whole
from minivae.training.evaluation import NonFiniteError

HERE = Path(__file__).parent
STYLE = "page.css"
# the model, which a worker runs too
ENGINE = "estimators.js layers.js model.js agree.js draws.js worker.js embedded.js"
SCRIPTS = "draw.js pass.js front.js card.js answers.js tip.js live.js spread.js training.js page.js"
PIXELS = 9_000           # a larger image would make a page of more than 1.5 MB


def explain(folder: str | None, image: int, out: str) -> bool:
    """Write the page of one test image of the run in `folder` to the file `out`.

    Where the pass is not finite the page says only that, and the result is False.  Raises
    ValueError, in one line, for a run or an image that cannot be had, and images too large to draw.
    """
    subject = find_subject(folder, image)
    if subject.vae.x_dim > PIXELS:
        raise ValueError(f"the page draws images of up to {PIXELS:,} numbers, "
                         f"these have {subject.vae.x_dim:,}")
    try:
        data, problem = contents(subject), None
    except NonFiniteError as error:
        data, problem = {"about": about(subject), "error": str(error)}, error
    write_whole(out, render(data).encode(errors="backslashreplace"))
    if problem:
        print(f"minivae: {problem}; the page says so", file=sys.stderr)
    megabytes = Path(out).stat().st_size / 1e6
    print(f"run       {subject.run}")
    print(f"image     {subject.image_in_words()}")
    print(f"wrote     {out} ({megabytes:.2f} MB, opens in any browser, needs no network)")
    return problem is None


def render(data: dict) -> str:
    """The page: the template with the style, the program, the graph and the data put in."""
    page = (HERE / "page.html").read_text(encoding="utf-8")
    data = dict(data)
    parts = {"wide": "", "middle": "", "narrow": "", "strip": "", "slim": "", "walk": ""}
    parts |= data.pop("picture", {}) | {"walk": escape(data.pop("walk", ""))}
    parts["version"] = escape(minivae.__version__)
    for name, part in parts.items():
        page = page.replace(f"<!-- {name} -->", part, 1)
    for names in (STYLE, ENGINE, SCRIPTS):
        texts = [(HERE / name).read_text(encoding="utf-8") for name in names.split()]
        page = page.replace(f"/* {names} */", "\n".join(texts), 1)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")                    # so no name can close the script element
    return page.replace("/* data */", text, 1)


def contents(subject: Subject) -> dict:
    """Everything that the page shows.  Raises NonFiniteError where the pass is not finite."""
    vae = subject.vae
    # a Gaussian latent is shown with the plain ELBO; a discrete one with what it was trained with
    estimator = estimators.elbo if type(vae.latent) is GaussianLatent else vae.estimator
    eps = subject.noise(samples_of(vae, estimator), estimator.antithetic)
    t = trace(vae, subject.x, eps, estimator)
    arrays = Arrays()
    score = not vae.latent.has_path
    # the plain ELBO gives log q and the prior weight 0, so the walk leaves them out
    passes = [node for node in t.passes.values()
              if score or node.name not in ("log_q", "log_prior")]
    forward = [node.name for node in passes]
    backward = [name for name in t.backward_order if name in forward]
    heads = heads_of(vae)
    graph = {"latent": vae.latent.name, "heads": heads, "path": vae.latent.has_path,
             "noise": (noise := list(t.passes["sample"].inputs)[-1]), "score": score,
             # what gets no gradient: the image, also where a Reshape made it one, and the noise
             "data": ["x", noise, *(node.name for node in passes if node.name.startswith("enc")
                                    and node.incoming is None)]}
    given = " and ".join(t.passes[head].called for head in heads)
    data = {
        "about": about(subject) | {"loss": t.loss, "recon": t.recon, "kl": t.kl,
                                   "estimator": t.estimator, "samples": len(t.eps)},
        "imageShape": subject.image_shape,
        "graph": graph,
        "nodes": cards(t, passes, arrays),
        "forward": ["x", *forward, "loss"],
        "backward": ["loss", *backward, "x"],
        "params": parameters(t),
        "shownLatents": latents_shown(t),
        "draws": draws_of(t),
        "estimators": every_estimator(t, subject, arrays),
        "wires": {wire: words.replace("mu and logvar", given) for wire, words in
                  story.WIRES.items()},
        "step": one_step(t, subject, arrays),
        "live": live(t, subject, arrays),
        "arrays": arrays.stored}
    return data | {"picture": graph_of(t, data, subject), "walk": as_text(t, subject)}


def graph_of(t: Trace, data: dict, subject: Subject) -> dict[str, str]:
    """The graph as SVG in every width, with the gradient of every node of the pass."""
    values = {name: (f"d{node.called}", digits(node.incoming)) for name, node in t.passes.items()
              if node.incoming is not None}
    values["log_q"] = "", ""
    out, _ = t.passes["likelihood"].inputs.values()
    painted = t.vae.likelihood.mean(out)[0].reshape(subject.image_shape)
    return pictures(data, values, t.x[0].reshape(subject.image_shape), painted)


def digits(gradient: np.ndarray) -> str:
    """A number with its sign; of an array the norm."""
    value = gradient.item() if gradient.size == 1 else norm(gradient)
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def about(subject: Subject) -> dict:
    """What is explained, in words."""
    vae = subject.vae
    sizes = [vae.x_dim, *widths(vae.enc), vae.z_dim, *widths(vae.dec), vae.x_dim]
    return {
        "run": subject.run, "note": subject.note, "image": subject.image, "label": subject.label,
        "pixels": ONCE[subject.binarize],
        "model": " - ".join(map(str, sizes)), "latents": vae.z_dim,
        "likelihood": vae.likelihood.name.capitalize(),
        "beta": vae.beta, "trained": vae.estimator.__name__, "dtype": vae.dtype.name,
        "lr": subject.lr, "parameters": sum(p.size for _, p, _ in vae.named_params())}


def widths(stack: Sequential) -> list[str]:
    """What each layer with weights gives: so many numbers, or so many channels of an image."""
    found = []
    for layer in stack.layers:
        if isinstance(layer, Dense):
            found.append(str(layer.params["W"].shape[1]))
        elif isinstance(layer, (Conv, ConvTranspose)):
            found.append(f"{len(layer.params['b'])} channels")
        elif params_of(layer):
            found.append(type(layer).__name__)
    return found



def parameters(t: Trace) -> list[dict]:
    """Every parameter's gradient taken apart, in norms."""
    return [{"name": name, "phi": name.startswith(PHI), "norm": norm(p.grad),
             "recon": norm(p.parts.get("decoder", 0)), "kl": norm(p.parts.get("kl", 0)),
             "score": norm(p.parts.get("score", 0))}
            for name, p in t.params.items()]
