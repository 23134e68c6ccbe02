"""Suspects that look at the numbers alone: where they are wrong, and how they are off.

Each is a function of a WrongGradient that gives its sentence, or None.
"""

from __future__ import annotations

import numpy as np

from minivae.gradcheck.wrong import ENOUGH, WrongGradient


def no_number(gradient: WrongGradient) -> str | None:
    """NaN or infinity."""
    if not np.isfinite(gradient.analytic).all():
        return "not a finite number"
    return None if np.isfinite(gradient.reference).all() else "forward is not finite near here"


def never_filled(gradient: WrongGradient) -> str | None:
    """Zero in every entry."""
    if gradient.grad.any():
        return None
    return "zero in every entry: never filled, or fed from the wrong wire?"


# --- where ----------------------------------------------------------------------------------------


def in_one_place(gradient: WrongGradient) -> str | None:
    """One entry, one row, one column or three entries at most, while others match."""
    wrong = gradient.wrong
    if len(gradient.compared) == len(wrong):
        return None
    if len(wrong) == 1:
        return f"only entry {wrong[0]} is wrong, the rest matches"
    if len(wrong) == 2 and gradient.same(gradient.analytic, gradient.reference[::-1]):
        return f"entries {wrong[0]} and {wrong[1]} are swapped, the rest matches"
    if place := _one_row_or_column(gradient):
        return f"only {place} is wrong, the rest matches"
    if len(wrong) <= 3 and len(gradient.compared) > 6:
        return f"only entries {', '.join(map(str, wrong))} are wrong, the rest matches"
    return None


def _one_row_or_column(gradient: WrongGradient) -> str | None:
    if gradient.grad.ndim == 2 and min(gradient.grad.shape) > 1:
        for axis, word in ((0, "row"), (1, "column")):
            lines = {i[axis] for i in gradient.wrong}
            if len(lines) == 1:
                return f"{word} {lines.pop()}"
    return None


def only_one_row_is_right(gradient: WrongGradient) -> str | None:
    """All rows are wrong from end to end, but for one."""
    if gradient.sampled or gradient.grad.ndim < 2:
        return None
    rows, columns = gradient.grad.reshape(len(gradient.grad), -1).shape
    wrong = {i[0] for i in gradient.wrong}
    if rows < 3 or len(wrong) != rows - 1 or len(gradient.wrong) != (rows - 1) * columns:
        return None
    row = (set(range(rows)) - wrong).pop()
    return f"only row {row} is right: does every row use what belongs to row {row}?"


# --- the right numbers elsewhere ------------------------------------------------------------------


def rearranged(gradient: WrongGradient) -> str | None:
    """The right numbers of a matrix in another order."""
    if gradient.sampled or gradient.grad.ndim != 2:
        return None
    shape = gradient.grad.shape
    right = np.array([gradient.numeric.get(i, np.nan) for i in np.ndindex(shape)]).reshape(shape)
    orders = {"transposed": right.T,
              "with its columns reversed": right[:, ::-1],
              "with its rows reversed": right[::-1],
              "with its rows shifted by one": np.roll(right, 1, axis=0),
              "with its rows shifted by one, upwards": np.roll(right, -1, axis=0),
              "with its rows in another order": _matched(right, gradient.grad),
              "with its columns in another order": _matched(right.T, gradient.grad.T).T}
    for words, array in orders.items():
        if array.shape == shape and gradient.same(array, gradient.grad):
            return f"the right numbers, {words}"
    return None


