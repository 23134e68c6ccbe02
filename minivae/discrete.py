"""Discrete latents: what if z is a row of coins?  Page 6 of the lesson, to be read beside vae.py.

    forward
    x -> enc -> h -> to_a -> a --+--> z = (u > sigmoid(-a)) --> dec -> to_out -> log p(x|z) -> loss
         phi                     |         ^                    theta                           ^
                                 |         u ~ U(0, 1)                                          |
                                 +--> log q(z|x) -- times a number, log p(x|z) - b -------------+
                                 +--> KL(q || p) -----------------------------------------------+
    backward
    enc <- dh <- to_a <- da <-(+)                      dec <- to_out <- dout <-- 1. it enters here
    4. phi is                  +-- 3. from log q: (log p(x|z) - b) (z - sigmoid(a))
       filled                  +-- 3. from the KL      2. theta is filled, and the walk ends

q(z_j = 1|x) = sigmoid(a_j): a coin whose logit a the encoder gives.  The prior is a fair coin,
p(z_j = 1) = 1/2.  The dimensions of z are independent.

What is missing against vae.py is the path.  z jumps from 0 to 1 and is flat elsewhere, so its
derivative is 0 wherever it exists.  All of the gradient is in the moving density: it is the sum
over z of log p(x|z) grad q(z|x).  NVIL (Mnih & Gregor 2014) writes it as log P grad Q, and h for z;
here h is the encoder's last hidden layer.  Two ways to put a path in its place, both biased, stand
below the honest node: ConcreteLatent makes the step soft, StraightThroughLatent goes back as if
there were no step.

Against page 0, the two lines of the sampling node are gone; da, the gradient of a, comes from log q
and from the KL.
"""

from collections.abc import Callable

import numpy as np

from minivae.estimators import Wires, elbo
from minivae.layers import Latent, as_rows, as_sample_rows, sigmoid
from minivae.model import Model, Result


