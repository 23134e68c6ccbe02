"""The latent: sampling node, KL, log q and log prior.  Page 3 of the lesson (after likelihoods).

Here the gradient splits: dz becomes dmu and dlogvar in `sample_backward`, and `kl_backward` gives
what the KL adds to both.  Page 0 has the first two of these four nodes, in its lines `z = ...` and
`kl = ...`; here they take K samples, and log q and the log prior stand beside them.
Samples are rows: row k*B + n of z is sample k of image n.  Log-probabilities are in nats, one
number per row.
"""

import numpy as np

from minivae import kernels
from minivae.layers import Latent, as_rows, as_sample_rows


class GaussianLatent(Latent):
    """q(z|x) = N(mu, diag(exp(logvar))) against the prior p(z) = N(0, I).

    Four nodes, that is four pairs of methods, each forward above its backward.  logvar is
    log sigma^2, hence the half in std = exp(logvar / 2).
    Source: Kingma & Welling (2014), arXiv:1312.6114, section 2.4.
    Every node raises ValueError for arrays whose shapes do not fit.
    """

    name, prior, mean_name, unit = "gaussian", "z from N(0, I)", "mu", "prior std"
    between_in_words = "a straight line between posterior means"
    values_to_try = np.linspace(-3, 3, 11)                 # the prior's std is 1

    def sample(self, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> np.ndarray:
        """mu, logvar : (B, Z), eps : (K, B, Z) from N(0, I)  ->  z = mu + std * eps : (K*B, Z).

        The noise comes in as an argument: a node that draws its own cannot be checked by finite
        differences, because every evaluation would see another function.
        """
        mu, logvar = self._pair(mu, logvar)
        eps = as_rows(eps, (None, *mu.shape), mu.dtype, "eps")
        std = self._work("std", mu.shape, mu.dtype)
        z = self._work("z", (len(eps) * len(mu), mu.shape[1]), mu.dtype)
        # std = exp(logvar / 2);  z = (mu + std * eps).reshape(K*B, Z)
        kernels.sample_forward(mu, logvar, eps, std, z)
        self._cache["sample"] = (std, eps)
        return z

    def sample_backward(self, dz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dz : (K*B, Z)  ->  dmu, dlogvar : (B, Z).  Where the gradient splits.

        z[k, n, j] = mu[n, j] + std[n, j] eps[k, n, j],  std = e^(logvar/2).
        d z/d mu = 1;  d z/d logvar = eps * d std/d logvar = eps * std / 2.  All K samples moved
        with the same mu and logvar, so their gradients sum over k.  eps is data: no gradient goes
        there.
        """
        std, eps = self._take("sample")
        dz = as_rows(dz, (len(eps) * len(std), std.shape[1]), std.dtype, "dz")
        dmu, dlogvar = np.empty_like(std), np.empty_like(std)
        # dmu = sum_k dz;  dlogvar = sum_k dz * eps * std / 2
        kernels.sample_backward(std, eps, dz, dmu, dlogvar)
        return dmu, dlogvar

    def kl(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        """KL(q || p) = 1/2 sum_j (mu_j^2 + e^logvar_j - 1 - logvar_j)  : (B,), nats, at least 0.

        The expectation over z is done on paper, so no sample is needed.
        Source: Kingma & Welling (2014), appendix B (there with the opposite sign).
        """
        mu, logvar = self._pair(mu, logvar)
        kl = np.empty(len(mu), mu.dtype)
        # kl = 0.5 * (mu**2 + expm1(logvar) - logvar).sum(axis=1)
        kernels.kl_forward(mu, logvar, kl)
        self._cache["kl"] = (mu, logvar)
        return kl

    def kl_backward(self, dkl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dkl : (B,)  ->  dmu, dlogvar : (B, Z).

        d kl/d mu_j = mu_j pulls the mean to 0.
        d kl/d logvar_j = (e^logvar_j - 1) / 2 pulls the std to 1.
        """
        mu, logvar = self._take("kl")
        dkl = as_rows(dkl, (len(mu),), mu.dtype, "dkl")
        dmu, dlogvar = np.empty_like(mu), np.empty_like(mu)
        # dmu = dkl[:, None] * mu;  dlogvar = dkl[:, None] * expm1(logvar) / 2
        kernels.kl_backward(mu, logvar, dkl, dmu, dlogvar)
        return dmu, dlogvar

    def log_q(self, z: np.ndarray, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        """-1/2 sum_j ((z_j - mu_j)^2 / e^logvar_j + logvar_j + log 2 pi)  : (K*B,), nats."""
        mu, logvar = self._pair(mu, logvar)
        z = as_sample_rows(z, mu.shape[1], mu, "z")
        log_qz = np.empty(len(z), z.dtype)
        # log_qz = -0.5 * ((z - mu)**2 * exp(-logvar) + logvar + log(2 pi)).sum(axis=1)
        kernels.log_q_forward(z, mu, logvar, log_qz)
        self._cache["log_q"] = (z, mu, logvar)
        return log_qz

    def log_q_backward(self, along_z: np.ndarray, along_phi: np.ndarray
                       ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """along_z, along_phi : (K*B,)  ->  dz : (K*B, Z), dmu, dlogvar : (B, Z).

        phi reaches log q twice: z moved with it, and it stands in the formula itself.  An estimator
        may weigh the two wires differently, so each has a weight of its own; the plain derivative
        passes the same number twice.  With t = (z - mu) / e^logvar:
        d log_q/d z = -t;  d log_q/d mu = t;  d log_q/d logvar = ((z - mu) t - 1) / 2.
        The last two are called the score.
        """
        z, mu, logvar = self._take("log_q")
        along_z = as_rows(along_z, (len(z),), z.dtype, "along_z")
        along_phi = as_rows(along_phi, (len(z),), z.dtype, "along_phi")
        dz, dmu, dlogvar = np.empty_like(z), np.empty_like(mu), np.empty_like(mu)
        # dz = -along_z * t;  dmu = sum_k along_phi * t;
        # dlogvar = sum_k along_phi * ((z - mu) * t - 1) / 2
        kernels.log_q_backward(z, mu, logvar, along_z, along_phi, dz, dmu, dlogvar)
        return dz, dmu, dlogvar

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """log p(z) = -1/2 sum_j (z_j^2 + log 2 pi)  : (K*B,), nats.  It has no parameters."""
        z = as_rows(z, (None, None), None, "z")
        log_pz = np.empty(len(z), z.dtype)
        # log_pz = -0.5 * (z**2 + log(2 pi)).sum(axis=1)
        kernels.log_prior_forward(z, log_pz)
        self._cache["log_prior"] = (z,)
        return log_pz

    def log_prior_backward(self, dlog_pz: np.ndarray) -> np.ndarray:
        """dlog_pz : (K*B,)  ->  dz = -dlog_pz * z : (K*B, Z)."""
        (z,) = self._take("log_prior")
        dlog_pz = as_rows(dlog_pz, (len(z),), z.dtype, "dlog_pz")
        return -dlog_pz[:, None] * z

    def _pair(self, mu: np.ndarray, logvar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mu = as_rows(mu, (None, None), None, "mu")
        return mu, as_rows(logvar, mu.shape, mu.dtype, "logvar")

    # --- everyday answers ---

    def noise(self, shape: tuple[int, int, int], rng: np.random.Generator, dtype,
              antithetic: bool = False) -> np.ndarray:
        """eps : (K, B, Z) from N(0, I).  antithetic concerns binary latents alone, see page 6."""
        return rng.standard_normal(shape, dtype)

    def draw_prior(self, shape: tuple[int, int], rng: np.random.Generator, dtype) -> np.ndarray:
        """z : (n, Z) from N(0, I)."""
        return rng.standard_normal(shape, dtype)

    def mean(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        """E_q[z] = mu : (B, Z)."""
        return mu

    def mode(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        """The likeliest z, which is mu : (B, Z)."""
        return mu

    def kl_each(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        """1/2 (mu_j^2 + e^logvar_j - 1 - logvar_j), the KL of each dimension : (B, Z), nats."""
        return 0.5 * (mu**2 + np.expm1(logvar) - logvar)

    def between(self, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(1 - t) a + t b, the line from a to b.   a, b : (R, 1, Z), t : (steps, 1) in [0, 1]."""
        return (1 - t) * a + t * b
