"""A second reference, for functions that take complex numbers: df/dx = Im f(x + ih) / h.

Nothing is subtracted, so h may be so small that neither truncation nor rounding is left.
Source: Squire & Trapp (1998), "Using complex variables to estimate derivatives of real functions".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from minivae.gradcheck.differences import entry, random_direction
from minivae.gradcheck.report import INCONCLUSIVE, PASS, Row

STEP = 2.0**-100
PLAIN = 1e-6            # the step of a plain central difference, good to some ten digits
NAME = "complex step agrees"


def second_reference(f: Callable[[str, np.ndarray], complex], compared: dict[str, tuple],
                     arrays: dict[str, np.ndarray], rng: np.random.Generator) -> list[Row]:
    """A row that says whether both references agree, within the bar, in all entries compared.

    INCONCLUSIVE where they do not.  No row for a function that does not take complex numbers, or
    is another one there: |x|, comparisons, casts to float.

    f : function of (name, a) -> its value with that array at a
    compared : dict from array to (analytic, numeric, bar)
    """
    rows = []
    for name, array in arrays.items():
        if not _is_analytic(f, name, array, random_direction(rng, array.shape)):
            continue
        _, numeric, bar = compared[name]
        rows.append(Row(NAME, (), None, 0.0, 0.0, 0.0, PASS))
        for i in zip(*np.nonzero(np.isfinite(np.atleast_1d(numeric)))):
            i = tuple(map(int, i)) if array.ndim else ()
            exact = along(f, name, array, entry(array.shape, i))
            if exact is None or not abs(exact - numeric[i]) <= bar[i]:
                note = (f"{name} {i}: the differences give {numeric[i]:.9g} +- {bar[i]:.0e}, the "
                        f"complex step {exact}: one of the two references is wrong")
                return [Row(NAME, (), None, np.inf, 0.0, 0.0, INCONCLUSIVE, note)]
    return rows[:1]


def along(f: Callable, name: str, array: np.ndarray, direction: np.ndarray) -> float | None:
    """The derivative along a direction by the complex step; None where f gives no complex number.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")                 # a complex number cast to a real one
            value = f(name, array + 1j * STEP * direction)
    except Exception:                                      # however f refuses complex numbers
        return None
    slope = float(np.imag(value)) / STEP
    return slope if np.iscomplexobj(value) and np.isfinite(slope) else None


def _is_analytic(f: Callable, name: str, array: np.ndarray, direction: np.ndarray) -> bool:
    """Whether the step across the real axis sees roughly the slope that a step along it sees.

    Three digits are enough: |x| and the like are off by far more.
    """
    across = along(f, name, array, direction)
    if across is None:
        return False
    step = PLAIN * (1 + np.abs(array).max())
    up, down = f(name, array + step * direction), f(name, array - step * direction)
    slope = (up - down) / (2 * step)
    return abs(across - slope) <= 1e-3 * max(abs(across), abs(slope))
