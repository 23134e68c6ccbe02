"""What a model does besides learning: build, check its input, encode, decode, sample, save, load.

Not part of the lesson: vae.py is, and its VAE inherits these everyday methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike

import numpy as np

from minivae import archive, estimators
from minivae.layers import Dense, ReLU, Sequential, Sigmoid, Softplus, Tanh, rows
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood

ACTIVATIONS = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "softplus": Softplus}
LIKELIHOODS = {"bernoulli": BernoulliLikelihood, "gaussian": GaussianLikelihood}


def choose(name: str, table: dict, what: str):
    """table[name], or a ValueError that lists the names."""
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(table)}")
    return table[name]


def pixel_rows(x, name: str = "x") -> np.ndarray:
    """x as a plain (N, D) array of numbers, neither of them 0, or a ValueError in one line.

    np.asarray alone would drop the mask of a masked array, and wrap a sparse matrix whole, without a word.
    """
    if np.ma.is_masked(x):
        raise ValueError(f"{name} must have a value for every pixel, but {np.ma.count_masked(x)} of this masked array are masked: "
                         "fill them first, e.g. x.filled(0)")
    if hasattr(x, "toarray"):
        raise ValueError(f"{name} must be a dense array, got a sparse {type(x).__name__}: pass x.toarray()")
    try:
        x = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} cannot be made an array of numbers: {str(error).splitlines()[0]}") from None
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers (bool, integer or float), got dtype {x.dtype}: convert it, e.g. x.astype(np.float32)")
    if x.ndim != 2:
        hint = "one image is x.reshape(1, -1)" if x.ndim < 2 else "flatten the images, x.reshape(len(x), -1)"
        raise ValueError(f"{name} must have shape (N, D), a row for each image, got {x.shape}: {hint}")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty: shape {x.shape}, wanted at least one row of at least one pixel")
    return x


def _name_in(table: dict, thing) -> str:
    """The name of `thing`, for a file; a ValueError where a loader would not know it."""
    for name, known in table.items():
        if known is thing:
            return name
    raise ValueError(f"save knows {', '.join(table)}, not {thing.__name__}")


class Model:
    """The everyday methods of a VAE.  Public methods return arrays of their own."""

    @classmethod
    def mlp(cls, x_dim: int, hidden: Sequence[int], z_dim: int, *, likelihood="bernoulli", activation: str = "relu",
            beta: float = 1.0, estimator=estimators.elbo, rng=None, dtype=np.float32):
        """A VAE of dense layers: the encoder, two heads, and the decoder as its mirror image.

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
        rng : None, int or numpy.random.Generator
            Draws the initial weights, then the noise of `forward`.
        dtype : float32 for training, float64 for checking

        Raises
        ------
        ValueError
            For an unknown name, a size below 1 or a negative beta.
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
            kind = choose(likelihood, LIKELIHOODS, "likelihood")
            likelihood = kind(dtype=dtype) if kind is GaussianLikelihood else kind()
        for name, param in likelihood.params.items():
            if param.dtype != dtype:
                raise ValueError(f"the likelihood's {name} is {param.dtype}, the model {np.dtype(dtype)}: give the likelihood that dtype too")
        rng = np.random.default_rng(rng)

        def dense_stack(widths: list[int]) -> Sequential:
            pairs = zip(widths[:-1], widths[1:])
            return Sequential(*(layer for n_in, n_out in pairs for layer in (Dense(n_in, n_out, rng, dtype), act())))

        enc = dense_stack([x_dim, *hidden])
        h_dim = [x_dim, *hidden][-1]
        to_mu, to_logvar = Dense(h_dim, z_dim, rng, dtype), Dense(h_dim, z_dim, rng, dtype)
        dec = dense_stack([z_dim, *reversed(hidden)])
        to_out = Dense([z_dim, *reversed(hidden)][-1], likelihood.width(x_dim), rng, dtype)
        vae = cls(enc, to_mu, to_logvar, dec, to_out, likelihood=likelihood, estimator=estimator, beta=beta, rng=rng)
        vae.config = {"x_dim": int(x_dim), "hidden": hidden, "z_dim": int(z_dim), "activation": activation}
        return vae

    @property
    def x_dim(self) -> int:
        """D, the number of pixels."""
        return (self.enc.layers or [self.to_mu])[0].params["W"].shape[0]

    @property
    def z_dim(self) -> int:
        """Z, the number of latent dimensions."""
        return self.to_mu.params["W"].shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The precision of every parameter."""
        return self.to_mu.params["W"].dtype

    def pixels(self, x: np.ndarray) -> np.ndarray:
        """x as (B, D) rows of the model's dtype, or a ValueError that says what is wrong."""
        x = pixel_rows(x)
        if x.shape[1] != self.x_dim:
            raise ValueError(f"x must have {self.x_dim} pixels per row for this model, got shape {x.shape}")
        if x.dtype.kind in "iu" and x.max() > 1:
            raise ValueError(f"x holds whole numbers up to {x.max()}; pixels go from 0 to 1: divide by 255?")
        x = np.ascontiguousarray(x, self.dtype)
        self.likelihood.check(x)
        return x

    def inputs(self, x: np.ndarray, eps: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D) checked; eps : (K, B, Z), drawn when None, and given its K = 1 where it lacks one."""
        x = self.pixels(x)
        if eps is None:
            eps = self.rng.standard_normal((1, len(x), self.z_dim), self.dtype)
        eps = np.asarray(eps)
        if eps.ndim == 2:
            eps = eps[None]
        if eps.ndim != 3 or eps.shape[1:] != (len(x), self.z_dim) or len(eps) == 0:
            raise ValueError(f"eps must have shape ({len(x)}, {self.z_dim}) or (K, {len(x)}, {self.z_dim}), got {eps.shape}")
        return x, np.ascontiguousarray(eps, self.dtype)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D)  ->  mu, logvar : (B, Z), the posterior q(z|x)."""
        x = self.pixels(x)
        with self.undisturbed():
            h = self.enc.forward(x)
            return self.to_mu.forward(h), self.to_logvar.forward(h)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z : (B, Z)  ->  E[x|z] : (B, D), the mean of p(x|z)."""
        z = rows(np.asarray(z), (None, self.z_dim), self.dtype, "z")
        with self.undisturbed():
            return self.likelihood.mean(self.to_out.forward(self.dec.forward(z)))

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  E[x|z = mu(x)] : (B, D), through the posterior mean, without noise."""
        return self.decode(self.encode(x)[0])

    def sample(self, n: int, rng=None) -> np.ndarray:
        """n new images : (n, D): z from the prior N(0, I), then the mean of p(x|z)."""
        rng = self.rng if rng is None else np.random.default_rng(rng)
        return self.decode(rng.standard_normal((n, self.z_dim), self.dtype))

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Lend every layer an empty cache and fresh buffers, so that a pending backward stays whole."""
        pending = [(layer, layer._cache, layer._buffers) for _, layer in self.named_layers()]
        wires = self._wires
        for layer, _, _ in pending:
            layer._cache, layer._buffers = {}, {}
        try:
            yield
        finally:
            self._wires = wires
            for layer, cache, buffers in pending:
                layer._cache, layer._buffers = cache, buffers

    @contextmanager
    def judged_by(self, estimator, beta: float) -> Iterator[None]:
        """Swap the objective for a while, e.g. to report the plain ELBO of a beta-VAE."""
        own = self.estimator, self.beta
        self.estimator, self.beta = estimator, beta
        try:
            yield
        finally:
            self.estimator, self.beta = own

    def save(self, path: str | PathLike) -> None:
        """Write a model made by `mlp` to `path`, whole or not at all.  Read it back with `VAE.load`."""
        if not hasattr(self, "config"):
            raise ValueError("save knows the models that VAE.mlp builds; this one was put together by hand")
        kind, estimator = _name_in(LIKELIHOODS, type(self.likelihood)), _name_in(estimators.ESTIMATORS, self.estimator)
        config = self.config | {"likelihood": kind, "logvar": getattr(self.likelihood, "logvar", None), "beta": self.beta,
                                "estimator": estimator, "dtype": self.dtype.name}
        archive.write(path, {name: param for name, param, _ in self.named_params()}, {"config": config})

    @classmethod
    def load(cls, path: str | PathLike, rng=None):
        """The model saved at `path`.  Raises archive.ArchiveError, in one line, for anything else."""
        arrays, meta = archive.read(path)
        try:
            config = dict(meta["config"])
            logvar, dtype, kind = config.pop("logvar"), np.dtype(config.pop("dtype")), config.pop("likelihood")
            likelihood = GaussianLikelihood(logvar, dtype) if kind == "gaussian" else choose(kind, LIKELIHOODS, "likelihood")()
            estimator = choose(config.pop("estimator"), estimators.ESTIMATORS, "estimator")
            vae = cls.mlp(likelihood=likelihood, estimator=estimator, rng=rng, dtype=dtype, **config)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise archive.ArchiveError(f"{path} describes no model that this version knows: {error}") from error
        archive.fill(path, {name: param for name, param, _ in vae.named_params()}, arrays)
        return vae
