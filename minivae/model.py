"""What a model does besides learning: build, check its input, encode, decode, sample.

vae.py and discrete.py hold what learns; their models inherit these everyday methods.  What differs
between a Gaussian latent and coins is asked of the latent.  Files are made in saving/.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from minivae import baselines, estimators
from minivae.choices import choose
from minivae.estimators import Terms, Wires
from minivae.layers import (Dense, Layer, ReLU, Sequential, Sigmoid, Softplus, Tanh, as_rows)
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.pixels import as_pixel_rows, check_pixels, scale_of

ACTIVATIONS = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "softplus": Softplus}
LIKELIHOODS = {"bernoulli": BernoulliLikelihood, "gaussian": GaussianLikelihood}


class Result(NamedTuple):
    """What forward found, in nats: loss, the batch mean; recon, kl and elbo (B,), means over k.

    logw[k, n] = log p(x_n|z_k) + log p(z_k) - log q(z_k|x_n).
    """

    loss: float
    recon: np.ndarray
    kl: np.ndarray
    elbo: np.ndarray
    logw: np.ndarray


class Model:
    """The everyday methods of a VAE.  Public methods return arrays of their own."""

    heads: tuple[str, ...]      # the layers that give the parameters of q(z|x)
    latent_class: type          # its latent is one of this class
    config: dict | None = None  # how `mlp` built it; None for a model put together by hand
    _wires: Wires | None = None             # what forward leaves for backward

    @classmethod
    def mlp(cls, x_dim: int, hidden: Sequence[int], z_dim: int, *, likelihood="bernoulli",
            activation: str = "relu", beta: float = 1.0, estimator=estimators.elbo,
            baseline="others", latent=None, rng=None, dtype=np.float32):
        """A VAE of dense layers: the encoder, its heads, and the decoder as its mirror image.

        Parameters
        ----------
        x_dim, z_dim : int
            D pixels and Z latent dimensions.
        hidden : sequence of int
            Widths of the encoder's hidden layers, e.g. (400,) or (200, 200); the decoder has them
            in reverse.  Empty for a linear VAE.
        likelihood : "bernoulli", "gaussian" (one learned variance), or a likelihood object
        activation : "relu", "tanh", "sigmoid" or "softplus"
        beta : float
            Weight of the KL; 1 gives the ELBO.
        estimator : function of minivae.estimators
        baseline : "none", "others", "running-mean", "nvil", or an object of minivae.baselines
            What is subtracted from f, see estimators.py; "nvil" goes with `score` alone.  A dict
            gives a name its settings: {"name": "nvil", "hidden": 50}.
        latent : the latent node
            Default: GaussianLatent() for a VAE, BernoulliLatent() for a DiscreteVAE.
        rng : None, int or numpy.random.Generator
            Draws the initial weights, then the noise of `forward`.
        dtype : float32 for training, float64 for checking

        Raises
        ------
        ValueError
            For an unknown name, a size below 1, a negative beta, a latent of the other kind of
            model, or a baseline that the estimator does not take.
        """
        hidden = [int(n) for n in np.atleast_1d(hidden)]
        sizes = {"x_dim": x_dim, "z_dim": z_dim} | {f"hidden[{i}]": n for i, n in enumerate(hidden)}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not (np.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta must be a number >= 0, got {beta}")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
        act = choose(activation, ACTIVATIONS, "activation")
        if isinstance(likelihood, str):
            node = choose(likelihood, LIKELIHOODS, "likelihood")
            likelihood = node(dtype=dtype)
        for name, param in likelihood.params.items():
            if param.dtype != dtype:
                raise ValueError(f"the likelihood's {name} is {param.dtype}, the model "
                                 f"{np.dtype(dtype)}: give the likelihood that dtype too")
        if latent is not None and not isinstance(latent, cls.latent_class):
            got = latent if isinstance(latent, str) else type(latent).__name__
            raise ValueError(f"the latent of a {cls.__name__} is a {cls.latent_class.__name__} or "
                             f"made from it, got {got}")
        rng = np.random.default_rng(rng)

        def dense_stack(widths: list[int]) -> Sequential:
            pairs = zip(widths[:-1], widths[1:])
            return Sequential(*(layer for n_in, n_out in pairs
                                for layer in (Dense(n_in, n_out, rng, dtype), act())))

        widths, back = [x_dim, *hidden], [z_dim, *reversed(hidden)]
        enc = dense_stack(widths)
        heads = [Dense(widths[-1], z_dim, rng, dtype) for _ in cls.heads]
        dec = dense_stack(back)
        to_out = Dense(back[-1], likelihood.width(x_dim), rng, dtype)
        if isinstance(baseline, str):
            baseline = {"name": baseline}
        if isinstance(baseline, dict):
            baseline = baselines.make(**baseline, x_dim=x_dim, rng=rng, dtype=dtype)
        baselines.check(baseline, estimator)
        model = cls(enc, *heads, dec, to_out, likelihood=likelihood, latent=latent,
                    estimator=estimator, baseline=baseline, beta=beta, rng=rng)
        model.config = {"x_dim": int(x_dim), "hidden": hidden, "z_dim": int(z_dim),
                        "activation": activation}
        return model

    # --- the first and last lines of forward and backward ---

    def checked_inputs(self, x: np.ndarray, eps: np.ndarray | None
                       ) -> tuple[np.ndarray, np.ndarray]:
        """The start of forward: x and eps checked, in the model's dtype.

        eps : (B, Z), (K, B, Z), or None to draw one sample.
        Returns x : (B, D), eps : (K, B, Z).
        Raises ValueError for an x or eps that does not fit the model.
        """
        x = self.pixel_rows(x)
        if eps is None:
            eps = self.noise(1, len(x), self.rng)
        eps = np.asarray(eps)
        if eps.ndim == 2:
            eps = eps[None]
        if eps.ndim != 3 or eps.shape[1:] != (len(x), self.z_dim) or len(eps) == 0:
            raise ValueError(f"eps must have shape ({len(x)}, {self.z_dim}) or "
                             f"(K, {len(x)}, {self.z_dim}), got {eps.shape}")
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
    def x_dim(self) -> int:
        """D, the number of pixels."""
        first = self.enc.layers[0] if self.enc.layers else getattr(self, self.heads[0])
        return first.params["W"].shape[0]

    @property
    def z_dim(self) -> int:
        """Z, the number of latent dimensions."""
        return getattr(self, self.heads[0]).params["W"].shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The precision of every parameter."""
        return self.to_out.params["W"].dtype

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) in the order encoder, heads, latent, decoder, likelihood."""
        yield from ((f"enc.{i}", layer) for i, layer in enumerate(self.enc.layers))
        yield from ((head, getattr(self, head)) for head in self.heads)
        yield "latent", self.latent
        yield from ((f"dec.{i}", layer) for i, layer in enumerate(self.dec.layers))
        yield from ((self.likelihood.out_name, self.to_out), ("likelihood", self.likelihood))

    def named_params(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield (name, param, grad), each W before its b; the arrays are the live ones."""
        for name, layer in self.named_layers():
            yield from ((f"{name}.{key}", param, layer.grads[key])
                        for key, param in layer.params.items())

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

        Raises ValueError for a z of another shape.
        """
        z = as_rows(np.asarray(z), (None, self.z_dim), self.dtype, "z")
        with self.undisturbed():
            return self.likelihood.mean(self.to_out.forward(self.dec.forward(z)))

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  E[x|z] : (B, D), through the likeliest z, without noise.

        Raises ValueError for an x that does not fit the model.
        """
        return self.decode(self.likeliest_z(x))

    def draw_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """z : (n, Z), drawn from the prior."""
        return self.latent.draw_prior((n, self.z_dim), rng, self.dtype)

    def sample(self, n: int, rng=None) -> np.ndarray:
        """n new images : (n, D): z from the prior, then the mean of p(x|z).

        rng : None for the model's own, a seed, or a numpy.random.Generator.
        Raises ValueError for an n below 1.
        """
        if n < 1:
            raise ValueError(f"the number of images to sample must be at least 1, got {n}")
        rng = self.rng if rng is None else np.random.default_rng(rng)
        return self.decode(self.draw_prior(n, rng))

    # --- temporary changes ---

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Lend every layer an empty cache and fresh buffers: a pending backward stays whole."""
        pending = [(layer, layer._cache, layer._buffers) for _, layer in self.named_layers()]
        wires, baseline = self._wires, self.baseline
        # calls in the block change this copy only
        self.baseline = copy.copy(baseline)
        for layer, _, _ in pending:
            layer._cache, layer._buffers = {}, {}
        try:
            yield
        finally:
            self._wires, self.baseline = wires, baseline
            for layer, cache, buffers in pending:
                layer._cache, layer._buffers = cache, buffers

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
        """Take up, in place, what `state` gave.  Raises KeyError where a name is missing."""
        for name, param, _ in self.named_params():
            param[...] = state[name]
        memory = {name.removeprefix("baseline."): a for name, a in state.items()
                  if name.startswith("baseline.")}
        self.baseline.restore(memory)

    def gradient(self) -> np.ndarray:
        """All gradients as one vector, a copy, in the order of `named_params`."""
        return np.concatenate([grad.ravel() for _, _, grad in self.named_params()])
