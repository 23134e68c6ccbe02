"""A choice by name, and the one message for a name that there is not."""

from collections.abc import Iterable


def check_choice(name: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError, with the names that there are, unless `name` is one of them.

    what : what is chosen, e.g. "activation".
    """
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(known)}")


def choose(name: str, table: dict, what: str):
    """table[name].  Raises ValueError, with the names that there are, for another."""
    check_choice(name, table, what)
    return table[name]
