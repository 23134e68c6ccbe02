"""The user's own .npy and .npz files."""

from __future__ import annotations

import math
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

# names that labels may have in a .npz beside the one array of images
LABELS = ("y_train", "y", "labels", "label")


class DoesNotFit(ValueError):
    """A file holds more than there is memory for."""


class Arrays(NamedTuple):
    """What a file or a folder of the user's holds, as it was found there."""

    x_train: np.ndarray                     # images, or rows of pixels
    x_test: np.ndarray | None = None        # where the file has a split of its own
    y_train: np.ndarray | None = None       # labels, where there are some
    y_test: np.ndarray | None = None


def read_npy(path: Path) -> Arrays:
    """The array of a .npy.

    Raises
    ------
    ValueError
        In one line, for a damaged file, one that would run code when read, and one that does not
        fit into memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")                 # a shape so large that it overflows
            # mapped first: the header could ask for any amount of memory
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.offset + mapped.nbytes != path.stat().st_size:
            raise ValueError(f"its header promises {mapped.nbytes} bytes of shape {mapped.shape}, "
                             "and more follow")
        _check_memory(mapped.nbytes)
        return Arrays(np.array(mapped))
    except Exception as error:
        # damaged bytes make np.load raise a dozen kinds of errors, TokenError among them
        raise ValueError(f"{path} {_in_words(error)}") from None


def read_npz(path: Path, key: str | None = None) -> Arrays:
    """The arrays of a .npz: `key`, else x_train (and x_test), else its only array; and labels.

    Raises
    ------
    ValueError
        In one line, for other names, a damaged file, one that would run code when read, and one
        that does not fit into memory.
    """
    try:
        with zipfile.ZipFile(path) as file:
            _check_table(file)
            names = [member.removesuffix(".npy") for member in file.namelist()
                     if member.endswith(".npy")]
            taken = _names_to_take(names, key)
            # asked before anything is unpacked: 8 MB of a file may be 8 GB of zeros
            _check_memory(sum(file.getinfo(f"{name}.npy").file_size for name in taken.values()))
            found = {what: _read_member(file, name) for what, name in taken.items()}
    except Exception as error:
        raise ValueError(f"{path} {_in_words(error)}") from None
    if found:
        return Arrays(**found)
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if key is not None:
        raise ValueError(f"{path} has no array {key}: it holds {listed or 'no arrays'}")
    if {"data", "shape", "format"} <= set(names):
        raise ValueError(f"{path} holds a sparse matrix: save it dense, np.save(path, x.toarray())")
    hint = ", or say which with --key NAME" if names else ""
    raise ValueError(f"{path} holds {listed or 'no arrays'}: it needs an array x_train "
                     f"(and x_test), or exactly one array{hint}")


def _names_to_take(names: list[str], key: str | None) -> dict[str, str]:
    """Which array of the file is what, e.g. {"x_train": "images", "y_train": "labels"}.

    It is empty where no array can be taken for the images.
    """
    labels = [name for name in LABELS if name in names and name != key]
    others = [name for name in names if name not in (*LABELS, "y_test")]
    if key is None:
        key = "x_train" if "x_train" in names else others[0] if len(others) == 1 else None
    if key not in names or key == "x_test" and "x_train" not in names:
        return {}
    taken = {"x_train": key}
    if labels:
        taken["y_train"] = labels[0]
    if key == "x_train":
        taken |= {name: name for name in ("x_test", "y_test") if name in names}
    return taken


def _check_table(file: zipfile.ZipFile) -> None:
    """Raise ValueError or BadZipFile where a member has another name than the table says.

    A damaged name could hide x_test.
    """
    for member in file.infolist():
        if member.comment:
            raise ValueError("its table of contents is damaged")
        file.open(member).close()                          # compares both names


def _check_memory(n_bytes: int) -> None:
    """Raise DoesNotFit for more bytes than are free."""
    free = _free_memory()
    if n_bytes > free:
        raise DoesNotFit(f"does not fit into memory: its images take {n_bytes / 1e6:,.0f} MB, and "
                         f"{free / 1e6:,.0f} MB are free; save fewer of them, or bytes (uint8)")


def _free_memory() -> float:
    """How many bytes of memory are free.  Only Linux says so; elsewhere it is infinity."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):           # in kB
                return 1024.0 * int(line.split()[1])
    return math.inf


def _read_member(file: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array.  Reading it to its end compares the checksum, too."""
    with warnings.catch_warnings(), file.open(f"{name}.npy") as member:
        warnings.simplefilter("error")
        x = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError(f"the header of {name} promises {x.nbytes} bytes of shape {x.shape}, "
                             "and more follow")
    return x


def _in_words(error: Exception) -> str:
    """What is wrong with the file, in one line."""
    if isinstance(error, DoesNotFit):
        return str(error)
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return ("holds Python objects, not numbers: save a plain array with "
                "np.save(path, x.astype(np.float32))")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"is no readable .npy or .npz file: {reason}"