class BernoulliLatent(Latent):
    """q(z_j = 1|x) = sigmoid(a_j) against the prior p(z_j = 1) = 1/2.  Nodes return nats per row.

    Four nodes as in GaussianLatent, but `sample` has no backward, and so log q and the prior send
    nothing to z either.  Every node raises ValueError for arrays whose shapes do not fit.
    Source: Mnih & Gregor (2014), arXiv:1402.0030, section 2.
    """

    name, prior, mean_name, has_path = "bernoulli", "z of fair coins", "q(z = 1)", False
    between_in_words = "the coins that differ turn over one by one"
    values_to_try = np.array([0, 1])

    def sample(self, a: np.ndarray, u: np.ndarray) -> np.ndarray:
        """a : (B, Z), u : (K, B, Z) from U(0, 1)  ->  z = (u > sigmoid(-a)) : (K*B, Z), 0 or 1.

        P(u > sigmoid(-a)) = 1 - sigmoid(-a) = sigmoid(a).  Move a by a little: almost every z stays
        what it was.
        """
        a = as_rows(a, (None, None), None, "a")
        u = as_rows(u, (None, *a.shape), a.dtype, "u")
        return (u > sigmoid(-a)).astype(a.dtype).reshape(-1, a.shape[1])

    def kl(self, a: np.ndarray) -> np.ndarray:
        """KL(q || p) = sum_j kl_each_j  : (B,), nats."""
        a = as_rows(a, (None, None), None, "a")
        self._cache["kl"] = (a,)
        return self.kl_each(a).sum(axis=1)

    def kl_backward(self, dkl: np.ndarray) -> np.ndarray:
        """dkl : (B,)  ->  da : (B, Z).

        d kl/d a_j = a_j sigmoid(a_j) sigmoid(-a_j) pulls a to 0, the fair coin.
        """
        (a,) = self._take("kl")
        dkl = as_rows(dkl, (len(a),), a.dtype, "dkl")
        return dkl[:, None] * a * sigmoid(a) * sigmoid(-a)

    def log_q(self, z: np.ndarray, a: np.ndarray) -> np.ndarray:
        """log q(z|x) = sum_j z_j a_j - log(1 + e^a_j)  : (K*B,), nats, for z of zeros and ones."""
        log_qz = self.log_q_each(z, a).sum(axis=1)
        self._cache["log_q"] = (z.reshape(-1, *a.shape), a)
        return log_qz

    def log_q_backward(self, along_phi: np.ndarray) -> np.ndarray:
        """along_phi : (K*B,), or (K*B, Z) for a weight on each dimension  ->  da : (B, Z).

        d log_q/d a_j = z_j - sigmoid(a_j), the "score".  All K samples share a, so it sums over k.
        """
        z, a = self._take("log_q")
        weight = along_phi.reshape(*z.shape[:2], -1)                   # (K, B, 1) or (K, B, Z)
        return (weight * (z - sigmoid(a))).sum(axis=0)

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """log p(z) = -Z log 2  : (K*B,), nats, whatever z is."""
        return np.full(len(z), -z.shape[1] * np.log(2), z.dtype)

    # --- everyday answers ---

    def noise(self, shape: tuple[int, int, int], rng: np.random.Generator, dtype,
              antithetic: bool = False) -> np.ndarray:
        """u : (K, B, Z) from U(0, 1).  antithetic: the pair u and 1 - u, whatever K is."""
        if not antithetic:
            return rng.random(shape, dtype)
        u = rng.random((1, *shape[1:]), dtype)
        return np.concatenate([u, 1 - u])

    def check_noise(self, u: np.ndarray, estimator: Callable) -> None:
        """Raise ValueError unless u lies in [0, 1], and for disarm is a pair u and 1 - u."""
        if not ((u >= 0) & (u <= 1)).all():
            found = u[~((u >= 0) & (u <= 1))][0]
            raise ValueError(f"u must lie in [0, 1], found {found:g}: a discrete latent takes "
                             "uniform noise, not normal")
        if not estimator.antithetic:
            return
        wanted = (f"{estimator.__name__} wants K = 2 exactly, from the antithetic noise u and "
                  "1 - u (`noise` draws it)")
        if len(u) != 2:
            raise ValueError(f"{wanted}, got K = {len(u)}")
        if np.abs(u[0] + u[1] - 1).max() > 4 * np.finfo(u.dtype).eps:
            raise ValueError(f"{wanted}, found u = {u[0].flat[0]:g} beside {u[1].flat[0]:g}")

    def check_wires(self, wires: Wires) -> None:
        """Raise ValueError for an estimator whose path is open: there is none here."""
        if wires.path.any():
            raise ValueError(
                "z = 1[u > sigmoid(-a)] is a step, so no gradient passes through it, and this "
                "estimator wants one to (its path is open): take score, score_analytic_kl, disarm, "
                "rws or vimco, or the latent concrete or straight-through")

    def draw_prior(self, shape: tuple[int, int], rng: np.random.Generator, dtype) -> np.ndarray:
        """z : (n, Z), fair coins, 0 or 1."""
        return rng.integers(0, 2, shape).astype(dtype)

    def mean(self, a: np.ndarray) -> np.ndarray:
        """E_q[z_j] = sigmoid(a_j) : (B, Z)."""
        return sigmoid(a)

    def mode(self, a: np.ndarray) -> np.ndarray:
        """The likeliest z : (B, Z), 1 where a > 0."""
        return (a > 0).astype(a.dtype)

    def kl_each(self, a: np.ndarray) -> np.ndarray:
        """KL of each dimension : (B, Z), nats, between 0 and log 2.

        sigmoid(a) log sigmoid(a) + sigmoid(-a) log sigmoid(-a) + log 2, the same for a and -a.
        With e = e^-|a| it is log 2 - log(1 + e) - |a| e / (1 + e), which subtracts no two large
        numbers.
        """
        size = np.abs(a)
        e = np.exp(-size)
        return np.log(a.dtype.type(2)) - np.log1p(e) - size * e / (1 + e)

    def log_q_each(self, z: np.ndarray, a: np.ndarray) -> np.ndarray:
        """log q(z_j|x) = z_j a_j - log(1 + e^a_j)  : (K*B, Z), nats."""
        a = as_rows(a, (None, None), None, "a")
        z = as_sample_rows(z, a.shape[1], a, "z").reshape(-1, *a.shape)            # (K, B, Z)
        return (z * a - np.logaddexp(0, a)).reshape(-1, a.shape[1])

    def between(self, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
        """a, b : (R, 1, Z), t : (steps, 1) in [0, 1]  ->  z on the way from a to b : (R, steps, Z).

        A coin has no value between 0 and 1: those that differ turn over one after another.
        """
        rank = np.cumsum(a != b, axis=2)                   # 1 for the first coin that differs
        return np.where(rank <= np.round(t * rank[..., -1:]), b, a)


class ConcreteLatent(BernoulliLatent):
    """z = sigmoid((a + log u - log(1 - u)) / temperature): the step made soft, so there is a path.

    It is BIASED for the model with discrete z: the decoder is trained on z between 0 and 1.  As the
    temperature falls the bias goes to 0 and the variance grows as 1 / temperature
    (tests/test_discrete.py).  The KL is the analytic one of the coins, as in Jang et al. (2017),
    arXiv:1611.01144, and not that of the soft density, as in Maddison et al. (2017),
    arXiv:1611.00712.  Evaluation takes the discrete z.

    Parameters
    ----------
    temperature : float > 0; ValueError otherwise
    """

    name, has_path = "concrete", True

    def __init__(self, temperature: float = 0.5):
        super().__init__()
        if not (np.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a number > 0, got {temperature}")
        self.temperature = float(temperature)
        self.settings = {"temperature": self.temperature}

    def sample(self, a: np.ndarray, u: np.ndarray) -> np.ndarray:
        """a : (B, Z), u : (K, B, Z) from U(0, 1)  ->  z : (K*B, Z), in [0, 1].

        z lies above 1/2 where the coin would fall on 1.
        """
        a = as_rows(a, (None, None), None, "a")
        u = as_rows(u, (None, *a.shape), a.dtype, "u")
        with np.errstate(divide="ignore"):                 # u = 0 or 1 gives z = 0 or 1
            z = sigmoid((a + np.log(u) - np.log1p(-u)) / self.temperature)
        self._cache["sample"] = (z,)
        return z.reshape(-1, a.shape[1])

    def sample_backward(self, dz: np.ndarray) -> np.ndarray:
        """dz : (K*B, Z)  ->  da : (B, Z).   d z/d a = z (1 - z) / temperature, summed over k."""
        (z,) = self._take("sample")
        return (dz.reshape(z.shape) * z * (1 - z)).sum(axis=0) / self.temperature

    def check_wires(self, wires: Wires) -> None:
        """Raise ValueError for an estimator that wants log q of the sample."""
        if wires.score.any() or wires.latent.any() or not wires.path.any():
            raise ValueError(f"the latent {self.name} has a path and no density of its own: it "
                             "takes the estimator elbo, whose KL is analytic; for the others take "
                             "the latent bernoulli")

    def judged(self) -> BernoulliLatent:
        """The coins that z stands for."""
        return BernoulliLatent()


class StraightThroughLatent(BernoulliLatent):
    """Forward the coin, backward as if z had been sigmoid(a): the counter-example.

    BIASED, and by no small amount: f = z and f = z^2 are one function on {0, 1} and get different
    gradients.  Source: Bengio, Leonard & Courville (2013), arXiv:1308.3432.
    """

    name, has_path = "straight-through", True
    check_wires, judged = ConcreteLatent.check_wires, ConcreteLatent.judged

    def sample(self, a: np.ndarray, u: np.ndarray) -> np.ndarray:
        """z = (u > sigmoid(-a)), as BernoulliLatent."""
        z = super().sample(a, u)
        self._cache["sample"] = (a, z)
        return z

    def sample_backward(self, dz: np.ndarray) -> np.ndarray:
        """dz : (K*B, Z)  ->  da = sum_k dz sigmoid(a) sigmoid(-a) : (B, Z).

        It is no derivative of `sample`.
        """
        a, z = self._take("sample")
        return dz.reshape(-1, *a.shape).sum(axis=0) * sigmoid(a) * sigmoid(-a)

    def straightened(self, a0: np.ndarray, u: np.ndarray) -> Callable:
        """The function of a whose derivative backward gives, for gradcheck.

        z starts at the coin's value, 0 or 1, and moves as sigmoid(a) moves.
        """
        z0 = self.sample(a0, u)
        return lambda a: z0 + np.tile(sigmoid(a) - sigmoid(a0), (len(u), 1))


class DiscreteVAE(Model):
    """A VAE whose latent is a row of coins, with hand-written gradients.

    With a score function it is NVIL, Mnih & Gregor (2014), arXiv:1402.0030.  Build one with
    `DiscreteVAE.mlp(..., latent=BernoulliLatent(), estimator=estimators.disarm)`, or hand in any
    layers of your own.  Parameters as VAE's, with one head, to_a, in the place of two.
    """

    heads, latent_class = ("to_a",), BernoulliLatent

    def __init__(self, enc, to_a, dec, to_out, *, likelihood, latent=None, estimator=elbo,
                 baseline=None, beta=1.0, rng=None, x_dim=None, z_dim=None, dtype=None):
        self.enc, self.to_a = enc, to_a
        self.dec, self.to_out, self.likelihood, self.latent = dec, to_out, likelihood, latent
        self.estimator, self.baseline, self.beta, self.rng = estimator, baseline, beta, rng
        self._settle(x_dim, z_dim, dtype)

    # a NaN is for the training loop to name, not for NumPy to warn of
    @np.errstate(over="ignore", invalid="ignore")
    def forward(self, x: np.ndarray, u: np.ndarray | None = None) -> Result:
        """x : (B, D); u : (B, Z) or (K, B, Z) in [0, 1], drawn from the model's rng when left out.

        Returns a Result, in nats.  Raises ValueError for an x or u that does not fit the model.
        """
        x, u = self.checked_inputs(x, u, "u")
        # encoder, phi: x -> q(z|x)
        h = self.enc.forward(x)                            # (B, H)
        a = self.to_a.forward(h)                           # (B, Z)
        # the KL leaves here: it needs no sample
        kl = self.latent.kl(a)                             # (B,)
        # sampling node: a step, so the way back ends at z
        z = self.latent.sample(a, u)                       # (K*B, Z)
        # decoder, theta: z -> log p(x|z)
        g = self.dec.forward(z)                            # (K*B, H)
        out = self.to_out.forward(g)                       # (K*B, D)
        log_px = self.likelihood.forward(out, x)           # (K*B,)
        # log q and log prior of the sample: how the score hears a
        log_qz = self.latent.log_q(z, a)                   # (K*B,)
        log_pz = self.latent.log_prior(z)                  # (K*B,)
        return self.weigh(log_px, log_pz, log_qz, kl, x, q=(a,))

    def backward(self) -> None:
        """Fill every layer's grads.  Beside `VAE.backward`, one wire is missing: from dec to enc.

        Raises RuntimeError without a forward before it, ValueError for an estimator that wants a
        path where there is none.
        """
        dlog_px, _, path, dlog_qz, dkl = self.take_wires()             # (K*B,) each, dkl (B,)

        # decoder, theta; for coins nobody asks for dz, and the walk ends here
        dout = self.likelihood.backward(dlog_px)                       # (K*B, D)
        dg = self.to_out.backward(dout)                                # (K*B, H)
        dz = self.dec.backward(dg, input_grad=self.latent.has_path)    # (K*B, Z) or None
        # log q, z held: all that phi hears of log p(x|z) is a number, the weight
        da = self.latent.log_q_backward(dlog_qz)                       # (B, Z)
        # the KL joins here: beta/B * a sigmoid(a) sigmoid(-a)
        da += self.latent.kl_backward(dkl)                             # (B, Z)
        # a relaxed z has a sampling node to go back through
        if self.latent.has_path:
            da += self.latent.sample_backward(path[:, None] * dz)      # (B, Z)
        # encoder, phi
        self.enc.backward(self.to_a.backward(da), input_grad=False)
