"""`minivae explain`: one recorded pass as a self-contained HTML page to step through.

The template is page.html beside this file; page.css and the six .js files go into it as they are.  The numbers
go in as JSON, arrays as base64 of float64, so that what the page shows is to the bit what was recorded.
"""

from __future__ import annotations

import base64
import inspect
import json
import sys
from pathlib import Path

import numpy as np

from minivae import estimators
from minivae.saving.archive import write_whole
from minivae.explain import story
from minivae.explain.subject import Subject, find_subject, samples_of
from minivae.explain.trace import PHI, Check, Parameter, Stop, Trace, record, source, trace
from minivae.gradcheck import float64_twin
from minivae.pixels import ONCE
from minivae.training.loop import EVALUATION_SEED, NonFiniteError
from minivae.optim import Adam
from minivae.vae import VAE

HERE = Path(__file__).parent
STYLE, SCRIPTS = "page.css", "draw.js graph.js card.js sampling.js wires.js page.js"       # in this order, into the template
DRAWS = 300              # passes with other noise, for the means and spreads
LATENTS = 12             # as many latents' draws are kept, those with the largest KL
PIXELS = 9_000           # a larger image would make a page of more than 1.5 MB


def explain(folder: str | None, image: int, out: str) -> bool:
    """Write the page of one test image; False where the pass is not finite and the page only says so."""
    subject = find_subject(folder, image)
    if subject.vae.x_dim > PIXELS:
        raise ValueError(f"the page draws images of up to {PIXELS:,} pixels, these have {subject.vae.x_dim:,}")
    try:
        data, problem = contents(subject), None
    except NonFiniteError as error:
        data, problem = {"about": about(subject), "error": str(error)}, error
    write_whole(out, render(data).encode())
    if problem:
        print(f"minivae: {problem}; the page says so", file=sys.stderr)
    print(f"run       {subject.run}")
    print(f"image     test image {image}{'' if subject.label is None else f', labelled {subject.label}'}")
    print(f"wrote     {out} ({Path(out).stat().st_size / 1e6:.2f} MB, opens in any browser, needs no network)")
    return problem is None


