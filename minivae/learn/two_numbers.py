"""Which losses may two numbers come from?  Every plausible way to have added up recon and kl.

Two numbers cannot show a formula: a wrong variance, a forgotten 1/2 or bits look like the right KL
of another model.  `which_loss` sees those, from arrays.  Here a reading is a way to add up, and it
is plausible where it means a number of nats per image that a model can have.
Sources: Kingma & Welling (2014), arXiv:1312.6114, eq. 10; Higgins et al. (2017): beta.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from minivae.learn.which_loss import HALF_LOG_2PI, LOG_2

# formula: (multiple of the one in nats, least and most nats per pixel)
RECONS = {"cross-entropy": (1, 0.02, 1.1 * LOG_2),
          "squared error": (2, 0.0005, 0.15),
          "1/2 squared error": (1, 0.0005, 0.15),
          "-log N(x; mean, 1)": (1, HALF_LOG_2PI + 0.0005, HALF_LOG_2PI + 0.15)}
REASONS = """\
What counts as plausible:
  cross-entropy       0.02 to 0.76 nats a pixel. A guess of 1/2 costs log 2 =
                      0.69, an untrained model up to a tenth more; a good model
                      of MNIST costs 0.1.
  squared error       0.001 to 0.3 a pixel. A guess of 1/2 costs at most 1/4;
                      0.001 is an error of 8 grey levels in 255.
  -log N(x; mean, 1)  half of that, plus log(2 pi) / 2 = 0.919.
  kl                  0.01 nats an image (with less the latents say nothing, on
                      any scale) to 10 a latent (a std of e^-10), and at most
                      D log 2 (with more they cost more than the image)."""


class Way(NamedTuple):
    """A way to add up: given = factor * (nats per image); negative where the sign is turned."""

    formula: str
    inner: str              # over the pixels, or over the latents
    batch: str
    factor: float


class Pair(NamedTuple):
    """A reading of both numbers; the beta that it amounts to; recon and kl in nats per image."""

    recon: Way
    kl: Way
    beta: float
    recon_nats: float
    kl_nats: float


def readings_of(recon: float, kl: float, D: int, Z: int, B: int) -> list[Pair]:
    """Every plausible reading of recon and kl, those that treat the batch alike first.

    D pixels, Z latents, B images in the batch.  beta is the KL's weight beside a reconstruction
    summed over the pixels.  A squared error counts as that of a Gaussian of variance 1.
    Raises ValueError for a number that is not finite, and for a size below 1.
    """
    for name, number in (("recon", recon), ("kl", kl)):
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite, got {number}")
    for name, size in (("pixels", D), ("latents", Z), ("batch", B)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    over_pixels, over_latents = {"sum": 1.0, "mean": 1 / D}, {"sum": 1.0, "mean": 1 / Z,
                                                              "sum / D": 1 / D}
    recons = [way for formula, (multiple, least, most) in RECONS.items()
              for way in _ways(recon, formula, multiple, D * least, D * most, over_pixels, B)]
    kls = _ways(kl, "KL", 1, 0.01, min(D * LOG_2, 10 * Z), over_latents, B)
    pairs = [Pair(r, k, abs(k.factor / r.factor), recon / r.factor, kl / k.factor)
             for r in recons for k in kls]
    return sorted(pairs, key=lambda p: (p.recon.batch != p.kl.batch,
                                        -(p.recon.inner, p.kl.inner).count("sum")))


def _ways(given: float, formula: str, multiple: float, least: float, most: float,
          inner: dict[str, float], B: int) -> list[Way]:
    """The ways in which `given` means least to most nats per image."""
    outer = {"mean": 1.0, "sum": float(B)} if B > 1 else {"mean": 1.0}
    sign = math.copysign(multiple, given)
    ways = [Way(formula, i, b, sign * fi * fb)
            for i, fi in inner.items() for b, fb in outer.items()]
    return [way for way in ways if least <= given / way.factor <= most]
