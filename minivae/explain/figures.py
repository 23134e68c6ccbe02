"""Arrays, gradient checks and captions in the form in which the page takes them: JSON."""

from __future__ import annotations

import base64

import numpy as np

from minivae.explain.trace import CheckedEntry


class Arrays:
    """The arrays of a page by name; each distinct one is stored once."""

    def __init__(self):
        self.stored: dict[str, dict] = {}                  # name -> {"shape", "base64"}
        self.names: dict[tuple, str] = {}                  # (shape, bytes) -> name

    def store(self, name: str, array: np.ndarray) -> str:
        """Store `array` and return its name; an equal array returns its first name."""
        array = np.ascontiguousarray(array, "<f8")
        raw = array.tobytes()
        name = self.names.setdefault((array.shape, raw), name)
        self.stored[name] = {"shape": array.shape, "base64": base64.b64encode(raw).decode()}
        return name


def figure(arrays: Arrays, symbol: str, meaning: str, name: str, array: np.ndarray,
           checks: list[CheckedEntry] | None = None) -> dict:
    """One array, stored under `name`, with its symbol, its meaning and its checks.

    The page chooses the kind of picture.
    """
    return {"symbol": symbol, "meaning": meaning, "array": arrays.store(name, array),
            "checks": checks_of(checks)}


def checks_of(checks: list[CheckedEntry] | None) -> list[dict]:
    """Checks for JSON, which has no NaN: at a kink, where there is no number, stands None."""
    found = []
    for check in checks or ():
        known = np.isfinite(check.bar)
        found.append(check._asdict() | {"numeric": check.numeric if known else None,
                                        "bar": check.bar if known else None})
    return found


def norm(array: np.ndarray) -> float:
    """The root of the sum of squares."""
    return float(np.linalg.norm(array))
