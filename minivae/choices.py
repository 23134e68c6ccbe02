"""A choice by name, and the one message for a name that there is not."""

from collections.abc import Iterable


def check_choice(name: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError, with the names that there are, unless `name` is one of them.

    what : what is chosen, e.g. "activation".
    """
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(known)}")


def some(names: Iterable[str]) -> str:
    """The first three names; the rest are counted: "a, b, c and 12 more"."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def choose(name: str, table: dict, what: str):
    """table[name].  Raises ValueError, with the names that there are, for another."""
    check_choice(name, table, what)
    return table[name]
