"""What a model does besides learning: build, check its input, encode, decode, sample, save, load.

Not part of the lesson: vae.py and discrete.py are, and their models inherit these everyday methods.
They are written for the Gaussian latent; discrete.py says what differs there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike

import numpy as np

from minivae import archive, baselines, estimators
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

    kind = "gaussian"           # of the latent, for a file
    heads = ("to_mu", "to_logvar")              # the layers that give q's parameters
    prior, mean_name = "z from N(0, I)", "mu"   # for the titles of pictures: where new z come from, and what E_q[z] is called

    @classmethod
    def mlp(cls, x_dim: int, hidden: Sequence[int], z_dim: int, *, likelihood="bernoulli", activation: str = "relu",
            beta: float = 1.0, estimator=estimators.elbo, baseline="others", latent=None, rng=None, dtype=np.float32):
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
        baseline : "none", "others", "running-mean", "nvil", or a baseline object of minivae.baselines
            What the estimators `score` and `score_analytic_kl` take off f; "nvil" goes with `score` alone.
        latent : the latent node; left out, GaussianLatent() of a VAE, BernoulliLatent() of a DiscreteVAE.
        rng : None, int or numpy.random.Generator
            Draws the initial weights, then the noise of `forward`.
        dtype : float32 for training, float64 for checking

        Raises
        ------
        ValueError
            For an unknown name, a size below 1, a negative beta, or a baseline that the estimator does not take.
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
        if latent is not None and hasattr(latent, "has_path") != (cls.kind == "discrete"):
            wanted = "GaussianLatent()" if cls.kind == "gaussian" else "BernoulliLatent(), ConcreteLatent(temperature) or StraightThroughLatent()"
            raise ValueError(f"the latent of a {cls.__name__} is {wanted}, got {latent if isinstance(latent, str) else type(latent).__name__}")
        rng = np.random.default_rng(rng)

        def dense_stack(widths: list[int]) -> Sequential:
            pairs = zip(widths[:-1], widths[1:])
            return Sequential(*(layer for n_in, n_out in pairs for layer in (Dense(n_in, n_out, rng, dtype), act())))

        enc = dense_stack([x_dim, *hidden])
        h_dim = [x_dim, *hidden][-1]
        heads = [Dense(h_dim, z_dim, rng, dtype) for _ in cls.heads]
        dec = dense_stack([z_dim, *reversed(hidden)])
        to_out = Dense([z_dim, *reversed(hidden)][-1], likelihood.width(x_dim), rng, dtype)
        if isinstance(baseline, str):
            baseline = baselines.make(baseline, x_dim, rng, dtype)
        baselines.check(baseline, estimator)
        vae = cls(enc, *heads, dec, to_out, likelihood=likelihood, latent=latent, estimator=estimator, baseline=baseline, beta=beta, rng=rng)
        vae.config = {"x_dim": int(x_dim), "hidden": hidden, "z_dim": int(z_dim), "activation": activation}
        return vae

    @property
    def x_dim(self) -> int:
        """D, the number of pixels."""
        return (self.enc.layers or [getattr(self, self.heads[0])])[0].params["W"].shape[0]

    @property
    def z_dim(self) -> int:
        """Z, the number of latent dimensions."""
        return getattr(self, self.heads[0]).params["W"].shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The precision of every parameter."""
        return self.to_out.params["W"].dtype

    def named_params(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield (name, param, grad), each W before its b; the arrays are the live ones, update them in place."""
        for name, layer in self.named_layers():
            yield from ((f"{name}.{key}", param, layer.grads[key]) for key, param in layer.params.items())

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
            eps = self.noise(1, len(x), self.rng)
        eps = np.asarray(eps)
        if eps.ndim == 2:
            eps = eps[None]
        if eps.ndim != 3 or eps.shape[1:] != (len(x), self.z_dim) or len(eps) == 0:
            raise ValueError(f"eps must have shape ({len(x)}, {self.z_dim}) or (K, {len(x)}, {self.z_dim}), got {eps.shape}")
        return x, np.ascontiguousarray(eps, self.dtype)

    def noise(self, K: int, B: int, rng: np.random.Generator) -> np.ndarray:
        """eps : (K, B, Z) from N(0, I), what `forward` takes."""
        return rng.standard_normal((K, B, self.z_dim), self.dtype)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D)  ->  mu, logvar : (B, Z), the posterior q(z|x)."""
        x = self.pixels(x)
        with self.undisturbed():
            h = self.enc.forward(x)
            return self.to_mu.forward(h), self.to_logvar.forward(h)

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D)  ->  E_q[z_j] = mu_j and 1/2 (mu_j^2 + e^logvar_j - 1 - logvar_j), the KL of each dimension : (B, Z) twice."""
        mu, logvar = self.encode(x)
        return mu, 0.5 * (mu**2 + np.expm1(logvar) - logvar)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z : (B, Z)  ->  E[x|z] : (B, D), the mean of p(x|z)."""
        z = rows(np.asarray(z), (None, self.z_dim), self.dtype, "z")
        with self.undisturbed():
            return self.likelihood.mean(self.to_out.forward(self.dec.forward(z)))

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  E[x|z = mu(x)] : (B, D), through the posterior mean, without noise."""
        return self.decode(self.encode(x)[0])

    def draw_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """z : (n, Z) from N(0, I)."""
        return rng.standard_normal((n, self.z_dim), self.dtype)

    def sample(self, n: int, rng=None) -> np.ndarray:
        """n new images : (n, D): z from the prior, then the mean of p(x|z)."""
        return self.decode(self.draw_prior(n, self.rng if rng is None else np.random.default_rng(rng)))

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Lend every layer an empty cache and fresh buffers, so that a pending backward stays whole."""
        pending = [(layer, layer._cache, layer._buffers) for _, layer in self.named_layers()]
        wires, baseline = self._wires, self.baseline
        self.baseline = copy.copy(baseline)                # what it is shown now, it shall not learn from
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
        """Swap the objective for a while, e.g. to report the plain ELBO of a beta-VAE."""
        own = self.estimator, self.beta
        self.estimator, self.beta = estimator, beta
        try:
            yield
        finally:
            self.estimator, self.beta = own

    def try_estimator(self, samples: int, beta: float | None = None) -> estimators.Wires:
        """The estimator's weights on terms of zero, or the ValueError that it has for this beta, these samples or this latent."""
        zero = np.zeros((samples, 1))
        a = np.zeros((1, self.z_dim)) if self.kind != "gaussian" else None
        return self.estimator(estimators.Terms(zero, zero, zero, zero[0], self.beta if beta is None else beta, a=a))

    def state(self) -> dict[str, np.ndarray]:
        """Every number that training moves, as copies: the parameters, and what a baseline remembers."""
        memory = self.baseline.state() if hasattr(self.baseline, "state") else {}
        return {name: param.copy() for name, param, _ in self.named_params()} | {f"baseline.{name}": a for name, a in memory.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up, in place, what `state` gave."""
        for name, param, _ in self.named_params():
            param[...] = state[name]
        if hasattr(self.baseline, "restore"):
            self.baseline.restore({name.removeprefix("baseline."): a for name, a in state.items() if name.startswith("baseline.")})

    def describe(self) -> dict:
        """What `mlp` was asked for, ready for JSON; a ValueError for a model that `load` could not build again."""
        if not hasattr(self, "config"):
            raise ValueError("save knows the models that VAE.mlp builds; this one was put together by hand")
        kind, estimator = _name_in(LIKELIHOODS, type(self.likelihood)), _name_in(estimators.ESTIMATORS, self.estimator)
        baseline = {"name": baselines.name_of(self.baseline), **getattr(self.baseline, "settings", {})}
        config = self.config | {"likelihood": kind, "logvar": getattr(self.likelihood, "logvar", None), "beta": self.beta,
                                "estimator": estimator, "baseline": baseline, "dtype": self.dtype.name}
        return config if self.kind == "gaussian" else config | {"latent": {"name": self.latent.name, **self.latent.settings}}

    def save(self, path: str | PathLike) -> None:
        """Write a model made by `mlp` to `path`, whole or not at all.  Read it back with `VAE.load`."""
        archive.write(path, self.state(), {"config": self.describe()})

    @classmethod
    def load(cls, path: str | PathLike, rng=None):
        """The VAE or DiscreteVAE at `path`, from `save` or from training.  Raises archive.ArchiveError, in one line, for any other file."""
        from minivae.discrete import DiscreteVAE, make_latent      # rooms above this one: only a file can ask for them here
        from minivae.vae import VAE

        arrays, meta = archive.read(path)
        arrays = {name: a for name, a in arrays.items() if not name.startswith(archive.TRAINING)}
        try:
            config = dict(meta["config"])
            _check_size([config["x_dim"], *config["hidden"], config["z_dim"]], arrays)
            logvar, dtype, kind = config.pop("logvar"), np.dtype(config.pop("dtype")), config.pop("likelihood")
            likelihood = GaussianLikelihood(logvar, dtype) if kind == "gaussian" else choose(kind, LIKELIHOODS, "likelihood")()
            estimator = choose(config.pop("estimator"), estimators.ESTIMATORS, "estimator")
            baseline = baselines.make(x_dim=config["x_dim"], dtype=dtype, **config.pop("baseline", {"name": "others"}))
            kind = DiscreteVAE if "latent" in config else VAE
            if "latent" in config:
                config["latent"] = make_latent(**config["latent"])
            kind = cls if issubclass(cls, kind) else kind
            vae = kind.mlp(likelihood=likelihood, estimator=estimator, baseline=baseline, rng=rng, dtype=dtype, **config)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise archive.ArchiveError(f"{path} describes no model that this version knows: {error}") from error
        state = vae.state()
        archive.fill(path, state, arrays)
        vae.restore(state)
        return vae


def _check_size(widths: list[int], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where a description asks for larger matrices than the file holds, before any is made."""
    largest = max((a.size for a in arrays.values()), default=0)
    for n_in, n_out in zip(widths[:-1], widths[1:]):
        if n_in * n_out > largest:
            raise ValueError(f"a matrix of {n_in} x {n_out} is larger than any that it holds")
