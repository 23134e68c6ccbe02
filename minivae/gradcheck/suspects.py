"""The usual suspects: one sentence on the pattern of the wrong entries of a gradient.

    wrong      one wrong gradient, and the arrays at hand
    patterns   the numbers alone: a factor, a place, an order, a mask
    formulas   arrays at hand: a factor exp(x), a term 0.5 dy, y for y^2
    here       other passes: another point, a second backward, a part of the loss

Each suspect is a function of a WrongGradient that gives its sentence, or None.  The first sentence
is taken, so the order of SUSPECTS, at the end, matters.
"""

from __future__ import annotations

import numpy as np

from minivae.gradcheck.formulas import (a_chain_rule_too_many, a_factor_at_hand, a_softplus_slope,
                                        a_term_at_hand, one_formula_for_another,
                                        one_thing_for_another)
from minivae.gradcheck.patterns import (in_one_place, mask_inverted, moved, nearly_right,
                                        never_filled, no_number, not_masked, only_one_row_is_right,
                                        other_paths, rearranged, rounded, scaled, scaled_by_column,
                                        scaled_by_row, shifted, swapped, zeroed)
from minivae.gradcheck.wrong import ENOUGH, ROUND, WrongGradient


def not_repeated(gradient: WrongGradient) -> str | None:
    """A second pass gives other numbers."""
    again = gradient.again()
    if again is None or np.shape(again) != gradient.grad.shape:
        return None
    more = gradient.at(again - gradient.grad, gradient.compared)
    if gradient.same(more, 0):
        return None
    if gradient.same(more, list(gradient.numeric.values())):
        return "each backward adds to what was there: is the gradient not reset?"
    return "a second backward gives other numbers: does it draw its own noise?"


def clipped(gradient: WrongGradient) -> str | None:
    """The right gradient is 0 wherever an input is outside an interval."""
    a = gradient.known.get(gradient.name)
    if a is None or gradient.sampled or a.ndim != 2:
        return None
    columns = {i[-1] for i in gradient.wrong}
    here = [i for i in gradient.compared if i[-1] in columns]
    flat = np.abs([gradient.numeric[i] for i in here]) <= 10 * gradient.bar
    filled = np.abs(gradient.at(gradient.grad, here)) > gradient.tolerance
    inside, outside = gradient.at(a, here)[~flat], gradient.at(a, here)[flat]
    if not len(inside) or not filled[flat].all():
        return None
    low, high = inside.min(), inside.max()
    below, above = int((outside < low).sum()), int((outside > high).sum())
    if min(below, above) < 2 or below + above < max(ENOUGH, len(outside)):
        return None
    return (f"{len(outside)} entries should be zero, those where {gradient.name} is outside "
            f"{low:.2g} to {high:.2g}: does forward clip, and backward not?")


def the_derivative_elsewhere(gradient: WrongGradient) -> str | None:
    """The right derivative at another point: the output, or a multiple of the input."""
    a, y = gradient.known.get(gradient.name), gradient.known.get("y")
    if a is None or y is None or not gradient.clear:
        return None
    # at the entries that are right, too: a mask is right in half of them
    right = [i for i in gradient.compared if i not in set(gradient.wrong)]
    some, name = gradient.wrong[: 2 * ENOUGH] + right[: 2 * ENOUGH], gradient.name
    points = {"y": (y, "is the output taken for the input?"),
              f"-{name}": (-a, "a sign inside the function?"),
              f"{name}/2": (a / 2, "a 2 lost inside, or a std taken for a variance?"),
              f"2 {name}": (2 * a, "a 2 too many inside, or a variance taken for a std?")}
    for words, (point, question) in points.items():
        if point.shape != a.shape:
            continue
        there = gradient.slopes(some, point=point)
        if there is None:
            continue
        c = gradient.multiple(gradient.at(gradient.grad, some), there)
        if c is not None and np.isclose(c, ROUND, rtol=1e-7).any():
            times = "" if np.isclose(c, 1) else f"{c:g} times "
            return (f"{gradient.entries_are} {times}the derivative at {words}, not at {name}: "
                    f"{question}")
    return None


