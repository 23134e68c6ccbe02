"""Train the digits with a reader's backward and Adam, beside page 0's, from the same seeds.

The recipe is that of minivae/first.py, and nothing is computed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivae import first

EPOCHS, BATCHES, H, Z = 10, 36, 64, 8
SHOWN = 12                      # images in each row of the picture


def train(backward: Callable = first.backward, adam: Callable = first.adam) -> dict:
    """Train with these functions, and with page 0's from the same seeds.

    Returns yours and page_0, the loss in nats per image as each epoch begins and after the last;
    and images, reconstructions, new: (SHOWN, 64) each, of the parameters that yours came to.
    """
    from sklearn.datasets import load_digits

    images = load_digits().data / 16                           # (1797, 64), grey in [0, 1]
    yours, p = _losses(images, backward, adam)
    page_0, _ = _losses(images, first.backward, first.adam)
    x, rng = images[:SHOWN], np.random.default_rng(1)
    _, (_, _, mu, *_) = first.forward(p, x, np.zeros((SHOWN, Z)))
    return {"yours": yours, "page_0": page_0, "images": x, "reconstructions": _decoded(p, mu),
            "new": _decoded(p, rng.standard_normal((SHOWN, Z)))}


def _losses(images: np.ndarray, backward: Callable, adam: Callable) -> tuple[list[float], dict]:
    """The loss as each epoch begins and after the last, and the parameters."""
    rng, losses = np.random.default_rng(0), []
    p, m, v, t = first.init(images.shape[1], H, Z, rng), {}, {}, 0
    for epoch in range(EPOCHS + 1):
        x = (rng.random(images.shape) < images).astype(float)  # 1 with probability grey
        eps = rng.standard_normal((len(x), Z))
        losses.append(float(first.forward(p, x, eps)[0]))
        if epoch == EPOCHS:
            return losses, p
        for rows in np.array_split(rng.permutation(len(x)), BATCHES):
            t += 1
            _, cache = first.forward(p, x[rows], eps[rows])
            adam(p, backward(p, cache), m, v, t)


def _decoded(p: dict, z: np.ndarray) -> np.ndarray:
    """z : (B, Z)  ->  the probability of a 1 in each pixel : (B, D)."""
    g = np.tanh(z @ p["W_dec"] + p["b_dec"])
    return (1 + np.tanh((g @ p["W_logits"] + p["b_logits"]) / 2)) / 2
