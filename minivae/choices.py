"""What a caller may choose: a name from a table, a whole number, a number.  One message for each.

Nothing is imported here that is heavy, so every file may use it.
"""

from collections.abc import Iterable
from numbers import Integral, Real

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


def want_number(value, what: str) -> None:
    """Raise TypeError for what is no real number: a string, None, an array.

    what : what the number is, e.g. "lr".  NaN and infinity are the caller's to judge.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number, got {in_short(value)}")
