"""The linear-Gaussian VAE: everything that a VAE only estimates, here in closed form.  Plain NumPy.

    z ~ N(0, I),   x | z ~ N(W z + m, s2 I),   q(z|x) = N(V (x - m), Sigma)

This is probabilistic PCA with an encoder beside it.  A VAE without hidden layers and with one
shared variance is this model, so its numbers can be compared with the exact ones.

    log p(x) = ELBO + KL( q(z|x) || p(z|x) )     at any theta and any phi

theta is a Decoder (W, s2), phi is an Encoder (V, Sigma).  A gradient for theta is a Decoder, too,
and one for phi an Encoder.  W is (D, Z), as in the papers: the transpose of our `to_mean.W`.
V is (Z, D), the transpose of `to_mu.W`.  The data enter through S = mean of (x - m)(x - m)', which
is all that a Gaussian model sees of them.  So every value is a mean over the data, in nats per
example.  m is the mean of the data, the best m for any W and s2.
Shape letters: D pixels, Z latent dimensions, N examples.

Sources: Tipping & Bishop (1999), "Probabilistic principal component analysis", J. R. Statist. Soc.
B 61, 611-622 (model and posterior: section 3.1; maximum likelihood: section 3.2 and appendix A;
EM: appendix B).  Lucas et al. (2019), arXiv:1911.02469 (the linear VAE).  Neal & Hinton (1998), "A
view of the EM algorithm that justifies incremental, sparse, and other variants" (EM climbs the
ELBO).
"""

from typing import NamedTuple

import numpy as np

LOG_2PI = np.log(2 * np.pi)


class Decoder(NamedTuple):
    """theta, or a gradient for theta.  W : (D, Z).  s2 : float > 0, a pixel's variance given z."""

    W: np.ndarray
    s2: float


class Encoder(NamedTuple):
    """phi, or a gradient for phi.  V : (Z, D), so that mu = V (x - m).

    Sigma : (Z, Z), symmetric, the same for every x.
    """

    V: np.ndarray
    Sigma: np.ndarray


