"""Check a whole model: the gradient of every parameter, and what its passes promise."""

from __future__ import annotations

import copy

import numpy as np

from minivae.choices import check_kind, generator
from minivae.estimators import Terms
from minivae.gradcheck.contract import why_never_moved
from minivae.gradcheck.differences import taylor_remainder
from minivae.gradcheck.of_layer import layer_kinks
from minivae.gradcheck.parts import Parts, parts_of_loss
from minivae.gradcheck.problem import Problem
from minivae.gradcheck.report import Report, Row, clause
from minivae.latents import Latent
from minivae.layers import params_of
from minivae.model import Model


@np.errstate(all="ignore")
def check_model(vae, x: np.ndarray, eps: np.ndarray, *, rng=0, title: str | None = None) -> Report:
    """Check the gradient of every parameter of a VAE, and that its passes keep their contract.

    Parameters
    ----------
    vae : VAE or DiscreteVAE, of any size
        A float32 model is checked as its float64 twin, through the same kernels.
    x : (B, D), eps : (B, Z) or (K, B, Z)
        The noise is held: every evaluation must see the same function.
    rng : seed or numpy.random.Generator, for the directions
    title : str, by default the estimator's name

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        For an x or eps that does not fit the model.

    Notes
    -----
    A backward that is not the derivative of the loss is held to a Surrogate instead: that of an
    estimator whose `is_derivative` is False, and that of a latent with a `straightened` node.
    """
    check_kind(vae, Model, "vae", "a VAE or DiscreteVAE")
    rng = generator(rng)
    vae = float64_twin(vae)
    x, eps = (np.array(a) for a in vae.checked_inputs(x, eps))
    result = vae.forward(x, eps)
    without = _decoders_names(vae) if not vae._wires.decoder.any() else ()
    vae.backward()
    arrays = {name: param for name, param, _ in vae.named_params()}
    grads = _gradients(vae)
    objective = Loss(vae, x, eps) if _is_derivative(vae) else Surrogate(vae, x, eps)

    def gradients() -> dict[str, np.ndarray]:
        objective.freeze()
        vae.forward(x, eps)
        vae.backward()
        return _gradients(vae)

    K, B, Z = eps.shape
    of_terms = np.abs(result.recon).mean() + vae.beta * np.abs(result.kl).mean()
    magnitude = float(of_terms) + x.shape[1]
    sizes = {"the batch size": B, "the samples": K, "the pixels": x.shape[1], "the latents": Z}
    problem = Problem(objective, arrays, gradients, objective.kinks, magnitude, rng, sizes,
                      known=lambda: arrays, parts=objective.parts, without=without)
    rows = problem.rows() + model_contract(vae, x, eps, grads)
    objective.freeze()         # the arrays stand where they began, and so does what is drawn
    return Report(title or f"VAE, {vae.estimator.__name__}", rows,
                  taylor_remainder(objective, arrays, grads, rng), problem.compared)


def _is_derivative(vae) -> bool:
    straightened = type(vae.latent).straightened is not Latent.straightened
    return vae.estimator.is_derivative and not straightened


def _decoders_names(vae) -> list[str]:
    """The decoder's parameters: an estimator that gives log p(x|z) no weight leaves them alone."""
    owners = [f"{name}." for name, _ in vae.named_layers()]
    of_decoder = tuple(owners[owners.index("latent.") + 1:])
    return [name for name, _, _ in vae.named_params() if name.startswith(of_decoder)]


def _gradients(vae) -> dict[str, np.ndarray]:
    """A copy of every parameter's gradient, by name."""
    return {name: np.array(grad) for name, _, grad in vae.named_params()}


def kinks_of(vae) -> dict[str, np.ndarray]:
    """The inputs of every unit with a kink, as the last pass saw them, by layer."""
    found = {}
    for name, layer in vae.named_layers():
        found |= layer_kinks(layer, name)
    return found