def render(data: dict) -> str:
    """The page: the template with the style, the program and the data put in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")       # no name can close the script element
    page = (HERE / "page.html").read_text(encoding="utf-8")
    for names in (STYLE, SCRIPTS):
        page = page.replace(f"/* {names} */", "\n".join((HERE / name).read_text(encoding="utf-8") for name in names.split()), 1)
    return page.replace("/* data */", text, 1)


# --- the data --------------------------------------------------------------------------------------


def norm(array: np.ndarray) -> float:
    """The root of the sum of squares."""
    return float(np.linalg.norm(array))


class Arrays:
    """Arrays by name, each distinct one stored once."""

    def __init__(self):
        self.stored, self.known = {}, {}

    def key(self, name: str, array: np.ndarray) -> str:
        """The name under which `array` is stored, `name` unless the same numbers have one already."""
        array = np.ascontiguousarray(array, "<f8")
        name = self.known.setdefault((array.shape, array.tobytes()), name)
        self.stored[name] = {"shape": array.shape, "base64": base64.b64encode(array.tobytes()).decode()}
        return name


def decode(stored: dict) -> np.ndarray:
    """The array that `Arrays.key` stored."""
    return np.frombuffer(base64.b64decode(stored["base64"]), "<f8").reshape(stored["shape"])


def contents(subject: Subject) -> dict:
    """Everything that the page shows.  Raises NonFiniteError where the pass is not finite."""
    t = trace(subject.vae, subject.x, subject.noise(1), estimators.elbo)
    arrays = Arrays()
    stops = [stop for stop in t.stops.values() if stop.name not in ("log_q", "log_prior")]      # their weight is 0 here
    shown = [stop.name for stop in stops]
    data = {"about": about(subject) | {"loss": t.loss, "recon": t.recon, "kl": t.kl}, "imageShape": subject.image_shape,
            "nodes": [image_node(t, arrays), *(node(t, stop, arrays) for stop in stops), loss_node(t)],
            "forward": ["x", *shown, "loss"], "backward": ["loss", *(name for name in t.backward_order if name in shown), "x"],
            "params": parameters(t), "sampling": sampling(t, subject, arrays), "estimators": every_estimator(t, subject, arrays),
            "wires": story.WIRES, "step": one_step(t, subject, arrays)}
    return data | {"arrays": arrays.stored}


def about(subject: Subject) -> dict:
    """What is explained, in words."""
    vae = subject.vae
    widths = [layer.params["W"].shape[1] for layer in vae.enc.layers if layer.params]
    back = [layer.params["W"].shape[1] for layer in vae.dec.layers if layer.params]
    kind = "Bernoulli" if vae.likelihood.binary else "Gaussian"
    return {"run": subject.run, "note": subject.note, "image": subject.image, "label": subject.label,
            "pixels": ONCE[subject.treatment],
            "model": " - ".join(map(str, [vae.x_dim, *widths, vae.z_dim, *back, vae.x_dim])), "latents": vae.z_dim, "likelihood": kind,
            "beta": vae.beta, "trained": vae.estimator.__name__, "dtype": vae.dtype.name, "lr": subject.lr,
            "parameters": sum(p.size for _, p, _ in vae.named_params())}


def checks_of(checks: list[Check] | None) -> list[dict]:
    """Checks as JSON takes them: at a kink there is no number, so None."""
    numbers = lambda check: {"numeric": check.numeric, "bar": check.bar} if np.isfinite(check.bar) else {"numeric": None, "bar": None}
    return [check._asdict() | numbers(check) for check in checks or ()]


def figure(arrays: Arrays, symbol: str, meaning: str, name: str, array: np.ndarray, checks: list[Check] | None = None) -> dict:
    """One array with its symbol, its meaning and its checks; the page chooses the picture."""
    return {"symbol": symbol, "meaning": meaning, "array": arrays.key(name, array), "checks": checks_of(checks)}


EMPTY = {"inputs": [], "output": None, "incoming": None, "local": [], "outgoing": [], "fills": [], "code": None}


def image_node(t: Trace, arrays: Arrays) -> dict:
    """Where the walk begins and ends."""
    title, forward, backward = story.NODES["x"]
    return EMPTY | {"name": "x", "kind": "x", "title": title, "called": "x", "words": {"forward": forward, "backward": backward},
                    "formula": {"forward": "", "backward": ""}, "output": figure(arrays, "x", story.MEANINGS["x"], "x", t.x)}


def loss_node(t: Trace) -> dict:
    """Where it turns; its code is the estimator's: forward its value, backward its weights."""
    title, forward, backward = story.NODES["loss"]
    terms = f"Here loss = {t.recon:.6f} + {t.vae.beta:g} * {t.kl:.6f} = {t.loss:.6f} nats."
    sources = {"forward": function_source(estimators.analytic_elbo), "backward": function_source(estimators.elbo)}
    return EMPTY | {"name": "loss", "kind": "loss", "title": title, "called": "loss",
                    "words": {"forward": f"{forward} {terms}", "backward": backward},
                    "formula": {"forward": "loss = -log_px + beta * kl", "backward": "dlog_px = -1;  dkl = beta"}, "code": sources | {"call": {}}}


def function_source(function) -> dict:
    """The installed lines of a plain function."""
    return source(inspect.getmodule(function), function.__name__)._asdict()


