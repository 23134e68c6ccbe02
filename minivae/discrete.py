"""Discrete latents: what if z is a row of coins?  Page 6 of the lesson, to be read beside vae.py.

    forward
    x ──► enc ──► h ──► to_a ──► a ──┬──► z = 1[u > sigmoid(-a)] ──► dec ──► to_out ──► log p(x|z) ──► loss
          phi                        │         ▲                      theta                            ▲
                                     │         u ~ U(0, 1)                                             │
                                     ├──► log q(z|x) ── times a number, log p(x|z) - b ────────────────┤
                                     └──► KL(q || p) ──────────────────────────────────────────────────┘
    backward
    enc ◄── dh ◄── to_a ◄── da ◄─(+)                          dec ◄── to_out ◄── dout ◄── 1. it enters here
    4. phi is                     ├── 3. from log q: (log p(x|z) - b) (z - sigmoid(a))
       filled                     └── 3. from the KL          2. theta is filled, and the walk ends: z is a step

What is missing against vae.py is the path.  z jumps from 0 to 1 and is flat elsewhere, so dz/da = 0 wherever
it exists, and all of the gradient is in the moving density: the sum over z of log P grad Q, as NVIL has it
(there z is called h; here h is the encoder's last hidden layer).  Two ways to put a path in its place, both
biased, stand below the honest node: ConcreteLatent makes the step soft, StraightThroughLatent pretends.

q(z_j = 1|x) = sigmoid(a_j) and the prior is a fair coin, p(z_j = 1) = 1/2; dimensions are independent.
"""

from contextlib import contextmanager

import numpy as np

