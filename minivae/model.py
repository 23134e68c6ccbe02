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
from minivae.estimators import Terms, Wires
from minivae.layers import (Dense, Layer, ReLU, Sequential, Sigmoid, Softplus, Tanh, as_rows)
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.pixels import as_pixel_rows

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


def choose(name: str, table: dict, what: str):
    """table[name].  Raises ValueError, with the names that there are, for another."""
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(table)}")
    return table[name]


class Model:
    """The everyday methods of a VAE.  Public methods return arrays of their own."""

    heads: tuple[str, ...]      # the layers that give the parameters of q(z|x)
    latents: type               # the class of its latents
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
            What the estimators `score` and `score_analytic_kl` take off f; "nvil" goes with
            `score` alone.
        latent : the latent node
            Left out, GaussianLatent() of a VAE, BernoulliLatent() of a DiscreteVAE.
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
        if latent is not None and not isinstance(latent, cls.latents):
            got = latent if isinstance(latent, str) else type(latent).__name__
            raise ValueError(f"the latent of a {cls.__name__} is a {cls.latents.__name__} or made "
                             f"from it, got {got}")
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
            baseline = baselines.make(baseline, x_dim, rng, dtype)
        baselines.check(baseline, estimator)
        model = cls(enc, *heads, dec, to_out, likelihood=likelihood, latent=latent,
                    estimator=estimator, baseline=baseline, beta=beta, rng=rng)
        model.config = {"x_dim": int(x_dim), "hidden": hidden, "z_dim": int(z_dim),
                        "activation": activation}
        return model

    # --- what forward and backward end and begin with ---

    def inputs(self, x: np.ndarray, eps: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D) checked; eps : (K, B, Z), drawn when None, given its K = 1 where it lacks one.

        Raises ValueError for an x or eps that does not fit the model.
        """
        x = self.pixels(x)
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
        """
        by_sample = [a.reshape(-1, len(kl)) for a in (log_px, log_pz, log_qz)]         # (K, B)
        t = Terms(*by_sample, kl, self.beta, x, self.baseline, q)
        self._wires = self.estimator(t)
        objective, kl_found = self.estimator.objective(t)                              # (B,) each
        loss, recon = -float(objective.mean(dtype=np.float64)), -t.log_px.mean(axis=0)
        logw = t.log_px + t.log_pz - t.log_qz
        return Result(loss, recon, kl_found, -(recon + kl_found), logw)

    def take_wires(self) -> Wires:
        """The begin of backward: the weights, once, as gradients of the loss, with flat rows.

        loss = -objective, so the sign turns here; path is a gain, so it does not turn.
        Returns, (K*B,) each: d(loss) for log p(x|z); for log p(z), and less it for log q(z|x), on
        their way to z; the gain of the path; d(loss) for log q(z|x) with z held, the score, which
        is (K*B, Z) where the estimator weighs dimensions.  And for the KL : (B,).
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
        x = as_pixel_rows(x)
        if x.shape[1] != self.x_dim:
            raise ValueError(f"x must have {self.x_dim} pixels per row for this model, "
                             f"got shape {x.shape}")
        if x.dtype.kind in "iu" and x.max() > 1:
            raise ValueError(f"x holds whole numbers up to {x.max()}; pixels go from 0 to 1: "
                             "divide by 255?")
        x = np.ascontiguousarray(x, self.dtype)
        self.likelihood.check(x)
        return x

    def noise(self, K: int, B: int, rng: np.random.Generator) -> np.ndarray:
        """The noise that `forward` takes : (K, B, Z), as the latent and the estimator want it."""
        shape, antithetic = (K, B, self.z_dim), self.estimator.antithetic
        return self.latent.noise(shape, rng, self.dtype, antithetic)

    # --- between images and latents ---

    def q_of(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """x : (B, D)  ->  what the heads say of q(z|x) : (B, Z) each."""
        x = self.pixels(x)
        with self.undisturbed():
            h = self.enc.forward(x)
            return tuple(getattr(self, head).forward(h) for head in self.heads)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, ...] | np.ndarray:
        """x : (B, D)  ->  mu, logvar : (B, Z) of a VAE;  the logits a : (B, Z) of a DiscreteVAE."""
        q = self.q_of(x)
        return q if len(q) > 1 else q[0]

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D)  ->  E_q[z_j], and the KL of each dimension in nats : (B, Z) twice."""
        q = self.q_of(x)
        return self.latent.mean(*q), self.latent.kl_each(*q)

    def likeliest_z(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  the z where q(z|x) is largest : (B, Z).  For a Gaussian it is mu."""
        return self.latent.mode(*self.q_of(x))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z : (B, Z)  ->  E[x|z] : (B, D), the mean of p(x|z)."""
        z = as_rows(np.asarray(z), (None, self.z_dim), self.dtype, "z")
        with self.undisturbed():
            return self.likelihood.mean(self.to_out.forward(self.dec.forward(z)))

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  E[x|z] : (B, D), through the likeliest z, without noise."""
        return self.decode(self.likeliest_z(x))

    def draw_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """z : (n, Z), drawn from the prior."""
        return self.latent.draw_prior((n, self.z_dim), rng, self.dtype)

    def sample(self, n: int, rng=None) -> np.ndarray:
        """n new images : (n, D): z from the prior, then the mean of p(x|z)."""
        rng = self.rng if rng is None else np.random.default_rng(rng)
        return self.decode(self.draw_prior(n, rng))

    # --- for a while ---

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Lend every layer an empty cache and fresh buffers: a pending backward stays whole."""
        pending = [(layer, layer._cache, layer._buffers) for _, layer in self.named_layers()]
        wires, baseline = self._wires, self.baseline
        self.baseline = copy.copy(baseline)                # the copy alone sees what comes now
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
        """Another weight of the KL for a while, as a warm-up wants it."""
        own, self.beta = self.beta, beta
        try:
            yield
        finally:
            self.beta = own

    @contextmanager
    def judged_by(self, estimator, beta: float) -> Iterator[None]:
        """Another objective for a while, e.g. to report the plain ELBO of a beta-VAE.

        A relaxed model is judged with the discrete z that it stands for.
        """
        own = self.estimator, self.beta, self.latent
        self.estimator, self.beta, self.latent = estimator, beta, self.latent.judged()
        try:
            yield
        finally:
            self.estimator, self.beta, self.latent = own

    def try_estimator(self, samples: int, beta: float | None = None) -> None:
        """Raise the ValueError that the estimator has for this beta, K or latent, if it has one."""
        zero, q = np.zeros((samples, 1)), tuple(np.zeros((1, self.z_dim)) for _ in self.heads)
        beta = self.beta if beta is None else beta
        self.latent.check_wires(self.estimator(Terms(zero, zero, zero, zero[0], beta, q=q)))

    # --- as arrays ---

    def state(self) -> dict[str, np.ndarray]:
        """Copies of every number that training moves: parameters, and a baseline's memory."""
        params = {name: param.copy() for name, param, _ in self.named_params()}
        return params | {f"baseline.{name}": a for name, a in self.baseline.state().items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up, in place, what `state` gave."""
        for name, param, _ in self.named_params():
            param[...] = state[name]
        memory = {name.removeprefix("baseline."): a for name, a in state.items()
                  if name.startswith("baseline.")}
        self.baseline.restore(memory)

    def gradient(self) -> np.ndarray:
        """All gradients as one vector, a copy, in the order of `named_params`."""
        return np.concatenate([grad.ravel() for _, _, grad in self.named_params()])
