"""The mean of a gradient over all noise, exactly, in one backward pass.

Every outcome of the noise is one example of a batch, and its probability multiplies the example's
weights on the wires.  So one backward pass sums the gradients of all outcomes: a mean without Monte
Carlo, exact to rounding for coins, and to the quadrature's error for Gaussian noise.
"""

from collections.abc import Callable

import numpy as np

from minivae.estimators import Terms, Wires, estimator


def all_faces(n: int) -> np.ndarray:
    """Every row of n zeros and ones : (2^n, n)."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def all_coins(theta: np.ndarray, K: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Every outcome of K rows of coins, P(z_j = 1) = theta_j : (Z,).

    Returns a noise u that gives each outcome : (K, 2^(K Z), Z), and its probability : (2^(K Z),).
    z = 1 where u > 1 - theta; u is in the middle of what gives z.
    """
    Z = len(theta)
    z = all_faces(K * Z).reshape(-1, K, Z).swapaxes(0, 1)
    u = np.where(z == 1, 1 - theta / 2, (1 - theta) / 2)
    return u, np.where(z == 1, theta, 1 - theta).prod(axis=(0, 2))


def all_pairs(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every outcome of the antithetic pair u and 1 - u, for coins with P(z_j = 1) = theta_j : (Z,).

    Returns the pairs : (2, 3^Z, Z), and their probabilities : (3^Z,).  Both coins of a dimension
    change their face only where u crosses theta or 1 - theta, so three pieces are enough.
    """
    Z = len(theta)
    edges = np.sort([0 * theta, theta, 1 - theta, 0 * theta + 1], axis=0)          # (4, Z)
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges, axis=0)           # (3, Z)
    piece = np.indices((3,) * Z).reshape(Z, -1).T          # (3^Z, Z): which piece, by dimension
    u = middle[piece, np.arange(Z)]
    return np.stack([u, 1 - u]), width[piece, np.arange(Z)].prod(axis=1)


def gauss_hermite(K: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """A grid for the mean over K samples of one Gaussian latent, N = nodes^K.

    Returns eps : (K, N, 1), and weights : (N,) that sum to 1.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    index = np.indices((nodes,) * K).reshape(K, -1)        # (K, N)
    return points[index][..., None], (weights / weights.sum())[index].prod(axis=0)


def averaged(rule: Callable[[Terms], Wires], weights: np.ndarray) -> Callable[[Terms], Wires]:
    """An estimator for a batch of outcomes, one row each, that gives the mean over them.

    Outcome n has probability weights[n]; a batch mean would give 1 / len(weights).  path is a gain,
    and stays.
    """
    share = weights * len(weights)

    @estimator(rule.objective)
    def mean_over_outcomes(t: Terms) -> Wires:
        wires = rule(t)
        by_dimension = wires.score.ndim == 3               # (K, N, Z)
        return Wires(decoder=wires.decoder * share, latent=wires.latent * share, path=wires.path,
                     score=wires.score * (share[:, None] if by_dimension else share),
                     kl=wires.kl * share)

    return mean_over_outcomes


def mean_gradient(vae, rule: Callable[[Terms], Wires], x: np.ndarray, noise: np.ndarray,
                  weights: np.ndarray) -> np.ndarray:
    """The mean gradient of the loss, all parameters in one vector, for one image x : (1, D).

    noise : (K, N, Z) are the outcomes, weights : (N,) their probabilities.
    """
    own, vae.estimator = vae.estimator, averaged(rule, weights)
    vae.forward(np.tile(x, (len(weights), 1)), noise)
    vae.backward()
    vae.estimator = own
    return vae.gradient()


def phi_mask(vae) -> np.ndarray:
    """Which entries of `vae.gradient()` belong to phi: True in the encoder and its heads."""
    of_phi = ("enc.", *(f"{head}." for head in vae.heads))
    return np.concatenate([np.full(grad.size, name.startswith(of_phi))
                           for name, _, grad in vae.named_params()])
