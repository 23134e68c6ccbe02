"""The user's own .npy and .npz files."""

from pathlib import Path

import numpy as np


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """x_train and x_test (or None) from a .npy, or a .npz with those keys or one array only."""
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            if start == b"\x93NUMPY":
                mapped = np.load(path, mmap_mode="r", allow_pickle=False)      # a header that promises too much is refused before memory is taken
                if mapped.offset + mapped.nbytes != path.stat().st_size:
                    raise ValueError(f"its header promises {mapped.nbytes} bytes of shape {mapped.shape}, and more follow")
                return np.array(mapped), None
            if start[:2] != b"PK":
                raise ValueError(f"it starts with {start!r}")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            keys = loaded.files
            # every array is read, wanted or not: a damaged name or length could hide x_test
            if loaded.zip.testzip() is not None or any(member.comment for member in loaded.zip.infolist()):
                raise ValueError("its checksums are wrong")
            if "x_train" in keys:
                return loaded["x_train"], loaded["x_test"] if "x_test" in keys else None
            if len(keys) == 1 and keys != ["x_test"]:
                return loaded[keys[0]], None
    except Exception as error:                             # damaged bytes make np.load raise a dozen kinds, TokenError among them
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise ValueError(f"{path} holds Python objects, not numbers: save a plain array with np.save(path, x.astype(np.float32))") from None
        raise ValueError(f"{path} is no readable .npy or .npz file: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    if {"data", "shape", "format"} <= set(keys):
        raise ValueError(f"{path} holds a sparse matrix: save it dense, np.save(path, x.toarray())")
    raise ValueError(f"{path} holds {', '.join(keys) or 'nothing'}: it needs an array x_train (and x_test), or exactly one array")
