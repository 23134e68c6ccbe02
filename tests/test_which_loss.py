"""`which_loss` and `minivae loss`: every convention that people write is named, and none by another's name."""

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest

import minivae
from minivae import which_loss
from minivae.app.cli import main
from minivae.learn.two_numbers import readings_of

SIZES = [(20, 30, 7), (64, 49, 3), (11, 12, 10)]           # B, D, Z
EQUAL = [(16, 64, 16), (9, 9, 4), (1, 20, 5), (8, 5, 5)]
# The formulas as people write them, not taken from the package.
RECONS = {
    "cross-entropy": lambda x, o: -x * np.log(s(o)) - (1 - x) * np.log(1 - s(o)),
    "cross-entropy in bits": lambda x, o: -x * np.log2(s(o)) - (1 - x) * np.log2(1 - s(o)),
    "cross-entropy with the sigmoid applied twice": lambda x, o: -np.log(np.where(x, s(s(o)), 1 - s(s(o)))),
    "half the squared error of sigmoid(logits)": lambda x, o: 0.5 * (x - s(o)) ** 2,
    "squared error of sigmoid(logits)": lambda x, o: (x - s(o)) ** 2,
    "-log N(x; mean, 1), mean = sigmoid(logits)": lambda x, o: 0.5 * (x - s(o)) ** 2 + 0.5 * np.log(2 * np.pi),
    "half the squared error of logits without a sigmoid": lambda x, o: 0.5 * (x - o) ** 2,
    "squared error of logits without a sigmoid": lambda x, o: (x - o) ** 2,
    "-log N(x; mean, 1), mean = logits without a sigmoid": lambda x, o: 0.5 * (x - o) ** 2 + 0.5 * np.log(2 * np.pi),
}
KLS = {
    "KL": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(v)),
    "KL without its 1/2 (or beta = 2)": lambda m, v: -(1 + v - m**2 - np.exp(v)),
    "KL in bits": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(v)) / np.log(2),
    "KL without its -1": lambda m, v: -0.5 * (v - m**2 - np.exp(v)),
    "KL of a logvar that is log std": lambda m, v: -0.5 * (1 + 2 * v - m**2 - np.exp(v) ** 2),
    "KL with exp(logvar)^2 where the variance belongs": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(v) ** 2),
    "KL with the std where the variance belongs": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(0.5 * v)),
}
SCALES = {"cross-entropy in bits": 1 / np.log(2), "KL in bits": 1 / np.log(2), "KL without its 1/2 (or beta = 2)": 2.0,
          "squared error of sigmoid(logits)": 2.0, "squared error of logits without a sigmoid": 2.0}
BETAS = [0.00025, 0.1, 0.5, 4.0]


def s(o):
    return 1 / (1 + np.exp(-o))


def arrays(seed, B, D, Z, dtype=np.float64):
    """x in {0, 1}, logits, mu, logvar as of a model that has learned something."""
    rng = np.random.default_rng(seed)
    x = (rng.random((B, D)) < 0.3).astype(dtype)
    logits = 1.5 * (2 * x - 1) + rng.standard_normal((B, D)) - 0.5
    return x, logits.astype(dtype), rng.standard_normal((B, Z)).astype(dtype), (rng.standard_normal((B, Z)) * 0.7
                                                                                - 1).astype(dtype)


def conventions(formulas, betas):
    """Every combination: formula, over pixels or latents, over the batch, sign, beta.  One number per image is a way
    to leave the batch alone."""
    return product(formulas, ("sum", "mean"), ("mean", "sum", "per image"), (1, -1), betas)


def value(formula, convention, a, b):
    """The number, or the one per image, that somebody's code makes of the arrays; and its factor beside nats per image,
    summed."""
    name, inner, batch, sign, beta = convention
    each = formula(a, b)
    number = sign * beta * (each.sum(1) if inner == "sum" else each.mean(1))
    factor = sign * beta * SCALES.get(name, 1.0) / (each.shape[1] if inner == "mean" else 1)
    return {"mean": number.mean(), "sum": number.sum(), "per image": number}[batch], (
        factor * len(each) if batch == "sum" else factor)


def rounded(number, digits):
    if digits == "float32":
        return np.float32(number)
    return number if digits == "float64" else np.array([float(f"{n:.{digits}g}") for n in np.atleast_1d(number)])


def judge(readings, convention, factor):
    """right, wrong or cannot tell."""
    if len(readings) != 1:
        return "cannot tell"
    name, inner, batch, sign, beta = convention
    (reading,) = readings
    right = reading.factor == pytest.approx(factor, rel=2e-3) and name in reading.formula.names
    if beta == 1:
        ending = "one number per image" if batch == "per image" else f"{batch} over the batch"
        right = right and reading.words.startswith(f"{'minus ' * (sign < 0)}{name}, {inner} over ")
        right = right and reading.words.endswith(ending)
    return "right" if right else "wrong"


def measure(sizes, digits, betas, seeds=(0, 1), dtype=np.float64):
    """Every convention of kl, with those of recon taken in turn beside them.  Counter of (part, beta is 1, verdict)."""
    found, recons = Counter(), list(conventions(RECONS, [1.0]))
    for size, seed in product(sizes, seeds):
        made = arrays(seed, *size, dtype)
        x, o, m, v = (a.astype(np.float64) for a in made)
        kls = list(conventions(KLS, betas))
        for i in range(max(len(kls), len(recons))):
            r, k = recons[i % len(recons)], kls[i % len(kls)]
            recon, recon_factor = value(RECONS[r[0]], r, x, o)
            kl, kl_factor = value(KLS[k[0]], k, m, v)
            loss = which_loss(rounded(recon, digits), rounded(kl, digits), *made)
            found["recon", True, judge(loss.recon, r, recon_factor)] += 1
            verdict = judge(loss.kl, k, kl_factor)
            found["kl", k[-1] == 1, verdict] += 1
            if loss.named:
                assert loss.beta == pytest.approx(abs(kl_factor / recon_factor), rel=5e-3)
    return found


if __name__ == "__main__":
    import time
    for digits in ("float64", "float32", 6, 5, 4):
        t = time.time()
        dtype = np.float32 if digits == "float32" else np.float64
        for sizes in (SIZES, EQUAL):
            found = measure(sizes, digits, [1.0, *BETAS], dtype=dtype)
            for key in (("recon", True), ("kl", True), ("kl", False)):
                print(digits, len(sizes), key, {w: found[(*key, w)] for w in ("right", "cannot tell", "wrong")})
        print(time.time() - t)