def _matched(right: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """For each row of grad the nearest row of right; right itself where two rows have the same."""
    distance = np.abs(grad[:, None, :] - right[None, :, :]).max(axis=2)
    nearest = distance.argmin(axis=1)
    return right[nearest] if len(set(nearest)) == len(right) else right


def moved(gradient: WrongGradient) -> str | None:
    """The right numbers of images, (B, H, W, C), a few pixels away."""
    if gradient.sampled or gradient.grad.ndim != 4:
        return None
    shape = gradient.grad.shape
    right = np.array([gradient.numeric.get(i, np.nan) for i in np.ndindex(shape)]).reshape(shape)
    H, W = shape[1:3]
    for down, across in sorted(np.ndindex(H, W), key=sum):
        for over in {across, -across}:
            for here, there in ((right, gradient.grad), (gradient.grad, right)):
                a = here[:, : H - down, max(0, -over) : W - max(0, over)]
                b = there[:, down:, max(0, over) : W + min(0, over)]
                if a[0].size >= ENOUGH and a.any() and gradient.same(a, b):
                    return (f"the right numbers, moved by {down} down or up and {across} across: "
                            "is a padding or the middle of a kernel off?")
    return None


def swapped(gradient: WrongGradient) -> str | None:
    """The right numbers, in another array of the same shape."""
    if gradient.sampled:
        return None
    for other, theirs in gradient.others.items():
        if other == gradient.name or theirs.shape != gradient.grad.shape:
            continue
        if gradient.same(gradient.at(theirs), gradient.reference):
            return f"this is what {other} got: the two are swapped"
    return None


# --- masks ----------------------------------------------------------------------------------------


def mask_inverted(gradient: WrongGradient) -> str | None:
    """Zero exactly where it should not be."""
    got = np.abs(gradient.at(gradient.grad, gradient.compared)) > gradient.tolerance
    wanted = np.abs(list(gradient.numeric.values())) > gradient.tolerance
    if (got == wanted).any() or not got.any() or not wanted.any():
        return None
    return "filled exactly where it should be zero: a mask the wrong way round?"


def zeroed(gradient: WrongGradient) -> str | None:
    """Zero where it should not be."""
    if np.abs(gradient.analytic).max() > gradient.tolerance:
        return None
    return f"{gradient.entries_are} zero and should not be: a mask too strict, or a part left out?"


def not_masked(gradient: WrongGradient) -> str | None:
    """Other than zero where it should be zero."""
    if gradient.size > 10 * gradient.bar:
        return None
    return f"{gradient.entries_are} not zero and should be: a mask left out?"


# --- one number for all entries -------------------------------------------------------------------


def scaled(gradient: WrongGradient) -> str | None:
    """One factor for all entries."""
    if not gradient.large.any():
        return None
    large = gradient.large
    factor = float(np.median(gradient.analytic[large] / gradient.reference[large]))
    off = np.abs(gradient.off).max()
    left_over = np.abs(gradient.analytic - factor * gradient.reference).max()
    if left_over > min(gradient.tolerance * max(1.0, abs(factor)), 1e-2 * off):
        return None
    words = _factor_in_words(factor, gradient.sizes)
    if words is None and len(gradient.wrong) >= 3:          # any number is a multiple of another
        words = f"{factor:.9g} times what they should be"
    return words and f"{gradient.entries_are} {words}"


FACTORS = {-1.0: "right but for the sign",
           2.0: "twice too large: counted twice, or is a half forgotten?",
           0.5: "half of what they should be: a half too many, or missing in forward?"}


def _factor_in_words(factor: float, sizes: dict[str, int]) -> str | None:
    for n in sorted(set(sizes.values())):
        names = " and ".join(size for size, m in sizes.items() if m == n)
        if n > 2 and abs(factor / n - 1) < 1e-6:
            return f"{n} times too large, which is {names}: a sum where a mean belongs?"
        if n > 2 and abs(factor * n - 1) < 1e-6:
            return (f"{n} times too small, which is {names}: a mean where forward has a sum, or "
                    "divided twice?")
    for known, words in FACTORS.items():
        if abs(factor / known - 1) < 1e-6:
            return words
    return None


def shifted(gradient: WrongGradient) -> str | None:
    """One number too many in every entry."""
    if len(gradient.wrong) < 3 or np.ptp(gradient.off) > 1e-4 * np.abs(gradient.off).max():
        return None
    return f"a constant {gradient.off.mean():+.3g} was added"


# --- one number for each row, or column -----------------------------------------------------------


def scaled_by_row(gradient: WrongGradient) -> str | None:
    """A factor for each row."""
    return _scaled_along(gradient, 0, "row")


def scaled_by_column(gradient: WrongGradient) -> str | None:
    """A factor for each column."""
    return _scaled_along(gradient, 1, "column")


def _scaled_along(gradient: WrongGradient, axis: int, word: str) -> str | None:
    if gradient.grad.ndim != 2 or not gradient.clear:
        return None
    lines = np.array([i[axis] for i in gradient.wrong])
    found = [(gradient.analytic[lines == n], gradient.reference[lines == n]) for n in set(lines)]
    # a line with one entry has a factor of its own whatever is wrong
    if len(found) < 2 or min(len(a) for a, _ in found) < 2 or len(lines) < 2 * len(found):
        return None
    factors = [float(a @ b / (b @ b)) for a, b in found]
    for c, (a, b) in zip(factors, found):
        if np.abs(a - c * b).max() > gradient.tolerance * max(1.0, abs(c)):
            return None
    return (f"each {word} has a factor of its own, from {min(factors):.4g} to {max(factors):.4g}: "
            "is a weight left out, or counted twice?")


# --- paths from one output to one entry -----------------------------------------------------------


def other_paths(gradient: WrongGradient) -> str | None:
    """dy comes along other paths than those of forward, each with its own right slope or none."""
    some = gradient.wrong[:ENOUGH]
    found = gradient.paths(some)
    if found is None or not np.isfinite(found).all():
        return None
    by_forward, by_backward = found
    least = 1e-6 * np.abs(by_forward).max()
    path, used = np.abs(by_forward) > least, np.abs(by_backward) > least
    right = np.abs(by_forward - by_backward) <= least
    if (used & ~path).any():
        entry = some[int((used & ~path).any(axis=0).argmax())]
        return (f"backward brings dy to {entry} from outputs that {entry} does not reach in "
                "forward: an index, a stride or an offset that is off?")
    if (path & ~right & used).any() or not (path & ~used).any():
        return None
    lost = int((path & ~used).any(axis=0).argmax())
    n, of = int((path & ~used)[:, lost].sum()), int(path[:, lost].sum())
    return (f"{some[lost]} reaches {of} outputs, and backward leaves out {n} of them: overwritten "
            "where a sum belongs, or a loop cut short?")


# --- rounding -------------------------------------------------------------------------------------


def rounded(gradient: WrongGradient) -> str | None:
    """Numbers of a narrower type, next to the right ones."""
    for dtype in (np.float32, np.float16):
        narrow = gradient.analytic.astype(dtype)
        near = np.abs(gradient.off) <= 2 * np.finfo(dtype).eps * np.abs(gradient.reference)
        if (narrow == gradient.analytic).all() and near.all() and len(narrow) >= 3:
            return f"{gradient.entries_are} rounded to {np.dtype(dtype).name}"
    return None


def nearly_right(gradient: WrongGradient) -> str | None:
    """All off in the digits that float32 does not hold."""
    if len(gradient.wrong) < max(ENOUGH, 0.8 * len(gradient.compared)):
        return None
    part, eps = np.abs(gradient.off).max() / gradient.size, float(np.finfo(np.float32).eps)
    if not eps / 30 < part < 2 * eps:
        return None
    return (f"{gradient.entries_are} off by {part:.0e} of their size at most: is something rounded "
            "to float32 on the way?")
