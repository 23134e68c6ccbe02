"""Arrays and metadata in one safe .npz file: written whole or not at all, checked when read."""

import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from os import PathLike
from pathlib import Path

import numpy as np

FORMAT = 1


class ArchiveError(ValueError):
    """A file that is missing, damaged, or not what it should be; the message is one line."""


def write_whole(path: str | PathLike, data: bytes) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old file or the new one."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ArchiveError(f"{path} cannot be written: there is no folder {path.parent}")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write(path: str | PathLike, arrays: dict[str, np.ndarray], meta: dict) -> None:
    """Write named arrays and a JSON-able dict; each array's sha256 goes with it."""
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    listing = {name: {"shape": a.shape, "dtype": a.dtype.str, "sha256": digest(a)} for name, a in arrays.items()}
    header = json.dumps({"format": FORMAT, "arrays": listing, "meta": meta}).encode()
    stream = io.BytesIO()
    np.savez(stream, **arrays, header=np.frombuffer(header, np.uint8))
    write_whole(path, stream.getvalue())


def read(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the dict that `write` was given.  Raises ArchiveError for any other file."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            if header["format"] != FORMAT:
                raise ArchiveError(f"{path} has format {header['format']}, this version reads {FORMAT}")
            arrays = {name: file[name] for name in header["arrays"]}
            extra = set(file.files) - set(arrays) - {"header"}
    except FileNotFoundError:
        raise ArchiveError(f"{path} does not exist") from None
    except ArchiveError:
        raise
    except (OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ArchiveError(f"{path} is damaged or no minivae file: {error}") from error
    for name, listed in header["arrays"].items():
        if digest(arrays[name]) != listed["sha256"]:
            raise ArchiveError(f"{path} is damaged: the bytes of {name} are not those that were written")
    if extra:
        raise ArchiveError(f"{path} is damaged: unexpected arrays {sorted(extra)}")
    return arrays, header["meta"]


def fill(path: str | PathLike, targets: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> None:
    """Copy `arrays` into `targets` in place; the names and shapes must agree exactly."""
    if set(targets) != set(arrays):
        raise ArchiveError(f"{path} is damaged: it lacks {sorted(set(targets) - set(arrays))}, has {sorted(set(arrays) - set(targets))}")
    for name, target in targets.items():
        if arrays[name].shape != target.shape:
            raise ArchiveError(f"{path} is damaged: {name} has shape {arrays[name].shape}, wanted {target.shape}")
    for name, target in targets.items():
        target[...] = arrays[name]


def digest(array: np.ndarray) -> str:
    """sha256 of shape, dtype and bytes."""
    return hashlib.sha256(f"{array.shape}{array.dtype.str}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