from minivae.estimators import Terms, Wires, elbo, others
from minivae.layers import Layer, rows, sample_rows
from minivae.model import Model
from minivae.vae import Result


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-a), as exp(-log(1 + e^-a)): nothing overflows, for any finite a."""
    return np.exp(-np.logaddexp(0, -a))


class BernoulliLatent(Layer):
    """q(z_j = 1|x) = sigmoid(a_j) against the prior p(z_j = 1) = 1/2.  Every node returns nats per row.

    Four nodes as in GaussianLatent, but `sample` has no backward, and so log q and the prior send
    nothing to z either.  Source: Mnih & Gregor (2014), arXiv:1402.0030, section 2.
    """

    name, has_path, settings = "bernoulli", False, {}

    def sample(self, a: np.ndarray, u: np.ndarray) -> np.ndarray:
        """z = 1[u > sigmoid(-a)].   a : (B, Z), u : (K, B, Z) from U(0, 1)  ->  z : (K*B, Z), zeros and ones.

        P(u > sigmoid(-a)) = 1 - sigmoid(-a) = sigmoid(a).  Move a by a little: almost every z stays what it was.
        """
        a = rows(a, (None, None), None, "a")
        u = rows(u, (None, *a.shape), a.dtype, "u")
        return (u > sigmoid(-a)).astype(a.dtype).reshape(-1, a.shape[1])

    def kl_each(self, a: np.ndarray) -> np.ndarray:
        """KL of each dimension : (B, Z), nats, between 0 and log 2.

        sigmoid(a) log sigmoid(a) + sigmoid(-a) log sigmoid(-a) + log 2, which is the same for a and -a.  With
        e = e^-|a|: log 2 - log(1 + e) - |a| e / (1 + e), where no two large numbers are subtracted.
        """
        size = np.abs(a)
        e = np.exp(-size)
        return np.log(a.dtype.type(2)) - np.log1p(e) - size * e / (1 + e)

    def kl(self, a: np.ndarray) -> np.ndarray:
        """KL(q || p) = sum_j kl_each_j  : (B,), nats."""
        a = rows(a, (None, None), None, "a")
        self._cache["kl"] = (a,)
        return self.kl_each(a).sum(axis=1)

    def kl_backward(self, dkl: np.ndarray) -> np.ndarray:
        """dkl : (B,)  ->  da : (B, Z).   dkl/da_j = a_j sigmoid(a_j) sigmoid(-a_j) pulls a to 0, the fair coin."""
        (a,) = self._take("kl")
        dkl = rows(dkl, (len(a),), a.dtype, "dkl")
        return dkl[:, None] * a * sigmoid(a) * sigmoid(-a)

    def log_q_each(self, z: np.ndarray, a: np.ndarray) -> np.ndarray:
        """log q(z_j|x) = z_j a_j - log(1 + e^a_j)  : (K*B, Z), nats."""
        a = rows(a, (None, None), None, "a")
        z = sample_rows(z, a.shape[1], a, "z").reshape(-1, *a.shape)               # (K, B, Z)
        return (z * a - np.logaddexp(0, a)).reshape(-1, a.shape[1])

    def log_q(self, z: np.ndarray, a: np.ndarray) -> np.ndarray:
        """log q(z|x) = sum_j z_j a_j - log(1 + e^a_j)  : (K*B,), nats, for z of zeros and ones."""
        log_qz = self.log_q_each(z, a).sum(axis=1)
        self._cache["log_q"] = (z.reshape(-1, *a.shape), a)
        return log_qz

    def log_q_backward(self, along_phi: np.ndarray) -> np.ndarray:
        """along_phi : (K*B,), or (K*B, Z) for a weight of its own on each dimension  ->  da : (B, Z).

        dlog_q/da_j = z_j - sigmoid(a_j), the "score".  All K samples share a, so it sums over k.
        """
        z, a = self._take("log_q")
        weight = along_phi.reshape(*z.shape[:2], -1)                               # (K, B, 1) or (K, B, Z)
        return (weight * (z - sigmoid(a))).sum(axis=0)

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """log p(z) = -Z log 2  : (K*B,), nats, whatever z is."""
        return np.full(len(z), -z.shape[1] * np.log(2), z.dtype)

    def check_wires(self, wires: Wires) -> None:
        """Raise ValueError for an estimator whose path is open: there is none here."""
        if wires.path.any():
            raise ValueError("z = 1[u > sigmoid(-a)] is a step, so no gradient passes through it, and this estimator wants one to (its path is "
                             "open): take score, score_analytic_kl, disarm, rws or vimco, or the latent concrete or straight-through")


class ConcreteLatent(BernoulliLatent):
    """z = sigmoid((a + log u - log(1 - u)) / temperature): the step made soft, so that there is a path.

    It is BIASED for the model with discrete z: the decoder is trained on z between 0 and 1.  As the temperature
    falls the bias goes to 0 and the variance grows as 1 / temperature (tests/test_discrete.py).  The KL is the
    analytic one of the coins, as in Jang et al. (2017), arXiv:1611.01144, and not that of the soft density,
    as in Maddison et al. (2017), arXiv:1611.00712.  Evaluation takes the discrete z.
    """

    name, has_path = "concrete", True

    def __init__(self, temperature: float = 0.5):
        super().__init__()
        if not (np.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a number > 0, got {temperature}")
        self.temperature, self.settings = float(temperature), {"temperature": float(temperature)}

    def sample(self, a: np.ndarray, u: np.ndarray) -> np.ndarray:
        """a : (B, Z), u : (K, B, Z) from U(0, 1)  ->  z : (K*B, Z), in [0, 1]; above 1/2 where the coin would fall on 1."""
        a = rows(a, (None, None), None, "a")
        u = rows(u, (None, *a.shape), a.dtype, "u")
        with np.errstate(divide="ignore"):                 # u = 0 or 1 gives z = 0 or 1, as it should
            z = sigmoid((a + np.log(u) - np.log1p(-u)) / self.temperature)
        self._cache["sample"] = (z,)
        return z.reshape(-1, a.shape[1])

    def sample_backward(self, dz: np.ndarray) -> np.ndarray:
        """dz : (K*B, Z)  ->  da : (B, Z).   dz/da = z (1 - z) / temperature, summed over k."""
        (z,) = self._take("sample")
        return (dz.reshape(z.shape) * z * (1 - z)).sum(axis=0) / self.temperature

    def check_wires(self, wires: Wires) -> None:
        """Raise ValueError for an estimator that wants log q of the sample."""
        if wires.score.any() or wires.latent.any() or not wires.path.any():
            raise ValueError(f"the latent {self.name} has a path and no density of its own: it takes the estimator elbo, whose KL is analytic; "
                             "for the others take the latent bernoulli")


class StraightThroughLatent(BernoulliLatent):
    """Forward the coin, backward as if z had been sigmoid(a): the counter-example.

    BIASED, and by no small amount: f = z and f = z^2 are one function on {0, 1} and get different gradients.
    Source: Bengio, Leonard & Courville (2013), arXiv:1308.3432.
    """

    name, has_path = "straight-through", True
    check_wires = ConcreteLatent.check_wires

    def sample(self, a: np.ndarray, u: np.ndarray) -> np.ndarray:
        """z = 1[u > sigmoid(-a)], as BernoulliLatent."""
        z = super().sample(a, u)
        self._cache["sample"] = (a, z)
        return z

    def sample_backward(self, dz: np.ndarray) -> np.ndarray:
        """dz : (K*B, Z)  ->  da = sum_k dz sigmoid(a) sigmoid(-a) : (B, Z).  No derivative of `sample`."""
        a, z = self._take("sample")
        return dz.reshape(-1, *a.shape).sum(axis=0) * sigmoid(a) * sigmoid(-a)

    def straightened(self, a0: np.ndarray, u: np.ndarray):
        """The function of a whose derivative backward gives: z stays at the coin's face and moves as sigmoid(a) moves.  For gradcheck."""
        z0 = self.sample(a0, u)
        return lambda a: z0 + np.tile(sigmoid(a) - sigmoid(a0), (len(u), 1))


