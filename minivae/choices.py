"""What a caller may hand in: a name from a table, a number, a seed.  One message for each kind.

Nothing is imported here that is heavy, so every file may use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST = 10**9                    # more of anything fits into no memory, or into nobody's time


def check_choice(name: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError, with the names that there are, unless `name` is one of them.

    what : what is chosen, e.g. "activation".
    """
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown {what} {in_short(name)}; choose from {', '.join(known)}")


def some(names: Iterable[str]) -> str:
    """The first three names; the rest are counted: "a, b, c and 12 more"."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def in_short(value) -> str:
    """A wrong value as a message shows it: in one line of at most some sixty letters."""
    if getattr(value, "shape", ()):
        return f"an array of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def choose(name: str, table: dict, what: str):
    """table[name].  Raises ValueError, with the names that there are, for another."""
    check_choice(name, table, what)
    return table[name]


def whole_number(value, what: str, at_least: int = 1) -> int:
    """`value` as an int.

    Raises TypeError for what is no whole number, ValueError below at_least and above MOST.

    what : what the number is, e.g. "epochs".
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, got {in_short(value)}")
    if not at_least <= value <= MOST:
        side, bound = ("least", at_least) if value < at_least else ("most", f"{MOST:,}")
        raise ValueError(f"{what} must be at {side} {bound}, got {in_short(value)}")
    return int(value)


def number(value, what: str) -> float:
    """`value` as a float.  Raises TypeError for what is no real number: a string, None, an array.

    what : what the number is, e.g. "lr".  NaN and infinity are the caller's to judge; a whole
    number too large for a float becomes infinity.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number, got {in_short(value)}")
    try:
        return float(value)
    except OverflowError:
        return float("inf" if value > 0 else "-inf")


def check_kind(value, kind, name: str, words: str) -> None:
    """Raise TypeError unless the argument `name` is of this kind.

    kind : what isinstance takes;  words : the same for people, e.g. "a path".
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {words}, got {in_short(value)}")


def generator(rng) -> np.random.Generator:
    """The Generator itself, or a new one from a seed; None seeds it from the system.

    Raises TypeError or ValueError for what is no seed.
    """
    import numpy as np

    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)("rng must be None, a whole number of at least 0 or a "
                          f"numpy.random.Generator, got {in_short(rng)}") from None
