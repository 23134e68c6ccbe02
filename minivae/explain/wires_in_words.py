"""What an estimator sends along the five wires, and what it holds constant, for the walk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minivae.baselines import NVIL, Others
from minivae.estimators import analytic_elbo, others
from minivae.explain import story
from minivae.explain.names import heads_of
from minivae.explain.trace import Trace


def wires_in_words(t: Trace) -> Iterator[tuple[str, str, str]]:
    """Yield (wire, where it leads, what is sent along it, as d(loss)) for each of the five.

    A wire with weight 0 is CUT, unless the loss has nothing along it: the KL stands in a loss once,
    on paper or as log q - log p.
    """
    w, q = t.wires, " and ".join(t.passes[head].called for head in heads_of(t.vae))
    on_paper, step = t.kl_name == "kl", "none: z is a step"
    log_q, kl = ("not in this loss", "CUT") if on_paper else ("CUT", "not in this loss")
    yield "decoder", "log p(x|z), to theta and to z", _sent("dlog_px", -w.decoder, "CUT")
    latent, path = _sent("along_z = -dlog_pz", w.latent, log_q), _sent("path", w.path, "CUT")
    if (w.path == 1).all():
        path = "open"
    if not t.vae.latent.has_path:
        latent = path = step
    yield "latent", "log p(z) and log q(z|x), to z", latent
    yield "path", f"from z on to {q}", path
    yield "score", f"log q(z|x), straight to {q}", _sent("along_phi", -w.score, log_q)
    yield "kl", f"the KL on paper, to {q}", _sent("dkl", -w.kl, kl)


def _sent(name: str, weights: np.ndarray, nothing: str) -> str:
    """A weight for each draw, with its name; `nothing` where all are 0."""
    if not weights.any():
        return nothing
    if weights.ndim == 3:                                  # (K, B, Z)
        return f"{name}, one per coin"
    numbers = [f"{a:.4g}" for a in weights.ravel()]
    same = len(set(numbers)) == 1
    each = " each" if same and len(numbers) > 1 else ""
    return f"{name} = {numbers[0] if same else ', '.join(numbers)}{each}"


def signal(t: Trace) -> Iterator[str]:
    """For an estimator that weighs log q with f - b: f, b and their difference, by draw."""
    estimator, vae = t.vae.estimator, t.vae
    if not (estimator.takes_baseline or estimator.antithetic):
        return
    log_px, log_pz, log_qz = (t.passes[node].output.reshape(len(t.eps), -1)
                              for node in ("likelihood", "log_prior", "log_q"))
    f = log_px if estimator.objective is analytic_elbo else (
        log_px + vae.beta * (log_pz - log_qz))
    f_less_b = vae.baseline(f, t.x) if estimator.takes_baseline else others(f)
    for k in range(len(f)):
        b = f"b = {f[k, 0] - f_less_b[k, 0]:.6g}"
        if len(f) == 1 and isinstance(vae.baseline, Others):
            b = "b = 0 (there is no other draw)"
        less = f"{b}, f - b = {f_less_b[k, 0]:.6g}"
        if isinstance(vae.baseline, NVIL):                 # which divides the difference, too
            less = f"less the baseline {f_less_b[k, 0]:.6g}"
        yield f"f = {f[k, 0]:.6g}, {less}"


def what_is_held(t: Trace) -> list[str]:
    """Paragraphs: of a discrete latent, what becomes of the path; and what is held constant."""
    latent = t.vae.latent.name
    if latent == "gaussian":
        return [story.ESTIMATORS[t.estimator]]
    if latent == "bernoulli":
        compares = t.vae.estimator.takes_baseline or t.vae.estimator.antithetic
        weight = story.SCORE_OF_COIN if compares else story.WEIGHTS_OF_COIN
        return [f"{story.COIN} {weight}", story.ESTIMATORS[t.estimator]]
    _, forward, backward = story.SAMPLES[latent]
    return [f"{forward} {backward}", "Held constant: the image x and the noise u, nothing else."]


def held_to(t: Trace) -> tuple[str, list[str], str]:
    """Of what function the finite differences are, and whether that is the loss.

    A sentence, the function for theta and for phi where it is not the loss, and a last sentence.
    """
    noise, latent = list(t.passes["sample"].inputs)[-1], t.vae.latent.name
    if t.is_derivative:
        return f"They are differences of the loss above, with x and {noise} held.", [], ""
    who = t.estimator if latent in ("gaussian", "bernoulli") else latent
    opening = (f"They are not differences of the loss above: what {who} gives is not its "
               "derivative. They are differences of a surrogate S, a function made so that its "
               "derivative is what backward gives:")
    summed = ", summed over the draws" if len(t.eps) > 1 else ""
    for_theta = f"for theta  S = dlog_px * log_px{summed};  z is held"
    for_phi = f"for phi    S = {_surrogate_for_phi(t, summed)}"
    if isinstance(t.vae.baseline, NVIL) and t.vae.estimator.takes_baseline:
        closing = ("So what one draw gives is not the gradient of its loss. Averaged over all "
                   "draws it has the right direction; for phi it is divided by the scale of the "
                   "baseline nvil.")
    elif latent == "straight-through" or t.estimator in story.BIASED:
        closing = (f"{who} is biased: even averaged over all draws, what phi gets is not the "
                   "gradient of the mean loss.")
    else:
        closing = ("So what one draw gives is not the gradient of its loss. Averaged over all "
                   "draws it is right: the gradient of the mean loss.")
    return opening, [for_theta, for_phi], closing


def _surrogate_for_phi(t: Trace, summed: str) -> str:
    """The terms that depend on phi, and what is held in them."""
    w, terms, held = t.wires, [], []
    q = " and ".join(t.passes[head].called for head in heads_of(t.vae))
    if t.vae.latent.name == "straight-through":
        return "dlog_px * log_px + dkl * kl;  z moves as sigmoid(a) does"
    if w.path.any():
        gain = "" if (w.path == 1).all() else "path * "
        inner = "dlog_px * log_px" + (
            " + dlog_pz * log_pz + along_z * log_qz" if w.latent.any() else "")
        terms.append((f"{gain}({inner})" if gain else inner) + summed)
        held.append(f"z moves; the weights are held, and the {q} in log_qz")
    if w.score.any():
        by_coin = ", coin by coin" if w.score.ndim == 3 else ""
        terms.append(f"along_phi * log_qz{by_coin}{summed}")
        held.append("z and along_phi are held")
    if w.kl.any():
        terms.insert(0, "dkl * kl")
    return f"{' + '.join(terms)};  {', '.join(held)}"