def node(t: Trace, stop: Stop, arrays: Arrays) -> dict:
    """One stop of the walk, as the page shows it."""
    title, forward, backward = words(t, stop)
    name, rule = stop.name, stop.rule
    inputs = [figure(arrays, symbol, meaning_of(t, stop, symbol), f"{name}/{symbol}", a) for symbol, a in stop.inputs.items()]
    outgoing = [figure(arrays, f"d{symbol}", f"d(loss)/d{symbol}, by this node", f"{name}/d{symbol}", a, t.checks.get((name, symbol)))
                for symbol, a in stop.outgoing.items()]
    output = figure(arrays, rule.output, story.MEANINGS.get(stop.called, "the output"), f"{name}/{rule.output}", stop.output)
    arrives = f"d{rule.output}"
    incoming = figure(arrays, arrives, f"d(loss)/{arrives}", f"{name}/{arrives}", stop.incoming, t.checks.get((name, rule.output)))
    local = [figure(arrays, symbol, "the local derivative", f"{name}/local {i}", a) for i, (symbol, a) in enumerate(stop.local.items())]
    rules = "; ".join(part for part in rule.backward.split(";  ") if stop.outgoing or not part.startswith("dx"))
    fills = [filled(name, key, parameter, arrays, len(t.x[0])) for key, parameter in t.parameters_of(name).items()]
    return {"name": name, "kind": stop.kind, "title": title, "called": stop.called, "words": {"forward": forward, "backward": backward},
            "formula": {"forward": rule.forward, "backward": rules}, "inputs": inputs, "output": output, "incoming": incoming, "local": local,
            "outgoing": outgoing, "fills": fills, "sums": sums(t, arrays) if name == "kl" else [],
            "code": {"forward": stop.forward._asdict(), "backward": stop.backward._asdict(), "call": calls(name)}}


def words(t: Trace, stop: Stop) -> tuple[str, str, str]:
    """Title, and what is said of the node forward and backward."""
    side, _, number = stop.name.partition(".")
    kind = "likelihood" if stop.name == "likelihood" else stop.kind
    title, forward, backward = story.NODES.get(kind, ("a layer of your own", "", ""))
    head, more_forward, more_backward = story.HEADS.get(stop.name, ("", "", ""))
    if number:
        title = f"{'Encoder' if side == 'enc' else 'Decoder'}, node {int(number) + 1}: {title}"
    elif stop.name == t.vae.likelihood.head:
        title = "The decoder's last layer: from g to the pixels"
    else:
        title = head or title
    if stop.kind == "Dense" and stop.outgoing:
        backward = f"{backward} {story.GATHERS}"
    if not stop.outgoing:
        more_backward = story.FIRST_OF_PHI
    if stop.name == ("dec.0" if t.vae.dec.layers else t.vae.likelihood.head):
        more_backward = story.LAST_OF_THETA
    if stop.kind == "ReLU":
        n = int((stop.output > 0).sum())
        more_forward = f"Here {n} of {stop.output.size} units are open."
    return title, f"{forward} {more_forward}".strip(), f"{backward} {more_backward}".strip()


def meaning_of(t: Trace, stop: Stop, symbol: str) -> str:
    """What stands behind an input's symbol: x of a layer is some other node's output."""
    if symbol != "x" or stop.name in ("enc.0", "likelihood"):
        return story.MEANINGS.get(symbol, symbol)
    side, _, number = stop.name.partition(".")
    enc, dec = len(t.vae.enc.layers), len(t.vae.dec.layers)
    if number and int(number):
        before = f"{side}.{int(number) - 1}"
    elif side in ("to_mu", "to_logvar"):
        before = f"enc.{enc - 1}" if enc else "x"
    else:
        before = f"dec.{dec - 1}" if dec and side != "dec" else "sample"
    name = "x" if before == "x" else t.stops[before].called
    return f"the layer's input; it is {name}, {story.MEANINGS[name]}" if name != "y" else f"the layer's input, the output of {before}"


