"""The usual suspects: one sentence on the pattern of the wrong entries of a gradient.

Each suspect is a function of a WrongGradient that gives its sentence, or None.  The first sentence
is taken, so the order of SUSPECTS, at the end, matters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class WrongGradient:
    """One wrong gradient.

    Parameters
    ----------
    name : str
        Its array.
    grad : the gradient that backward gave
    numeric : dict from index to the reference there, for every entry that was compared
    wrong : list of the indices that failed
    bar : float
        The error bar of the reference.
    others : dict of all gradients of this check, by array
    sizes : dict from words ("the batch size") to a size, as possible factors
    terms : function from indices to {term: (its derivatives there, the weight it should have)}
        Of a loss with several terms.  It gives None where there is nothing to take apart.
    sampled : bool
        Whether `numeric` holds only some of the entries.
    """

    def __init__(self, name: str, grad: np.ndarray, numeric: dict, wrong: list, bar: float, *,
                 others: dict, sizes: dict[str, int], terms: Callable, sampled: bool):
        self.name, self.grad, self.numeric, self.wrong, self.bar = name, grad, numeric, wrong, bar
        self.others, self.sizes, self.terms, self.sampled = others, sizes, terms, sampled
        self.analytic = np.array([grad[i] for i in wrong])
        self.reference = np.array([numeric[i] for i in wrong])
        size = np.abs(self.reference)
        self.tolerance = 100 * bar + 1e-9 * size.max()
        self.large = size > 1e-6 * size.max()              # entries that are not zero by chance

    def same(self, a, b) -> bool:
        """Whether two arrays are equal within the tolerance."""
        return np.allclose(a, b, rtol=0, atol=self.tolerance)

    @property
    def entries_are(self) -> str:
        """How many entries are wrong, as the start of a sentence."""
        return "1 entry is" if len(self.wrong) == 1 else f"{len(self.wrong)} entries are"


def no_number(gradient: WrongGradient) -> str | None:
    """NaN or infinity."""
    return None if np.isfinite(gradient.analytic).all() else "not a finite number"


def in_one_place(gradient: WrongGradient) -> str | None:
    """One entry, one row, one column or three entries at most, while others match."""
    if len(gradient.numeric) == len(gradient.wrong):
        return None
    if len(gradient.wrong) == 1:
        return f"only entry {gradient.wrong[0]} is wrong, the rest matches"
    if place := _one_row_or_column(gradient):
        return f"only {place} is wrong, the rest matches"
    if len(gradient.wrong) <= 3 and len(gradient.numeric) > 6:
        return f"only entries {', '.join(map(str, gradient.wrong))} are wrong, the rest matches"
    return None


def _one_row_or_column(gradient: WrongGradient) -> str | None:
    if gradient.grad.ndim == 2:
        for axis, word in ((0, "row"), (1, "column")):
            lines = {i[axis] for i in gradient.wrong}
            if len(lines) == 1 and gradient.grad.shape[1 - axis] > 1:
                return f"{word} {lines.pop()}"
    return None


def never_filled(gradient: WrongGradient) -> str | None:
    """Zero in every entry."""
    return None if gradient.grad.any() else "never filled: backward leaves this gradient at zero"


def rearranged(gradient: WrongGradient) -> str | None:
    """The right numbers of a matrix in another order."""
    if gradient.sampled or gradient.grad.ndim != 2:
        return None
    shape = gradient.grad.shape
    right = np.array([gradient.numeric.get(i, np.nan) for i in np.ndindex(shape)]).reshape(shape)
    orders = {"transposed": right.T,
              "with its columns reversed": right[:, ::-1],
              "with its rows reversed": right[::-1],
              "with its rows shifted by one": np.roll(right, 1, axis=0)}
    for words, array in orders.items():
        if array.shape == shape and gradient.same(array, gradient.grad):
            return f"the right numbers, {words}"
    return None


def swapped(gradient: WrongGradient) -> str | None:
    """The right numbers, in another array of the same shape."""
    if gradient.sampled:
        return None
    for other, theirs in gradient.others.items():
        if other == gradient.name or theirs.shape != gradient.grad.shape:
            continue
        if gradient.same([theirs[i] for i in gradient.wrong], gradient.reference):
            return f"this is what {other} got: the two are swapped"
    return None


def zeroed(gradient: WrongGradient) -> str | None:
    """Zero where it should not be."""
    analytic = np.abs(gradient.analytic)
    if not gradient.large.any() or analytic[gradient.large].max() > gradient.tolerance:
        return None
    if analytic.max() > gradient.tolerance:
        return "filled exactly where it should be zero: a mask the wrong way round?"
    return f"{gradient.entries_are} zero and should not be: a mask too strict, or a part left out?"


def not_masked(gradient: WrongGradient) -> str | None:
    """Other than zero where it should be zero."""
    if np.abs(gradient.reference).max() > gradient.tolerance:
        return None
    return f"{gradient.entries_are} not zero and should be: a mask left out?"


def scaled(gradient: WrongGradient) -> str | None:
    """One factor for all entries."""
    reference = gradient.reference[gradient.large]
    ratio = gradient.analytic[gradient.large] / reference
    room = 1e-6 * np.abs(ratio).max() + 100 * gradient.bar / np.abs(reference).min()
    if not np.ptp(ratio) < room:
        return None
    return f"{gradient.entries_are} {_factor_in_words(float(np.median(ratio)), gradient.sizes)}"


FACTORS = {-1.0: "right but for the sign",
           2.0: "twice too large: is a half forgotten?",
           0.5: "half of what they should be: a half too many?"}


def _factor_in_words(factor: float, sizes: dict[str, int]) -> str:
    for size, n in sizes.items():
        if n > 2 and abs(factor / n - 1) < 1e-6:
            return f"{n} times too large, which is {size}: a sum where a mean belongs?"
        if n > 2 and abs(factor * n - 1) < 1e-6:
            return (f"{n} times too small, which is {size}: a mean where a sum belongs, "
                    "or divided twice?")
    for known, words in FACTORS.items():
        if abs(factor / known - 1) < 1e-6:
            return words
    if abs(factor - 1) > 1e-8:
        return f"{factor:.9g} times what they should be"
    return f"1 {factor - 1:+.1e} times what they should be: rounded on the way?"


def a_term_of_the_loss(gradient: WrongGradient) -> str | None:
    """One term of the loss has another weight than it should have.

    The gradient is taken apart by least squares into the gradients of the terms.
    """
    terms = gradient.terms(gradient.wrong[:40])
    if terms is None:
        return None
    slopes = np.array([derivatives for derivatives, _ in terms.values()]).T
    analytic = gradient.analytic[: len(slopes)]
    weights, *_ = np.linalg.lstsq(slopes, analytic, rcond=None)
    left_over = np.abs(slopes @ weights - analytic).max()
    if len(slopes) <= len(terms) or left_over > 1e-6 * np.abs(gradient.analytic).max():
        return None
    found = []
    for (term, (_, wanted)), got in zip(terms.items(), weights):
        if abs(got - wanted) <= 1e-7 * max(1, abs(wanted)):
            continue
        if abs(got) < 1e-7:
            found.append(f"the {term} term is missing")
        else:
            found.append(f"the {term} term counts {got:.6g} times, not {wanted:.6g}")
    return " and ".join(found)


def shifted(gradient: WrongGradient) -> str | None:
    """One number too many in every entry."""
    off = gradient.analytic - gradient.reference
    if not np.ptp(off) < 1e-6 * np.abs(off).max():
        return None
    return f"a constant {off[0]:+.3g} was added"


def no_pattern(gradient: WrongGradient) -> str:
    """What is said when nothing else fits."""
    of_a_sample = " of a sample" if gradient.sampled else ""
    return f"no simple pattern in {len(gradient.wrong)} wrong entries{of_a_sample}"


SUSPECTS = (no_number, in_one_place, never_filled, rearranged, swapped, zeroed, not_masked, scaled,
            a_term_of_the_loss, shifted, no_pattern)


def suspect(gradient: WrongGradient) -> str:
    """The sentence of the first suspect that has one."""
    return "suspect: " + next(words for ask in SUSPECTS if (words := ask(gradient)))