def parts_of_the_loss(gradient: WrongGradient) -> str | None:
    """Parts of the loss have another weight than they should have.

    By least squares, the reference and the gradient are taken apart into the parts' gradients.
    """
    for parts in gradient.parts:
        parts = _that_reach(gradient, parts)
        if len(parts) < 2:
            return None                                    # finer parts are parts of this one
        some = gradient.wrong[: 2 * len(parts) + 4]
        slopes = {part: gradient.slopes(some, f) for part, f in parts.items()}
        if any(slope is None for slope in slopes.values()):
            return None
        if 2 * len(slopes) > len(some):
            continue
        got = _weights(gradient, slopes, gradient.at(gradient.grad, some))
        wanted = _weights(gradient, slopes, np.array([gradient.numeric[i] for i in some]))
        if got is not None and wanted is not None and (words := _in_words(slopes, got, wanted)):
            return words
    return None


def _that_reach(gradient: WrongGradient, parts: dict) -> dict:
    """The parts that depend on the array, to judge by two of its entries."""
    slopes = {part: gradient.slopes(gradient.wrong[:2], f) for part, f in parts.items()}
    return {part: f for part, f in parts.items()
            if slopes[part] is None or np.abs(slopes[part]).max() > 1e-6 * gradient.size}


def _weights(gradient: WrongGradient, slopes: dict, numbers: np.ndarray) -> np.ndarray | None:
    """How often each part is counted in these numbers; None where they are made of other things."""
    columns = np.array(list(slopes.values())).T
    weights, _, rank, _ = np.linalg.lstsq(columns, numbers, rcond=1e-9)
    left_over = np.abs(columns @ weights - numbers).max()
    tolerance = min(1e-7 * np.abs(numbers).max(), 1e-2 * np.abs(gradient.off).max())
    return weights if rank == len(slopes) and left_over <= tolerance else None


def _in_words(parts: dict, got: np.ndarray, wanted: np.ndarray) -> str:
    """Which parts count otherwise than they should."""
    off = {part: (a, b) for part, a, b in zip(parts, got, wanted)
           if abs(a - b) > 1e-7 * max(1, abs(b))}
    names = list(off)
    if len(off) > 2:
        factors = [a / b for a, b in off.values()]
        return (f"{names[0]} to {names[-1]} count {min(factors):.4g} to {max(factors):.4g} times "
                "what they should: are weights not normalised?")
    if off and all(abs(a) < 1e-6 * abs(b) for a, b in off.values()):
        return f"the {' and the '.join(names)} {'is' if len(off) == 1 else 'are'} missing"
    return " and ".join(f"the {part} counts {a:.6g} times, not {b:.6g}"
                        for part, (a, b) in off.items())


def no_pattern(gradient: WrongGradient) -> str:
    """What is said when nothing else fits."""
    of_a_sample = " of a sample" if gradient.sampled else ""
    return f"no simple pattern in {len(gradient.wrong)} wrong entries{of_a_sample}"


SUSPECTS = (
    no_number, not_repeated, never_filled,
    in_one_place, only_one_row_is_right, rearranged, moved, swapped,
    clipped, mask_inverted, zeroed, not_masked,
    rounded, scaled, shifted,
    the_derivative_elsewhere, one_formula_for_another, a_factor_at_hand, a_chain_rule_too_many,
    a_softplus_slope, a_term_at_hand, one_thing_for_another,
    scaled_by_row, scaled_by_column, parts_of_the_loss, other_paths, nearly_right,
    no_pattern)


def suspect(gradient: WrongGradient) -> str:
    """The sentence of the first suspect that has one."""
    with np.errstate(all="ignore"):
        return "suspect: " + next(words for ask in SUSPECTS if (words := ask(gradient)))
