"""Arrays and metadata in one safe .npz file: written whole or not at all, checked when read."""

import glob
import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np

FORMAT = 3
TRAINING = "training."          # begins the names of what a checkpoint holds beside the model itself


class ArchiveError(ValueError):
    """A file that is missing, damaged, or not what it should be; the message is one line."""


def write_whole(path: str | PathLike, data: bytes, keep_previous: bool = False) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old file or the new one.

    keep_previous leaves the file from before beside it, see `previous`.  Raises ArchiveError where
    the disk is full or the folder may not be written to; the old file is whole then.
    """
    path = Path(path)
    check_folder(path)
    try:
        for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):     # of a process that was killed
            stale.unlink(missing_ok=True)
        _replace(path, data, keep_previous)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written: {error.strerror}; nothing was overwritten") from error


def check_folder(path: Path) -> None:
    """Raise ArchiveError where there is no folder to write `path` into."""
    if not path.parent.is_dir():
        raise ArchiveError(f"{path} cannot be written: there is no folder {path.parent}")


def _replace(path: Path, data: bytes, keep_previous: bool) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if keep_previous and path.exists():
            _keep(path, Path(temporary).with_suffix(".link.tmp"))
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep(path: Path, spare: Path) -> None:
    """Give `path` its second name, `previous(path)`, in such a way that both are there at every moment."""
    try:
        os.link(path, spare)
    except OSError:                                        # a file system without hard links: `path` is away for a moment
        os.replace(path, previous(path))
        return
    try:
        os.replace(spare, previous(path))
    finally:
        spare.unlink(missing_ok=True)                      # where both were one file already, replacing leaves it


def previous(path: str | PathLike) -> Path:
    """Where `write` keeps the file from before: model.prev.npz beside model.npz."""
    return Path(path).with_suffix(".prev.npz")


def write(path: str | PathLike, arrays: dict[str, np.ndarray], meta: dict, keep_previous: bool = False) -> None:
    """Write named arrays and a JSON-able dict; the sha256 of each array, and of the rest, goes with them."""
    arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    listing = {name: {"shape": a.shape, "dtype": a.dtype.str, "sha256": digest(a)} for name, a in arrays.items()}
    header = np.frombuffer(json.dumps({"format": FORMAT, "arrays": listing, "meta": meta}).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays, header=header, seal=_seal(header))
    write_whole(path, stream.getvalue(), keep_previous)


def read(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the dict that `write` was given.  Raises ArchiveError for any other file."""
    way_out = f"; the save before it is {previous(path)}" if previous(path).exists() else ""
    try:
        with open(path, "rb") as raw, zipfile.ZipFile(raw) as file:
            return _unpack(file, os.fstat(raw.fileno()).st_size)
    except FileNotFoundError:
        raise ArchiveError(f"{path} does not exist{way_out}") from None
    except OtherFormat as error:
        raise ArchiveError(f"{path} {error}") from None
    except Exception as error:                             # zipfile, zlib, struct, json and NumPy: each has its own for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"{path} is damaged or no minivae file: {reason}{way_out}") from error


class OtherFormat(ValueError):
    """A sound file of another version."""


def _unpack(file: zipfile.ZipFile, size: int) -> tuple[dict[str, np.ndarray], dict]:
    """Every member, each held to the header's listing; no more memory is asked for than the file has bytes."""
    members = file.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
        raise ValueError("its parts are compressed, or larger than the file")
    raw = {m.filename.removesuffix(".npy"): m for m in members}
    packed = _array(file.read(raw.pop("header")))
    header = json.loads(packed.tobytes())
    if header["format"] != FORMAT:
        raise OtherFormat(f"has format {header['format']}, this version reads {FORMAT}")
    if _array(file.read(raw.pop("seal"))).tobytes() != _seal(packed).tobytes():
        raise ValueError("the bytes of its header are not those that were written")
    listing = header["arrays"]
    if len(members) != len(listing) + 2 or set(raw) != set(listing):
        raise ValueError(f"it should hold the arrays {', '.join(listing)}, and holds {', '.join(raw)}")
    arrays = {name: _array(file.read(raw[name])) for name in listing}
    for name, listed in listing.items():
        if digest(arrays[name]) != listed["sha256"]:
            raise ValueError(f"the bytes of {name} are not those that were written")
    return arrays, header["meta"]


def _array(data: bytes) -> np.ndarray:
    """One .npy; its header must fit its length, because a header of 128 bytes can ask for any amount of memory."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not the .npy version that was written")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of shape {shape} and {dtype} does not have {len(data) - stream.tell()} bytes")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def check_fit(path: str | PathLike, wanted: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> None:
    """Raise ArchiveError unless names, shapes and dtypes of `arrays` are exactly those of `wanted`."""
    if set(wanted) != set(arrays):
        raise ArchiveError(f"{path} is damaged: it lacks {sorted(set(wanted) - set(arrays))}, has {sorted(set(arrays) - set(wanted))}")
    for name, target in wanted.items():
        if (arrays[name].shape, arrays[name].dtype) != (target.shape, target.dtype):
            raise ArchiveError(f"{path} is damaged: {name} has shape {arrays[name].shape} and {arrays[name].dtype}, "
                               f"wanted {target.shape} and {target.dtype}")


def fill(path: str | PathLike, targets: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> None:
    """Copy `arrays` into `targets` in place; names, shapes and dtypes must agree exactly."""
    check_fit(path, targets, arrays)
    for name, target in targets.items():
        target[...] = arrays[name]


def digest(array: np.ndarray) -> str:
    """sha256 of shape, dtype and bytes."""
    return hashlib.sha256(f"{array.shape}{array.dtype.str}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _seal(header: np.ndarray) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(header.tobytes()).digest(), np.uint8)