def filled(node_name: str, key: str, parameter: Parameter, arrays: Arrays, D: int) -> dict:
    """A parameter's gradient: norms of the whole and of its parts, its checks, and one row or column of it to look at."""
    grad = parameter.grad
    picture, what = grad.ravel(), f"all {grad.size} of them" if grad.size > 1 else f"d(loss)/d({key}), one number for all pixels"
    if grad.ndim == 2 and min(grad.shape) > 1:
        of_pixels = grad.shape[1] == D and grad.shape[0] != D
        axis = 0 if of_pixels else 1                       # one row out of the decoder is an image, else one column
        i = int(np.argmax(np.linalg.norm(grad, axis=1 - axis)))
        picture = grad[i] if of_pixels else grad[:, i]
        what = f"row {i}, from input {i} to every output" if of_pixels else f"column {i}, from every input to output {i}"
        what += ": the one with the largest norm"
    return {"symbol": f"d{key}", "of": key, "shape": grad.shape, "meaning": what, "norm": norm(grad),
            "parts": {wire: norm(part) for wire, part in parameter.parts.items()},
            "array": arrays.key(f"{node_name}/d{key} part", picture), "checks": checks_of(parameter.checks)}


def sums(t: Trace, arrays: Arrays) -> list[dict]:
    """What meets at mu and at logvar: through z, from the KL, and their sum."""
    rows = []
    for symbol, head in (("mu", "to_mu"), ("logvar", "to_logvar")):
        through, joined, total = t.stops["sample"].outgoing[symbol], t.stops["kl"].outgoing[symbol], t.stops[head].incoming
        rows.append({"symbol": f"d{symbol}", "parts": [
            figure(arrays, f"d{symbol}", "through z", f"sample/d{symbol}", through, t.checks["sample", symbol]),
            figure(arrays, f"d{symbol}", "from the KL", f"kl/d{symbol}", joined, t.checks["kl", symbol]),
            figure(arrays, f"d{symbol}", "their sum", f"{head}/dy", total, t.checks[head, "y"])]})
    return rows


def calls(name: str) -> dict:
    """The lines of VAE.forward and VAE.backward that call a node."""
    side = name.partition(".")[0]
    owner = side if side in ("enc", "dec", "to_mu", "to_logvar", "likelihood") else "latent" if name in ("kl", "sample") else "to_out"
    wanted = {"forward": f"self.{owner}.{name if owner == 'latent' else 'forward'}(",
              "backward": f"self.{owner}.{f'{name}_backward' if owner == 'latent' else 'backward'}("}
    found = {}
    for direction, text in wanted.items():
        lines = source(VAE, direction)
        found[direction] = [{"file": lines.file, "line": n, "text": line.strip()} for n, line in lines.lines if text in line]
    return found


def parameters(t: Trace) -> list[dict]:
    """Every parameter's gradient taken apart, in norms."""
    return [{"name": name, "phi": name.startswith(PHI), "norm": norm(p.grad),
             "recon": norm(p.parts.get("decoder", 0)), "kl": norm(p.parts.get("kl", 0))} for name, p in t.params.items()]


# --- many draws --------------------------------------------------------------------------------------


def drawn(vae, x: np.ndarray, estimator, eps: np.ndarray) -> dict[str, np.ndarray]:
    """The gradients of eps.shape[1] independent passes of one image, (draws, Z) each, as one batch: rows do not meet."""
    vae.estimator = estimator
    n = eps.shape[1]
    _, _, visits = record(vae, np.repeat(x, n, axis=0), eps)
    return {"dz": n * visits["sample", "backward"][0][0], "mu": n * visits["to_mu", "backward"][0][0],
            "logvar": n * visits["to_logvar", "backward"][0][0]}


def noise_of_draws(t: Trace, subject: Subject, K: int) -> np.ndarray:
    """eps : (K, DRAWS, Z); the first draw is the pass that the page walks through."""
    eps = np.random.default_rng([EVALUATION_SEED, subject.image, 2]).standard_normal((K, DRAWS, t.vae.z_dim))
    eps[:, :1] = subject.noise(K)
    return eps


