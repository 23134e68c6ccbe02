"""The user's own .npy and .npz files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """x_train and x_test (or None) from a .npy, or a .npz with those keys or one array only."""
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            if start != b"\x93NUMPY" and start[:2] != b"PK":
                raise ValueError(f"it starts with {start!r}")
            if start[:2] != b"PK":
                return np.array(np.load(path, mmap_mode="r", allow_pickle=False)), None    # mapped first: a file shorter than its header says is refused
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            keys = loaded.files
            if "x_train" in keys:
                return loaded["x_train"], loaded["x_test"] if "x_test" in keys else None
            if len(keys) == 1 and keys != ["x_test"]:
                return loaded[keys[0]], None
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise ValueError(f"{path} holds Python objects, not numbers: save a plain array with np.save(path, x.astype(np.float32))") from None
        raise ValueError(f"{path} is no readable .npy or .npz file: {str(error).splitlines()[0]}") from None
    if {"data", "shape", "format"} <= set(keys):
        raise ValueError(f"{path} holds a sparse matrix: save it dense, np.save(path, x.toarray())")
    raise ValueError(f"{path} holds {', '.join(keys) or 'nothing'}: it needs an array x_train (and x_test), or exactly one array")
