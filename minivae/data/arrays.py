"""The user's own .npy and .npz files."""

from pathlib import Path

import numpy as np


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """x_train and x_test (or None) from a .npy, or a .npz with those names or one array only.

    Raises
    ------
    ValueError
        In one line, for any other file, a damaged one, and one that would run code when read.
    """
    try:
        names, arrays = _read(path)
    except Exception as error:
        # damaged bytes make np.load raise a dozen kinds of errors, TokenError among them
        raise ValueError(f"{path} {_in_words(error)}") from None
    if len(arrays) > 0:
        return arrays[0], arrays[1] if len(arrays) == 2 else None
    if {"data", "shape", "format"} <= set(names):
        raise ValueError(f"{path} holds a sparse matrix: save it dense, np.save(path, x.toarray())")
    raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}: it needs an array x_train "
                     "(and x_test), or exactly one array")


def _read(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """The names of all arrays in the file, and those of them to take: none, x_train, or both."""
    with open(path, "rb") as file:
        start = file.read(6)
        if start == b"\x93NUMPY":
            return ["x_train"], [_read_npy(path)]
        if start[:2] != b"PK":
            raise ValueError(f"it starts with {start!r}")
        file.seek(0)
        loaded = np.load(file, allow_pickle=False)
        _check_zip(loaded.zip)
        return loaded.files, [loaded[name] for name in _names_to_take(loaded.files)]


def _read_npy(path: Path) -> np.ndarray:
    """The array of a .npy.  Mapped first: its header could ask for any amount of memory."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.offset + mapped.nbytes != path.stat().st_size:
        raise ValueError(f"its header promises {mapped.nbytes} bytes of shape {mapped.shape}, "
                         "and more follow")
    return np.array(mapped)


def _check_zip(file) -> None:
    """Raise ValueError for a damaged .npz.

    All of its arrays are read for that, wanted or not: a damaged name or length could hide x_test.
    """
    if file.testzip() is not None or any(member.comment for member in file.infolist()):
        raise ValueError("its checksums are wrong")


def _names_to_take(names: list[str]) -> list[str]:
    if "x_train" in names:
        return [name for name in ("x_train", "x_test") if name in names]
    return names if len(names) == 1 and names != ["x_test"] else []


def _in_words(error: Exception) -> str:
    """What is wrong with the file, in one line."""
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return ("holds Python objects, not numbers: save a plain array with "
                "np.save(path, x.astype(np.float32))")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"is no readable .npy or .npz file: {reason}"