def sampling(t: Trace, subject: Subject, arrays: Arrays) -> dict:
    """The sampling node per latent, and the same gradient by both estimators over many draws."""
    stop, vae = t.stops["sample"], float64_twin(t.vae)
    mu, logvar = stop.inputs["mu"], stop.inputs["logvar"]
    per_latent = (mu[0] ** 2 + np.expm1(logvar[0]) - logvar[0]) / 2
    kept = np.sort(np.argsort(-per_latent, kind="stable")[:LATENTS])
    many = noise_of_draws(t, subject, 1)
    path, score = drawn(vae, t.x, estimators.elbo, many), drawn(vae, t.x, estimators.score_analytic_kl, many)
    wanted = {"mu": mu[0], "logvar": logvar[0], "kl": per_latent, "draws_eps": many[0][:, kept], "draws_dz": path["dz"][:, kept]}
    for name, estimate in (("path", path), ("score", score)):
        wanted |= {f"{name}_mu": estimate["mu"][:, kept], f"{name}_logvar": estimate["logvar"][:, kept]}
    return {"kept": kept.tolist(), "draws": DRAWS, **{name: arrays.key(f"sampling/{name}", a) for name, a in wanted.items()}}


def every_estimator(t: Trace, subject: Subject, arrays: Arrays) -> list[dict]:
    """For each estimator its weights in this pass, the gradient that reaches mu and logvar, and that over many draws."""
    found = []
    for name, estimator in estimators.ESTIMATORS.items():
        if estimator.antithetic:                           # for binary latents only
            continue
        K = samples_of(estimator)
        entry = {"name": name, "samples": K, "sentence": story.ESTIMATORS.get(name, ""), "code": function_source(estimator)}
        try:
            one = trace(subject.vae, subject.x, subject.noise(K), estimator, entries=0)
        except ValueError as error:                        # a bound on log p(x) knows no beta
            found.append(entry | {"refused": str(error)})
            continue
        many = drawn(float64_twin(t.vae), t.x, estimator, noise_of_draws(t, subject, K))
        wires = {wire: np.asarray(weight).ravel().tolist() for wire, weight in one.wires._asdict().items()}
        norms = {side: norm(np.concatenate([p.grad.ravel() for key, p in one.params.items() if key.startswith(PHI) == (side == "phi")]))
                 for side in ("phi", "theta")}
        gradients = {"dmu": one.stops["to_mu"].incoming[0], "dlogvar": one.stops["to_logvar"].incoming[0],
                     "mean_mu": many["mu"].mean(axis=0), "mean_logvar": many["logvar"].mean(axis=0),
                     "spread_mu": many["mu"].std(axis=0, ddof=1), "spread_logvar": many["logvar"].std(axis=0, ddof=1)}
        found.append(entry | {"wires": wires, "norms": norms} | {key: arrays.key(f"{name}/{key}", a) for key, a in gradients.items()})
    return found


def one_step(t: Trace, subject: Subject, arrays: Arrays) -> dict:
    """The same image with the same noise, before and after one step of a fresh Adam on it."""
    vae = float64_twin(t.vae)
    vae.estimator = estimators.elbo
    before, kept = vae.forward(t.x, t.eps), {name: p.copy() for name, p, _ in vae.named_params()}
    image = vae.likelihood.mean(vae.to_out._buffers["y"])
    vae.backward()
    Adam(vae.named_params(), subject.lr).step()
    after = vae.forward(t.x, t.eps)
    if not np.isfinite(after.loss):
        raise NonFiniteError(f"one step with the run's step size {subject.lr:g} makes the loss infinite")
    image_after = vae.likelihood.mean(vae.to_out._buffers["y"])
    moved = [{"name": name, "size": p.size, "norm": norm(kept[name]), "change": norm(p - kept[name])} for name, p, _ in vae.named_params()]
    terms = lambda r: {"loss": r.loss, "recon": float(r.recon[0]), "kl": float(r.kl[0])}
    return {"before": terms(before), "after": terms(after), "moved": moved, "x": arrays.key("step/x", t.x),
            "image_before": arrays.key("step/before", image), "image_after": arrays.key("step/after", image_after),
            "difference": arrays.key("step/difference", image_after - image)}
