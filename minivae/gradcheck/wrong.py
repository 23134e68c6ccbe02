"""One wrong gradient, and what is at hand to find out why: the material of the suspects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROUND = (1.0, -1.0, 2.0, -2.0, 0.5, -0.5)       # the constants that people forget
ENOUGH = 6              # a formula must hold in so many entries, or it may fit by chance


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
        The largest error bar of the reference.
    others : dict of all gradients of this check, by array
    sizes : dict from words ("the batch size") to a size, as possible factors
    known : dict of the arrays at hand, by name: dy, y, the inputs, the parameters
    again : function of nothing -> the gradient that another pass gives, or None
    slopes : function of indices, and of f, a part of the loss, or of another point to stand at
        The derivatives there by differences; None where there are none.
    parts : list of {part: f}; the loss is the sum of the parts, each time its weight
        Each taken apart in another way; later ways are finer.
    paths : function of indices -> two arrays (y.size, len(indices)), or None
        The derivative of every single output by those entries: by forward, and by backward.
    sampled : bool
        Whether `numeric` holds only some of the entries.
    """

    def __init__(self, name: str, grad: np.ndarray, numeric: dict, wrong: list, bar: float, *,
                 others: dict | None = None, sizes: dict | None = None, known: dict | None = None,
                 again: Callable = lambda: None, slopes: Callable = lambda *_, **__: None,
                 parts: list[dict] | None = None, paths: Callable = lambda _: None,
                 sampled: bool = False):
        self.name, self.grad, self.numeric, self.wrong, self.bar = name, grad, numeric, wrong, bar
        self.others, self.sizes, self.known = others or {}, sizes or {}, known or {}
        self.again, self.slopes, self.parts, self.paths = again, slopes, parts or [], paths
        self.sampled = sampled
        self.compared = list(numeric)
        self.analytic = self.at(grad)
        self.reference = np.array([numeric[i] for i in wrong])
        self.off = self.analytic - self.reference
        self.size = np.abs(self.reference).max()
        self.tolerance = 10 * bar + 1e-10 * self.size
        self.large = np.abs(self.reference) > 1e-6 * self.size     # not zero by chance

    def at(self, array: np.ndarray, indices: list | None = None) -> np.ndarray:
        """An array's entries where the gradient is wrong, or at other indices."""
        return np.array([array[i] for i in (self.wrong if indices is None else indices)])

    def same(self, a, b) -> bool:
        """Whether two arrays are equal within the tolerance."""
        return np.allclose(a, b, rtol=0, atol=self.tolerance)

    @property
    def clear(self) -> bool:
        """Whether the wrong entries are many, and so far off that no formula fits by chance."""
        return len(self.wrong) >= ENOUGH and 1000 * self.tolerance < np.abs(self.off).max()

    def multiple(self, target: np.ndarray, array: np.ndarray, error: float = 1.0) -> float | None:
        """c, if target = c * array in every entry and array is more than a constant; else None.

        error : how much larger than a gradient's the array's errors are.
        """
        scale = np.abs(array).max()
        if not (np.isfinite(scale) and np.ptp(array) > 1e-3 * scale):
            return None
        c = float(target @ array / (array @ array))
        left_over = np.abs(target - c * array).max()
        # tiny numbers would be equal within any tolerance
        tolerance = min(self.tolerance * max(1.0, abs(c) * error), 1e-4 * np.abs(target).max())
        return c if left_over <= tolerance else None

    @property
    def entries_are(self) -> str:
        """How many entries are wrong, as the start of a sentence."""
        n, of = len(self.wrong), len(self.compared)
        some = f"{n} of {of}" if n < of and not self.sampled else str(n)
        return f"{some} entries are" if n > 1 or some != "1" else "1 entry is"
