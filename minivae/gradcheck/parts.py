"""The loss of a model as a sum of parts, so that one with a wrong weight can be named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Parts = dict[str, Callable[[], float]]
FEW_IMAGES = 8          # a part for each image, as long as there are so many at most


def parts_of_loss(vae, x: np.ndarray, eps: np.ndarray) -> list[Parts]:
    """The loss taken apart in several ways: by image, by term, and each term by its routes.

    Each is {part: function of nothing -> its value where the model stands}.  By its parameters the
    loss has the same derivative as the sum of the parts, each with a weight: 1, or beta.

    x : (B, D), eps : (K, B, Z)
    """
    by_each = [by_image(vae, x, eps)] if 1 < len(x) <= FEW_IMAGES else []
    return [*by_each, by_term(vae, x, eps), *Held(vae, x, eps).ways()]


def by_term(vae, x: np.ndarray, eps: np.ndarray) -> Parts:
    """The reconstruction and the KL."""
    return {"reconstruction term": lambda: float(vae.forward(x, eps).recon.mean()),
            "KL term": lambda: float(vae.forward(x, eps).kl.mean())}


def by_image(vae, x: np.ndarray, eps: np.ndarray) -> Parts:
    """The loss of each image, divided by B."""
    def of_image(n: int) -> Callable[[], float]:
        return lambda: vae.forward(x[n : n + 1], eps[:, n : n + 1]).loss / len(x)

    return {f"image {n}": of_image(n) for n in range(len(x))}


class Held:
    """The terms of the loss, with all but one route from phi to them held where it stands now."""

    def __init__(self, vae, x: np.ndarray, eps: np.ndarray):
        self.vae, self.x, self.eps = vae, x, eps
        self.q0 = self.encode()
        self.z0 = np.array(vae.latent.sample(*self.q0, eps))

    def ways(self) -> list[Parts]:
        """By wire, by head, and by term and head."""
        heads, every = self.vae.heads, range(len(self.vae.heads))
        names = [head.removeprefix("to_") for head in heads]
        by_wire = {"reconstruction term": lambda: self.recon(every),
                   "term log p(z) - log q(z) through z": lambda: self.ratio(every),
                   "term log q(z) in q's own formula": lambda: self.log_q(every)}
        by_both = {}
        for i, name in enumerate(names):
            by_both |= {f"reconstruction through {name}": lambda i=i: self.recon([i]),
                        f"KL through {name}": lambda i=i: self.kl([i])}
        by_head = {f"part through {name}":
                   lambda i=i: self.recon([i]) + self.vae.beta * self.kl([i])
                   for i, name in enumerate(names)}
        return [by_wire, by_head, by_both] if len(heads) > 1 else [by_wire]

    def encode(self) -> list[np.ndarray]:
        """What the heads give: mu, logvar; or a."""
        h = self.vae.enc.forward(self.x)
        return [np.array(getattr(self.vae, head).forward(h)) for head in self.vae.heads]

    def q(self, moving) -> list[np.ndarray]:
        """The same, with all heads held but those that move."""
        return [now if i in moving else held
                for i, (now, held) in enumerate(zip(self.encode(), self.q0))]

    def z(self, moving) -> np.ndarray:
        """The samples : (K*B, Z)."""
        return np.array(self.vae.latent.sample(*self.q(moving), self.eps))

    def recon(self, moving) -> float:
        """-log p(x|z), nats per sample."""
        out = self.vae.to_out.forward(self.vae.dec.forward(self.z(moving)))
        return -float(np.mean(self.vae.likelihood.forward(out, self.x)))

    def ratio(self, moving) -> float:
        """log q(z) - log p(z) while z moves and q's formula is held."""
        z, latent = self.z(moving), self.vae.latent
        log_q = np.array(latent.log_q(z, *self.q0))
        return float(np.mean(log_q - latent.log_prior(z)))

    def log_q(self, moving) -> float:
        """log q(z) while z is held and q's formula moves."""
        return float(np.mean(self.vae.latent.log_q(self.z0, *self.q(moving))))

    def kl(self, moving) -> float:
        """The KL on paper."""
        return float(np.mean(self.vae.latent.kl(*self.q(moving))))
