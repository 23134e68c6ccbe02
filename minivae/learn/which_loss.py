"""Is my loss right?  Which convention recon and kl, the two numbers of a VAE's loss, follow.

    recon_n = sum_i log(1 + e^l_ni) - x_ni l_ni                      image n, pixels i, nats
    kl_n    = 1/2 sum_j (mu_nj^2 + e^logvar_nj - 1 - logvar_nj)      latents j
    -ELBO   = mean_n (recon_n + kl_n);    beta-VAE:  loss = mean_n (recon_n + beta kl_n)

A formula that people write is a row of a table; a way to add it up is a factor.  A reading is a
formula and a factor that together give the number at hand.
Sources: Kingma & Welling (2014), arXiv:1312.6114, eq. 10, appendices B and C; Higgins et al.
(2017), "beta-VAE", ICLR.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from minivae.pixels import as_pixel_rows

LOG_2 = float(np.log(2))
HALF_LOG_2PI = float(np.log(2 * np.pi) / 2)
FLOAT32, FLOAT64 = 3e-6, 1e-9      # how well a sum over a batch is known, as a part of itself
# With a free weight every formula gives every number, so the weight on a lone number must be round.
# Some 40 formulas and ways, times 11 round weights a decade: a number known to 5e-6 of itself meets
# one of them by chance once in 500 times.  One known less well meets too many.
ROUND = np.array([1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10])
KNOWN, WELL_KNOWN = 5e-6, 1e-8     # a well known number may have a weight of three digits
SOURCES = "Kingma & Welling (2014) eq. 10, appendix B; Higgins et al. (2017): beta"


class Formula(NamedTuple):
    """A formula that people write for recon or for kl.

    names : the multiples of it that have a name, {name: multiple}; the first is 1
    each : (B, N), its value for every pixel or latent, nats
    right : (B, N), what it should be
    mend : what to change; empty where nothing is wrong with it
    """

    names: dict[str, float]
    each: np.ndarray
    right: np.ndarray
    mend: str = ""


class Reading(NamedTuple):
    """A reading of a number: given = factor * (the formula, summed per image, in nats).

    words : the formula, and how it was added up
    factor : negative where the sign is turned
    formula : the row of the table; None where there are no arrays
    """

    words: str
    factor: float
    formula: Formula | None = None


class Loss(NamedTuple):
    """What `which_loss` found; print it.

    recon, kl : the readings that fit.  One: the number is named.  None or several: cannot tell.
    beta : the KL's weight beside a reconstruction that is summed over the pixels, without its sign;
        1 is the ELBO.  None where the readings do not agree on it.
    recon_nats, kl_nats : what the two should be, nats per image; None where the readings do not
        agree
    notes : what else the arrays show, a sentence each
    """

    recon: tuple[Reading, ...]
    kl: tuple[Reading, ...]
    beta: float | None
    recon_nats: float | None
    kl_nats: float | None
    notes: tuple[str, ...]

    @property
    def named(self) -> bool:
        """Whether recon and kl have one reading each."""
        return len(self.recon) == len(self.kl) == 1

    def __str__(self) -> str:
        lines = [*_said("recon", self.recon), *_said("kl", self.kl)]
        if self.beta is not None:
            lines.append(f"beta   {self.beta:.4g}, beside a recon summed over the pixels (the ELBO "
                         "has 1)")
        lines += [f"mend   {words}" for words in self.mending()]
        if self.recon_nats is not None and self.kl_nats is not None:
            lines.append(f"-ELBO  {self.recon_nats:.6g} + {self.kl_nats:.6g} = "
                         f"{self.recon_nats + self.kl_nats:.6g} nats per image")
        lines += [f"note   {note}" for note in self.notes]
        return "\n".join(part for line in [*lines, f"see    {SOURCES}"]
                         for part in wrap(line, 80, subsequent_indent=" " * 7))

    def mending(self) -> list[str]:
        """What to change for recon + kl to be -ELBO in nats per image; only of what is named."""
        found = []
        for name, readings in (("recon", self.recon), ("kl", self.kl)):
            if len(readings) == 1:
                (_, factor, formula), = readings
                if abs(factor - 1) > 1e-9:
                    found.append(f"{name}: multiply by {1 / factor:.6g}")
                if formula.mend:
                    found.append(f"{name}: {formula.mend}")
        return found


def which_loss(recon, kl, x, logits, mu, logvar) -> Loss:
    """Name the convention of a VAE's loss, from its two numbers and the arrays they came from.

    It does not guess.  Where two readings give the same number within its digits, or none does,
    the answer is "cannot tell" and the readings that are left.  The beta may be known all the same.
    Of the conventions in tests/test_which_loss.py (formula, sum or mean, sign, weight) at least
    96 % are named from six digits or more, 98 % from four where nothing is weighed, and none
    wrongly.  From fewer than six digits of one number a weight and the formula that it weighs
    cannot be told; from kl per image they can.  A KL estimated from samples of z cannot be told.

    Parameters
    ----------
    recon, kl : float or array
        As the code printed or optimised them: one number, one per image (B,), or one per pixel or
        latent.  The digits say how exact it is: 142.1 is 142.05 to 142.15.  An array counts as its
        mean, as it does in (recon + kl).mean().
    x, logits : (B, D), or images of one shape
        x in [0, 1].  logits is what the decoder gave, before the sigmoid.
    mu, logvar : (B, Z)

    Raises
    ------
    ValueError
        For shapes that do not match, x outside [0, 1], or a number that is not finite.
    """
    arrays = [_rows(a, name) for a, name in
              ((x, "x"), (logits, "logits"), (mu, "mu"), (logvar, "logvar"))]
    _check(*arrays)
    single = any(a.dtype.kind == "f" and a.dtype.itemsize < 8 for a in arrays)
    exact = FLOAT32 if single else FLOAT64
    x, logits, mu, logvar = (a.astype(np.float64) for a in arrays)

    D, Z = x.shape[1], mu.shape[1]
    over_pixels = {"sum over pixels": 1.0, "mean over pixels": 1 / D}
    over_latents = {"sum over latents": 1.0, "mean over latents": 1 / Z,
                    "sum over latents divided by D": 1 / D}
    recons = _readings("recon", recon, recon_formulas(x, logits), over_pixels, exact)
    kls = _readings("kl", kl, kl_formulas(mu, logvar), over_latents, exact)

    betas = [abs(k.factor / r.factor) for k, r in product(kls, recons)]
    beta = betas[0] if betas and np.allclose(betas, betas[0], rtol=1e-3, atol=0) else None
    recon_nats, kl_nats = _nats(recons), _nats(kls)
    notes = _notes(x, logits, logvar, recons, kls, recon_nats)
    return Loss(tuple(recons), tuple(kls), beta, recon_nats, kl_nats, tuple(notes))


# --- the tables ---


def recon_formulas(x: np.ndarray, logits: np.ndarray) -> list[Formula]:
    """The formulas that people write for recon.   x, logits : (B, D)."""
    def cross_entropy(out):
        return np.logaddexp(0, out) - x * out

    prob = (1 + np.tanh(logits / 2)) / 2                   # sigmoid, without overflow
    right = cross_entropy(logits)
    rows = [Formula({"cross-entropy": 1.0, "cross-entropy in bits": 1 / LOG_2}, right, right),
            Formula({"cross-entropy with the sigmoid applied twice": 1.0}, cross_entropy(prob),
                    right, "the loss applies the sigmoid itself: give it the logits")]
    if logits.min() >= 0 and logits.max() <= 1:            # probabilities may have come as logits
        # log 0 counts as -100, as in PyTorch
        log_p, log_not_p = (np.log(np.maximum(p, np.exp(-100))) for p in (logits, 1 - logits))
        each = -x * log_p - (1 - x) * log_not_p
        rows.append(Formula({"cross-entropy of your logits as probabilities": 1.0}, each, each))
    for name, mean in (("sigmoid(logits)", prob), ("logits without a sigmoid", logits)):
        half = (x - mean)**2 / 2
        density = half + HALF_LOG_2PI
        rows += [Formula({f"half the squared error of {name}": 1.0,
                          f"squared error of {name}": 2.0}, half, density,
                         f"add D/2 log 2 pi = {x.shape[1] * HALF_LOG_2PI:.6g}; this is the density "
                         "of a Gaussian of variance 1"),
                 Formula({f"-log N(x; mean, 1), mean = {name}": 1.0}, density, density)]
    return rows


def kl_formulas(mu: np.ndarray, logvar: np.ndarray) -> list[Formula]:
    """The formulas that people write for kl.   mu, logvar : (B, Z)."""
    def kl(var, log_var):
        return (mu**2 + var - 1 - log_var) / 2

    right = (mu**2 + np.expm1(logvar) - logvar) / 2
    var, var_of_log_std = np.exp(logvar), np.exp(2 * logvar)
    rows = [Formula({"KL": 1.0, "KL without its 1/2 (or beta = 2)": 2.0, "KL in bits": 1 / LOG_2},
                    right, right),
            Formula({"KL without its -1": 1.0}, right + 0.5, right, "subtract the 1"),
            Formula({"KL of a logvar that is log std": 1.0},
                    kl(var_of_log_std, 2 * logvar), kl(var_of_log_std, 2 * logvar),
                    "nothing, if logvar holds log std; if it holds the log of the variance, the KL "
                    f"is {right.sum() / len(mu):.6g} per image"),
            Formula({"KL with exp(logvar)^2 where the variance belongs": 1.0},
                    kl(var_of_log_std, logvar), right, "the variance is exp(logvar)"),
            Formula({"KL with the std where the variance belongs": 1.0},
                    kl(np.sqrt(var), logvar), right, "the variance is exp(logvar)")]
    if logvar.min() > 0:                                   # the variance may have come as logvar
        log = np.log(logvar)
        rows += [Formula({"KL of a logvar that is the variance": 1.0}, kl(logvar, log),
                         kl(logvar, log)),
                 Formula({"KL of a logvar that is the std": 1.0}, kl(logvar**2, 2 * log),
                         kl(logvar**2, 2 * log))]
    return rows


# --- one loop over the tables ---


def _readings(name: str, given, formulas: list[Formula], inner: dict[str, float],
              exact: float) -> list[Reading]:
    """The readings of recon or of kl.   inner : the ways to add up an image, {words: factor}."""
    B, N = formulas[0].each.shape
    given = _number(name, given, B, N)
    if (given.astype(np.float32) == given).all():
        exact = max(exact, FLOAT32)
    slack = _half_a_digit(given) + exact * abs(given)
    noise = N * exact / 30                                 # what the N terms of an image lose
    given = given.astype(np.float64)
    if given.ndim == 0:
        outer = {"mean over the batch": 1.0, "sum over the batch": float(B)}
    elif given.ndim == 1:
        outer = {"one number per image": 1.0}
    else:
        inner, outer = {"not added up": 1 / N}, {"all numbers given": 1.0}
    ways = [(f"{i}, {o}", fi * fo) for (i, fi), (o, fo) in product(inner.items(), outer.items())]

    plain, weighed, any_weight, coarse = [], [], [], False
    for formula in formulas:
        value = (formula.each.sum() / B, formula.each.sum(axis=1), N * formula.each)[given.ndim]

        def fits(factor, room=1, value=value):
            return bool((abs(given - factor * value) <= room * slack + abs(factor) * noise).all())

        here = [Reading(f"{'minus ' * (sign < 0)}{words}, {way}", sign * scale * factor, formula)
                for (words, scale), (way, factor), sign
                in product(formula.names.items(), ways, (1, -1)) if fits(sign * scale * factor)]
        plain += here
        if here or not np.any(value):
            continue
        weight = float((given * value).sum() / (value * value).sum())
        reading = Reading(f"{weight:.6g} x {next(iter(formula.names))}, summed per image",
                          weight, formula)
        any_weight.append(reading)
        if given.ndim:
            weighed += [reading] * fits(weight, room=2)    # the weight is an estimate itself
            continue
        known = float((slack + abs(weight) * noise) / max(abs(given), 1e-300))
        coarse |= known > KNOWN
        weighed += [reading] * any(_is_round(weight / (scale * factor), known)
                                   for scale in formula.names.values() for _, factor in ways)
    if plain or given.ndim:
        return plain + weighed
    return weighed if weighed and not coarse else any_weight


def _is_round(weight: float, known: float) -> bool:
    """Whether a weight, known to so much of itself, is one that people choose."""
    if weight == 0:
        return False
    mantissa = abs(weight) / 10**np.floor(np.log10(abs(weight)))
    near = round(mantissa, 2) if known <= WELL_KNOWN else ROUND[abs(ROUND - mantissa).argmin()]
    return bool(abs(near / mantissa - 1) <= known)


def _half_a_digit(given: np.ndarray) -> np.ndarray:
    """Half a unit of the last digit that each number shows: 142.1 is known to 0.05."""
    last = [Decimal(text).normalize().as_tuple().exponent for text in given.astype(str).ravel()]
    return 0.5 * 10.0**np.reshape(last, given.shape)


def _nats(readings: list[Reading]) -> float | None:
    """What the number should be, nats per image; None where the readings do not agree on it."""
    right = [float(r.formula.right.sum() / len(r.formula.right)) for r in readings]
    return right[0] if right and np.allclose(right, right[0]) else None


# --- what comes in ---


def _rows(a, name: str) -> np.ndarray:
    """a as rows (B, N) of finite numbers.  Raises ValueError otherwise."""
    if getattr(a, "ndim", 0) > 2:
        a = a.reshape(len(a), -1)
    return _finite(as_pixel_rows(a, name), name)


def _finite(a: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(a).all():
        raise ValueError(f"{name} must be finite, found {a[~np.isfinite(a)][0]}")
    return a


def _check(x: np.ndarray, logits: np.ndarray, mu: np.ndarray, logvar: np.ndarray) -> None:
    """Raise ValueError unless the shapes match and x lies in [0, 1]."""
    if logits.shape != x.shape:
        raise ValueError("logits must have the shape of x, a logit for each pixel: got "
                         f"{logits.shape} beside {x.shape}")
    if logvar.shape != mu.shape:
        raise ValueError(f"logvar must have the shape of mu: got {logvar.shape} beside {mu.shape}")
    if len(mu) != len(x):
        raise ValueError(f"mu must have a row for each image: got {len(mu)} rows beside {len(x)} "
                         "images in x")
    if x.min() < 0 or x.max() > 1:
        hint = ": divide by 255?" if x.min() >= 0 and x.max() <= 255 else ""
        raise ValueError(f"x must lie in [0, 1], found {x.min():g} to {x.max():g}{hint}")
    if abs(logvar).max() > 300:
        raise ValueError(f"logvar must lie between -300 and 300, found {logvar.min():g} to "
                         f"{logvar.max():g}: its exponential is infinite")


def _number(name: str, given, B: int, N: int) -> np.ndarray:
    """recon or kl as an array of shape (), (B,) or (B, N).  Raises ValueError otherwise."""
    given = np.asarray(given)
    if given.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a number or an array of numbers, got {given.dtype}")
    if given.size == 1:
        given = given.reshape(())
    elif given.size == len(given) == B:
        given = given.reshape(B)
    elif len(given) == B and given.size == B * N:
        given = given.reshape(B, N)
    else:
        raise ValueError(f"{name} must be one number, one per image ({B},), or ({B}, {N}): got "
                         f"shape {given.shape}")
    return _finite(given, name)


# --- what is said ---


def _said(name: str, readings: tuple[Reading, ...]) -> list[str]:
    """The lines about recon, or about kl."""
    if len(readings) == 1:
        return [f"{name:6} {readings[0].words}"]
    if not readings:
        return [f"{name:6} cannot tell: no reading gives this"]
    shown = [f"       {reading.words}" for reading in readings[:3]]
    if len(readings) > 3:
        shown.append(f"       and {len(readings) - 3} more; more digits, or {name} per image, may "
                     "tell")
    return [f"{name:6} cannot tell, {len(readings)} readings are left:", *shown]


def _notes(x: np.ndarray, logits: np.ndarray, logvar: np.ndarray, recons: list[Reading],
           kls: list[Reading], recon_nats: float | None) -> list[str]:
    """What else the arrays show, a sentence each."""
    notes = []
    grey = x[(x > 0) & (x < 1)]
    if grey.size and recon_nats is not None and all("entropy" in r.words for r in recons):
        entropy = -(grey * np.log(grey) + (1 - grey) * np.log1p(-grey)).sum() / len(x)
        notes.append(f"x is grey: the cross-entropy cannot fall below {entropy:.6g} nats per "
                     f"image, the entropy of the pixels; yours is {recon_nats - entropy:.6g} "
                     "above it")
    if len(recons) == len(kls) == 1:
        turned = recons[0].factor < 0, kls[0].factor < 0
        if any(turned):
            notes.append({(True, True): "both signs are turned: the sum is to be maximised",
                          (True, False): "recon is the likelihood, not its negative: recon - kl is "
                                         "the ELBO; recon + kl rewards neither",
                          (False, True): "kl has its sign turned: added to recon, it rewards a "
                                         "large KL"}[turned])
    if logits.size >= 20 and 0 < logits.min() and logits.max() < 1 and recons \
            and next(iter(recons[0].formula.names)) == "cross-entropy":
        notes.append("all logits lie between 0 and 1, as probabilities do: is the sigmoid applied "
                     "twice, by your decoder and by the loss?")
    if logvar.size >= 20 and logvar.min() > 0 and kls \
            and next(iter(kls[0].formula.names)) == "KL":
        notes.append("all of logvar is positive, as a variance is: is it one?")
    return notes