def float64_twin(vae):
    """The same model in float64; a float64 model is copied, so the caller's is left untouched."""
    wide = {}
    if vae.dtype != np.float64:
        # an array may be held twice, e.g. in params and as an attribute: wherever the copy meets
        # one of these, by its id, it puts the float64 array
        arrays = [a for _, *both in vae.named_params() for a in both]
        wide = {id(a): a.astype(np.float64) for a in arrays}
    twin = copy.deepcopy(vae, wide)
    for _, layer in twin.named_layers():
        if hasattr(layer, "_cache"):
            layer._cache, layer._buffers = {}, {}
    return twin


# --- what the gradients are held to ---------------------------------------------------------------


class Loss:
    """The loss that forward reports, as a function of the parameters where they stand."""

    def __init__(self, vae, x: np.ndarray, eps: np.ndarray):
        self.vae, self.x, self.eps = vae, x, eps

    def __call__(self) -> float:
        return self.vae.forward(self.x, self.eps).loss

    def freeze(self) -> None:
        """Nothing is held constant."""

    def kinks(self) -> dict[str, np.ndarray]:
        """The inputs of every unit with a kink."""
        return kinks_of(self.vae)

    def parts(self) -> list[Parts]:
        """The loss taken apart in several ways."""
        return parts_of_loss(self.vae, self.x, self.eps)


class Surrogate:
    """The function whose plain derivative an estimator's backward must be.

    All that the estimator holds constant is frozen at the point where `freeze` was called last:
    the weights on the wires, phi as phi0, theta as theta0, and z as z0.  What moves is

        - sum decoder log p(x|z0)                                                       theta
        - sum path (decoder log p(x|z) + latent (log p(z) - log q(z; phi0)))     phi, through z
        - sum score log q(z0; phi) - sum kl KL(phi)                              phi, in q's formula

    where z moves with phi, by the latent's `straightened` where it has one, else by `sample`.
    """

    parts = list                # a weighted sum, but not one of the loss's own terms

    def __init__(self, vae, x: np.ndarray, eps: np.ndarray):
        self.vae, self.x, self.eps = vae, x, eps
        parts = (vae.dec, vae.to_out, vae.likelihood)
        self.theta = [param for part in parts for param in params_of(part).values()]
        self.freeze()

    def freeze(self) -> None:
        """Hold constant what the estimator holds constant, at the point where the model stands."""
        vae, latent, (K, B, _) = self.vae, self.vae.latent, self.eps.shape
        self.theta0 = [param.copy() for param in self.theta]
        self.q0 = self.encode()
        self.z0 = np.array(latent.sample(*self.q0, self.eps))
        log_probabilities = (self.log_px(self.z0), latent.log_prior(self.z0),
                             latent.log_q(self.z0, *self.q0))
        by_sample = [np.array(a).reshape(K, B) for a in log_probabilities]
        kl = np.array(latent.kl(*self.q0))
        self.wires = vae.estimator(Terms(*by_sample, kl, vae.beta, self.x, vae.baseline,
                                         tuple(self.q0)))
        self.straightened = latent.straightened(*self.q0, self.eps)
        self.kinks_of_moved_z: dict[str, np.ndarray] = {}

    def __call__(self) -> float:
        theta = [param.copy() for param in self.theta]
        self.put_theta(self.theta0)
        of_phi = self.phi_part()
        self.put_theta(theta)
        of_theta = (self.wires.decoder.ravel() * self.log_px(self.z0)).sum()
        return -float(of_phi + of_theta)

    def phi_part(self) -> float:
        """The terms that depend on phi, with theta at theta0."""
        wires, latent, q = self.wires, self.vae.latent, self.encode()
        value = self.score_of(q).sum() + (wires.kl * latent.kl(*q)).sum()
        if not wires.path.any():               # z is held, and it may have no way to move
            return value
        z = np.array(self.straightened(*q) if self.straightened else latent.sample(*q, self.eps))
        ratio = latent.log_prior(z) - latent.log_q(z, *self.q0)
        through_z = wires.decoder.ravel() * self.log_px(z) + wires.latent.ravel() * ratio
        self.kinks_of_moved_z = {f"{name}, z moved": np.array(a)
                                 for name, a in kinks_of(self.vae).items()
                                 if name.startswith("dec.")}
        return value + (wires.path.ravel() * through_z).sum()

    def score_of(self, q: list[np.ndarray]) -> np.ndarray:
        """score * log q(z0; phi), each latent dimension for itself where the weights are."""
        score, latent = self.wires.score, self.vae.latent
        if score.ndim == 3:                                # (K, B, Z)
            return score.reshape(len(self.z0), -1) * latent.log_q_each(self.z0, *q)
        return score.ravel() * latent.log_q(self.z0, *q)

    def kinks(self) -> dict[str, np.ndarray]:
        """The inputs of every unit with a kink; those of the decoder for z0 and for the moved z."""
        return kinks_of(self.vae) | self.kinks_of_moved_z

    def encode(self) -> list[np.ndarray]:
        """What the heads give: mu, logvar; or a."""
        h = self.vae.enc.forward(self.x)
        return [np.array(getattr(self.vae, head).forward(h)) for head in self.vae.heads]

    def log_px(self, z: np.ndarray) -> np.ndarray:
        """log p(x|z) : (K*B,), nats."""
        out = self.vae.to_out.forward(self.vae.dec.forward(z))
        return np.array(self.vae.likelihood.forward(out, self.x))

    def put_theta(self, values: list[np.ndarray]) -> None:
        """Set the decoder's parameters."""
        for param, value in zip(self.theta, values):
            param[...] = value


