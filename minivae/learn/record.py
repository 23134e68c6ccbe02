"""Record what the hunts show: python -m minivae.learn.record [NAME ...]

Each hunt's model is trained twice on 1500 digits, once with the fault planted, and the check that
catches the fault is run.  The numbers go to hunts.json, beside this file; they take half a
minute.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

from minivae.choices import choose
from minivae.data import load_data
from minivae.discrete import DiscreteVAE
from minivae.estimators import ESTIMATORS
from minivae.gradcheck.museum import planted
from minivae.gradcheck.report import FAIL, Report
from minivae.gradcheck.suite import CHECKS
from minivae.layers import Layer, Tanh
from minivae.learn.hunt import RECORD, Hunt, Run, recorded
from minivae.learn.hunts import HUNTS
from minivae.likelihoods import GaussianLikelihood
from minivae.model import Model
from minivae.optim import Adam
from minivae.vae import VAE

BATCH = 20
SEED = 0


class Skip(Layer):
    """y = tanh(x) + x: a layer whose backward needs dy twice."""

    def __init__(self):
        super().__init__()
        self.inner = Tanh()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, n)  ->  y : (B, n)."""
        return self.inner.forward(x) + x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy : (B, n)  ->  dx : (B, n)."""
        return self.inner.backward(dy) + dy


def model_of(run: Run) -> Model:
    """The model that a run trains, in float64."""
    fixed = not isinstance(run.likelihood, str)
    likelihood = GaussianLikelihood(run.likelihood, np.float64) if fixed else run.likelihood
    kind = {"VAE": VAE, "DiscreteVAE": DiscreteVAE}[run.model]
    vae = kind.mlp(64, run.hidden, run.Z, likelihood=likelihood, activation=run.activation,
                   estimator=ESTIMATORS[run.estimator], rng=SEED, dtype=np.float64)
    if run.skip:
        vae.enc.layers[1] = Skip()
    return vae


def curve(run: Run, images: np.ndarray) -> list[list[float]]:
    """Train; (loss, recon, kl) of every epoch, the means over its batches, in nats per image.

    The curve ends where a number is not finite.
    """
    rng, vae = np.random.default_rng(SEED), model_of(run)
    adam, rows = Adam(vae.named_params(), run.lr), []
    for _ in range(run.epochs):
        found = []
        for index in np.split(rng.permutation(len(images)), len(images) // BATCH):
            x = images[index]
            result = vae.forward(x, vae.noise(run.K, BATCH, rng))
            if run.look:
                vae.reconstruct(images[:BATCH])
            vae.backward()
            adam.step()
            found.append([result.loss, result.recon.mean(), result.kl.mean()])
        if not np.isfinite(found).all():
            break
        rows.append([round(float(number), 6) for number in np.mean(found, axis=0)])
    return rows


def checked(hunt: Hunt) -> Report:
    """The report of the hunt's check, its fault planted."""
    with planted(hunt.fault), np.errstate(all="ignore"):
        return CHECKS[hunt.check](SEED)


def record(hunt: Hunt, images: np.ndarray) -> dict:
    """All that the hunt shows: two curves, the rows of the report and its hidden note."""
    right = curve(hunt.run, images)
    with planted(hunt.fault):
        wrong = curve(hunt.run, images)
    report = checked(hunt)
    rows = [[row.name, row.shape, row.index,
             *(float(f"{number:.9g}") if np.isfinite(number) else None
               for number in (row.analytic, row.numeric, row.bar)), row.verdict, row.note]
            for row in report.rows]
    return {"right": right, "wrong": wrong, "title": report.title, "rows": rows,
            "note": next((row.note for row in report.rows if row.verdict == FAIL), "")}


def digits() -> np.ndarray:
    """1500 digits, each pixel drawn once : (1500, 64), 0 or 1."""
    grey = load_data("digits").x_train
    return (np.random.default_rng(SEED).random(grey.shape) < grey).astype(np.float64)


def main(names: list[str]) -> None:
    """Record the hunts of these names, or all; the others keep what they had.

    Raises ValueError for a name that there is not.
    """
    kept, images = recorded() if names else {}, digits()
    for hunt in [choose(name, HUNTS, "hunt") for name in names] or HUNTS.values():
        found = kept[hunt.name] = record(hunt, images)
        print(f"{hunt.name:24s} loss {found['right'][-1][0]:8.2f}, with the fault "
              f"{found['wrong'][-1][0]:8.2f}   {found['note']}", flush=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in HUNTS
                       if name in kept)
    partial = RECORD.with_suffix(".partial")
    partial.write_text("{" + lines + "}\n", encoding="utf-8")
    os.replace(partial, RECORD)


if __name__ == "__main__":
    main(sys.argv[1:])
