"""What a model does besides learning: check its input, encode, decode, sample.

vae.py and discrete.py hold what learns; their models inherit these everyday methods.  What differs
between a Gaussian latent and coins is asked of the latent.  Models are built in building.py, and
files are made in saving/.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from minivae.building import Buildable
from minivae.choices import generator, whole_number
from minivae.estimators import Terms, Wires
from minivae.layers import Layer, Sequential, as_rows, grads_of, params_of
from minivae.pixels import as_pixel_rows, check_pixels, check_range, finite_numbers, scale_of


class Result(NamedTuple):
    """What forward found, in nats: loss, the batch mean; recon, kl and elbo (B,), means over k.

    logw[k, n] = log p(x_n|z_k) + log p(z_k) - log q(z_k|x_n).
    """

    loss: float
    recon: np.ndarray
    kl: np.ndarray
    elbo: np.ndarray
    logw: np.ndarray


class Model(Buildable):
    """The everyday methods of a VAE.  Public methods return arrays of their own."""

    _wires: Wires | None = None             # what forward leaves for backward

    def __repr__(self) -> str:
        """The model in one line, e.g. for a notebook."""
        sizes = self.config or {"x_dim": self.x_dim, "z_dim": self.z_dim}
        n = sum(param.size for _, param, _ in self.named_params())
        return (f"<{type(self).__name__} {', '.join(f'{k} {v}' for k, v in sizes.items())}; "
                f"estimator {self.estimator.__name__}, beta {self.beta:g}, "
                f"{type(self.likelihood).__name__}, {n:,} parameters, {self.dtype}>")

    # --- the first and last lines of forward and backward ---

    def checked_inputs(self, x: np.ndarray, eps: np.ndarray | None, name: str = "eps"
                       ) -> tuple[np.ndarray, np.ndarray]:
        """The start of forward: x and eps checked, in the model's dtype.

        eps : (B, Z), (K, B, Z), or None to draw one sample;  name : what a message calls it
        Returns x : (B, D), eps : (K, B, Z).
        Raises ValueError for an x or eps that does not fit the model.
        """
        x = self.pixel_rows(x)
        if eps is None:
            eps = self.noise(1, len(x), self.rng)
        eps = finite_numbers(eps, name)
        if eps.ndim == 2:
            eps = eps[None]
        if eps.ndim != 3 or eps.shape[1:] != (len(x), self.z_dim) or len(eps) == 0:
            raise ValueError(f"{name} must have shape ({len(x)}, {self.z_dim}) or (K, {len(x)}, "
                             f"{self.z_dim}) beside x of shape {x.shape}, got {eps.shape}")
        eps = np.ascontiguousarray(eps, self.dtype)
        self.latent.check_noise(eps, self.estimator)
        return x, eps

    def weigh(self, log_px: np.ndarray, log_pz: np.ndarray, log_qz: np.ndarray, kl: np.ndarray,
              x: np.ndarray, q: tuple[np.ndarray, ...]) -> Result:
        """The end of forward: the estimator sees the terms, and chooses the weights for backward.

        log_px, log_pz, log_qz : (K*B,) and kl : (B,), nats;  q : what the heads gave, (B, Z) each.
        Raises ValueError for pixels x (B, D) that the likelihood is not a distribution of.
        """
        self._wires = None              # of a pass before: if x is refused, backward is, too
        self.likelihood.check(x)        # here, not at the start: now x lies in the cores' caches
        by_sample = [a.reshape(-1, len(kl)) for a in (log_px, log_pz, log_qz)]         # (K, B)
        t = Terms(*by_sample, kl, self.beta, x, self.baseline, q)
        self._wires = self.estimator(t)
        objective, kl_found = self.estimator.objective(t)                              # (B,) each
        loss, recon = -float(objective.mean(dtype=np.float64)), -t.log_px.mean(axis=0)
        logw = t.log_px + t.log_pz - t.log_qz
        return Result(loss, recon, kl_found, -(recon + kl_found), logw)

    def take_wires(self) -> Wires:
        """The start of backward: the weights of `weigh`, used up, as d(loss), with flat rows.

        Returns, (K*B,) each: decoder = d(loss)/d log p(x|z); latent = d(loss)/d log p(z), whose
        negative is that of log q(z|x) through z; path, the gain (sign kept); score =
        d(loss)/d log q(z|x) at fixed z, (K*B, Z) if weighted per dimension.  kl : (B,).
        Raises RuntimeError without a forward before it.
        """
        if self._wires is None:
            raise RuntimeError(f"{type(self).__name__}.backward called without a forward before it")
        wires, self._wires = self._wires, None
        self.latent.check_wires(wires)
        rows = wires.decoder.size                          # K*B
        score = wires.score.reshape(rows, -1) if wires.score.ndim == 3 else wires.score.ravel()
        return Wires(-wires.decoder.ravel(), -wires.latent.ravel(), wires.path.ravel(),
                     -score, -wires.kl)

    # --- sizes, layers, numbers ---

    @property
    def dtype(self) -> np.dtype:
        """The precision of every parameter; of a model without any, what it was built with."""
        return next((param.dtype for _, param, _ in self.named_params()), self._dtype)

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) in the order encoder, heads, latent, decoder, likelihood."""
        yield from self._leaves("enc")
        for head in self.heads:
            yield from self._leaves(head)
        yield "latent", self.latent
        yield from self._leaves("dec")
        yield from self._leaves("to_out", self.likelihood.out_name)
        yield "likelihood", self.likelihood

    def _leaves(self, part: str, name: str | None = None) -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) of one part, e.g. "enc.0": all of a Sequential, or the one layer."""
        layer, name = getattr(self, part), name or part
        if not isinstance(layer, Sequential):
            yield name, layer
            return
        yield from ((f"{name}.{i}", inner) for i, inner in enumerate(layer.layers))

    def named_params(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield (name, param, grad), each W before its b; the arrays are the live ones."""
        for name, layer in self.named_layers():
            yield from ((f"{name}.{key}", param, grads_of(layer)[key])
                        for key, param in params_of(layer).items())

    def pixels(self, x: np.ndarray) -> np.ndarray:
        """x as (B, D) rows of the model's dtype, or a ValueError that says what is wrong."""
        x = self.pixel_rows(x)
        self.likelihood.check(x)
        return x

    def pixel_rows(self, x: np.ndarray) -> np.ndarray:
        """The same, but the values of the pixels are not looked at yet; `weigh` does that."""
        x = as_pixel_rows(x)
        if x.shape[1] != self.x_dim:
            raise ValueError(f"x must have {self.x_dim} pixels per row for this model, "
                             f"got shape {x.shape}")
        if x.dtype.kind in "iu":
            x = check_pixels(x, "x")
            x = x * self.dtype.type(1 / scale_of(x))       # bytes, as `fit` takes them
        check_range(x, "x", self.dtype)
        return np.ascontiguousarray(x, self.dtype)

    def noise(self, K: int, B: int, rng: np.random.Generator) -> np.ndarray:
        """The noise that `forward` takes : (K, B, Z), as the latent and the estimator want it."""
        shape, antithetic = (K, B, self.z_dim), self.estimator.antithetic
        return self.latent.noise(shape, rng, self.dtype, antithetic)

    # --- between images and latents ---

    def q_parameters(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """x : (B, D)  ->  the parameters of q(z|x), from the heads : (B, Z) each.

        Raises ValueError for an x that does not fit the model.
        """
        x = self.pixels(x)
        with self.undisturbed():
            h = self.enc.forward(x)
            return tuple(getattr(self, head).forward(h) for head in self.heads)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, ...] | np.ndarray:
        """x : (B, D)  ->  mu, logvar : (B, Z) of a VAE;  the logits a : (B, Z) of a DiscreteVAE.

        Raises ValueError for an x that does not fit the model.
        """
        q = self.q_parameters(x)
        return q if len(q) > 1 else q[0]

    def q_mean_and_kl(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D)  ->  E_q[z_j], and the KL of each dimension in nats : (B, Z) twice.

        Raises ValueError for an x that does not fit the model.
        """
        q = self.q_parameters(x)
        return self.latent.mean(*q), self.latent.kl_each(*q)

    def likeliest_z(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  the z where q(z|x) is largest : (B, Z).  For a Gaussian it is mu.

        Raises ValueError for an x that does not fit the model.
        """
        return self.latent.mode(*self.q_parameters(x))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z : (B, Z)  ->  E[x|z] : (B, D), the mean of p(x|z).

        Raises ValueError for a z of another shape, or not finite.
        """
        z = as_rows(finite_numbers(z, "z"), (None, self.z_dim), self.dtype, "z")
        return self._mean_given(z)

    def _mean_given(self, z: np.ndarray) -> np.ndarray:
        """`decode`, for a z that is the model's own: it may be NaN where training went wrong."""
        with self.undisturbed():
            return self.likelihood.mean(self.to_out.forward(self.dec.forward(z)))

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  E[x|z] : (B, D), through the likeliest z, without noise.

        Raises ValueError for an x that does not fit the model.
        """
        return self._mean_given(self.likeliest_z(x))

    def draw_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """z : (n, Z), drawn from the prior."""
        return self.latent.draw_prior((n, self.z_dim), rng, self.dtype)

    def sample(self, n: int, rng=None) -> np.ndarray:
        """n new images : (n, D): z from the prior, then the mean of p(x|z).

        rng : None for the model's own, a seed, or a numpy.random.Generator.
        Raises ValueError for an n below 1.
        """
        n = whole_number(n, "n")
        rng = self.rng if rng is None else generator(rng)
        return self.decode(self.draw_prior(n, rng))

    # --- temporary changes ---

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Lend every layer an empty cache and fresh buffers: a pending backward stays whole.

        A layer of one's own may keep what it likes under any name, so a copy of all its attributes
        is lent; only params and grads are the same arrays.
        """
        pending = [(layer, vars(layer)) for _, layer in self.named_layers()]
        wires, baseline = self._wires, self.baseline
        # calls in the block change this copy only
        self.baseline = copy.copy(baseline)
        for layer, own in pending:
            same = {id(a): a for a in (*params_of(layer).values(), *grads_of(layer).values())}
            layer.__dict__ = copy.deepcopy(own | {"_cache": {}, "_buffers": {}}, same)
        try:
            yield
        finally:
            self._wires, self.baseline = wires, baseline
            for layer, own in pending:
                layer.__dict__ = own

    @contextmanager
    def at_beta(self, beta: float) -> Iterator[None]:
        """Within the block the KL has another weight, as a warm-up wants it."""
        own, self.beta = self.beta, beta
        try:
            yield
        finally:
            self.beta = own

    @contextmanager
    def with_objective(self, estimator, beta: float) -> Iterator[None]:
        """Within the block the objective is another, e.g. to report the plain ELBO of a beta-VAE.

        A relaxed model is judged with the discrete z that it stands for.
        """
        own = self.estimator, self.beta, self.latent
        self.estimator, self.beta, self.latent = estimator, beta, self.latent.judged()
        try:
            yield
        finally:
            self.estimator, self.beta, self.latent = own

    def try_estimator(self, samples: int, beta: float | None = None) -> None:
        """Call the estimator on zeros, so that what it refuses (beta, K, latent) raises now.

        samples : K.  beta : Default: the model's own.  Raises ValueError.
        """
        zero, q = np.zeros((samples, 1)), tuple(np.zeros((1, self.z_dim)) for _ in self.heads)
        beta = self.beta if beta is None else beta
        self.latent.check_wires(self.estimator(Terms(zero, zero, zero, zero[0], beta, q=q)))

    # --- as arrays ---

    def state(self) -> dict[str, np.ndarray]:
        """Copies of every number that training moves: parameters, and a baseline's memory."""
        params = {name: param.copy() for name, param, _ in self.named_params()}
        return params | {f"baseline.{name}": a for name, a in self.baseline.state().items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up, in place, what `state` gave.

        Raises KeyError where a name is missing, ValueError for an array of another shape.
        """
        for name, param, _ in self.named_params():
            if np.shape(state[name]) != param.shape:
                raise ValueError(f"{name} has shape {np.shape(state[name])}, "
                                 f"wanted {param.shape}")
        for name, param, _ in self.named_params():
            param[...] = state[name]
        memory = {name.removeprefix("baseline."): a for name, a in state.items()
                  if name.startswith("baseline.")}
        self.baseline.restore(memory)

    def gradient(self) -> np.ndarray:
        """All gradients as one vector, a copy, in the order of `named_params`."""
        return np.concatenate([grad.ravel() for _, _, grad in self.named_params()])
