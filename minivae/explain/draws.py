"""What one pass cannot show: many draws of the noise, every estimator, and a step of Adam."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivae import estimators
from minivae.explain import story
from minivae.explain.cards import function_source
from minivae.explain.figures import Arrays, norm
from minivae.explain.names import heads_of
from minivae.explain.subject import Subject, samples_of
from minivae.explain.record import PHI, record
from minivae.explain.trace import Parameter, Trace, trace
from minivae.gradcheck import float64_twin
from minivae.latents import GaussianLatent
from minivae.model import Model, Result
from minivae.optim import Adam
from minivae.training.evaluation import EVALUATION_SEED, NonFiniteError

DRAWS = 300              # passes with other noise, for the means and spreads
FEWEST = 30              # so many where a pass is long, as in a model of convolutions
NUMBERS = 1_500_000      # so many numbers are computed in all draws together, about
LATENTS = 12             # so many latents are drawn where there are many


def latents_shown(t: Trace) -> list[int]:
    """The latents with the largest KL, in their own order; the first ones of a discrete latent."""
    if type(t.vae.latent) is not GaussianLatent:
        return list(range(min(LATENTS, t.vae.z_dim)))
    mu, logvar = (t.passes["sample"].inputs[symbol] for symbol in ("mu", "logvar"))
    kl_each = t.vae.latent.kl_each(mu, logvar)[0]
    return sorted(np.argsort(-kl_each, kind="stable")[:LATENTS].tolist())


def every_estimator(t: Trace, subject: Subject, arrays: Arrays) -> list[dict]:
    """For each estimator its weights, and the gradient of mu and logvar: here and over the draws.

    Those that do not go with the latent are left out.
    """
    return [one_estimator(estimator, t, subject, arrays)
            for estimator in estimators.ESTIMATORS.values() if goes_with(estimator, t.vae)]


def goes_with(estimator: Callable, vae: Model) -> bool:
    """Whether a model with this latent takes the estimator; beta = 1, which any estimator takes."""
    if estimator.antithetic and len(vae.heads) > 1:
        return False                                       # for binary latents
    own, vae.estimator = vae.estimator, estimator
    try:
        vae.try_estimator(samples_of(vae, estimator), beta=1.0)
    except ValueError:
        return False
    finally:
        vae.estimator = own
    return True


def one_estimator(estimator: Callable, t: Trace, subject: Subject, arrays: Arrays) -> dict:
    """What the page shows of one estimator; its refusal, where it does not take this beta."""
    name, K = estimator.__name__, samples_of(subject.vae, estimator)
    about = {"name": name, "samples": K, "sentence": story.ESTIMATORS.get(name, ""),
             "code": function_source(estimator)}
    eps = subject.noise(K, estimator.antithetic)
    try:
        one = trace(subject.vae, subject.x, eps, estimator, entries=0)
    except ValueError as error:                            # a bound on log p(x) knows no beta
        return about | {"refused": str(error)}
    many = gradients_of_draws(float64_twin(t.vae), t.x, estimator,
                              noise_of_draws(t, subject, estimator))
    phi = [p for key, p in one.params.items() if key.startswith(PHI)]
    theta = [p for key, p in one.params.items() if not key.startswith(PHI)]
    shown = {}
    for head in heads_of(t.vae):
        value = one.passes[head].called                    # mu, logvar; or a
        shown |= {f"d{value}": one.passes[head].incoming[0],
                  f"mean_{value}": many[value].mean(axis=0),
                  f"spread_{value}": many[value].std(axis=0, ddof=1)}
    wires = {wire: weight.ravel().tolist() for wire, weight in one.wires._asdict().items()}
    keys = {key: arrays.store(f"{name}/{key}", array) for key, array in shown.items()}
    return about | {"wires": wires, "norms": {"phi": norm_of_all(phi), "theta": norm_of_all(theta)},
                    **keys}


def norm_of_all(parameters: list[Parameter]) -> float:
    """The norm of several gradients, taken as one vector."""
    return norm(np.concatenate([parameter.grad.ravel() for parameter in parameters]))


def draws_of(t: Trace) -> int:
    """How many draws: DRAWS, or fewer where the nodes of a pass give many numbers."""
    numbers = sum(node.output.size for node in t.passes.values()) // len(t.eps)
    return max(FEWEST, min(DRAWS, NUMBERS // numbers))


def noise_of_draws(t: Trace, subject: Subject, estimator: Callable) -> np.ndarray:
    """eps : (K, draws, Z); the first draw is that of the pass which the page walks through."""
    K, latent = samples_of(t.vae, estimator), t.vae.latent
    rng = np.random.default_rng([EVALUATION_SEED, subject.image, 2])
    eps = latent.noise((K, draws_of(t), t.vae.z_dim), rng, np.float64, estimator.antithetic)
    eps[:, :1] = subject.noise(K, estimator.antithetic)
    return eps


def gradients_of_draws(vae: Model, x: np.ndarray, estimator: Callable, eps: np.ndarray
                       ) -> dict[str, np.ndarray]:
    """d(loss) of what the heads gave, for each draw of the noise; with a path d(loss)/dz, too.

    x : (1, D), eps : (K, draws, Z).
    All draws go through as one batch.  The batch's loss is a mean, so gradients are multiplied by
    the number of draws.  mu, logvar or a : (draws, Z); dz : (K * draws, Z).
    """
    vae.estimator = estimator
    n = eps.shape[1]
    _, _, visits = record(vae, np.repeat(x, n, axis=0), eps)
    nodes = {head.removeprefix("to_"): node for head, node in zip(vae.heads, heads_of(vae))}
    nodes |= {"dz": "sample"} if vae.latent.has_path else {}
    # what came in at each node on the way back
    return {name: n * visits[node, "backward"][0][0] for name, node in nodes.items()}


def one_step(t: Trace, subject: Subject, arrays: Arrays) -> dict:
    """The same image with the same noise, before and after one step of a fresh Adam on it.

    Raises NonFiniteError where the step makes the loss infinite.
    """
    vae = float64_twin(t.vae)
    params = {name: p for name, p, _ in vae.named_params()}
    kept = {name: p.copy() for name, p in params.items()}
    before, image = forward_and_backward(vae, t.x, t.eps)
    Adam(vae.named_params(), subject.lr).step()
    after, image_after = forward_and_backward(vae, t.x, t.eps)
    if not np.isfinite(after.loss):
        raise NonFiniteError(f"one step with the run's step size {subject.lr:g} makes the loss "
                             "infinite")
    moved = [{"name": name, "size": p.size, "norm": norm(kept[name]),
              "change": norm(p - kept[name])} for name, p in params.items()]
    return {"before": terms_of(before), "after": terms_of(after), "moved": moved,
            "x": arrays.store("step/x", t.x),
            "image_before": arrays.store("step/before", image),
            "image_after": arrays.store("step/after", image_after),
            "difference": arrays.store("step/difference", image_after - image)}


def forward_and_backward(vae: Model, x: np.ndarray, eps: np.ndarray) -> tuple[Result, np.ndarray]:
    """One pass: what forward found, and E[x|z] : (1, D), the image painted of the first draw."""
    result, _, visits = record(vae, x, eps)
    decoder_out = visits["likelihood", "forward"][0][0]
    return result, vae.likelihood.mean(decoder_out[:1])


def terms_of(result: Result) -> dict[str, float]:
    """The loss of one image and its two terms, in nats."""
    return {"loss": result.loss, "recon": float(result.recon[0]), "kl": float(result.kl[0])}