LATENTS = {latent.name: latent for latent in (BernoulliLatent, ConcreteLatent, StraightThroughLatent)}


def make_latent(name: str, **settings) -> BernoulliLatent:
    """The latent called `name`; settings are those of its class."""
    if name not in LATENTS:
        raise ValueError(f"unknown latent {name!r}; choose from {', '.join(LATENTS)}")
    return LATENTS[name](**settings)


class DiscreteVAE(Model):
    """A VAE whose latent is a row of coins, with hand-written gradients.  NVIL, where the estimator is a score function.

    Build one with `DiscreteVAE.mlp(..., latent=BernoulliLatent(), estimator=estimators.disarm)`, or hand in any
    layers of your own.  Parameters as VAE's, with one head, to_a, in the place of two; dec begins with a Dense, too.
    """

    kind, heads = "discrete", ("to_a",)
    prior, mean_name = "z of fair coins", "q(z = 1)"

    def __init__(self, enc, to_a, dec, to_out, *, likelihood, latent=None, estimator=elbo, baseline=others, beta=1.0, rng=None):
        self.enc, self.to_a = enc, to_a
        self.dec, self.to_out, self.likelihood = dec, to_out, likelihood
        self.latent = latent or BernoulliLatent()
        self.estimator, self.baseline, self.beta, self.rng = estimator, baseline, float(beta), np.random.default_rng(rng)
        self._wires = None

    @np.errstate(over="ignore", invalid="ignore")          # a NaN is for the training loop to name, not for NumPy to warn of
    def forward(self, x: np.ndarray, u: np.ndarray | None = None) -> Result:
        """x : (B, D); u : (B, Z) or (K, B, Z) in [0, 1], drawn from the model's rng when left out.  Returns a Result."""
        x, u = self.inputs(x, u)
        K, B, _ = u.shape
        # encoder, phi: x -> q(z|x)
        h = self.enc.forward(x)                            # (B, H)
        a = self.to_a.forward(h)                           # (B, Z)
        # the KL leaves here, analytic
        kl = self.latent.kl(a)                             # (B,)
        # sampling node: a step, so the way back ends at z
        z = self.latent.sample(a, u)                       # (K*B, Z)
        # log q and log prior of the sample: how the score hears a
        log_qz = self.latent.log_q(z, a)                   # (K*B,)
        log_pz = self.latent.log_prior(z)                  # (K*B,)
        # decoder, theta: z -> log p(x|z)
        g = self.dec.forward(z)                            # (K*B, H)
        out = self.to_out.forward(g)                       # (K*B, D)
        log_px = self.likelihood.forward(out, x)           # (K*B,)

        t = Terms(log_px.reshape(K, B), log_pz.reshape(K, B), log_qz.reshape(K, B), kl, self.beta, x, self.baseline, a)
        self._wires = self.estimator(t)                    # the weights that backward puts on each wire
        objective, kl_found = self.estimator.objective(t)  # (B,) each
        loss, recon = -float(objective.mean(dtype=np.float64)), -t.log_px.mean(axis=0)
        return Result(loss, recon, kl_found, -(recon + kl_found), logw=t.log_px + t.log_pz - t.log_qz)

    def backward(self) -> None:
        """Fill every layer's grads with d(loss).  Read `VAE.backward` beside this: between decoder and encoder a wire is missing."""
        if self._wires is None:
            raise RuntimeError("DiscreteVAE.backward called without a forward before it")
        wires, self._wires = self._wires, None
        self.latent.check_wires(wires)
        decoder, score, dkl = -wires.decoder.ravel(), -wires.score, -wires.kl

        # decoder, theta
        dout = self.likelihood.backward(decoder)                       # (K*B, D)
        dg = self.to_out.backward(dout)                                # (K*B, H)
        dz = self.dec.backward(dg, input_grad=self.latent.has_path)    # (K*B, Z)   for coins None: nobody wants it, the walk ends here
        # log q, z held: all that phi hears of log p(x|z) is a number, the weight
        da = self.latent.log_q_backward(score)                         # (B, Z)     sum_k score * (z - sigmoid(a))
        # the KL joins here
        da += self.latent.kl_backward(dkl)                             # (B, Z)     beta/B * a sigmoid(a) sigmoid(-a)
        # a relaxed z has a sampling node to go back through
        if self.latent.has_path:
            da += self.latent.sample_backward(wires.path.reshape(-1, 1) * dz)
        # encoder, phi
        self.enc.backward(self.to_a.backward(da), input_grad=False)

    def named_layers(self):
        """Yield (name, layer) in the order encoder, head, decoder, likelihood."""
        yield from ((f"enc.{i}", layer) for i, layer in enumerate(self.enc.layers))
        yield from (("to_a", self.to_a), ("latent", self.latent))
        yield from ((f"dec.{i}", layer) for i, layer in enumerate(self.dec.layers))
        yield from ((self.likelihood.head, self.to_out), ("likelihood", self.likelihood))

    # --- the everyday methods of Model, where coins differ from Gaussians ---------------------------

    def noise(self, K: int, B: int, rng: np.random.Generator) -> np.ndarray:
        """u : (K, B, Z) from U(0, 1); for an estimator that wants it the antithetic pair, u and 1 - u."""
        if not getattr(self.estimator, "antithetic", False):
            return rng.random((K, B, self.z_dim), self.dtype)
        u = rng.random((1, B, self.z_dim), self.dtype)
        return np.concatenate([u, 1 - u])

    def inputs(self, x: np.ndarray, u: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D) and u : (K, B, Z) checked, u drawn when None."""
        x, u = super().inputs(x, u)
        if not ((u >= 0) & (u <= 1)).all():
            raise ValueError(f"u must lie in [0, 1], found {u[~((u >= 0) & (u <= 1))][0]:g}: a discrete latent takes uniform noise, not normal")
        if getattr(self.estimator, "antithetic", False) and (len(u) != 2 or np.abs(u[0] + u[1] - 1).max() > 4 * np.finfo(u.dtype).eps):
            raise ValueError(f"{self.estimator.__name__} wants K = 2 exactly, from the antithetic noise u and 1 - u (`noise` draws it), "
                             + (f"got K = {len(u)}" if len(u) != 2 else f"found u = {u[0].flat[0]:g} beside {u[1].flat[0]:g}"))
        return x, u

    def encode(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  a : (B, Z), the logits of q(z|x)."""
        x = self.pixels(x)
        with self.undisturbed():
            return self.to_a.forward(self.enc.forward(x))

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x : (B, D)  ->  E_q[z_j] = sigmoid(a_j), and the KL of each dimension : (B, Z) twice."""
        a = self.encode(x)
        return sigmoid(a), self.latent.kl_each(a)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  E[x|z] : (B, D), through the likeliest z, without noise."""
        return self.decode(self.encode(x) > 0)

    def draw_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """z : (n, Z), fair coins, 0 or 1."""
        return rng.integers(0, 2, (n, self.z_dim)).astype(self.dtype)

    def try_estimator(self, samples: int, beta: float | None = None) -> Wires:
        """Model's, and whether the latent has the wires that the estimator wants."""
        wires = super().try_estimator(samples, beta)
        self.latent.check_wires(wires)
        return wires

    @contextmanager
    def judged_by(self, estimator, beta: float):
        """Model's, and with the discrete z: a relaxed model is judged as what it is meant to be."""
        own, self.latent = self.latent, BernoulliLatent()
        try:
            with super().judged_by(estimator, beta):
                yield
        finally:
            self.latent = own