def second_moment(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """m = mean_n x_n : (D,) and S = mean_n (x_n - m)(x_n - m)' : (D, D).   x : (N, D).

    Divided by N; np.cov divides by N - 1 unless told bias=True.
    """
    m = x.mean(axis=0)
    return m, (x - m).T @ (x - m) / len(x)


def sample(dec: Decoder, n: int, rng: np.random.Generator) -> np.ndarray:
    """x = W z + sqrt(s2) e,  z and e from N(0, I)  : (n, D), with m = 0."""
    D, Z = dec.W.shape
    return rng.standard_normal((n, Z)) @ dec.W.T + np.sqrt(dec.s2) * rng.standard_normal((n, D))


# --- theta alone: log p(x) and the true posterior -------------------------------------------------


def _logdet(a: np.ndarray) -> float:
    """log|a| of a covariance.  Raises ValueError where its determinant is not above 0."""
    sign, logdet = np.linalg.slogdet(a)
    if not sign > 0:
        raise ValueError("a covariance must be positive definite, got determinant "
                         f"{sign * np.exp(logdet):g}: was a step too long?")
    return logdet


def _covariance(dec: Decoder) -> np.ndarray:
    """C = W W' + s2 I : (D, D), the covariance of x with z integrated out."""
    return dec.W @ dec.W.T + dec.s2 * np.eye(len(dec.W))


def log_evidence(dec: Decoder, S: np.ndarray) -> float:
    """mean_n log p(x_n) = -1/2 ( D log 2 pi + log|C| + tr(C^-1 S) ),  C = W W' + s2 I.

    Nats per example.  z is integrated on paper: x ~ N(m, C).  There is no phi in it.
    Source: Tipping & Bishop (1999), section 3.1.
    """
    C = _covariance(dec)
    return -0.5 * (len(C) * LOG_2PI + _logdet(C) + np.trace(np.linalg.solve(C, S)))


def log_evidence_rows(dec: Decoder, xc: np.ndarray) -> np.ndarray:
    """xc = x - m : (N, D)  ->  log p(x_n) of each row : (N,), nats; the mean is `log_evidence`."""
    C = _covariance(dec)
    return -0.5 * (len(C) * LOG_2PI + _logdet(C) + (xc * np.linalg.solve(C, xc.T).T).sum(axis=1))


def log_evidence_grad(dec: Decoder, S: np.ndarray) -> Decoder:
    """d log p/dW = (C^-1 S C^-1 - C^-1) W : (D, Z);   d log p/ds2 = 1/2 tr(C^-1 S C^-1 - C^-1).

    G = dlog p/dC = 1/2 (C^-1 S C^-1 - C^-1), and C = W W' + s2 I gives dW = 2 G W, ds2 = tr G.
    Source: Tipping & Bishop (1999), appendix A.
    """
    C_inv = np.linalg.inv(_covariance(dec))
    G = 0.5 * (C_inv @ S @ C_inv - C_inv)                       # (D, D)
    return Decoder(2 * G @ dec.W, np.trace(G))


def posterior(dec: Decoder) -> Encoder:
    """p(z|x) = N(M^-1 W' (x - m), s2 M^-1),  M = W' W + s2 I : (Z, Z).

    It is the best encoder for this decoder.  Source: Tipping & Bishop (1999), section 3.1.
    """
    M_inv = np.linalg.inv(dec.W.T @ dec.W + dec.s2 * np.eye(dec.W.shape[1]))
    return Encoder(M_inv @ dec.W.T, dec.s2 * M_inv)


def max_likelihood(S: np.ndarray, Z: int) -> Decoder:
    """s2 = mean of the D - Z smallest eigenvalues of S,  W = U (L - s2 I)^(1/2) : (D, Z).

    No other theta has a larger log p.  U, L: the eigenvectors of the Z largest eigenvalues, and
    these.  Any rotation W R has the same log p; this one, with W' W diagonal, has independent
    latents given x.  Raises ValueError for a Z that leaves no direction over.
    Source: Tipping & Bishop (1999), section 3.2.
    """
    if not 1 <= Z < len(S):
        raise ValueError(f"Z must be at least 1 and below D = {len(S)}, got {Z}: with no direction "
                         "left over s2 is 0 or free")
    L, U = np.linalg.eigh(S)                                    # in rising order
    s2 = L[: len(S) - Z].mean()
    return Decoder(U[:, : -Z - 1 : -1] * np.sqrt(L[: -Z - 1 : -1] - s2), s2)


# --- theta and phi: the ELBO and the gap above it -------------------------------------------------


def gaussian_kl(cov_q: np.ndarray, cov_p: np.ndarray, spread: np.ndarray | float = 0.0) -> float:
    """KL(q || p) = 1/2 ( tr(P^-1 (Q + spread)) - Z + log|P| - log|Q| ), in nats.

    Q, P : (Z, Z), the covariances cov_q and cov_p.
    spread : (Z, Z), the mean over the data of (mu_q - mu_p)(mu_q - mu_p)'; 0 where the means agree.
    """
    trace = np.trace(np.linalg.solve(cov_p, cov_q + spread))
    return 0.5 * (trace - len(cov_q) + _logdet(cov_p) - _logdet(cov_q))


def _squared_error(dec: Decoder, enc: Encoder, S: np.ndarray) -> float:
    """R = mean_n E_q |x_n - m - W z|^2 = tr((I - W V) S (I - W V)') + tr(W Sigma W')."""
    left_over = np.eye(len(S)) - dec.W @ enc.V                  # (D, D)
    return np.trace(left_over @ S @ left_over.T) + np.trace(dec.W @ enc.Sigma @ dec.W.T)


def elbo(dec: Decoder, enc: Encoder, S: np.ndarray) -> float:
    """E_q[log p(x|z)] - KL(q || p(z)) = -D/2 log(2 pi s2) - R/(2 s2) - KL(q || N(0, I)).

    R = mean_n E_q|x_n - m - W z|^2.  Nats per example, a mean over the data.  The reconstruction is
    an explicit function of theta; the KL to the prior has no theta in it.
    Source: Kingma & Welling (2014), arXiv:1312.6114, eq. 3.
    """
    recon = 0.5 * len(S) * (LOG_2PI + np.log(dec.s2)) + 0.5 * _squared_error(dec, enc, S) / dec.s2
    return -recon - gaussian_kl(enc.Sigma, np.eye(len(enc.Sigma)), enc.V @ S @ enc.V.T)


def elbo_grad(dec: Decoder, enc: Encoder, S: np.ndarray) -> tuple[Decoder, Encoder]:
    """d ELBO for theta and for phi, each the sum of a reconstruction part and a KL part.

    dW     = (S V' - W (V S V' + Sigma)) / s2          (D, Z)   the reconstruction alone
    ds2    = -D/(2 s2) + R/(2 s2^2)                    float    the reconstruction alone
    dV     = W' (S - W V S) / s2  -  V S               (Z, D)   reconstruction, KL
    dSigma = -W' W / (2 s2)  +  (Sigma^-1 - I) / 2     (Z, Z)   reconstruction, KL

    dSigma counts all Z*Z entries as free; it is symmetric because Sigma is.
    """
    (W, s2), (V, Sigma) = dec, enc
    dW = (S @ V.T - W @ (V @ S @ V.T + Sigma)) / s2
    ds2 = -0.5 * len(S) / s2 + 0.5 * _squared_error(dec, enc, S) / s2**2
    dV = W.T @ (S - W @ V @ S) / s2 - V @ S
    dSigma = -0.5 * W.T @ W / s2 + 0.5 * (np.linalg.inv(Sigma) - np.eye(len(Sigma)))
    return Decoder(dW, ds2), Encoder(dV, dSigma)


def kl_to_posterior(dec: Decoder, enc: Encoder, S: np.ndarray) -> float:
    """mean_n KL( q(z|x_n) || p(z|x_n) ), the gap log p - ELBO, in nats per example.

    = 1/2 ( tr(Cz^-1 Sigma) + tr(Cz^-1 (P - V) S (P - V)') - Z + log|Cz| - log|Sigma| ), with
    P = M^-1 W' and Cz = s2 M^-1.  It is 0 only where q is the posterior.
    """
    true = posterior(dec)
    return gaussian_kl(enc.Sigma, true.Sigma, (true.V - enc.V) @ S @ (true.V - enc.V).T)


def kl_to_posterior_grad(dec: Decoder, enc: Encoder, S: np.ndarray) -> tuple[Decoder, Encoder]:
    """d KL = d log p - d ELBO, because KL = log p - ELBO.  For phi -d ELBO: log p has no phi."""
    (dW, ds2), (dV, dSigma) = elbo_grad(dec, enc, S)
    dW_evidence, ds2_evidence = log_evidence_grad(dec, S)
    return Decoder(dW_evidence - dW, ds2_evidence - ds2), Encoder(-dV, -dSigma)


# --- EM: the same ELBO, climbed one coordinate at a time ------------------------------------------


def m_step(enc: Encoder, S: np.ndarray) -> Decoder:
    """W = S V' (V S V' + Sigma)^-1,  s2 = R/D at that W: where d ELBO/dtheta = 0, with q held.

    Least squares of x on z, z drawn from q.  The KL to the prior does not matter: no theta in it.
    """
    # the transpose of the formula, because S and Sigma are symmetric
    W = np.linalg.solve(enc.V @ S @ enc.V.T + enc.Sigma, enc.V @ S).T
    return Decoder(W, _squared_error(Decoder(W, 1.0), enc, S) / len(S))


def em_step(dec: Decoder, S: np.ndarray) -> Decoder:
    """W+ = S W (s2 I + M^-1 W' S W)^-1,  s2+ = tr(S - S W M^-1 W+')/D.  log p never falls.

    E step: q = posterior, the phi that maximises the ELBO at this theta.  M step: the theta that
    maximises it at this q.  Sources: Tipping & Bishop (1999), appendix B; Neal & Hinton (1998).
    """
    return m_step(posterior(dec), S)


# --- a q with independent latents, as a VAE has ---------------------------------------------------


def fit_reverse_kl(cov: np.ndarray) -> np.ndarray:
    """The diagonal Q that minimises KL( N(0, Q) || N(0, cov) ):  Q_jj = 1 / (cov^-1)_jj : (Z, Z).

    What a VAE's encoder does.  Q_jj is the variance of z_j with all the others known: too narrow.
    Source: Bishop (2006), "Pattern recognition and machine learning", section 10.1.2.
    """
    return np.diag(1 / np.diag(np.linalg.inv(cov)))


def fit_forward_kl(cov: np.ndarray) -> np.ndarray:
    """The diagonal Q that minimises KL( N(0, cov) || N(0, Q) ):  Q_jj = cov_jj : (Z, Z).

    These are the marginal variances.  Source: Bishop (2006), section 10.1.2.
    """
    return np.diag(np.diag(cov))


def best_diagonal(dec: Decoder) -> Encoder:
    """The best q with diagonal Sigma: V = M^-1 W', Sigma_jj = s2 / M_jj.

    Its gap is 1/2 ( sum_j log M_jj - log|M| ), which is 0 where M = W' W + s2 I is diagonal, as at
    `max_likelihood`.  Source: Lucas et al. (2019).
    """
    true = posterior(dec)
    return Encoder(true.V, fit_reverse_kl(true.Sigma))