# --- the contract ---------------------------------------------------------------------------------


def model_contract(vae, x: np.ndarray, eps: np.ndarray, grads: dict) -> list[Row]:
    """What forward and backward of a model promise besides the right numbers."""
    kept_x, kept_eps = x.copy(), eps.copy()
    before = _live_arrays(vae)
    vae.forward(x, eps)
    vae.backward()
    never_moved = why_never_moved(before, _live_arrays(vae))
    changed = _changed(vae, grads)
    written = "x or eps" if (x != kept_x).any() or (eps != kept_eps).any() else ""
    return [_kept_unless("repeats itself", changed,
                    "the same x and eps gave other gradients; is noise drawn inside, or do "
                    "gradients accumulate?"),
            _kept_unless("leaves its inputs alone", written, "they were written into"),
            clause("writes into its own grads", float(len(never_moved)), 0.0,
                   "; ".join(never_moved)),
            _kept_unless("evaluating disturbs nothing", _disturbed(vae, x, eps, grads),
                    "encode, reconstruct or sample between forward and backward changed the "
                    "gradients"),
            _kept_unless("needs a forward each time", _second_backward(vae),
                    "it may use what another pass left behind")]


def _kept_unless(name: str, found: str, why: str) -> Row:
    """A clause that is kept unless something was found; "" where all is well."""
    return clause(name, float(bool(found)), 0.0, f"{found}: {why}")


def _live_arrays(vae) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every parameter and its gradient, the arrays themselves, by name."""
    return {name: (param, grad) for name, param, grad in vae.named_params()}


def _changed(vae, grads: dict) -> str:
    """The names of the gradients that are not what they were."""
    now = _gradients(vae)
    names = [name for name in now if not np.array_equal(now[name], grads[name])]
    return ", ".join(names)[:60]                           # a short message


def _disturbed(vae, x: np.ndarray, eps: np.ndarray, grads: dict) -> str:
    """What everyday methods between forward and backward did to the gradients."""
    vae.forward(x, eps)
    vae.encode(x[::-1])
    vae.reconstruct(x[:1])
    vae.sample(2, rng=0)
    try:
        vae.backward()
    except Exception as error:                             # of a shape, or a cache that is gone
        return f"{type(error).__name__}, {error}"
    return _changed(vae, grads)


def _second_backward(vae) -> str:
    """Whether a backward without a forward of its own is taken; any exception refuses it."""
    try:
        vae.backward()
    except Exception:
        return ""
    return "backward ran twice"
