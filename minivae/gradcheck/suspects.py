"""The usual suspects: one sentence on the pattern of the wrong entries of a gradient.

Each suspect is a function of a Case that gives its sentence, or None.  The first that speaks wins,
so the order of SUSPECTS, at the end, is part of what they say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Case:
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
        """How many entries are wrong, as the begin of a sentence."""
        return "1 entry is" if len(self.wrong) == 1 else f"{len(self.wrong)} entries are"


def no_number(case: Case) -> str | None:
    """NaN or infinity."""
    return None if np.isfinite(case.analytic).all() else "not a finite number"


def in_one_place(case: Case) -> str | None:
    """One entry, one row, one column or three entries at most, while others match."""
    if len(case.numeric) == len(case.wrong):
        return None
    if place := _one_entry(case) or _one_row_or_column(case):
        return f"only {place} is wrong, the rest matches"
    if len(case.wrong) <= 3 and len(case.numeric) > 6:
        return f"only entries {', '.join(map(str, case.wrong))} are wrong, the rest matches"
    return None


def _one_entry(case: Case) -> str | None:
    return f"entry {case.wrong[0]}" if len(case.wrong) == 1 else None


def _one_row_or_column(case: Case) -> str | None:
    if case.grad.ndim == 2:
        for axis, word in ((0, "row"), (1, "column")):
            lines = {i[axis] for i in case.wrong}
            if len(lines) == 1 and case.grad.shape[1 - axis] > 1:
                return f"{word} {lines.pop()}"
    return None


def never_filled(case: Case) -> str | None:
    """Zero in every entry."""
    return None if case.grad.any() else "never filled: backward leaves this gradient at zero"


def rearranged(case: Case) -> str | None:
    """The right numbers of a matrix in another order."""
    if case.sampled or case.grad.ndim != 2:
        return None
    shape = case.grad.shape
    right = np.array([case.numeric.get(i, np.nan) for i in np.ndindex(shape)]).reshape(shape)
    orders = {"transposed": right.T,
              "with its columns reversed": right[:, ::-1],
              "with its rows reversed": right[::-1],
              "with its rows shifted by one": np.roll(right, 1, axis=0)}
    for words, array in orders.items():
        if array.shape == shape and case.same(array, case.grad):
            return f"the right numbers, {words}"
    return None


def swapped(case: Case) -> str | None:
    """The right numbers, in another array of the same shape."""
    if case.sampled:
        return None
    for other, theirs in case.others.items():
        if other == case.name or theirs.shape != case.grad.shape:
            continue
        if case.same([theirs[i] for i in case.wrong], case.reference):
            return f"this is what {other} got: the two are swapped"
    return None


def zeroed(case: Case) -> str | None:
    """Zero where it should not be."""
    if not case.large.any() or np.abs(case.analytic[case.large]).max() > case.tolerance:
        return None
    if np.abs(case.analytic).max() > case.tolerance:
        return "filled exactly where it should be zero: a mask the wrong way round?"
    return f"{case.entries_are} zero and should not be: a mask too strict, or a part left out?"


def not_masked(case: Case) -> str | None:
    """Other than zero where it should be zero."""
    if np.abs(case.reference).max() > case.tolerance:
        return None
    return f"{case.entries_are} not zero and should be: a mask left out?"


def scaled(case: Case) -> str | None:
    """One factor for all entries."""
    reference = case.reference[case.large]
    ratio = case.analytic[case.large] / reference
    room = 1e-6 * np.abs(ratio).max() + 100 * case.bar / np.abs(reference).min()
    if not np.ptp(ratio) < room:
        return None
    return f"{case.entries_are} {_factor_in_words(float(np.median(ratio)), case.sizes)}"


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


def a_term_of_the_loss(case: Case) -> str | None:
    """One term of the loss has another weight than it should have.

    The gradient is taken apart by least squares into the gradients of the terms.
    """
    terms = case.terms(case.wrong[:40])
    if terms is None:
        return None
    slopes = np.array([derivatives for derivatives, _ in terms.values()]).T
    analytic = case.analytic[: len(slopes)]
    weights, *_ = np.linalg.lstsq(slopes, analytic, rcond=None)
    left_over = np.abs(slopes @ weights - analytic).max()
    if len(slopes) <= len(terms) or left_over > 1e-6 * np.abs(case.analytic).max():
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


def shifted(case: Case) -> str | None:
    """One number too many in every entry."""
    off = case.analytic - case.reference
    if not np.ptp(off) < 1e-6 * np.abs(off).max():
        return None
    return f"a constant {off[0]:+.3g} was added"


def no_pattern(case: Case) -> str:
    """What is said when nothing else fits."""
    of_a_sample = " of a sample" if case.sampled else ""
    return f"no simple pattern in {len(case.wrong)} wrong entries{of_a_sample}"


SUSPECTS = (no_number, in_one_place, never_filled, rearranged, swapped, zeroed, not_masked, scaled,
            a_term_of_the_loss, shifted, no_pattern)


def suspect(case: Case) -> str:
    """The sentence of the first suspect that has one."""
    return "suspect: " + next(words for ask in SUSPECTS if (words := ask(case)))
